//! Image clients against a node that has, builds or lacks an image.

use std::thread;

use kogge::{ReadThrough, Sha256};

use crate::kit::Site;

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
