//! Lists of what refers to an image: signatures, SBOMs, attestations.

use std::time::Duration;

use kogge::{ReadThrough, Sha256};
use serde_json::{Value, json};

use crate::kit::Site;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const SIGNATURE: &str = "application/vnd.example.sig";

const SBOM: &str = "application/vnd.example.sbom";

/// How long a fetch from a node that has it may pause on a busy machine.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// How a list names an artifact that the kit made.
fn descriptor(manifest: &[u8], artifact_type: &str) -> Value {
    json!({
        "mediaType": MANIFEST,
        "digest": format!("sha256:{}", Sha256::of(manifest)),
        "size": manifest.len(),
        "artifactType": artifact_type,
        "annotations": {"example.by": "alice"},
    })
}

fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

#[test]
fn what_refers_to_an_image_is_listed_at_a_node_that_does_not_store_it() {
    let site = Site::start(ReadThrough::On);
    let (image, _) = site.put_image("library/demo", "1.0");
    let digest = format!("sha256:{}", Sha256::of(&image));
    let signature = site.put_artifact("library/demo", SIGNATURE, &image);
    let sbom = site.put_artifact("library/demo", SBOM, &image);
    // One of another subject, one in another repository, and one that nobody asks for.
    let nested = site.put_artifact("library/demo", SIGNATURE, &signature);
    let elsewhere = site.put_artifact("team/other", "application/vnd.example.other", &image);
    site.put_artifact("library/demo", "application/vnd.example.unknown", &image);
    assert_eq!(site.get("/v2/library/demo/manifests/1.0").status, 200);
    for (repository, manifest) in [
        ("library/demo", &signature),
        ("library/demo", &sbom),
        ("library/demo", &nested),
        ("team/other", &elsewhere),
    ] {
        let path = format!("/v2/{repository}/manifests/sha256:{}", Sha256::of(manifest));
        let reply = site.get(&path);
        assert_eq!((reply.status, &reply.body), (200, manifest));
    }

    let mut both = [descriptor(&signature, SIGNATURE), descriptor(&sbom, SBOM)];
    both.sort_by_key(|it| it["digest"].to_string());
    let follower = site.follow(FETCH_TIMEOUT);
    let path = format!("/v2/library/demo/referrers/{digest}");
    // The second time nothing is read that refers to something else; the answer is the same.
    for site in [&follower, &follower, &site] {
        let all = site.get(&path);
        assert_eq!((all.status, all.json()), (200, index(&both)));
        let media_type = all.header("Content-Type");
        assert_eq!(media_type, Some(INDEX));
        assert_eq!(all.header("OCI-Filters-Applied"), None);
        assert_eq!(
            (all.header("Link"), all.header("Kogge-Left-Out")),
            (None, None)
        );
        let some = site.get(&format!("{path}?artifactType=application/vnd.example.sbom"));
        let expected = [descriptor(&sbom, SBOM)];
        assert_eq!(some.json(), index(&expected));
        assert_eq!(some.header("OCI-Filters-Applied"), Some("artifactType"));
    }
    for (path, count) in [
        (
            format!(
                "/v2/library/demo/referrers/sha256:{}",
                Sha256::of(&signature)
            ),
            1,
        ),
        (format!("/v2/team/other/referrers/{digest}"), 1),
        (
            format!("/v2/quay.example/library/demo/referrers/{digest}"),
            0,
        ),
        (
            format!("/v2/library/demo/referrers/sha512:{}", "00".repeat(64)),
            0,
        ),
    ] {
        let reply = follower.get(&path);
        let found = reply.json()["manifests"].as_array().unwrap().len();
        assert_eq!((reply.status, found), (200, count), "{path}");
    }
    follower.stop();
    site.stop();
}

#[test]
fn a_long_list_of_referrers_goes_on_behind_a_link() {
    let site = Site::start(ReadThrough::On);
    let (image, _) = site.put_image("library/demo", "1.0");
    let mut manifests = Vec::new();
    for at in 0..300 {
        let artifact_type = format!("application/vnd.example.{at}");
        let manifest = site.put_artifact("library/demo", &artifact_type, &image);
        let digest = format!("sha256:{}", Sha256::of(&manifest));
        manifests.push(json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.len()}));
    }
    // One index brings them all.
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    site.put("v2/library/demo/manifests/all", index.as_bytes());
    let digest = Sha256::of(index.as_bytes());
    site.put(
        &format!("v2/library/demo/manifests/sha256:{digest}"),
        index.as_bytes(),
    );
    assert_eq!(site.get("/v2/library/demo/manifests/all").status, 200);

    let digest = Sha256::of(&image);
    let mut next = Some(format!("/v2/library/demo/referrers/sha256:{digest}"));
    let mut found = Vec::new();
    let mut pages = 0;
    while let Some(path) = next {
        let page = site.get(&path);
        assert_eq!(page.status, 200, "{}", page.text());
        let page_digests = page.json()["manifests"].as_array().unwrap().clone();
        found.extend(page_digests.into_iter().map(|it| it["digest"].clone()));
        next = page.header("Link").map(|it| {
            let (path, rel) = it.trim_start_matches('<').split_once('>').unwrap();
            assert_eq!(rel, "; rel=\"next\"");
            path.to_owned()
        });
        pages += 1;
    }
    let mut expected: Vec<_> = manifests.iter().map(|it| it["digest"].clone()).collect();
    expected.sort_by_key(Value::to_string);
    assert_eq!((found, pages), (expected, 2));
    site.stop();
}

#[test]
fn referrers_that_cannot_be_read_are_not_taken_for_absent() {
    let site = Site::start(ReadThrough::On);
    let (image, _) = site.put_image("library/demo", "1.0");
    assert_eq!(site.get("/v2/library/demo/manifests/1.0").status, 200);
    let follower = site.follow(Duration::from_secs(1));
    site.stop();
    let path = format!("/v2/library/demo/referrers/sha256:{}", Sha256::of(&image));
    let reply = follower.get(&path);
    assert_eq!(reply.image_error(), (503, "UNAVAILABLE".to_owned()));
    assert!(
        reply
            .text()
            .contains("1 manifests of docker.io/library/demo")
    );
    // What could not be had is not tried again at once, however often somebody asks.
    let tried = || {
        let metrics = follower.node.metrics();
        let failed = metrics
            .iter()
            .find(|it| it.name == "kogge_fetches_failed_total");
        failed.unwrap().value
    };
    let before = tried();
    assert_ne!(before, 0);
    for _ in 0..3 {
        let again = follower.get(&path);
        assert_eq!((again.status, again.text()), (503, reply.text()));
    }
    assert_eq!(tried(), before);
    follower.stop();
}

#[test]
fn a_malformed_digest_has_no_referrers() {
    let site = Site::start(ReadThrough::Off);
    for text in ["sha256:00", "latest", "md5:00"] {
        let path = format!("/v2/library/demo/referrers/{text}");
        let (status, code) = site.get(&path).image_error();
        assert_eq!((status, code.as_str()), (400, "DIGEST_INVALID"), "{text}");
    }
    site.stop();
}
