//! Image clients against a node that has, builds or lacks an image.

use std::thread;
use std::time::Duration;

use kogge::{ReadThrough, Sha256};
use serde_json::{Value, json};

use crate::kit::Site;

/// How long a fetch from a node that has it may pause on a busy machine.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn a_pull_of_something_new_builds_it_once_for_all_who_wait() {
    let site = Site::start(ReadThrough::On);
    let (manifest, layer) = site.put_image("library/demo", "1.0");
    let digest = format!("sha256:{}", Sha256::of(&manifest));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let reply = site.get("/v2/library/demo/manifests/1.0");
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert_eq!(reply.body, manifest);
            });
        }
    });
    let layer_digest = format!("sha256:{}", Sha256::of(&layer));
    assert_eq!(
        site.upstream
            .requests
            .count(&format!("GET /v2/library/demo/blobs/{layer_digest}")),
        1
    );

    // Every way to name it leads to the same bytes, and needs no upstream any more.
    site.upstream.switch_off(true);
    for path in [
        "/v2/library/demo/manifests/1.0".to_owned(),
        "/v2/demo/manifests/1.0".into(),
        "/v2/docker.io/library/demo/manifests/1.0/".into(),
        "/v2/library/demo/manifests/1.0?ns=docker.io".into(),
        format!("/v2/library/demo/manifests/{digest}"),
        format!("/v2/any/name/manifests/{digest}"),
    ] {
        for accept in [&[][..], &[("Accept", "text/html"), ("Accept", "image/png")]] {
            let reply = site.ask("GET", &path, accept, b"");
            assert_eq!((reply.status, &reply.body), (200, &manifest), "{path}");
            assert_eq!(reply.header("Content-Type"), Some(MANIFEST));
            assert_eq!(reply.header("Docker-Content-Digest"), Some(digest.as_str()));
            assert_eq!(reply.header("ETag"), Some(format!("\"{digest}\"").as_str()));
            assert!(reply.header("Kogge-Log-Index").is_some());
            let version = reply.header("Docker-Distribution-API-Version");
            assert_eq!(version, Some("registry/2.0"));
        }
    }
    let mirrored = site.get("/v2/library/demo/manifests/1.0?ns=docker.io");
    assert_eq!(mirrored.header("OCI-Namespace"), Some("docker.io"));
    site.stop();
}

#[test]
fn blobs_come_whole_in_part_or_as_headers_only() {
    let site = Site::start(ReadThrough::On);
    let (_, layer) = site.put_image("library/demo", "1.0");
    assert_eq!(site.get("/v2/library/demo/manifests/1.0").status, 200);
    let path = format!("/v2/library/demo/blobs/sha256:{}", Sha256::of(&layer));
    let len = layer.len().to_string();

    let whole = site.get(&path);
    assert_eq!((whole.status, whole.body.len()), (200, layer.len()));
    assert!(whole.body == layer);
    assert_eq!(whole.header("Content-Length"), Some(len.as_str()));

    let head = site.ask("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("Content-Length"), Some(len.as_str()));
    assert_eq!(head.header("Accept-Ranges"), Some("bytes"));

    let rest = site.ask("GET", &path, &[("Range", "bytes=700000-")], b"");
    assert_eq!(rest.status, 206);
    assert!(rest.body == layer[700_000..]);
    let range = format!("bytes 700000-{}/{len}", layer.len() - 1);
    assert_eq!(rest.header("Content-Range"), Some(range.as_str()));

    let beyond = site.ask("GET", &path, &[("Range", "bytes=1200000-")], b"");
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    let range = format!("bytes */{len}");
    assert_eq!(beyond.header("Content-Range"), Some(range.as_str()));

    let etag = whole.header("ETag").unwrap();
    let same = site.ask("GET", &path, &[("If-None-Match", etag)], b"");
    assert_eq!((same.status, same.body.len()), (304, 0));
    site.stop();
}

#[test]
fn what_is_absent_has_the_code_that_clients_expect() {
    let site = Site::start(ReadThrough::Off);
    site.put_image("library/demo", "1.0");
    let nothing = format!("sha256:{}", "00".repeat(32));
    for (path, expected) in [
        (
            "/v2/library/demo/manifests/1.0".to_owned(),
            (404, "MANIFEST_UNKNOWN"),
        ),
        (
            format!("/v2/library/demo/manifests/{nothing}"),
            (404, "MANIFEST_UNKNOWN"),
        ),
        (
            format!("/v2/library/demo/blobs/{nothing}"),
            (404, "BLOB_UNKNOWN"),
        ),
        ("/v2/library/demo/tags/list".into(), (404, "NAME_UNKNOWN")),
        (
            "/v2/library/demo/blobs/sha256:00".into(),
            (400, "DIGEST_INVALID"),
        ),
        (
            "/v2/Library/demo/manifests/1.0".into(),
            (400, "NAME_INVALID"),
        ),
        ("/v2/%2e%2e/manifests/1.0".into(), (400, "NAME_INVALID")),
    ] {
        let (status, code) = site.get(&path).image_error();
        assert_eq!((status, code.as_str()), expected, "{path}");
    }
    let hint = site.get("/v2/demo/manifests/1.0").text();
    assert!(
        hint.contains("kogge build docker library/demo:1.0"),
        "{hint}"
    );
    assert_eq!(site.upstream.requests.all(), Vec::<String>::new());
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let reply = site.ask(method, "/v2/library/demo/blobs/uploads/", &[], b"");
        assert_eq!(
            reply.image_error(),
            (405, "UNSUPPORTED".to_owned()),
            "{method}"
        );
        assert_eq!(reply.header("Allow"), Some("GET, HEAD"));
    }
    let referrers = site.get(&format!("/v2/library/demo/referrers/{nothing}"));
    assert_eq!(
        (
            referrers.status,
            referrers.json()["manifests"].as_array().unwrap().len()
        ),
        (200, 0)
    );
    assert_eq!(site.get("/v2/").status, 200);
    site.stop();
}

#[test]
fn an_image_that_upstream_lacks_is_a_404_and_an_upstream_that_is_away_a_503() {
    let site = Site::start(ReadThrough::On);
    let absent = site.get("/v2/library/absent/manifests/1.0");
    assert_eq!(absent.image_error(), (404, "MANIFEST_UNKNOWN".to_owned()));
    // Asked again at once, the answer is that of the first attempt.
    let asked = site.upstream.requests.all().len();
    let again = site.get("/v2/library/absent/manifests/1.0");
    assert_eq!(again.image_error(), (404, "MANIFEST_UNKNOWN".to_owned()));
    assert_eq!(site.upstream.requests.all().len(), asked);

    site.upstream.switch_off(true);
    let away = site.get("/v2/library/other/manifests/1.0");
    assert_eq!(away.image_error(), (503, "UNAVAILABLE".to_owned()));
    assert_eq!(away.header("Retry-After"), Some("30"));
    site.stop();
}

#[test]
fn tags_are_listed_page_by_page() {
    let site = Site::start(ReadThrough::On);
    for tag in ["1.0", "1.1", "latest"] {
        site.put_image("library/demo", tag);
        assert_eq!(
            site.get(&format!("/v2/library/demo/manifests/{tag}"))
                .status,
            200
        );
    }
    let all = site.get("/v2/library/demo/tags/list");
    let expected = serde_json::json!({"name": "library/demo", "tags": ["1.0", "1.1", "latest"]});
    assert_eq!(all.json(), expected);
    assert_eq!(all.header("Link"), None);
    let first = site.get("/v2/library/demo/tags/list?n=2");
    assert_eq!(first.json()["tags"], serde_json::json!(["1.0", "1.1"]));
    let next = "</v2/library/demo/tags/list?n=2&last=1.1>; rel=\"next\"";
    assert_eq!(first.header("Link"), Some(next));
    let last = site.get("/v2/library/demo/tags/list?n=2&last=1.1");
    assert_eq!(last.json()["tags"], serde_json::json!(["latest"]));
    assert_eq!(last.header("Link"), None);
    let none = site.get("/v2/library/demo/tags/list?n=0");
    assert_eq!(none.json()["tags"], serde_json::json!([]));
    assert_eq!(none.header("Link"), None);
    assert_eq!(site.get("/v2/library/demo/tags/list?n=x").status, 400);
    site.stop();
}

#[test]
fn what_refers_to_an_image_is_listed_at_a_node_that_does_not_store_it() {
    let site = Site::start(ReadThrough::On);
    let (image, _) = site.put_image("library/demo", "1.0");
    let digest = format!("sha256:{}", Sha256::of(&image));
    let signature = site.put_artifact("library/demo", "application/vnd.example.sig", &image);
    let sbom = site.put_artifact("library/demo", "application/vnd.example.sbom", &image);
    // One of another subject, one in another repository, and one that nobody asks for.
    let nested = site.put_artifact("library/demo", "application/vnd.example.sig", &signature);
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

    let descriptor = |manifest: &[u8], artifact_type: &str| {
        json!({
            "mediaType": MANIFEST,
            "digest": format!("sha256:{}", Sha256::of(manifest)),
            "size": manifest.len(),
            "artifactType": artifact_type,
            "annotations": {"example.by": "alice"},
        })
    };
    let mut both = [
        descriptor(&signature, "application/vnd.example.sig"),
        descriptor(&sbom, "application/vnd.example.sbom"),
    ];
    both.sort_by_key(|it| it["digest"].to_string());
    let index = |manifests: &[Value]| {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        })
    };
    let follower = site.follow(FETCH_TIMEOUT);
    let path = format!("/v2/library/demo/referrers/{digest}");
    // The second time nothing is read that refers to something else; the answer is the same.
    for site in [&follower, &follower, &site] {
        let all = site.get(&path);
        assert_eq!((all.status, all.json()), (200, index(&both)));
        let media_type = all.header("Content-Type");
        assert_eq!(media_type, Some("application/vnd.oci.image.index.v1+json"));
        assert_eq!(all.header("OCI-Filters-Applied"), None);
        assert_eq!(
            (all.header("Link"), all.header("Kogge-Left-Out")),
            (None, None)
        );
        let some = site.get(&format!("{path}?artifactType=application/vnd.example.sbom"));
        let expected = [descriptor(&sbom, "application/vnd.example.sbom")];
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
    for text in ["sha256:00", "latest", "md5:00"] {
        let (status, code) = follower
            .get(&format!("/v2/library/demo/referrers/{text}"))
            .image_error();
        assert_eq!((status, code.as_str()), (400, "DIGEST_INVALID"), "{text}");
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
    follower.stop();
}
