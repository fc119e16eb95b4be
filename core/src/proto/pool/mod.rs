//! Entries and attestations that wait for a block.
