//! The forms of a spec: text for people, CBOR for messages. Both read only what the constructors
//! accept, and each spec has one of each.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::base::{Sha256, codec};
use crate::proto::build::name::clip;
use crate::proto::build::spec::{BuildSpec, Docker, Maven, PLATFORMS_MAX, Reference, SpecError};

/// Longest text of a spec that is looked at. Unit: bytes.
const TEXT_BYTES_MAX: usize = 4_096;

impl fmt::Display for BuildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(it) => {
                f.write_str("docker ")?;
                if let Some(registry) = it.registry() {
                    write!(f, "{registry}/")?;
                }
                f.write_str(it.name().repository())?;
                match it.reference() {
                    Reference::Tag(tag) => write!(f, ":{tag}")?,
                    Reference::Digest(digest) => write!(f, "@sha256:{digest}")?,
                }
                if !it.platforms().is_empty() {
                    write!(f, " {}", it.platforms().join(","))?;
                }
            }
            Self::Maven(it) => {
                write!(f, "maven {}", it.coordinates())?;
                if let Some(url) = it.repository() {
                    write!(f, " {url}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for BuildSpec {
    type Err = SpecError;

    /// Reads the text form. An image without tag and digest has the tag `latest`; beside a digest a
    /// tag says nothing and is left out.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        if TEXT_BYTES_MAX < text.len() {
            return Err(SpecError::TooLong(text.len()));
        }
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["docker", image] => parse_docker(image, "").map(Self::Docker),
            ["docker", image, platforms] => parse_docker(image, platforms).map(Self::Docker),
            ["maven", name] => parse_maven(name, None).map(Self::Maven),
            ["maven", name, url] => parse_maven(name, Some(url)).map(Self::Maven),
            _ => Err(SpecError::Kind),
        }
    }
}

fn parse_docker(image: &str, platforms: &str) -> Result<Docker, SpecError> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // As Docker does: the first part is a host if it could not be part of a repository's name.
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (Some(host), path)
        }
        _ => (None, name),
    };
    let (repository, tag) = match path.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    let reference = match digest {
        Some(text) => text
            .strip_prefix("sha256:")
            .and_then(Sha256::from_hex)
            .map(Reference::Digest)
            .ok_or_else(|| SpecError::Digest(clip(text)))?,
        None => Reference::Tag(tag.unwrap_or("latest").to_owned()),
    };
    let platforms = platforms.split(',').filter(|it| !it.is_empty());
    Docker::new(
        registry,
        repository,
        reference,
        platforms.map(str::to_owned),
    )
}

fn parse_maven(name: &str, url: Option<&str>) -> Result<Maven, SpecError> {
    let mut parts = name.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(group), Some(artifact), Some(version), None) => {
            Maven::new(url, group, artifact, version)
        }
        _ => Err(SpecError::Coordinate(clip(name))),
    }
}

/// `[0, registry, repository, tag | digest, platforms]` or `[1, repository, group, artifact,
/// version]`; what is decoded went through the same checks as what people type.
impl<C> Encode<C> for BuildSpec {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(5)?;
        match self {
            Self::Docker(it) => {
                e.u8(0)?
                    .encode(it.registry())?
                    .str(it.name().repository())?;
                match it.reference() {
                    Reference::Tag(tag) => e.str(tag)?,
                    Reference::Digest(digest) => e.bytes(digest.as_bytes())?,
                };
                it.platforms().encode(e, ctx)
            }
            Self::Maven(it) => {
                let name = it.coordinates();
                e.u8(1)?.encode(it.repository())?.str(name.group())?;
                e.str(name.artifact())?.str(name.version())?;
                Ok(())
            }
        }
    }
}

impl<'b, C> Decode<'b, C> for BuildSpec {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        if d.array()? != Some(5) {
            return Err(Error::message("a build spec is an array of five"));
        }
        match d.u8()? {
            0 => {
                let registry: Option<&str> = d.decode()?;
                let repository = d.str()?;
                let reference = match d.datatype()? {
                    minicbor::data::Type::String => Reference::Tag(d.str()?.to_owned()),
                    _ => Reference::Digest(Sha256::decode(d, ctx)?),
                };
                let platforms = codec::at_most::<_, String, PLATFORMS_MAX>(d, ctx)?;
                Docker::new(registry, repository, reference, platforms)
                    .map(Self::Docker)
                    .map_err(Error::custom)
            }
            1 => {
                let repository: Option<&str> = d.decode()?;
                Maven::new(repository, d.str()?, d.str()?, d.str()?)
                    .map(Self::Maven)
                    .map_err(Error::custom)
            }
            _ => Err(Error::message("unknown kind of build spec")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<BuildSpec, SpecError> {
        text.parse()
    }

    #[test]
    fn a_spec_has_one_text() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, expected) in [
            ("docker alpine", "docker library/alpine:latest".to_owned()),
            ("docker alpine:3.20", "docker library/alpine:3.20".into()),
            (
                "docker library/alpine:3.20",
                "docker library/alpine:3.20".into(),
            ),
            (
                "docker docker.io/library/alpine:3.20",
                "docker library/alpine:3.20".into(),
            ),
            (
                "docker docker.io/alpine:3.20",
                "docker library/alpine:3.20".into(),
            ),
            ("docker localhost/app:1", "docker localhost/app:1".into()),
            (
                "docker registry.test:5000/a/b__c:1",
                "docker registry.test:5000/a/b__c:1".into(),
            ),
            (
                &format!("docker alpine:3.20@{digest}"),
                format!("docker library/alpine@{digest}"),
            ),
            (
                "docker alpine linux/arm64,linux/amd64,linux/arm64",
                "docker library/alpine:latest linux/amd64,linux/arm64".into(),
            ),
            ("maven g.h:a:1.0+b", "maven g.h:a:1.0+b".into()),
            (
                "maven g:a:1 https://repo.test/m2/",
                "maven g:a:1 https://repo.test/m2".into(),
            ),
            (
                "maven g:a:1 http://127.0.0.1:81",
                "maven g:a:1 http://127.0.0.1:81".into(),
            ),
        ] {
            let spec = parse(text).unwrap();
            assert_eq!(spec.to_string(), expected, "{text}");
            assert_eq!(parse(&expected), Ok(spec));
        }
    }

    #[test]
    fn malformed_names_are_refused_with_what_is_wanted() {
        let long = "a".repeat(300);
        let image = |it: &str| format!("docker {it}");
        let maven = |it: &str| format!("maven {it}");
        for (text, expected) in [
            (String::new(), SpecError::Kind),
            ("npm left-pad".into(), SpecError::Kind),
            ("docker a b c".into(), SpecError::Kind),
            (
                image("library/.."),
                SpecError::Repository("library/..".into()),
            ),
            (image("../.."), SpecError::Registry("..".into())),
            (image("Alpine"), SpecError::Repository("Alpine".into())),
            (image("a//b"), SpecError::Repository("a//b".into())),
            (image("x/y'OR'1"), SpecError::Repository("x/y'OR'1".into())),
            (image("a___b"), SpecError::Repository("a___b".into())),
            (image(&long), SpecError::TooLong(300)),
            (image("a:"), SpecError::Tag(String::new())),
            (image("a:.x"), SpecError::Tag(".x".into())),
            (image("a@sha256:00"), SpecError::Digest("sha256:00".into())),
            (image("host:0/a"), SpecError::Registry("host:0".into())),
            (image("host:+1/a"), SpecError::Registry("host:+1".into())),
            (image("a linux"), SpecError::Platform("linux".into())),
            (image("a linux/.."), SpecError::Platform("linux/..".into())),
            (maven("a:b"), SpecError::Coordinate("a:b".into())),
            (
                maven("a:b:1:jar"),
                SpecError::Coordinate("a:b:1:jar".into()),
            ),
            (maven("../..:b:1"), SpecError::MavenName("../..".into())),
            (maven("g:..:1"), SpecError::MavenName("..".into())),
            (maven("g:a:[1,2)"), SpecError::MavenName("[1,2)".into())),
            (maven("g::1"), SpecError::MavenName(String::new())),
            (maven(&format!("{long}:a:1")), SpecError::TooLong(300)),
            (
                maven("g:a:1-SNAPSHOT"),
                SpecError::Moving("1-SNAPSHOT".into()),
            ),
            (maven("g:a:LATEST"), SpecError::Moving("LATEST".into())),
            (maven("g:a:1 ftp://h"), SpecError::Url("ftp://h".into())),
            (
                maven("g:a:1 https://u:p@h.test"),
                SpecError::Url("https://u:p@h.test".into()),
            ),
            (
                maven("g:a:1 https://h.test/../x"),
                SpecError::Url("https://h.test/../x".into()),
            ),
            ("x".repeat(5_000), SpecError::TooLong(5_000)),
        ] {
            assert_eq!(parse(&text), Err(expected), "{text}");
        }
        let many = (0..17).map(|it| format!("linux/a{it}"));
        assert_eq!(
            Docker::new(None, "a", Reference::Tag("1".into()), many),
            Err(SpecError::Platforms(17))
        );
    }

    #[test]
    fn a_message_cannot_carry_a_spec_that_nobody_could_type() {
        let good = codec::encode(&parse("maven g:a:1").unwrap());
        assert!(codec::decode::<BuildSpec>(&good, 64).is_ok());
        let mut bad = good.clone();
        *bad.last_mut().unwrap() = b'/';
        assert!(codec::decode::<BuildSpec>(&bad, 64).is_err());

        // So is the default registry by its name.
        let named = codec::encode(&(0u8, "docker.io", "library/a", "1", Vec::<&str>::new()));
        assert_eq!(
            codec::decode::<BuildSpec>(&named, 64),
            Err(codec::CodecError::NotCanonical)
        );

        // The short name of an official image is a second form of the long one.
        let short = codec::encode(&(0u8, None::<&str>, "alpine", "1", Vec::<&str>::new()));
        assert_eq!(
            codec::decode::<BuildSpec>(&short, 64),
            Err(codec::CodecError::NotCanonical)
        );
    }

    #[test]
    fn the_package_url_of_a_tag_needs_its_digest() {
        let digest = Sha256([1; 32]);
        let tagged = parse("docker alpine:3.20").unwrap();
        assert_eq!(tagged.purl(None), None);
        let fixed = parse(&format!("docker alpine@sha256:{digest}")).unwrap();
        assert_eq!(tagged.purl(Some(&digest)), fixed.purl(None));
        assert_eq!((tagged.tag(), fixed.tag()), (Some("3.20"), None));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_survives_text_and_bytes(
            text in "(docker|maven) [a-z0-9.:/@_-]{0,40}( [a-z0-9.:/,-]{0,30})?"
        ) {
            if let Ok(spec) = parse(&text) {
                prop_assert_eq!(parse(&spec.to_string()), Ok(spec.clone()));
                let bytes = codec::encode(&spec);
                prop_assert_eq!(codec::decode::<BuildSpec>(&bytes, 4_096), Ok(spec));
            }
        }
    }
}
