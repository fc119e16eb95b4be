//! Streams, requests and stored rows.

use kogge_node::base::codec;
use kogge_node::net::testing::write_frames;
use kogge_node::store::testing::Row;

use super::{Seeds, block, votes};

/// Streams of frames behind their cuts.
pub(super) fn frames() -> Seeds {
    let stream = |lengths: &[usize]| {
        let frames: Vec<Vec<u8>> = lengths.iter().map(|it| vec![7; *it]).collect();
        write_frames(&frames, &[usize::MAX])
    };
    vec![
        [&[1, 0, 1, 0, 1, 0, 1, 0][..], &stream(&[0, 1, 9])].concat(),
        [&[2, 3, 0, 1, 200, 0, 0, 9][..], &stream(&[300, 0, 40])].concat(),
        [&[9; 8][..], &stream(&[5]), &[0xff; 9]].concat(),
    ]
}

/// Heads of requests, one for each part of the front end.
pub(super) fn requests() -> Seeds {
    let digest = format!("sha256:{}", "0a".repeat(32));
    [
        format!("GET /v2/library/demo/blobs/{digest} HTTP/1.1\nHost: localhost\nRange: bytes=0-9"),
        format!("HEAD /v2/quay.example/a/b/manifests/{digest}?ns=x%3A1 HTTP/1.1\nHost: [::1]:7888"),
        format!("GET /v2/x/referrers/{digest}?artifactType=a/b&last= HTTP/1.1\nHost: 127.0.0.1"),
        "GET /v2/x/tags/list?n=2&last=1.0 HTTP/1.1\nHost: kogge.test\nRange: bytes=-1".into(),
        "GET /maven2/g/a/1%2B2/a-1%2B2.jar.sha1 HTTP/1.1\nHost: localhost\nRange: bytes=5-".into(),
        "GET /tile/entries/x001/234.p/17 HTTP/1.1\nHost: localhost:1".into(),
        "GET http://localhost/api/log/7/proof HTTP/1.1\nIf-None-Match: \"sha256:ab\"".into(),
        "POST /api/builds HTTP/1.1\nHost: localhost\nOrigin: http://localhost\n\
         Sec-Fetch-Site: same-origin\nAuthorization: Bearer 0123456789abcdef"
            .into(),
        "GET /checkpoint HTTP/1.1\nHost: localhost\nIf-Range: \"sha256:ab\"\nRange: bytes=0-0"
            .into(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Rows behind their kinds.
pub(super) fn rows() -> Seeds {
    let made = [
        (2, codec::encode(&block().header)),
        (3, codec::encode(&votes())),
    ];
    let rows = Row::samples().into_iter().chain(made);
    rows.map(|(kind, row)| [vec![kind], row].concat()).collect()
}

/// How to write journals and how to damage them. A whole journal lies beside the seeds in the
/// corpus: its salt is random, so it is not made anew.
pub(super) fn journals(noise: Seeds) -> Seeds {
    let scripts = noise.into_iter();
    scripts.map(|it| [vec![0], it].concat()).collect()
}
