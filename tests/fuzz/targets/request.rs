//! Requests to the front end, as far as it understands them without its node.

use std::net::IpAddr;

use kogge_http::testing::{HOST, Head, TOKEN};

/// Lengths of artifacts of which a part may be asked for.
const SIZES: [u64; 5] = [0, 1, 10, 1 << 20, u64::MAX];

const TAG: &str = "\"sha256:ab\"";

/// Input: the head of a request, its lines ended by line feeds.
///
/// Planted: a response that is a byte too long.
pub(crate) fn request(bytes: &[u8], is_planted: bool) -> bool {
    let Some(head) = head_of(bytes) else {
        return false;
    };
    words(&head);
    for size in SIZES {
        let sent = head.sent(TAG, size);
        let first_and_length = sent
            .bytes
            .map(|(first, len)| (first, len + u64::from(is_planted)));
        match (sent.status, first_and_length) {
            (200, Some(whole)) => assert_eq!(whole, (0, size)),
            (206, Some((first, len))) => {
                let end = first.checked_add(len);
                assert!(0 < len && end.is_some_and(|it| it <= size), "{sent:?}");
                let again = format!("bytes={first}-{}", first + len - 1);
                let again = Head::new(b"GET", b"/", &[(b"range", again.as_bytes())]).unwrap();
                assert_eq!(again.range(size), head.range(size));
            }
            (200 | 304 | 416, None) => {}
            _ => panic!("{sent:?}"),
        }
    }
    access(&head, bytes);
    head.words().is_some() && head.params().is_some()
}

fn head_of(bytes: &[u8]) -> Option<Head> {
    let mut lines = bytes.split(|it| *it == b'\n');
    let mut first = lines.next()?.split(|it| *it == b' ');
    let (method, target) = (first.next()?, first.next()?);
    let pairs = lines.filter_map(|line| {
        let colon = line.iter().position(|it| *it == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    });
    Head::new(method, target, &pairs.collect::<Vec<_>>())
}

/// Words of a path are names, not ways through a file system; and a path means the same however
/// much of it is encoded.
fn words(head: &Head) {
    let Some(words) = head.words() else {
        return;
    };
    for word in &words {
        assert!(word != "." && word != "..", "{words:?}");
        let plain = |it: u8| it.is_ascii_graphic() && !b"/\\%".contains(&it);
        assert!(word.bytes().all(plain), "{words:?}");
    }
    let encode =
        |word: &String| -> String { word.bytes().map(|it| format!("%{it:02x}")).collect() };
    let encoded: Vec<String> = words.iter().map(encode).collect();
    let encoded = format!("/{}", encoded.join("/"));
    // Encoded it is three times as long, and may be too long.
    if encoded.len() <= 2_048 {
        assert_eq!(head.asks(&encoded), head.asks(head.path()), "{words:?}");
    }
}

/// Who may change something may do the rest, too; nothing is answered under a foreign name.
fn access(head: &Head, bytes: &[u8]) {
    let [reads, works, changes] = head.may();
    assert!(reads || !works, "works without reading");
    assert!(works || !changes, "changes without working");
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    assert!(!changes || text.contains(TOKEN), "changes without a token");
    let is_own = |it: &str| {
        let it = it.trim_matches(['[', ']']);
        let is_loopback = it.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
        is_loopback || it == "localhost" || it == HOST
    };
    let mut names = text.split(|it: char| it.is_whitespace() || "/?#@".contains(it));
    let named = names.any(|it| {
        let it = it.strip_prefix("host:").unwrap_or(it);
        let name = it.rsplit_once(':').map_or(it, |(name, _)| name);
        is_own(it) || is_own(name)
    });
    assert!(!reads || named, "answered under a foreign name");
}
