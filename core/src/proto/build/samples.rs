//! What pipelines of the test network yield.

use std::time::Duration;

use crate::base::Sha256;
use crate::proto::build::{BuildSpec, Built, Failure};
use crate::proto::chain::member::NodeKeys;
use crate::proto::chain::testing::{GENESIS_TIME, artifact, node_keys};
use crate::proto::log::entry::BindTag;

/// What the pipeline of a node yields, and after how long; `None`: nothing, ever.
pub(crate) type Pipeline =
    Box<dyn Fn(usize, &BuildSpec) -> Option<(Duration, Result<Built, Failure>)>>;

/// The keys of a node.
pub(crate) fn keys(node: usize) -> NodeKeys {
    node_keys(u8::try_from(node).unwrap())
}

/// A Maven version with two files whose content depends on `content`.
pub(crate) fn maven(node: usize, spec: &BuildSpec, content: &str) -> Built {
    let purl = spec.purl(None).unwrap();
    let file = |name: &str, content: &str| artifact(&purl, name, content, &keys(node));
    Built {
        parts: Vec::new(),
        files: vec![file("a.pom", ""), file("a.jar", content)],
        tag: None,
    }
}

/// An image whose tag points to `digest`.
pub(crate) fn image(node: usize, spec: &BuildSpec, digest: Sha256) -> Built {
    let BuildSpec::Docker(docker) = spec else {
        panic!("{spec}");
    };
    let purl = spec.purl(Some(&digest)).unwrap();
    Built {
        parts: Vec::new(),
        files: vec![artifact(&purl, "manifest.json", "", &keys(node))],
        tag: spec.tag().map(|tag| BindTag {
            registry: docker.name().registry().into(),
            repository: docker.name().repository().into(),
            tag: tag.into(),
            digest,
            builder: keys(node).id(),
            time: GENESIS_TIME,
        }),
    }
}

/// Name of a binding in the index of the test network, if the spec has a tag and it is known.
pub(crate) fn tag_name(spec: &BuildSpec, digest: Option<Sha256>) -> Option<String> {
    match (spec, spec.tag(), digest) {
        (BuildSpec::Docker(it), Some(tag), Some(digest)) => {
            Some(format!("{}:{tag}@{digest}", it.name()))
        }
        _ => None,
    }
}

/// Name of a binding in the index of the test network.
pub(crate) fn bound_name(it: &BindTag) -> String {
    format!("{}/{}:{}@{}", it.registry, it.repository, it.tag, it.digest)
}
