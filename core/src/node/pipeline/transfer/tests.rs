use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::node::pipeline::testing::{
    Bench, Received, Reply, Server, client, client_of_a_slow_world, client_with, request,
};

const EXPECT: Expect<'_> = Expect {
    file: "f",
    sha256: None,
    size: None,
    bytes_max: 10_000_000,
    all_digests: false,
    check: None,
};

/// A body that differs everywhere.
fn body() -> Vec<u8> {
    (0..300_000_u32)
        .flat_map(|it| it.to_le_bytes())
        .take(1_000_000)
        .collect()
}

fn known(body: &[u8]) -> Expect<'static> {
    Expect {
        sha256: Some(Sha256::of(body)),
        size: Some(body.len() as u64),
        ..EXPECT
    }
}

/// Cuts the first answers off, a third of the body later each time, and then gives the rest.
fn breaking(body: Vec<u8>, answer: fn(&[u8], &Received) -> Reply) -> Server {
    let count = AtomicU32::new(0);
    Server::start(move |it| {
        let reply = answer(&body, it);
        match count.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => reply.cut_at(body.len() / 3),
            _ => reply,
        }
    })
}

fn ranges(body: &[u8], it: &Received) -> Reply {
    match it.offset() {
        Some(offset) => Reply::rest(body, offset),
        None => Reply::ok(body),
    }
}

#[test]
fn a_body_arrives_in_the_deposit_with_its_digests() {
    let body = body();
    let sent = body.clone();
    let server = Server::start(move |_| Reply::ok(sent.clone()));
    let bench = Bench::default();
    let url = server.url("/");
    let digests = client()
        .download(&request(&url), &EXPECT, &bench.job())
        .unwrap();
    let mut hasher = Hasher::new(false);
    hasher.update(&body);
    assert_eq!(digests, hasher.finish());
    assert_eq!(bench.memory.bytes(&digests.sha256), Some(body));
    let steps = [
        "Started { file: \"f\", size: None }",
        "Stored { file: \"f\" }",
    ];
    assert_eq!(bench.steps(), steps);
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let body = body();
    let server = breaking(body.clone(), ranges);
    let bench = Bench::default();
    let digests = client()
        .download(&request(&server.url("/")), &known(&body), &bench.job())
        .unwrap();
    assert_eq!(bench.memory.bytes(&digests.sha256), Some(body.clone()));
    let third = body.len() / 3;
    let offsets: Vec<_> = server.received().iter().map(Received::offset).collect();
    assert_eq!(offsets, [None, Some(third), Some(2 * third)]);
}

#[test]
fn without_a_digest_the_upstream_must_say_that_it_is_the_same_version() {
    let tagged = |body: &[u8], it: &Received| ranges(body, it).with("etag", "\"v1\"");
    let weak = |body: &[u8], it: &Received| ranges(body, it).with("etag", "W/\"v1\"");
    for (answer, resumes) in [
        (tagged as fn(&[u8], &Received) -> Reply, true),
        (weak, false),
        (ranges, false),
    ] {
        let body = body();
        let server = breaking(body.clone(), answer);
        let bench = Bench::default();
        let digests = client().download(&request(&server.url("/")), &EXPECT, &bench.job());
        assert_eq!(digests.unwrap().sha256, Sha256::of(&body));
        let received = server.received();
        let validators: Vec<_> = received.iter().map(|it| it.header("if-range")).collect();
        let expected = if resumes { Some("\"v1\"") } else { None };
        assert_eq!(validators, [None, expected, expected]);
        assert_eq!(bench.steps().contains(&"Restarted".to_owned()), !resumes);
    }
}

#[test]
fn an_upstream_without_ranges_starts_again() {
    let body = body();
    let server = breaking(body.clone(), |body, _| Reply::ok(body));
    let bench = Bench::default();
    let digests = client().download(&request(&server.url("/")), &known(&body), &bench.job());
    assert_eq!(digests.unwrap().sha256, Sha256::of(&body));
    assert_eq!(bench.memory.len(), 1);
}

#[test]
fn a_rest_that_does_not_fit_is_thrown_away() {
    let wrong: [fn(&[u8], &Received) -> Reply; 3] = [
        |body, it| {
            it.offset()
                .map_or(Reply::ok(body), |at| Reply::rest(body, at - 1))
        },
        |body, it| {
            it.offset()
                .map_or(Reply::ok(body), |_| Reply::new(206, body))
        },
        |body, it| it.offset().map_or(Reply::ok(body), |_| Reply::new(416, "")),
    ];
    for answer in wrong {
        let body = body();
        let sent = body.clone();
        let count = AtomicU32::new(0);
        let server = Server::start(move |it| match count.fetch_add(1, Ordering::SeqCst) {
            0 => answer(&sent, it).cut_at(1_000),
            _ => answer(&sent, it),
        });
        let digests = client().download(
            &request(&server.url("/")),
            &known(&body),
            &Bench::default().job(),
        );
        assert_eq!(digests.unwrap().sha256, Sha256::of(&body));
        let offsets: Vec<_> = server.received().iter().map(Received::offset).collect();
        assert_eq!(offsets, [None, Some(1_000), None]);
    }
}

#[test]
fn a_stalled_connection_is_resumed_too() {
    let body = body();
    let sent = body.clone();
    let server = Server::start(move |it| match it.offset() {
        None => Reply::ok(sent.clone()).stall_at(100_000),
        Some(offset) => Reply::rest(&sent, offset),
    });
    let hasty = client_with(|it| it.stall_timeout = Duration::from_millis(300));
    let digests = hasty.download(
        &request(&server.url("/")),
        &known(&body),
        &Bench::default().job(),
    );
    assert_eq!(digests.unwrap().sha256, Sha256::of(&body));
}

#[test]
fn a_connection_that_drips_is_given_up() {
    let server = Server::start(|it| match it.offset() {
        None => Reply::ok(vec![7; 1_000]),
        Some(offset) => Reply::rest(&[7; 1_000], offset),
    });
    // Each look at the clock is half a window later, so the pace is a few bytes a second.
    let client = client_of_a_slow_world(PACE_WINDOW / 2);
    let expect = Expect {
        size: Some(1_000_000),
        ..known(&[7; 1_000])
    };
    let error = client.download(&request(&server.url("/")), &expect, &Bench::default().job());
    assert_eq!(error.unwrap_err().code(), "digest-mismatch");

    let error = client.download(&request(&server.url("/")), &EXPECT, &Bench::default().job());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("slower than"), "{error}");

    let client = client_of_a_slow_world(TRANSFER_TIMEOUT);
    let error = client.download(&request(&server.url("/")), &EXPECT, &Bench::default().job());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("took longer than"), "{error}");
}

#[test]
fn wrong_bytes_never_stay_in_the_deposit() {
    let body = body();
    let refuse = |_: &Digests| Err(PipelineError::Unsupported("no".into()));
    let size = body.len() as u64;
    let sha256 = Some(Sha256::of(&body));
    for (expect, code) in [
        (
            Expect {
                sha256: Some(Sha256::of(b"")),
                ..EXPECT
            },
            "digest-mismatch",
        ),
        (
            Expect {
                size: Some(size - 1),
                sha256,
                ..EXPECT
            },
            "digest-mismatch",
        ),
        (
            Expect {
                size: Some(size + 1),
                sha256,
                ..EXPECT
            },
            "digest-mismatch",
        ),
        (
            Expect {
                bytes_max: size - 1,
                ..EXPECT
            },
            "too-large",
        ),
        (
            Expect {
                bytes_max: size - 1,
                size: Some(size),
                ..EXPECT
            },
            "too-large",
        ),
        (
            Expect {
                check: Some(&refuse),
                ..EXPECT
            },
            "unsupported",
        ),
    ] {
        let sent = body.clone();
        let server = Server::start(move |_| Reply::ok(sent.clone()));
        let bench = Bench::default();
        let error = client().download(&request(&server.url("/")), &expect, &bench.job());
        assert_eq!((error.unwrap_err().code(), bench.memory.len()), (code, 0));
    }
}

#[test]
fn a_full_disk_and_a_cancelled_run_end_at_once() {
    let server = Server::start(|_| Reply::ok(vec![1; 1_000_000]));
    let mut bench = Bench::default();
    bench.memory.is_full = true;
    let url = server.url("/");
    let error = client()
        .download(&request(&url), &EXPECT, &bench.job())
        .unwrap_err();
    assert_eq!((error.code(), server.lines().len()), ("local", 1));

    let bench = Bench::default();
    let raise = bench.cancel.clone();
    let server = Server::start(move |_| {
        raise.cancel();
        Reply::ok(vec![1; 1_000_000])
    });
    let error = client().download(&request(&server.url("/")), &EXPECT, &bench.job());
    assert_eq!(error, Err(PipelineError::Cancelled));
    assert_eq!(bench.memory.len(), 0);
}

#[test]
fn compressed_bytes_are_refused() {
    let server = Server::start(|_| Reply::ok("x").with("content-encoding", "gzip"));
    let error = client().download(&request(&server.url("/")), &EXPECT, &Bench::default().job());
    assert_eq!(error.unwrap_err().code(), "malformed");
}

#[test]
fn only_getting_further_earns_new_attempts() {
    let body = vec![3; 4_000_000];
    let sent = body.clone();
    // Four connections of a million bytes each, with three attempts.
    let server = Server::start(move |it| {
        let reply = ranges(&sent, it);
        let is_last = it.offset().is_some_and(|it| sent.len() - it <= 1_100_000);
        if is_last {
            reply
        } else {
            reply.cut_at(1_100_000)
        }
    });
    let digests = client().download(
        &request(&server.url("/")),
        &known(&body),
        &Bench::default().job(),
    );
    assert_eq!(digests.unwrap().sha256, Sha256::of(&body));

    let server = Server::start(|_| Reply::ok(vec![3; 4_000_000]).cut_at(1_100_000));
    let error = client().download(&request(&server.url("/")), &EXPECT, &Bench::default().job());
    assert_eq!(error.unwrap_err().code(), "network");
    assert_eq!(server.lines().len(), 3);
}
