//! What a caller of the JSON interface asks for.

use kogge::{BuildId, Digest};

use crate::guard::Effect;
use crate::problem::{Fault, Problem};

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// Admitted peers, and those turned away lately.
    Peers,
    /// Rows of the log that fit a query.
    Log,
    /// One row.
    Row(u64),
    /// Why a row is in the log.
    Proof(u64),
    /// The same as a file for offline use.
    Waybill(u64),
    /// The same for the artifact with a digest.
    WaybillOf,
    /// The bytes of an artifact.
    Artifact(Digest),
    /// What is known about a package or file.
    Why,
    /// Builds; new ones by POST.
    Builds,
    /// One build.
    Build(BuildId),
    /// Marks of admins; new ones by POST.
    Marks,
    /// Keeps artifacts from eviction, or stops doing so.
    Pins,
    /// Ends the node.
    Shutdown,
    /// What happens, as it happens.
    Events,
}

impl Ask {
    /// Reads the words after `/api`.
    ///
    /// # Errors
    ///
    /// [`Problem`] if there is nothing of this name, or a number or digest in it is malformed.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Problem> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let malformed = |it: String| Problem::new(Fault::Malformed, it);
        let number = |it: &str| {
            it.parse::<u64>()
                .map_err(|_| malformed(format!("`{it}` is not the index of an entry")))
        };
        Ok(match words.as_slice() {
            ["peers"] => Self::Peers,
            ["log"] => Self::Log,
            ["log", index] => Self::Row(number(index)?),
            ["log", index, "proof"] => Self::Proof(number(index)?),
            ["log", index, "waybill"] => Self::Waybill(number(index)?),
            ["waybill"] => Self::WaybillOf,
            ["artifacts", digest] => {
                Self::Artifact(digest.parse().map_err(|it: kogge::base::DigestError| {
                    Problem::new(Fault::Digest, it.to_string())
                })?)
            }
            ["why"] => Self::Why,
            ["builds"] => Self::Builds,
            ["builds", id] => {
                let id = BuildId::from_hex(id);
                Self::Build(id.ok_or_else(|| malformed("want the id of a build in hex".into()))?)
            }
            ["marks"] => Self::Marks,
            ["pins"] => Self::Pins,
            ["shutdown"] => Self::Shutdown,
            ["events"] => Self::Events,
            _ => {
                return Err(Problem::new(
                    Fault::NotFound,
                    "the API has nothing of this name",
                ));
            }
        })
    }

    /// The methods that it knows.
    pub(crate) const fn methods(&self) -> &'static str {
        match self {
            Self::Builds | Self::Marks => "GET, HEAD, POST",
            Self::Pins | Self::Shutdown => "POST",
            _ => "GET, HEAD",
        }
    }

    /// What it may cause if it is not a POST.
    pub(crate) const fn effect(&self) -> Effect {
        match self {
            Self::Artifact(_) => Effect::Works,
            _ => Effect::Reads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Ask, Fault> {
        let words: Vec<String> = path.split('/').map(str::to_owned).collect();
        Ask::parse(&words).map_err(|it| it.fault())
    }

    #[test]
    fn names_lead_to_what_is_asked_for() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let id = "cd".repeat(32);
        for (path, expected) in [
            ("log", Ok(Ask::Log)),
            ("log/7", Ok(Ask::Row(7))),
            ("log/7/proof", Ok(Ask::Proof(7))),
            ("log/7/waybill", Ok(Ask::Waybill(7))),
            (
                &format!("artifacts/{digest}"),
                Ok(Ask::Artifact(digest.parse().unwrap())),
            ),
            (&format!("builds/{id}"), Ok(Ask::Build(BuildId([0xcd; 32])))),
            ("log/-1", Err(Fault::Malformed)),
            ("log/99999999999999999999", Err(Fault::Malformed)),
            ("builds/12", Err(Fault::Malformed)),
            ("artifacts/sha256:00", Err(Fault::Digest)),
            ("log/7/else", Err(Fault::NotFound)),
            ("log/", Err(Fault::Malformed)),
            ("", Err(Fault::NotFound)),
        ] {
            assert_eq!(parse(path), expected, "{path}");
        }
    }
}
