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

pub mod download;
pub mod serve;

#[cfg(test)]
mod download_steps;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod serve_steps;
#[cfg(test)]
mod simulation;
