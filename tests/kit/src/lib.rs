//! Real upstreams and networks on loopback, for the end-to-end tests and the demo.
//!
//! * [`registry`]: Debian's `docker-registry`, filled by `umoci` and `skopeo` with images made of
//!   files from Debian packages, behind a proxy that counts every request.
//! * [`maven`]: a static server over jars and poms that Maven itself downloaded.
//! * [`maven_build`]: builds from there and from a network, with the extension for Maven.
//! * [`network`]: `kogge up` processes that agree.
//! * [`scene`]: such a network with known artifacts, for the tests of other languages.
//! * [`mod@run`]: processes that end with the test.

pub mod bench;
pub mod image;
pub mod maven;
pub mod maven_build;
pub mod network;
pub mod proxy;
pub mod registry;
pub mod run;
pub mod scene;

pub use maven::MavenUpstream;
pub use proxy::Requests;
pub use registry::Registry;
pub use run::{Child, Failure, free_port, run};
