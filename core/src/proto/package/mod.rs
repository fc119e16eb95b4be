//! Names, versions and file sets of each package type.
