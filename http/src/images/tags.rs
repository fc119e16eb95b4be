//! Lists of tags, page by page.

use hyper::Response;
use hyper::header::LINK;
use kogge::proto::package::ImageName;
use kogge::proto::package::docker::DEFAULT_REGISTRY;
use serde_json::json;

use crate::body::Body;
use crate::deliver::insert;
use crate::params::Params;
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::Source;

/// Most tags in one response; also the number unless the client asks for fewer. Below the most
/// that the log tells at once, so that one more shows whether another page follows.
const PAGE_MAX: usize = 500;

/// The tags of a repository in lexical order. `written` is its name as the client wrote it.
pub(crate) fn list(
    source: &Source,
    params: &Params,
    name: &ImageName,
    written: &str,
) -> Result<Response<Body>, Problem> {
    let (registry, repository) = (name.registry(), name.repository());
    let after = params.get("last").unwrap_or_default();
    let wanted = params.number("n")?.map_or(PAGE_MAX, limit);
    let log = source.log();
    // One more than wanted tells whether there is another page.
    let tags = log.tags(registry, repository, after, wanted + 1)?;
    if tags.is_empty() && !is_known(source, name)? {
        source.check_live(&name.to_string())?;
        let message = format!("the log has no image of {name}");
        return Err(Problem::new(Fault::NoRepository, message));
    }
    let (tags, next) = page(tags, wanted);
    let mut response = reply::json(&json!({"name": written, "tags": tags}));
    if let Some(last) = next {
        let link = link(written, wanted, last, params.get("ns"));
        insert(response.headers_mut(), LINK, &link);
    }
    Ok(response)
}

fn limit(wanted: u64) -> usize {
    usize::try_from(wanted).map_or(PAGE_MAX, |it| it.min(PAGE_MAX))
}

/// The tags of this page, and the last of them if another page follows. A page of none has no
/// successor (OCI distribution-spec, "Listing Tags").
fn page(mut tags: Vec<String>, wanted: usize) -> (Vec<String>, Option<String>) {
    let has_more = wanted < tags.len();
    tags.truncate(wanted);
    let last = tags.last().filter(|_| has_more).cloned();
    (tags, last)
}

fn link(name: &str, wanted: usize, last: String, namespace: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("n", &wanted.to_string());
    query.append_pair("last", &last);
    if let Some(namespace) = namespace {
        query.append_pair("ns", namespace);
    }
    format!("</v2/{name}/tags/list?{}>; rel=\"next\"", query.finish())
}

/// Whether the log has images of the repository: with tags, or added by digest.
fn is_known(source: &Source, name: &ImageName) -> Result<bool, Problem> {
    let log = source.log();
    let (registry, repository) = (name.registry(), name.repository());
    if !log.tags(registry, repository, "", 1)?.is_empty() {
        return Ok(true);
    }
    // Packages of all registries share the name without its registry.
    let package = format!("docker/{repository}");
    Ok(registry == DEFAULT_REGISTRY && !log.versions(&package, "")?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_whether_another_follows() {
        let all = ["a", "b", "c"].map(str::to_owned).to_vec();
        for (wanted, expected, next) in [
            (0, &[][..], None),
            (1, &["a"][..], Some("a")),
            (2, &["a", "b"], Some("b")),
            (3, &["a", "b", "c"], None),
            (4, &["a", "b", "c"], None),
        ] {
            let (tags, last) = page(all.clone(), wanted);
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!((tags, last.as_deref()), (expected, next), "{wanted}");
        }
    }

    #[test]
    fn limits_hold_whatever_is_wanted() {
        for (wanted, expected) in [(0, 0), (7, 7), (1_000, PAGE_MAX), (u64::MAX, PAGE_MAX)] {
            assert_eq!(limit(wanted), expected);
        }
    }

    #[test]
    fn the_next_page_keeps_the_namespace() {
        assert_eq!(
            link("ns/x", 2, "1.0_a".into(), Some("127.0.0.1:5000")),
            "</v2/ns/x/tags/list?n=2&last=1.0_a&ns=127.0.0.1%3A5000>; rel=\"next\""
        );
    }
}
