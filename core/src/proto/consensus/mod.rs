//! Agreement among authorized nodes.
