//! Why a command did not do what it was asked for.

use std::fmt::Display;

use kogge::base::DigestError;
use kogge::node::config::ConfigError;
use kogge::node::keys::KeyError;
use kogge::proto::build::SpecError;
use kogge::proto::chain::GenesisError;
use kogge::{NodeError, StartError};
use kogge_http::ListenError;

/// A failure for people and programs: what failed, and where possible what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// A stable word for programs.
    pub(crate) code: String,
    /// A sentence without a full stop.
    pub(crate) message: String,
}

impl Failure {
    /// A failure of the kind `code`.
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { code, message }
    }

    /// What the user typed makes no sense.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new("input", message)
    }

    /// The JSON of the failure.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({"error": {"code": self.code, "message": self.message}})
    }
}

/// Adds what was attempted to an error that does not say so itself.
pub(crate) trait During<T> {
    /// The failure `<what>: <error>`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if this is an error.
    fn during(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new("io", format!("{what}: {error}")))
    }
}

/// Errors whose text says everything.
macro_rules! tells {
    ($($error:ty => $code:literal),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new($code, error.to_string())
            }
        })*
    };
}

tells! {
    ConfigError => "config",
    DigestError => "input",
    GenesisError => "genesis",
    KeyError => "keys",
    ListenError => "listen",
    NodeError => "node",
    SpecError => "input",
    StartError => "start",
}
