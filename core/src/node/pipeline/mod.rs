//! Pipelines that get the files of a package: from its upstream now, from source later.
