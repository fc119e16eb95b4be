use serde_json::{Value, json};

use super::*;
use crate::base::Blake3;
use crate::node::pipeline::registries::RegistryFiles;
use crate::node::pipeline::testing::{Bench, Received, Reply, Server, client, client_with};
use crate::proto::package::oci::{DOCKER_LIST, OCI_INDEX, OCI_MANIFEST};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// What a registry holds: path after `/v2/` → media type and bytes.
#[derive(Clone, Default)]
struct Shelf(BTreeMap<String, (String, Vec<u8>)>);

impl Shelf {
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", Sha256::of(bytes));
        let path = format!("team/app/blobs/{digest}");
        self.0
            .insert(path, ("application/octet-stream".into(), bytes.to_vec()));
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn document(&mut self, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let digest = format!("sha256:{}", Sha256::of(&bytes));
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        let path = format!("team/app/manifests/{digest}");
        self.0.insert(path, (media_type.into(), bytes));
        descriptor
    }

    fn manifest(&mut self, config: &[u8], layers: &[Value]) -> Value {
        let config = self.blob(CONFIG, config);
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        self.document(OCI_MANIFEST, &manifest)
    }

    fn tag(&mut self, tag: &str, descriptor: &Value) {
        let digest = descriptor["digest"].as_str().unwrap();
        let content = self.0[&format!("team/app/manifests/{digest}")].clone();
        self.0.insert(format!("team/app/manifests/{tag}"), content);
    }

    fn answer(&self, received: &Received) -> Reply {
        let Some((media_type, bytes)) = received
            .path
            .strip_prefix("/v2/")
            .and_then(|it| self.0.get(it))
        else {
            return Reply::new(404, "");
        };
        let digest = format!("sha256:{}", Sha256::of(bytes));
        Reply::ok(bytes.clone())
            .with("content-type", media_type)
            .with("docker-content-digest", &digest)
    }
}

fn on(platform: &str, mut descriptor: Value) -> Value {
    let platform: Platform = platform.parse().unwrap();
    descriptor["platform"] = json!({
        "os": platform.os, "architecture": platform.architecture, "variant": platform.variant,
    });
    descriptor
}

/// An image for two platforms with a layer in common; answers the index.
fn two_platforms(shelf: &mut Shelf) -> Value {
    let shared = shelf.blob(LAYER, b"shared layer");
    let own = shelf.blob(LAYER, b"layer of amd64");
    let amd = shelf.manifest(b"{\"architecture\":\"amd64\"}", &[shared.clone(), own]);
    let arm = shelf.manifest(b"{\"architecture\":\"arm64\"}", &[shared]);
    let manifests = [on("linux/amd64", amd), on("linux/arm64/v8", arm)];
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let index = shelf.document(OCI_INDEX, &index);
    shelf.tag("1.0", &index);
    index
}

fn serve(shelf: Shelf) -> Server {
    Server::start(move |it| shelf.answer(it))
}

fn images(server: &Server) -> Images {
    let files = RegistryFiles {
        socket: "/nonexistent".into(),
        docker: "/nonexistent".into(),
        containerd: "/nonexistent".into(),
        podman: Vec::new(),
    };
    let configured = [("registry.example".to_owned(), server.url(""))];
    let registries = Registries::new(&configured.into(), &files, &[]).unwrap();
    let public = client_with(|it| it.public_only = true);
    Images::new(Arc::new(client()), Arc::new(public), registries)
}

fn fetch(
    server: &Server,
    pointer: &str,
    platforms: &[&str],
    bench: &Bench,
) -> Result<Outcome, PipelineError> {
    let reference = ImageReference {
        name: ImageName::new("registry.example", "team/app").unwrap(),
        pointer: pointer.parse().unwrap(),
    };
    let platforms: Vec<_> = platforms.iter().map(|it| it.parse().unwrap()).collect();
    images(server).fetch(&reference, &platforms, &bench.job())
}

fn digest_of(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap()
}

/// `<package's digest>: <file>, <file>…`, digests shortened.
fn summary(outcome: &Outcome) -> Vec<String> {
    let short = |it: &str| {
        let (folder, name) = it.split_once('/').unwrap();
        format!("{folder}/{}", &name[..4])
    };
    let package = |it: &Package| {
        let files: Vec<_> = it.files.iter().map(|it| short(&it.file)).collect();
        format!(
            "{}: {}",
            &it.purl.version().unwrap()[7..11],
            files.join(", ")
        )
    };
    outcome.packages.iter().map(package).collect()
}

#[test]
fn an_index_brings_every_platform_as_a_package_of_its_own() {
    let mut shelf = Shelf::default();
    let index = two_platforms(&mut shelf);
    let content = shelf.clone();
    let server = serve(shelf);
    let bench = Bench::default();
    let outcome = fetch(&server, "1.0", &[], &bench).unwrap();

    let digest = parse_digest(digest_of(&index)).unwrap();
    let expected = TagBinding {
        registry: "registry.example".into(),
        repository: "team/app".into(),
        tag: "1.0".into(),
        digest,
    };
    assert_eq!(outcome.tag, Some(expected));
    let counts: Vec<_> = outcome.packages.iter().map(|it| it.files.len()).collect();
    assert_eq!(counts, [1, 4, 3], "{:?}", summary(&outcome));
    let purl = format!("pkg:docker/team/app@sha256:{digest}?repository_url=registry.example");
    assert_eq!(outcome.packages[0].purl.as_str(), purl);

    for facts in outcome.packages.iter().flat_map(|it| &it.files) {
        let bytes = bench.memory.bytes(&facts.sha256).unwrap();
        assert_eq!(
            (facts.blake3, facts.size),
            (Blake3::of(&bytes), bytes.len() as u64)
        );
        assert_eq!(facts.source.repository, "registry.example/team/app");
        assert!(
            facts.file.contains(&facts.sha256.to_string()),
            "{}",
            facts.file
        );
    }
    let types: BTreeSet<_> = outcome.packages[1]
        .files
        .iter()
        .map(|it| it.media_type.as_str())
        .collect();
    assert_eq!(types, [CONFIG, LAYER, OCI_MANIFEST].into());
    // The shared layer came once: one HEAD, three documents, two configurations, two layers.
    assert_eq!(server.lines().len(), 8, "{:?}", server.lines());
    assert_eq!(bench.memory.len(), content.0.len() - 1, "all but the tag");
}

/// A signature of `subject`: the empty object is its configuration and a layer, as image-spec 1.1
/// wants it of artifacts without content.
fn signature(shelf: &mut Shelf, subject: &Value) -> Value {
    let empty = shelf.blob("application/vnd.oci.empty.v1+json", b"{}");
    let layer = shelf.blob("application/vnd.example.signature+text", b"signed: alice");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.signature",
        "config": empty,
        "layers": [empty, layer],
        "subject": subject,
    });
    shelf.document(OCI_MANIFEST, &manifest)
}

#[test]
fn a_signature_is_a_package_that_comes_when_it_is_asked_for() {
    let mut shelf = Shelf::default();
    let image = shelf.manifest(b"{\"architecture\":\"amd64\"}", &[]);
    shelf.tag("1.0", &image);
    let signature = signature(&mut shelf, &image);
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [signature]});
    let list = shelf.document(OCI_INDEX, &list);
    let tag = digest_of(&image).replace(':', "-");
    shelf.tag(&tag, &list);
    let server = serve(shelf);

    let outcome = fetch(&server, digest_of(&signature), &[], &Bench::default()).unwrap();
    let files = |outcome: &Outcome, at: usize| -> Vec<_> {
        let files = outcome.packages[at].files.iter();
        files
            .map(|it| {
                (
                    it.file.split('/').next().unwrap().to_owned(),
                    it.media_type.clone(),
                )
            })
            .collect()
    };
    let empty = || "application/vnd.oci.empty.v1+json".to_owned();
    let mut expected = vec![
        ("config".to_owned(), empty()),
        ("layer".into(), empty()),
        (
            "layer".into(),
            "application/vnd.example.signature+text".into(),
        ),
        ("manifest".into(), OCI_MANIFEST.into()),
    ];
    let mut got = files(&outcome, 0);
    got.sort();
    expected.sort();
    assert_eq!(got, expected);

    // The list under the old tag leads to it; the image does not.
    let listed = fetch(&server, &tag, &[], &Bench::default()).unwrap();
    assert_eq!(listed.packages[1], outcome.packages[0]);
    let image = fetch(&server, "1.0", &[], &Bench::default()).unwrap();
    assert_eq!(image.packages.len(), 1);
}

#[test]
fn chosen_platforms_are_the_same_packages_as_all_of_them() {
    let mut shelf = Shelf::default();
    let index = two_platforms(&mut shelf);
    let server = serve(shelf);
    let all = fetch(&server, digest_of(&index), &[], &Bench::default()).unwrap();
    assert_eq!(all.tag, None);
    let arm = fetch(
        &server,
        digest_of(&index),
        &["linux/arm64"],
        &Bench::default(),
    )
    .unwrap();
    assert_eq!(
        arm.packages,
        [all.packages[0].clone(), all.packages[2].clone()]
    );

    let error = fetch(&server, "1.0", &["linux/s390x"], &Bench::default()).unwrap_err();
    assert_eq!(error.code(), "not-found");
    assert!(error.to_string().contains("linux/s390x"), "{error}");
}

#[test]
fn what_is_stored_is_not_fetched_again() {
    let mut shelf = Shelf::default();
    let index = two_platforms(&mut shelf);
    let server = serve(shelf);
    let bench = Bench::default();
    let first = fetch(&server, digest_of(&index), &[], &bench).unwrap();
    let before = server.lines().len();
    let again = fetch(&server, digest_of(&index), &[], &bench).unwrap();
    assert_eq!(again, first);
    let blobs = |it: &&String| it.contains("/blobs/");
    assert_eq!(server.lines()[before..].iter().filter(blobs).count(), 0);
}

#[test]
fn a_registry_that_wants_a_token_gets_an_anonymous_one() {
    let mut shelf = Shelf::default();
    two_platforms(&mut shelf);
    let tokens = Server::start(|_| Reply::ok(r#"{"token":"t1","expires_in":300}"#));
    let realm = tokens.url("/token");
    let server = Server::start(move |it| {
        match it.header("authorization") {
        Some("Bearer t1") => shelf.answer(it),
        _ => Reply::new(401, "").with(
            "www-authenticate",
            &format!("Bearer realm=\"{realm}\",service=\"registry.example\",scope=\"repository:team/app:pull\""),
        ),
    }
    });
    assert_eq!(
        fetch(&server, "1.0", &[], &Bench::default())
            .unwrap()
            .packages
            .len(),
        3
    );
    let asked = "GET /token?service=registry.example&scope=repository%3Ateam%2Fapp%3Apull";
    assert_eq!(tokens.lines(), [asked], "one token serves the whole run");
}

#[test]
fn layers_may_come_from_another_host_that_learns_no_token() {
    let mut shelf = Shelf::default();
    two_platforms(&mut shelf);
    let blobs = shelf.clone();
    let cdn = Server::start(move |it| blobs.answer(it));
    let target = cdn.url("");
    let server = Server::start(move |it| match it.header("authorization") {
        None if it.path == "/token?scope=s" => Reply::ok(r#"{"token":"t1"}"#),
        None => {
            let realm = format!("http://{}/token", it.header("host").unwrap());
            Reply::new(401, "").with(
                "www-authenticate",
                &format!("Bearer realm=\"{realm}\",scope=\"s\""),
            )
        }
        Some(_) if it.path.contains("/blobs/") => Reply::redirect(&format!("{target}{}", it.path)),
        Some(_) => shelf.answer(it),
    });
    fetch(&server, "1.0", &[], &Bench::default()).unwrap();
    let received = cdn.received();
    assert_eq!(received.len(), 4);
    assert!(
        received
            .iter()
            .all(|it| it.header("authorization").is_none())
    );
}

#[test]
fn a_tag_is_looked_up_without_counting_as_a_pull() {
    let mut shelf = Shelf::default();
    let index = two_platforms(&mut shelf);
    let plain = shelf.clone();
    let server = serve(shelf);
    let name = ImageName::new("registry.example", "team/app").unwrap();
    let digest = parse_digest(digest_of(&index)).unwrap();
    let look_up = |server: &Server, tag| images(server).look_up(&name, tag, &Cancel::new());
    assert_eq!(look_up(&server, "1.0"), Ok(digest));
    assert_eq!(server.lines(), ["HEAD /v2/team/app/manifests/1.0"]);
    assert_eq!(look_up(&server, "2.0").unwrap_err().code(), "not-found");

    let path = "team/app/manifests/1.0";
    let bytes = plain.0[path].1.clone();
    let old = Server::start(move |it| match it.method.as_str() {
        "HEAD" => Reply::new(405, ""),
        _ => Reply::ok(bytes.clone()),
    });
    assert_eq!(look_up(&old, "1.0"), Ok(digest));
}

#[test]
fn layers_that_must_not_be_passed_on_are_left_out() {
    let mut shelf = Shelf::default();
    let layer = shelf.blob(LAYER, b"ours");
    let foreign = json!({"mediaType": FOREIGN, "digest": format!("sha256:{}", Sha256::of(b"theirs")), "size": 6, "urls": ["https://x.example"]});
    let manifest = shelf.manifest(b"{}", &[foreign, layer.clone(), layer]);
    let server = serve(shelf);
    let bench = Bench::default();
    let outcome = fetch(&server, digest_of(&manifest), &[], &bench).unwrap();
    let files: Vec<_> = outcome.packages[0]
        .files
        .iter()
        .map(|it| it.file.as_str())
        .collect();
    assert_eq!(
        files.len(),
        3,
        "a layer that comes twice is one file: {files:?}"
    );
    assert_eq!(outcome.notes.len(), 1);
    assert!(
        bench
            .steps()
            .contains(&format!("Note({:?})", outcome.notes[0]))
    );
}

#[test]
fn every_byte_is_checked() {
    let wrong_layer: fn(&mut Shelf, &str) = |shelf, digest| {
        let path = format!("team/app/blobs/{digest}");
        shelf.0.get_mut(&path).unwrap().1 = b"lAyer".to_vec();
    };
    let longer_layer: fn(&mut Shelf, &str) = |shelf, digest| {
        let path = format!("team/app/blobs/{digest}");
        shelf.0.get_mut(&path).unwrap().1 = b"layer and more".to_vec();
    };
    let missing_layer: fn(&mut Shelf, &str) = |shelf, digest| {
        shelf.0.remove(&format!("team/app/blobs/{digest}"));
    };
    for (spoil, code) in [
        (wrong_layer, "digest-mismatch"),
        (longer_layer, "digest-mismatch"),
        (missing_layer, "not-found"),
    ] {
        let mut shelf = Shelf::default();
        let layer = shelf.blob(LAYER, b"layer");
        let manifest = shelf.manifest(b"{}", std::slice::from_ref(&layer));
        spoil(&mut shelf, digest_of(&layer));
        let error = fetch(&serve(shelf), digest_of(&manifest), &[], &Bench::default()).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let mut shelf = Shelf::default();
    let manifest = shelf.manifest(b"{}", &[]);
    let path = format!("team/app/manifests/{}", digest_of(&manifest));
    shelf.0.get_mut(&path).unwrap().1.push(b' ');
    let error = fetch(&serve(shelf), digest_of(&manifest), &[], &Bench::default()).unwrap_err();
    assert_eq!(error.code(), "digest-mismatch");
}

#[test]
fn images_without_end_are_refused() {
    let mut shelf = Shelf::default();
    let mut nested = shelf.manifest(b"{}", &[]);
    for _ in 0..=DEPTH_MAX {
        let index = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [nested]});
        nested = shelf.document(DOCKER_LIST, &index);
    }
    let mut huge = Shelf::default();
    let mut layer = huge.blob(LAYER, b"layer");
    layer["size"] = json!(LAYER_BYTES_MAX + 1);
    let manifest = huge.manifest(b"{}", &[layer]);
    for (shelf, root) in [(shelf, nested), (huge, manifest)] {
        let error = fetch(&serve(shelf), digest_of(&root), &[], &Bench::default()).unwrap_err();
        assert_eq!(error.code(), "too-large", "{error}");
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let schema_1 = json!({"schemaVersion": 1, "fsLayers": []});
    let mut shelf = Shelf::default();
    let root = shelf.document(
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        &schema_1,
    );
    let error = fetch(&serve(shelf), digest_of(&root), &[], &Bench::default()).unwrap_err();
    assert_eq!(error.code(), "malformed");
    assert!(error.to_string().contains("schema 1"), "{error}");
}

#[test]
fn who_asks_for_an_image_cannot_choose_a_private_registry() {
    let mut shelf = Shelf::default();
    two_platforms(&mut shelf);
    let server = serve(shelf);
    let port = server.url("").rsplit(':').next().unwrap().to_owned();
    for label in [server.authority(), format!("localhost:{port}")] {
        let reference = ImageReference {
            name: ImageName::new(&label, "team/app").unwrap(),
            pointer: Pointer::Tag("1.0".into()),
        };
        let fetched = images(&server).fetch(&reference, &[], &Bench::default().job());
        assert_eq!(fetched.unwrap_err().code(), "setup", "{label}");
    }
    assert_eq!(server.lines(), Vec::<String>::new());
}
