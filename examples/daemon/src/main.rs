//! The kogge program.
fn main() {}
