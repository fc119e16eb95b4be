//! The HTTP front end of a kogge node: a container registry and a Maven repository of what is in
//! the log, the log itself as tiles, and a JSON interface for the owner.
//!
//! Everything is answered on loopback unless configured, by a node in the same process:
//!
//! ```no_run
//! # async fn run(node: kogge::Node) -> Result<(), kogge_http::ListenError> {
//! let http = kogge_http::Http::start(node.clone(), kogge_http::HttpConfig::default())?;
//! http.asked_to_stop().await;
//! http.stop().await;
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod config;
mod front;

mod app;
mod guard;
mod params;
mod path;
mod route;

mod api;
mod images;
mod logs;
mod maven;
mod metrics;

mod deliver;
mod problem;
mod range;
mod reply;
mod source;

mod body;
mod io;
mod listen;
mod server;
mod signal;
mod token;

#[cfg(feature = "testing")]
pub mod testing;

pub use config::{HttpConfig, PORT_DEFAULT};
pub use front::Http;
pub use listen::ListenError;
