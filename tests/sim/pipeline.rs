//! Pipelines that yield the same facts on every node, unless the plan says otherwise.

use std::time::Duration;

use crate::kogge::base::Sha256;
use crate::kogge::proto::build::{
    BuildSpec, Built, Docker, Failure, FailureCode, Maven, Reference,
};
use crate::kogge::proto::chain::testing::{GENESIS_TIME, artifact, node_keys};
use crate::kogge::proto::log::entry::BindTag;
use crate::kogge::proto::package::docker::DEFAULT_REGISTRY;
use crate::plan::{Ask, Mood};

/// What is asked for.
pub(crate) fn spec(number: u32, is_image: bool) -> BuildSpec {
    if is_image {
        let tag = Reference::Tag(format!("1.{number}"));
        BuildSpec::Docker(Docker::new(None, "library/alpine", tag, []).expect("a good name"))
    } else {
        let version = format!("1.{number}");
        BuildSpec::Maven(Maven::new(None, "org.test", "lib", &version).expect("a good name"))
    }
}

/// Where the log has the package that an honest quorum gets for this.
pub(crate) fn purl(number: u32, is_image: bool) -> String {
    let spec = spec(number, is_image);
    spec.purl(Some(&digest(&spec, false)))
        .expect("the digest is given")
}

/// How long a pipeline hangs before its time-out.
const HANG: Duration = Duration::from_secs(20);

/// What the pipeline of `node` gets, and how long it hangs before.
pub(crate) fn run(
    node: usize,
    spec: &BuildSpec,
    asks: &[Ask],
) -> (Duration, Result<Built, Failure>) {
    let ask = asks
        .iter()
        .find(|it| self::spec(it.number, it.is_image) == *spec);
    let odd = ask.and_then(|it| it.odd).filter(|it| it.0 == node);
    let failure = || Err(Failure::new(FailureCode::Unreachable, "no route"));
    let differs = match odd.map(|it| it.1) {
        Some(Mood::Hangs) => return (HANG, failure()),
        Some(Mood::Fails) => return (Duration::ZERO, failure()),
        Some(Mood::Differs) => true,
        None => false,
    };
    let keys = node_keys(u8::try_from(node).unwrap_or(u8::MAX));
    let digest = digest(spec, differs);
    let purl = spec.purl(Some(&digest)).expect("the digest is given");
    let content = if differs { "other" } else { "same" };
    let tag = match (spec, spec.tag()) {
        (BuildSpec::Docker(it), Some(tag)) => Some(BindTag {
            registry: DEFAULT_REGISTRY.into(),
            repository: it.name().repository().into(),
            tag: tag.into(),
            digest,
            builder: keys.id(),
            time: GENESIS_TIME,
        }),
        _ => None,
    };
    let built = Built {
        files: vec![artifact(&purl, "a.bin", content, &keys)],
        parts: Vec::new(),
        tag,
    };
    (Duration::ZERO, Ok(built))
}

fn digest(spec: &BuildSpec, differs: bool) -> Sha256 {
    Sha256::of(format!("{} {differs}", spec.id()).as_bytes())
}
