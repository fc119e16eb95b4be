//! Names and documents of packages.

use kogge_node::base::{Sha256, WallTime};
use kogge_node::proto::package::docker::DEFAULT_REGISTRY;
use kogge_node::proto::package::metadata::{order, render};
use kogge_node::proto::package::oci::{DOCUMENT_TYPES, Document, config_platform};
use kogge_node::proto::package::pom::Pom;
use kogge_node::proto::package::xml::Element;
use kogge_node::proto::package::{
    Coordinates, ImageReference, MavenPath, Platform, Pointer, Purl, Variant,
};

use crate::targets::stable;

pub(crate) fn purl(bytes: &[u8], is_planted: bool) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    let Some(purl) = stable::<Purl>(text, is_planted) else {
        return false;
    };
    assert_eq!(Purl::parse_canonical(purl.as_str()).as_ref(), Ok(&purl));
    // What a purl names is named by that purl.
    if let Ok(it) = Coordinates::from_purl(&purl) {
        let plain = purl.qualifiers().is_empty() && purl.subpath().is_none();
        let same = it.purl().as_ref() == Ok(&purl);
        assert!(
            same || !plain,
            "{purl} names {it}, which is named otherwise"
        );
        let _ = Variant::from_purl(&purl);
    }
    if let Ok(it) = ImageReference::from_purl(&purl) {
        assert_eq!(it.to_string().parse().as_ref(), Ok(&it), "{purl}");
    }
    true
}

pub(crate) fn image(bytes: &[u8], is_planted: bool) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    if let Some(platform) = text.strip_prefix("platform ") {
        return stable::<Platform>(platform, is_planted).is_some();
    }
    let Some(image) = stable::<ImageReference>(text, is_planted) else {
        return false;
    };
    // An image that can be fetched can be named in the log, and found there again.
    let digest = match &image.pointer {
        Pointer::Digest(it) => *it,
        Pointer::Tag(_) => Sha256([7; 32]),
    };
    match image.name.purl(&digest) {
        Ok(purl) => {
            let found = ImageReference::from_purl(&purl).map(|it| it.name);
            assert_eq!(found.as_ref(), Ok(&image.name), "{purl}");
            let is_default = purl.qualifier("repository_url").is_none();
            assert_eq!(is_default, image.name.registry() == DEFAULT_REGISTRY);
        }
        Err(error) => panic!("{image} has no purl: {error}"),
    }
    true
}

/// Coordinates, paths, and the order of versions.
pub(crate) fn maven(bytes: &[u8], is_planted: bool) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    let is_version = |it: &str| Coordinates::new("g", "a", it).is_ok();
    if let Some((one, other)) = text.split_once(' ') {
        if !is_version(one) || !is_version(other) {
            return false;
        }
        let versions = [one.to_owned(), other.to_owned()];
        assert_eq!(
            order(one).cmp(&order(other)),
            order(other).cmp(&order(one)).reverse()
        );
        return !render("g", "a", &versions, WallTime::default()).is_empty();
    }
    if let Some(coordinates) = stable::<Coordinates>(text, is_planted) {
        let purl = match coordinates.purl() {
            Ok(it) => it,
            Err(error) => panic!("{coordinates} have no purl: {error}"),
        };
        assert_eq!(Coordinates::from_purl(&purl), Ok(coordinates));
        return true;
    }
    let Ok(path) = text.parse::<MavenPath>() else {
        return false;
    };
    assert_eq!(path.to_string(), text, "a path with two names");
    true
}

/// XML, and the POMs among it. The same document is read from other encodings of its text.
pub(crate) fn xml(bytes: &[u8], is_planted: bool) -> bool {
    let Ok(element) = Element::parse(bytes) else {
        return false;
    };
    let marked = [
        &b"\xef\xbb\xbf"[..],
        if is_planted { &bytes[1..] } else { bytes },
    ]
    .concat();
    if str::from_utf8(bytes).is_ok_and(|it| !it.starts_with('\u{feff}')) {
        assert_eq!(Element::parse(&marked).as_ref(), Ok(&element));
    }
    let Ok(pom) = Pom::parse(bytes) else {
        return true;
    };
    assert_eq!(element.name, "project");
    // Each dependency is one line: no text of a POM makes two of one.
    for line in pom.dependency_list().lines() {
        let known = ["parent ", "dependency ", "import "];
        assert!(known.iter().any(|it| line.starts_with(it)), "`{line}`");
    }
    for variant in pom
        .main_variants()
        .into_iter()
        .chain(pom.optional_variants())
    {
        assert!(!variant.extension().is_empty());
    }
    true
}

/// Image documents, and the configurations that name a platform.
pub(crate) fn oci(bytes: &[u8], is_planted: bool) -> bool {
    let platform = config_platform(bytes);
    let Ok(document) = Document::parse(bytes, None) else {
        return platform.is_ok();
    };
    assert!(DOCUMENT_TYPES.contains(&document.media_type.as_str()));
    for served in DOCUMENT_TYPES {
        // What a document says of itself outweighs what the registry says of it.
        let Ok(again) = Document::parse(bytes, Some(served)) else {
            continue;
        };
        let stated = String::from_utf8_lossy(bytes).contains("mediaType");
        let same = again == document && !is_planted;
        assert!(same || !stated || again.media_type == served, "{served}");
    }
    for child in document.children() {
        assert!(child.media_type.len() <= 255, "{child:?}");
    }
    true
}
