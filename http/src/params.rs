//! Parameters behind the `?`.

use crate::problem::{Fault, Problem};

/// Longest query. Unit: bytes.
const QUERY_BYTES_MAX: usize = 8 * 1_024;

/// Most parameters; further ones are refused.
const PARAMS_MAX: usize = 64;

/// The parameters of a request, decoded, in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads what follows the `?`.
    ///
    /// # Errors
    ///
    /// [`Problem`] if it is too long.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let query = query.unwrap_or_default();
        let fail = |message: String| Err(Problem::new(Fault::Malformed, message));
        if QUERY_BYTES_MAX < query.len() {
            return fail(format!("a query has at most {QUERY_BYTES_MAX} bytes"));
        }
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        let pairs: Vec<_> = pairs.take(PARAMS_MAX + 1).collect();
        if PARAMS_MAX < pairs.len() {
            return fail(format!("a query has at most {PARAMS_MAX} parameters"));
        }
        Ok(Self(pairs))
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|it| it.0 == name).map(|it| it.1)
    }

    /// A parameter that is a number.
    ///
    /// # Errors
    ///
    /// [`Problem`] if it is not.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let malformed = || {
            let message = format!("the parameter `{name}` is not a number");
            Problem::new(Fault::Malformed, message)
        };
        self.get(name)
            .map(|it| it.parse().map_err(|_| malformed()))
            .transpose()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_limited() {
        let params = Params::parse(Some("ns=a%3A1&n=5&n=6&x&y=a+b%00")).unwrap();
        assert_eq!(params.get("ns"), Some("a:1"));
        assert_eq!(params.number("n"), Ok(Some(5)));
        assert_eq!(params.get("x"), Some(""));
        assert_eq!(params.get("y"), Some("a b\0"));
        assert_eq!(params.number("z"), Ok(None));
        for text in ["n=-1", "n=", "n=x", "n=99999999999999999999"] {
            assert!(Params::parse(Some(text)).unwrap().number("n").is_err());
        }
        let many = "a&".repeat(PARAMS_MAX + 1);
        let long = "a".repeat(QUERY_BYTES_MAX + 1);
        for text in [many, long] {
            assert!(Params::parse(Some(&text)).is_err());
        }
    }
}
