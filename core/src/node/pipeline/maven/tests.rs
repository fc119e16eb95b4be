use std::collections::BTreeMap;

use super::*;
use crate::node::pipeline::testing::{Bench, Reply, Server, client, client_with};

const FOLDER: &str = "/m2/org/example/lib/1.0/";
const POM: &str = "<project><artifactId>lib</artifactId><dependencies><dependency>\
    <groupId>g</groupId><artifactId>a</artifactId><version>2</version></dependency></dependencies></project>";

type Files = BTreeMap<String, Vec<u8>>;

fn digest(algorithm: Algorithm, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(true);
    hasher.update(bytes);
    hasher.finish().get(algorithm).unwrap().hex()
}

/// Adds a file with its `.sha1`.
fn put(files: &mut Files, name: &str, content: &[u8]) {
    let sha1 = digest(Algorithm::Sha1, content);
    files.insert(format!("{FOLDER}{name}"), content.to_vec());
    files.insert(format!("{FOLDER}{name}.sha1"), sha1.into_bytes());
}

/// A version without sources.
fn lib() -> Files {
    let mut files = Files::new();
    put(&mut files, "lib-1.0.pom", POM.as_bytes());
    put(&mut files, "lib-1.0.jar", b"jar");
    put(&mut files, "lib-1.0-javadoc.jar", b"javadoc");
    put(&mut files, "lib-1.0-linux.jar", b"native");
    files
}

fn serve(files: Files) -> Server {
    Server::start(move |it| match files.get(&it.path) {
        Some(bytes) => Reply::ok(bytes.clone()),
        None => Reply::new(404, "<html>"),
    })
}

fn repository(id: &str, server: &Server) -> MavenRepository {
    let url = server.url("/m2/");
    MavenRepository { id: id.into(), url }
}

fn fetch(
    repositories: Vec<MavenRepository>,
    extras: &[Variant],
    bench: &Bench,
) -> Result<Outcome, PipelineError> {
    let coordinates = "org.example:lib:1.0".parse().unwrap();
    Maven::new(Arc::new(client()), repositories).fetch(&coordinates, extras, &bench.job())
}

fn names(outcome: &Outcome) -> Vec<&str> {
    let files = outcome.packages.iter().flat_map(|it| &it.files);
    files.map(|it| it.file.as_str()).collect()
}

#[test]
fn a_version_is_its_pom_its_jar_and_what_else_exists() {
    let server = serve(lib());
    let bench = Bench::default();
    let outcome = fetch(vec![repository("central", &server)], &[], &bench).unwrap();
    assert_eq!(
        names(&outcome),
        ["lib-1.0-javadoc.jar", "lib-1.0.jar", "lib-1.0.pom"]
    );
    let jar = &outcome.packages[0].files[1];
    assert_eq!(jar.purl.as_str(), "pkg:maven/org.example/lib@1.0");
    assert_eq!(jar.media_type, "application/java-archive");
    assert_eq!(jar.source.repository, "central");
    assert_eq!(bench.memory.bytes(&jar.sha256).unwrap(), b"jar");
    let algorithms: Vec<_> = jar.digests.iter().map(Digest::algorithm).collect();
    assert_eq!(
        algorithms,
        [Algorithm::Sha512, Algorithm::Sha1, Algorithm::Md5]
    );
    let dependencies = Pom::parse(POM.as_bytes()).unwrap().dependencies_digest();
    assert!(
        outcome.packages[0]
            .files
            .iter()
            .all(|it| it.dependencies == Some(dependencies))
    );
    let asked = server.lines();
    let absent = format!("GET {FOLDER}lib-1.0-sources.jar");
    assert_eq!(
        asked.iter().filter(|it| it.starts_with(&absent)).count(),
        1,
        "no checksums of nothing"
    );
}

#[test]
fn every_node_gets_the_same_facts_whatever_its_mirror() {
    let (one, other) = (serve(lib()), serve(lib()));
    let get = |server| fetch(vec![repository("central", server)], &[], &Bench::default());
    assert_eq!(get(&one), get(&other));
}

#[test]
fn extras_must_exist() {
    let server = serve(lib());
    let extra = |classifier| Variant::new(Some(classifier), "jar").unwrap();
    let get = |extras: &[Variant]| fetch(vec![repository("r", &server)], extras, &Bench::default());
    let outcome = get(&[extra("linux"), extra("javadoc")]).unwrap();
    assert_eq!(
        names(&outcome),
        [
            "lib-1.0-javadoc.jar",
            "lib-1.0-linux.jar",
            "lib-1.0.jar",
            "lib-1.0.pom"
        ]
    );
    assert_eq!(get(&[extra("windows")]).unwrap_err().code(), "not-found");
    assert_eq!(
        get(&vec![extra("linux"); EXTRAS_MAX + 1])
            .unwrap_err()
            .code(),
        "too-large"
    );
}

#[test]
fn the_first_repository_with_the_pom_answers_for_all() {
    let mut half = lib();
    half.remove(&format!("{FOLDER}lib-1.0.jar"));
    let (empty, half, whole) = (serve(Files::new()), serve(half), serve(lib()));
    let get = |servers: &[&Server]| {
        let repositories = servers.iter().map(|it| repository("r", it)).collect();
        fetch(repositories, &[], &Bench::default())
            .map(|it| names(&it).len())
            .map_err(|it| it.code())
    };
    assert_eq!(get(&[&empty, &whole]), Ok(3));
    assert_eq!(get(&[&half, &whole]), Err("not-found"));
    assert_eq!(get(&[&empty]), Err("not-found"));
    assert_eq!(get(&[]), Err("setup"));

    let down = Server::start(|_| Reply::new(503, ""));
    assert_eq!(get(&[&down, &whole]), Err("network"), "it might be there");
}

#[test]
fn published_checksums_are_compared() {
    let jar = format!("{FOLDER}lib-1.0.jar");
    let sha = |algorithm, bytes: &[u8]| digest(algorithm, bytes);
    for (suffix, content, expected) in [
        (
            ".sha1",
            sha(Algorithm::Sha1, b"other"),
            Err("digest-mismatch"),
        ),
        (
            ".sha256",
            sha(Algorithm::Sha256, b"other"),
            Err("digest-mismatch"),
        ),
        (
            ".sha512",
            sha(Algorithm::Sha512, b"other"),
            Err("digest-mismatch"),
        ),
        (".sha1", "<html>".into(), Err("malformed")),
        (
            ".sha256",
            sha(Algorithm::Sha256, b"jar").to_uppercase() + "  lib-1.0.jar\n",
            Ok(3),
        ),
        (
            ".sha512",
            format!("SHA512(lib-1.0.jar)= {}", sha(Algorithm::Sha512, b"jar")),
            Ok(3),
        ),
        // SHA-1 is there and fits, so MD5 is not asked for.
        (".md5", "nonsense".into(), Ok(3)),
    ] {
        let mut files = lib();
        files.insert(format!("{jar}{suffix}"), content.into_bytes());
        let server = serve(files);
        let bench = Bench::default();
        let outcome = fetch(vec![repository("r", &server)], &[], &bench);
        let outcome = outcome.map(|it| names(&it).len()).map_err(|it| it.code());
        assert_eq!(outcome, expected, "{suffix}");
        if expected.is_err() {
            assert_eq!(bench.memory.len(), 1, "only the POM");
        }
    }
}

#[test]
fn without_checksums_the_facts_are_the_same() {
    let mut bare = lib();
    bare.retain(|name, _| !name.ends_with(".sha1"));
    let (bare, full) = (serve(bare), serve(lib()));
    let get = |server| fetch(vec![repository("r", server)], &[], &Bench::default()).unwrap();
    assert_eq!(get(&bare), get(&full));
}

#[test]
fn a_pom_that_stands_alone_is_a_package() {
    let mut files = Files::new();
    put(
        &mut files,
        "lib-1.0.pom",
        b"<project><packaging>pom</packaging></project>",
    );
    let server = serve(files);
    let outcome = fetch(vec![repository("r", &server)], &[], &Bench::default()).unwrap();
    assert_eq!(names(&outcome), ["lib-1.0.pom"]);
}

#[test]
fn unknown_packaging_falls_back_to_a_jar() {
    let mut files = lib();
    put(
        &mut files,
        "lib-1.0.pom",
        b"<project><packaging>hpi</packaging></project>",
    );
    let server = serve(files.clone());
    let outcome = fetch(vec![repository("r", &server)], &[], &Bench::default()).unwrap();
    assert!(names(&outcome).contains(&"lib-1.0.jar"));
    put(&mut files, "lib-1.0.hpi", b"hpi");
    let server = serve(files);
    let outcome = fetch(vec![repository("r", &server)], &[], &Bench::default()).unwrap();
    assert!(names(&outcome).contains(&"lib-1.0.hpi") && !names(&outcome).contains(&"lib-1.0.jar"));
}

#[test]
fn what_changes_or_is_no_pom_is_refused() {
    let server = serve(lib());
    let maven = Maven::new(
        Arc::new(client_with(|_| {})),
        vec![repository("r", &server)],
    );
    let snapshot = "org.example:lib:1.0-SNAPSHOT".parse().unwrap();
    let error = maven
        .fetch(&snapshot, &[], &Bench::default().job())
        .unwrap_err();
    assert_eq!((error.code(), server.lines().len()), ("unsupported", 0));

    let mut files = lib();
    put(
        &mut files,
        "lib-1.0.pom",
        b"<html>not found, but 200</html>",
    );
    let server = serve(files);
    let error = fetch(vec![repository("r", &server)], &[], &Bench::default()).unwrap_err();
    assert_eq!(error.code(), "malformed");
}

#[test]
fn a_repository_given_by_url_is_named_by_host_and_path() {
    for (url, id) in [
        ("https://repo.example/maven2/", "repo.example/maven2"),
        ("http://127.0.0.1:8081/x", "127.0.0.1:8081/x"),
    ] {
        assert_eq!(MavenRepository::from_url(url).unwrap().id, id);
    }
    assert_eq!(
        MavenRepository::from_url("https://u:p@x/")
            .unwrap_err()
            .code(),
        "setup"
    );
}

#[test]
fn who_asks_for_a_package_chooses_among_the_nodes_repositories() {
    let (first, second, other) = (serve(lib()), serve(lib()), serve(lib()));
    let repositories = vec![repository("one", &first), repository("two", &second)];
    let maven = Maven::new(Arc::new(client()), repositories);
    let coordinates = "org.example:lib:1.0".parse().unwrap();
    let fetch = |server: &Server| {
        let only = maven.only(&server.url("/m2"))?;
        only.fetch(&coordinates, &[], &Bench::default().job())
    };
    assert!(fetch(&second).is_ok());
    assert_eq!(fetch(&other).unwrap_err().code(), "setup");
    assert_eq!((first.lines().len(), other.lines().len()), (0, 0));
    assert!(!second.lines().is_empty());
}
