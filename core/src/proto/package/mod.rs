//! Names, versions and file sets of each package type.
//!
//! Every package has one name in the log: its canonical package [URL](purl). [`docker`] and
//! [`maven`] translate it from and to what the clients of the type write and ask for; [`oci`] and
//! [`pom`] read the documents from which the file set of a package version follows.

pub mod purl;
pub mod what;

pub mod docker;
pub mod oci;
pub mod platform;

pub mod layout;
pub mod maven;
pub mod metadata;
pub mod pom;
pub mod xml;

pub use docker::{ImageName, ImageReference, Pointer};
pub use layout::MavenPath;
pub use maven::{Coordinates, Variant};
pub use platform::Platform;
pub use purl::{Purl, PurlError};
pub use what::{What, WhatError};
