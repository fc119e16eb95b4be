//! The C ABI of kogge.
