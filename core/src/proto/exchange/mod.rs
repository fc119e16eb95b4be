//! Moving the groups of artifacts between peers, verified.

pub mod group;
pub mod outboard;
pub mod verify;

pub mod frame;
pub mod message;
pub mod presence;

pub mod arrival;
mod fill;
pub mod replies;
pub mod requests;

#[cfg(test)]
mod fixture;
