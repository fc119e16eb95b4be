//! kogge finds, verifies and shares software artifacts between peers, against a transparency log
//! that independent authorized nodes agree on.

pub mod base;
pub mod net;
pub mod node;
pub mod proto;
pub mod store;
