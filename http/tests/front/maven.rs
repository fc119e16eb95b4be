//! Maven clients against a node that has, builds or lacks a version.

use std::fmt::Write as _;

use kogge::{ReadThrough, Sha256};
use sha1::Digest as _;

use crate::kit::Site;

const BASE: &str = "/maven2/org/example/lib";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, it| {
        write!(text, "{it:02x}").unwrap();
        text
    })
}

#[test]
fn a_version_is_built_with_all_its_files_and_then_served_from_the_log() {
    let site = Site::start(ReadThrough::On);
    let jar = site.put_jar("org.example", "lib", "1.0");
    let path = format!("{BASE}/1.0/lib-1.0.jar");
    let first = site.get(&format!("{BASE}/1.0/lib-1.0.pom"));
    assert_eq!(
        (first.status, first.header("Content-Type")),
        (200, Some("text/xml"))
    );

    site.upstream.switch_off(true);
    let reply = site.get(&path);
    assert_eq!((reply.status, &reply.body), (200, &jar));
    assert_eq!(
        reply.header("Content-Type"),
        Some("application/java-archive")
    );
    assert!(reply.header("Last-Modified").unwrap().ends_with(" GMT"));
    let sha256 = Sha256::of(&jar).to_string();
    assert_eq!(reply.header("X-Checksum-SHA256"), Some(sha256.as_str()));

    for (suffix, expected) in [
        ("sha1", hex(&sha1::Sha1::digest(&jar))),
        ("md5", hex(&md5::Md5::digest(&jar))),
        ("sha256", sha256.clone()),
        ("sha512", hex(&sha2::Sha512::digest(&jar))),
    ] {
        let sum = site.get(&format!("{path}.{suffix}"));
        assert_eq!(
            (sum.status, sum.text()),
            (200, expected.clone()),
            "{suffix}"
        );
        // Once known, it travels with the file.
        let name = format!("X-Checksum-{suffix}");
        assert_eq!(
            site.get(&path).header(&name),
            Some(expected.as_str()),
            "{suffix}"
        );
    }
    let part = site.ask("GET", &path, &[("Range", "bytes=3-5")], b"");
    assert_eq!((part.status, part.text()), (206, "org".to_owned()));
    let head = site.ask("HEAD", &path, &[], b"");
    let len = jar.len().to_string();
    assert_eq!(
        (head.status, head.header("Content-Length")),
        (200, Some(len.as_str()))
    );
    assert_eq!(head.body.len(), 0);
    site.stop();
}

#[test]
fn only_what_is_surely_absent_is_a_404() {
    let site = Site::start(ReadThrough::On);
    site.put_jar("org.example", "lib", "1.0");
    assert_eq!(site.get(&format!("{BASE}/1.0/lib-1.0.jar")).status, 200);
    let asked = site.upstream.requests.all().len();
    for (path, status) in [
        // A known version has all its files.
        ("1.0/lib-1.0-sources.jar", 404),
        ("1.0/lib-1.0.jar.asc", 404),
        ("1.0/", 404),
        ("1.0", 404),
        ("", 404),
        // Versions that move are not in the log.
        ("1.1-SNAPSHOT/lib-1.1-SNAPSHOT.jar", 404),
        ("1.1-SNAPSHOT/maven-metadata.xml", 404),
        ("1.0/../../../../etc/passwd", 400),
        ("1.0/..%2f..%2fetc", 400),
        ("1.0/lib-1.0.jar%00", 400),
    ] {
        assert_eq!(site.get(&format!("{BASE}/{path}")).status, status, "{path}");
    }
    assert_eq!(site.upstream.requests.all().len(), asked);
    // This one is looked for.
    let absent = site.get(&format!("{BASE}/9.9/lib-9.9.jar"));
    assert_eq!(absent.status, 404, "{}", absent.text());
    assert!(asked < site.upstream.requests.all().len());
    for method in ["PUT", "POST", "DELETE"] {
        let reply = site.ask(method, &format!("{BASE}/1.0/lib-1.0.jar"), &[], b"");
        assert_eq!(
            (reply.status, reply.header("Allow")),
            (405, Some("GET, HEAD"))
        );
    }
    site.stop();
}

#[test]
fn a_node_that_may_not_build_says_how_to_add_a_version() {
    let site = Site::start(ReadThrough::Off);
    site.put_jar("org.example", "lib", "1.0");
    let reply = site.get(&format!("{BASE}/1.0/lib-1.0.jar"));
    assert_eq!(reply.status, 404);
    let text = reply.text();
    assert!(
        text.contains("kogge build maven org.example:lib:1.0"),
        "{text}"
    );
    assert_eq!(site.upstream.requests.all(), Vec::<String>::new());
    site.stop();
}

#[test]
fn the_list_of_versions_follows_from_the_log() {
    let site = Site::start(ReadThrough::On);
    assert_eq!(site.get(&format!("{BASE}/maven-metadata.xml")).status, 404);
    for version in ["1.10", "1.2", "1.0+b"] {
        site.put_jar("org.example", "lib", version);
        let path = format!("{BASE}/{version}/lib-{version}.jar").replace('+', "%2B");
        let reply = site.get(&path);
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let list = site.get(&format!("{BASE}/maven-metadata.xml"));
    assert_eq!(
        (list.status, list.header("Content-Type")),
        (200, Some("text/xml"))
    );
    let text = list.text();
    let order: Vec<usize> = ["1.0+b", "1.2", "1.10"]
        .iter()
        .map(|it| text.find(&format!("<version>{it}</version>")).unwrap())
        .collect();
    assert!(order.is_sorted(), "{text}");
    assert!(text.contains("<release>1.10</release>"), "{text}");
    let sum = site.get(&format!("{BASE}/maven-metadata.xml.sha1"));
    assert_eq!(sum.text(), hex(&sha1::Sha1::digest(&list.body)));
    site.stop();
}
