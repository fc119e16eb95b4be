//! The log, the node's pages, and what only the owner may do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures_lite::future::block_on;
use kogge::{ReadThrough, Sha256};
use kogge_testkit::run::wait_until;
use serde_json::json;

use crate::kit::Site;

const JAR: &str = "/maven2/org/example/lib/1.0/lib-1.0.jar";

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn the_log_is_served_to_verifiers_and_to_people() {
    let site = Site::start(ReadThrough::On);
    site.put_jar("org.example", "lib", "1.0");
    assert_eq!(site.get(JAR).status, 200);
    wait_until("a checkpoint", LIMIT, || {
        site.get("/checkpoint").status == 200
    })
    .unwrap();

    let checkpoint = site.get("/checkpoint");
    let text = checkpoint.text();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(site.node.genesis().origin.as_str()));
    let size: u64 = lines.next().unwrap().parse().unwrap();
    assert_eq!(
        checkpoint.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(checkpoint.header("Cache-Control"), Some("no-cache"));
    let tile = site.get(&format!("/tile/0/000.p/{size}"));
    assert_eq!((tile.status, tile.body.len() as u64), (200, 32 * size));
    assert_eq!(
        tile.header("Content-Type"),
        Some("application/octet-stream")
    );
    assert_eq!(site.get(&format!("/tile/entries/000.p/{size}")).status, 200);
    for path in [
        "/tile/0/001",
        "/tile/0/999.p/1",
        "/tile/x",
        "/tile",
        "/tile/0/0",
    ] {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
    assert!(
        site.get("/policy")
            .text()
            .contains(&site.node.genesis().origin)
    );
    assert_eq!(site.get("/genesis").json(), json!(site.node.genesis()));
    assert_eq!(
        site.get("/status").json()["log"]["size"],
        json!(site.node.log().size())
    );
    assert_eq!(
        (site.get("/healthz").status, site.get("/healthz").text()),
        (200, "ready\n".into())
    );
    assert!(site.get("/metrics").text().contains("\nkogge_log_live 1\n"));

    site.stop();
}

#[test]
fn the_log_is_searched_and_proven_by_programs() {
    let site = Site::start(ReadThrough::On);
    let jar = site.put_jar("org.example", "lib", "1.0");
    let digest = format!("sha256:{}", Sha256::of(&jar));
    assert_eq!(site.get(JAR).status, 200);
    wait_until("a checkpoint", LIMIT, || {
        let covered = site.node.status().log.checkpoint.map_or(0, |it| it.size);
        covered == site.node.log().size()
    })
    .unwrap();
    let rows = site.get("/api/log?kind=add-artifact&package=maven/org.example/lib&order=oldest");
    let rows = rows.json();
    let row = &rows["rows"][0];
    assert_eq!(row["kind"], "add-artifact");
    assert_eq!(row["entry"]["purl"], "pkg:maven/org.example/lib@1.0");
    assert_eq!(site.get("/api/log?colour=red").status, 400);
    let index = row["index"].as_u64().unwrap();
    assert_eq!(site.get(&format!("/api/log/{index}")).json(), *row);
    assert_eq!(
        site.get(&format!("/api/log/{index}/proof")).json()["index"],
        index
    );
    assert_eq!(site.get("/api/log/999999").status, 404);
    assert_eq!(site.get("/api/log/999999/proof").status, 404);
    assert_eq!(site.get("/api/log/999999/waybill").status, 404);
    let waybill = site.get(&format!("/api/waybill?digest={digest}"));
    assert_eq!(waybill.status, 200, "{}", waybill.text());
    assert_eq!(site.get(&format!("/api/artifacts/{digest}")).body, jar);
    let unknown = format!("sha256:{}", "00".repeat(32));
    let reply = site.get(&format!("/api/artifacts/{unknown}"));
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (404, &json!("not-found"))
    );
    site.stop();
}

#[test]
fn why_tells_the_whole_story_for_every_name() {
    let site = Site::start(ReadThrough::On);
    let jar = site.put_jar("org.example", "lib", "1.0");
    let (manifest, _) = site.put_image("library/demo", "1.0");
    assert_eq!(site.get(JAR).status, 200);
    assert_eq!(site.get("/v2/library/demo/manifests/1.0").status, 200);
    let digest = Sha256::of(&jar);
    for what in [
        "org.example:lib:1.0".to_owned(),
        "pkg:maven/org.example/lib@1.0".into(),
        format!("sha256:{digest}"),
    ] {
        let told = site.get(&format!("/api/why?what={what}")).json();
        assert_eq!(told["package"], "pkg:maven/org.example/lib@1.0", "{what}");
        assert_eq!(told["tag"], json!(null));
        assert_eq!(told["attested_by"][0]["name"], "solo");
        let files = told["files"].as_array().unwrap();
        let file = files.iter().find(|it| it["file"] == "lib-1.0.jar").unwrap();
        assert_eq!(
            (&file["sha256"], &file["stored"]),
            (&json!(digest), &json!(true))
        );
    }
    let told = site.get("/api/why?what=demo:1.0").json();
    let manifest = format!("sha256:{}", Sha256::of(&manifest));
    assert_eq!(told["tag"]["digest"], manifest.as_str());
    assert_eq!(
        told["package"],
        format!("pkg:docker/library/demo@{manifest}")
    );
    assert_eq!(site.get("/api/why?what=g:a:9").status, 404);
    assert_eq!(site.get("/api/why").status, 400);
    site.stop();
}

#[test]
fn only_the_owner_changes_something() {
    let site = Site::start(ReadThrough::Off);
    site.put_jar("org.example", "lib", "1.0");
    let body = br#"{"spec": "maven org.example:lib:1.0"}"#;
    let bearer = format!("Bearer {}", site.token());
    let json_type = ("Content-Type", "application/json");
    let owner = ("Authorization", bearer.as_str());
    for (headers, status) in [
        (vec![json_type], 401),
        (vec![json_type, ("Authorization", "Bearer 00")], 401),
        (vec![json_type, owner, ("Origin", "http://evil.test")], 403),
        (
            vec![json_type, owner, ("Sec-Fetch-Site", "cross-site")],
            403,
        ),
        (vec![json_type, owner, ("Host", "evil.test")], 403),
        (vec![owner, ("Content-Type", "text/plain")], 400),
        (vec![owner], 400),
        (vec![json_type, owner], 202),
    ] {
        let reply = site.ask("POST", "/api/builds", &headers, body);
        assert_eq!(reply.status, status, "{headers:?}: {}", reply.text());
    }
    let asked = site.own("POST", "/api/builds", body).json();
    let id = asked["id"].as_str().unwrap();
    let done = site.get(&format!("/api/builds/{id}?wait=30")).json();
    assert_eq!(
        (&done["state"], &done["final"]),
        (&json!("committed"), &json!(true))
    );
    assert_eq!(
        site.get("/api/builds").json()[0]["spec"],
        "maven org.example:lib:1.0"
    );
    let jar = site.get(JAR);
    assert_eq!(jar.status, 200);

    let blake3 = site.get("/api/why?what=org.example:lib:1.0").json()["files"][0]["blake3"].clone();
    let pin = json!({"blake3": blake3, "pinned": true}).to_string();
    assert_eq!(site.own("POST", "/api/pins", pin.as_bytes()).status, 200);
    let nothing = json!({"blake3": "00".repeat(32), "pinned": true}).to_string();
    assert_eq!(
        site.own("POST", "/api/pins", nothing.as_bytes()).status,
        404
    );
    assert_eq!(site.own("GET", "/api/marks", b"").json(), json!([]));
    for bad in [
        &b"{"[..],
        b"[]",
        br#"{"spec": "npm x"}"#,
        br#"{"spec": "maven a:b:c", "x": 1}"#,
    ] {
        assert_eq!(site.own("POST", "/api/builds", bad).status, 400);
    }
    let long = vec![b' '; (1 << 20) + 1];
    assert_eq!(site.own("POST", "/api/builds", &long).status, 413);
    for path in ["/api/builds", "/api/pins", "/api/shutdown"] {
        assert_eq!(
            site.ask("DELETE", path, &[owner], b"").status,
            405,
            "{path}"
        );
    }
    assert_eq!(site.get("/api/shutdown").status, 405);
    site.stop();
}

#[test]
fn a_shutdown_is_passed_on_to_the_host() {
    let site = Site::start(ReadThrough::Off);
    assert_eq!(site.own("POST", "/api/shutdown", b"").status, 202);
    block_on(site.http.asked_to_stop());
    let socket = site.http.socket().unwrap().to_owned();
    site.stop();
    assert!(!socket.exists());
}

#[test]
fn events_stream_until_the_front_end_stops() {
    let site = Site::start(ReadThrough::On);
    let mut stream = TcpStream::connect(site.http.address().unwrap()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
        .write_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut seen = String::new();
    let mut read_until = |part: &str| {
        let mut chunk = [0; 4_096];
        while !seen.contains(part) {
            let count = stream.read(&mut chunk).unwrap();
            assert_ne!(count, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    };
    read_until(": connected\n\n");
    site.put_jar("org.example", "lib", "1.0");
    assert_eq!(site.get(JAR).status, 200);
    read_until("data: {\"event\":\"committed\"");
    block_on(site.http.stop());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"));
    site.stop();
}
