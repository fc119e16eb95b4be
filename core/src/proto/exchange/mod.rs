//! Moving the groups of artifacts between peers, verified.

pub mod frame;
pub mod group;
pub mod message;
pub mod outboard;
pub mod presence;
pub mod verify;

#[cfg(test)]
mod fixture;
