//! Which Maven repositories to ask: those that the user's own Maven would ask.
//!
//! Source: Maven's settings reference. Taken from `settings.xml` are mirrors and the repositories
//! of active profiles; after them comes `central`. Profiles that a JDK, a property or a file
//! activates are not seen: what is fetched must not depend on them.

use std::path::{Path, PathBuf};

use url::Url;

use crate::node::pipeline::address::is_loopback;
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::install::{CENTRAL, MavenPlaces};
use crate::node::pipeline::maven::MavenRepository;
use crate::proto::package::xml::{Element, XML_BYTES_MAX};

/// Most repositories that are asked, in their order; further ones are not.
pub const REPOSITORIES_MAX: usize = 32;

/// The repositories of the Maven in `places`, in the order in which Maven asks them. Mirrors on
/// this machine with one of `own_ports` are the node's own front end and passed over: asking
/// oneself would never end.
///
/// # Errors
///
/// [`PipelineError::Setup`] if a settings file is not readable, or if nothing was found.
pub fn default_repositories(
    places: &MavenPlaces,
    own_ports: &[u16],
) -> Result<Vec<MavenRepository>, PipelineError> {
    let mut settings = Vec::new();
    for path in places.settings() {
        settings.extend(read(&path)?);
    }
    let mut known: Vec<Known> = settings
        .iter()
        .flat_map(|it| repositories(it, places))
        .collect();
    if known.iter().all(|it| it.id != CENTRAL) {
        known.push(Known {
            id: CENTRAL.to_owned(),
            url: places.central(),
        });
    }
    let mirrors: Vec<Mirror> = settings
        .iter()
        .flat_map(|it| it.list("mirrors", "mirror"))
        .filter_map(|it| Mirror::read(it, places))
        .filter(|it| !is_own(&it.url, own_ports))
        .collect();
    let mut found: Vec<MavenRepository> = Vec::new();
    for repository in known {
        let url = match select(&mirrors, &repository) {
            Some(mirror) if mirror.is_blocked => continue,
            Some(mirror) => Some(mirror.url.clone()),
            None => repository.url,
        };
        let url = url.filter(|it| it.starts_with("http://") || it.starts_with("https://"));
        let Some(url) = url.filter(|it| !is_own(it, own_ports)) else {
            continue;
        };
        // Behind one mirror, all repositories are the same.
        if found.len() < REPOSITORIES_MAX && found.iter().all(|it| it.url != url) {
            let id = repository.id;
            found.push(MavenRepository { id, url });
        }
    }
    if found.is_empty() {
        return Err(PipelineError::Setup(
            "no Maven repository is known; install Maven, give one with `--repository URL`, or \
             set `maven.repositories` in the configuration"
                .to_owned(),
        ));
    }
    Ok(found)
}

/// A repository before mirrors are looked at.
#[derive(Debug)]
struct Known {
    id: String,
    url: Option<String>,
}

/// A mirror in `settings.xml`.
#[derive(Debug)]
struct Mirror {
    of: String,
    url: String,
    is_blocked: bool,
}

impl Mirror {
    fn read(element: &Element, places: &MavenPlaces) -> Option<Self> {
        Some(Self {
            of: element.value("mirrorOf")?.to_owned(),
            url: interpolate(element.value("url")?, places)?,
            is_blocked: element.value("blocked") == Some("true"),
        })
    }

    /// Whether the mirror stands for `repository`. Source: Maven's "Advanced Mirror
    /// Specification": the first part that names the repository, or excludes it, decides.
    fn stands_for(&self, repository: &Known) -> bool {
        let url = repository.url.as_deref().and_then(|it| Url::parse(it).ok());
        // A repository of unknown address is `central`, which is elsewhere and has TLS.
        let is_external = url
            .as_ref()
            .is_none_or(|it| it.has_host() && !is_loopback(it));
        let is_http = url.is_some_and(|it| it.scheme() == "http");
        let mut stands = false;
        for part in self.of.split(',').map(str::trim) {
            match part {
                "*" => stands = true,
                "external:*" => stands |= is_external,
                "external:http:*" => stands |= is_external && is_http,
                part if part == repository.id => return true,
                part if part.strip_prefix('!') == Some(&repository.id) => return false,
                _ => {}
            }
        }
        stands
    }
}

/// A mirror that names the repository comes before those that only include it.
fn select<'a>(mirrors: &'a [Mirror], repository: &Known) -> Option<&'a Mirror> {
    let by_name = mirrors.iter().find(|it| it.of == repository.id);
    by_name.or_else(|| mirrors.iter().find(|it| it.stands_for(repository)))
}

/// The repositories of a file's active profiles.
fn repositories(settings: &Element, places: &MavenPlaces) -> Vec<Known> {
    let profiles: Vec<_> = settings.list("profiles", "profile").collect();
    let named: Vec<_> = settings
        .list("activeProfiles", "activeProfile")
        .map(Element::text)
        .collect();
    let is_named = |it: &&&Element| it.value("id").is_some_and(|id| named.contains(&id));
    let is_default = |it: &&&Element| {
        let activation = it.child("activation");
        activation.and_then(|it| it.value("activeByDefault")) == Some("true")
    };
    let mut active: Vec<_> = profiles.iter().filter(is_named).collect();
    // What is active by default is so only as long as nothing else is.
    if active.is_empty() {
        active = profiles.iter().filter(is_default).collect();
    }
    active
        .into_iter()
        .flat_map(|it| it.list("repositories", "repository"))
        .filter(|it| {
            let releases = it.child("releases");
            releases.and_then(|it| it.value("enabled")) != Some("false")
        })
        .filter_map(|it| {
            Some(Known {
                id: it.value("id")?.to_owned(),
                url: Some(interpolate(it.value("url")?, places)?),
            })
        })
        .collect()
}

/// Fills in `${user.home}`; a text with any other placeholder is of no use here.
fn interpolate(text: &str, places: &MavenPlaces) -> Option<String> {
    let home = places.user_home.as_ref().and_then(|it| it.to_str());
    let text = match home {
        Some(home) => text.replace("${user.home}", home),
        None => text.to_owned(),
    };
    (!text.contains("${")).then_some(text)
}

fn is_own(url: &str, own_ports: &[u16]) -> bool {
    Url::parse(url).is_ok_and(|it| {
        let port = it.port_or_known_default();
        is_loopback(&it) && port.is_some_and(|it| own_ports.contains(&it))
    })
}

/// Reads a settings file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Element>, PipelineError> {
    let unreadable = |problem: String| {
        let path = PathBuf::from(path);
        PipelineError::Setup(format!("{} is not readable: {problem}", path.display()))
    };
    let length = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if (XML_BYTES_MAX as u64) < length {
        return Err(unreadable(format!("it has {length} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|it| unreadable(it.to_string()))?;
    let root = Element::parse(&bytes).map_err(|it| unreadable(it.to_string()))?;
    Ok(Some(root))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The default settings of Maven since 3.8.1.
    const BLOCKER: &str = "<mirror><id>maven-default-http-blocker</id>\
        <mirrorOf>external:http:*</mirrorOf><url>http://0.0.0.0/</url><blocked>true</blocked></mirror>";

    fn with_profile(profile: &str, rest: &str) -> String {
        format!("<settings><profiles>{profile}</profiles>{rest}</settings>")
    }

    /// `id url` of each repository that Maven would ask with these settings.
    fn asked(user: &str, global: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let (home, maven) = (folder.path().join("home"), folder.path().join("maven"));
        for (path, content) in [
            (home.join(".m2/settings.xml"), user),
            (maven.join("conf/settings.xml"), global),
        ] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if !content.is_empty() {
                fs::write(path, content).unwrap();
            }
        }
        let places = MavenPlaces {
            user_home: Some(home),
            maven_home: Some(maven),
        };
        let found = default_repositories(&places, &[7888]).map_err(|it| it.to_string())?;
        Ok(found
            .iter()
            .map(|it| format!("{} {}", it.id, it.url))
            .collect())
    }

    fn mirrors(list: &[(&str, &str)]) -> String {
        let mirror = |(of, url): &(&str, &str)| {
            format!("<mirror><id>m</id><mirrorOf>{of}</mirrorOf><url>{url}</url></mirror>")
        };
        let list: String = list.iter().map(mirror).collect();
        format!("<settings><mirrors>{list}</mirrors></settings>")
    }

    #[test]
    fn mirrors_stand_for_what_their_pattern_says() {
        for (of, expected) in [
            ("central", true),
            ("*", true),
            ("external:*", true),
            ("*,!other", true),
            ("other, central", true),
            ("*,!central", false),
            ("external:http:*", false),
            ("other", false),
        ] {
            let settings = mirrors(&[(of, "https://mirror.example/x")]);
            let expected = expected.then(|| vec!["central https://mirror.example/x".to_owned()]);
            assert_eq!(asked(&settings, "").ok(), expected, "{of}");
        }
        let exact = mirrors(&[
            ("*", "https://any.example"),
            ("central", "https://exact.example"),
        ]);
        assert_eq!(
            asked(&exact, ""),
            Ok(vec!["central https://exact.example".into()])
        );
        let user = mirrors(&[("*", "https://user.example")]);
        let global = mirrors(&[("*", "https://global.example")]);
        assert_eq!(
            asked(&user, &global),
            Ok(vec!["central https://user.example".into()])
        );
    }

    #[test]
    fn our_own_front_end_is_passed_over() {
        let own = mirrors(&[
            ("central", "http://localhost:7888/maven2"),
            ("*", "https://mirror.example"),
        ]);
        assert_eq!(
            asked(&own, ""),
            Ok(vec!["central https://mirror.example".into()])
        );
    }

    #[test]
    fn repositories_of_active_profiles_come_before_central() {
        let profile = |id: &str, more: &str| {
            format!(
                "<profile><id>{id}</id>{more}<repositories><repository><id>r-{id}</id>\
                 <url>https://{id}.example/m</url></repository></repositories></profile>"
            )
        };
        let by_default = "<activation><activeByDefault>true</activeByDefault></activation>";
        let profiles = profile("a", "") + &profile("b", by_default);
        let mirror = "<mirrors><mirror><mirrorOf>central</mirrorOf><url>https://c.example</url></mirror></mirrors>";
        let central = "central https://c.example".to_owned();
        let named = "<activeProfiles><activeProfile>a</activeProfile></activeProfiles>";
        for (rest, expected) in [
            (named, "r-a https://a.example/m"),
            ("", "r-b https://b.example/m"),
        ] {
            let settings = with_profile(&profiles, &format!("{mirror}{rest}"));
            assert_eq!(
                asked(&settings, ""),
                Ok(vec![expected.into(), central.clone()])
            );
        }
    }

    #[test]
    fn unusable_repositories_are_left_out() {
        let repository = |id: &str, url: &str, more: &str| {
            format!("<repository><id>{id}</id><url>{url}</url>{more}</repository>")
        };
        let list = [
            repository("file", "file://${user.home}/repo", ""),
            repository("odd", "https://${env.HOST}/m", ""),
            repository(
                "snapshots",
                "https://s.example",
                "<releases><enabled>false</enabled></releases>",
            ),
            repository("plain", "http://lan.example/m", ""),
            repository("local", "http://127.0.0.1:9/m", ""),
            repository("central", "https://c.example", ""),
        ]
        .concat();
        let settings = with_profile(
            &format!("<profile><id>p</id><repositories>{list}</repositories></profile>"),
            "<activeProfiles><activeProfile>p</activeProfile></activeProfiles>",
        );
        let global = format!("<settings><mirrors>{BLOCKER}</mirrors></settings>");
        let expected = ["local http://127.0.0.1:9/m", "central https://c.example"];
        assert_eq!(
            asked(&settings, &global),
            Ok(expected.map(str::to_owned).into())
        );
    }

    #[test]
    fn without_an_answer_the_user_is_told_what_to_do() {
        for settings in ["", "<settings/>"] {
            let error = asked(settings, "").unwrap_err();
            assert!(
                error.contains("--repository") && error.contains("maven.repositories"),
                "{error}"
            );
        }
        let error = asked("<settings>", "").unwrap_err();
        assert!(error.contains("settings.xml"), "{error}");
        let places = MavenPlaces::default();
        assert_eq!(
            default_repositories(&places, &[]).unwrap_err().code(),
            "setup"
        );
    }

    #[test]
    fn an_installed_maven_is_understood() {
        let places = MavenPlaces::find(|name| std::env::var(name).ok());
        if places.maven_home.is_some() {
            let found = default_repositories(&places, &[]).unwrap();
            assert!(!found.is_empty());
        }
    }
}
