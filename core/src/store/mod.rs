//! LMDB environments and artifact files.
