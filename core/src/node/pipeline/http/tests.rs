use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::node::pipeline::testing::{Received, Reply, Server, client, client_with, request};

/// Credentials that are good for one challenge.
#[derive(Default)]
struct Badge {
    token: Mutex<Option<String>>,
    challenges: Mutex<Vec<String>>,
}

impl Badge {
    fn with(token: &str) -> Self {
        let token = Mutex::new(Some(token.to_owned()));
        Self {
            token,
            ..Self::default()
        }
    }
}

impl Credentials for Badge {
    fn authorization(&self) -> Option<String> {
        self.token.lock().unwrap().clone()
    }

    fn renew(&self, challenge: &str, _: &Cancel) -> Result<bool, PipelineError> {
        self.challenges.lock().unwrap().push(challenge.to_owned());
        *self.token.lock().unwrap() = Some("Bearer fresh".into());
        Ok(true)
    }
}

fn get(client: &Client, url: &str) -> Result<Vec<u8>, PipelineError> {
    let answer = client.get(&request(url), 1_000, &Cancel::new());
    answer.map(|(_, bytes)| bytes)
}

/// Answers in order; the last answer stays.
fn in_order(replies: Vec<Reply>) -> impl Fn(&Received) -> Reply + Send + Sync {
    let next = AtomicU32::new(0);
    move |_| {
        let at = next.fetch_add(1, Ordering::SeqCst) as usize;
        replies[at.min(replies.len() - 1)].clone()
    }
}

#[test]
fn a_request_says_who_asks_and_wants_no_compression() {
    let server = Server::start(|_| Reply::ok("x"));
    assert_eq!(get(&client(), &server.url("/a?b=c")), Ok(b"x".to_vec()));
    let [received] = &server.received()[..] else {
        panic!("one request expected");
    };
    assert_eq!(
        (received.method.as_str(), received.path.as_str()),
        ("GET", "/a?b=c")
    );
    let agent = concat!("kogge/", env!("CARGO_PKG_VERSION"));
    assert_eq!(received.header("user-agent"), Some(agent));
    assert_eq!(received.header("accept-encoding"), Some("identity"));
    assert_eq!(received.header("authorization"), None);
}

#[test]
fn redirects_to_another_host_lose_the_credentials() {
    let other = Server::start(|_| Reply::ok("blob"));
    let target = other.url("/cdn?signature=1");
    let server = Server::start(move |it| match it.path.as_str() {
        "/a" => Reply::redirect("/b"),
        _ => Reply::redirect(&target),
    });
    let badge = Badge::with("Bearer secret");
    let url = server.url("/a");
    let mut asked = request(&url);
    asked.credentials = Some(&badge);
    let (_, bytes) = client().get(&asked, 100, &Cancel::new()).unwrap();
    assert_eq!(bytes, b"blob");
    let seen = |server: &Server| {
        let received = server.received();
        received
            .iter()
            .map(|it| it.header("authorization").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&server), vec![Some("Bearer secret".to_owned()); 2]);
    assert_eq!(seen(&other), [None]);
}

#[test]
fn a_challenge_is_answered_once_and_only_for_the_host_that_was_asked() {
    let server = Server::start(|it| match it.header("authorization") {
        Some("Bearer fresh") if it.path == "/open" => Reply::ok("in"),
        _ => Reply::new(401, "").with("www-authenticate", "Bearer realm=\"r\""),
    });
    let badge = Badge::default();
    let ask = |url: &str| {
        let asked = Request {
            credentials: Some(&badge),
            ..request(url)
        };
        client()
            .get(&asked, 100, &Cancel::new())
            .map(|(_, bytes)| bytes)
    };
    assert_eq!(ask(&server.url("/open")), Ok(b"in".to_vec()));
    assert_eq!(badge.challenges.lock().unwrap().len(), 1);

    let url = server.url("/closed");
    let unauthorized = PipelineError::Unauthorized {
        url: url.clone(),
        status: 401,
    };
    assert_eq!(ask(&url), Err(unauthorized));
    assert_eq!(badge.challenges.lock().unwrap().len(), 2);

    // The other host's challenge could be a trap.
    let elsewhere = server.url("/open");
    let detour = Server::start(move |_| Reply::redirect(&elsewhere));
    assert_eq!(ask(&detour.url("/")).unwrap_err().code(), "unauthorized");
    assert_eq!(badge.challenges.lock().unwrap().len(), 2);
}

#[test]
fn endless_redirects_end() {
    let server = Server::start(|_| Reply::redirect("/again"));
    let error = get(&client(), &server.url("/")).unwrap_err();
    assert_eq!(error.code(), "network");
    assert_eq!(server.lines().len(), REDIRECTS_MAX + 1);
}

#[test]
fn statuses_become_errors_with_a_code() {
    for (status, code, attempts) in [
        (400, "malformed", 1),
        (401, "unauthorized", 1),
        (403, "unauthorized", 1),
        (404, "not-found", 1),
        (410, "not-found", 1),
        (429, "rate-limited", 3),
        (500, "network", 3),
        (503, "network", 3),
    ] {
        let server = Server::start(move |_| Reply::new(status, ""));
        let error = get(&client(), &server.url("/x?token=secret")).unwrap_err();
        assert_eq!(
            (error.code(), server.lines().len()),
            (code, attempts),
            "{status}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(error.to_string().contains(&server.url("/x?…")), "{error}");
    }
}

#[test]
fn a_limit_that_passes_soon_is_waited_for() {
    let limited = || Reply::new(429, "").with("retry-after", "0");
    let server = Server::start(in_order(vec![limited(), limited(), Reply::ok("x")]));
    assert_eq!(get(&client(), &server.url("/")), Ok(b"x".to_vec()));

    let server = Server::start(|_| Reply::new(429, "").with("retry-after", "900"));
    let url = server.url("/");
    let limited = PipelineError::RateLimited {
        url: url.clone(),
        retry_after: Duration::from_secs(900),
    };
    assert_eq!(get(&client(), &url), Err(limited));
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_short_body_is_asked_for_again_and_a_long_one_refused() {
    let server = Server::start(in_order(vec![
        Reply::ok("kogge").cut_at(2),
        Reply::ok("kogge"),
    ]));
    assert_eq!(get(&client(), &server.url("/")), Ok(b"kogge".to_vec()));

    let server = Server::start(|_| Reply::ok(vec![0; 1_001]));
    let too_large = PipelineError::TooLarge {
        what: "the file".into(),
        max: 1_000,
    };
    assert_eq!(get(&client(), &server.url("/")), Err(too_large));
}

#[test]
fn a_silent_upstream_is_given_up() {
    let server = Server::start(|_| Reply::ok("kogge").stall_at(2));
    let hasty = client_with(|it| it.stall_timeout = Duration::from_millis(100));
    let error = get(&hasty, &server.url("/")).unwrap_err();
    assert!(error.to_string().contains("stalled"), "{error}");
    assert_eq!(server.lines().len(), 3);

    // A listener that nobody serves: the connection stands, and no answer comes.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", mute.local_addr().unwrap());
    let hasty = client_with(|it| it.first_byte_timeout = Duration::from_millis(100));
    let error = get(&hasty, &url).unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[test]
fn a_cancelled_request_ends_before_its_next_attempt() {
    let cancel = Cancel::new();
    let raise = cancel.clone();
    let server = Server::start(move |_| {
        raise.cancel();
        Reply::new(503, "")
    });
    let answer = client().get(&request(&server.url("/")), 10, &cancel);
    assert_eq!(answer.map(|_| ()), Err(PipelineError::Cancelled));
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_closed_client_does_not_wait_for_a_silent_upstream() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", mute.local_addr().unwrap());
    let patient = client_with(|it| it.first_byte_timeout = Duration::from_secs(3_600));
    let (cancel, (told, answer)) = (Cancel::new(), std::sync::mpsc::channel());
    std::thread::scope(|scope| {
        scope.spawn(|| told.send(patient.get(&request(&url), 10, &cancel).map(|_| ())));
        let _connection = mute.accept().unwrap();
        cancel.cancel();
        patient.close();
        let answer = answer.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(answer, Err(PipelineError::Cancelled));
    });
}

#[test]
fn what_has_no_tls_is_asked_only_if_it_is_allowed() {
    let code = |client: &Client, url: &str| get(client, url).unwrap_err().code();
    let strict = client();
    assert_eq!(code(&strict, "http://repo.invalid/x"), "setup");
    assert_eq!(code(&strict, "http://user:pw@127.0.0.1/x"), "setup");
    assert_eq!(code(&strict, "ftp://127.0.0.1/x"), "setup");
    assert_eq!(code(&strict, "nonsense"), "setup");

    let insecure = ["repo.invalid", "repo.invalid:81"].map(str::to_owned);
    let loose = client_with(|it| it.insecure = insecure.into());
    for url in ["http://repo.invalid/x", "http://repo.invalid:81/x"] {
        assert_eq!(code(&loose, url), "network");
    }
    assert_eq!(code(&loose, "http://repo.invalid:82/x"), "setup");
}

#[test]
fn redirects_cannot_reach_what_the_caller_could_not_mean() {
    let client = client();
    let check = |first: &str, url: &str| {
        let (first, url) = (first.parse().unwrap(), url.parse().unwrap());
        client.check_target(&first, &url).map_err(|it| it.code())
    };
    for (first, url, expected) in [
        ("https://a.example/", "https://b.example/", Ok(())),
        (
            "https://a.example/",
            "http://a.example/",
            Err("unsupported"),
        ),
        (
            "https://a.example/",
            "http://127.0.0.1:2375/",
            Err("unsupported"),
        ),
        (
            "https://a.example/",
            "https://localhost/",
            Err("unsupported"),
        ),
        ("http://127.0.0.1/", "http://[::1]:5000/", Ok(())),
        ("http://127.0.0.1/", "http://a.example/", Err("setup")),
        (
            "http://127.0.0.1/",
            "file:///etc/passwd",
            Err("unsupported"),
        ),
    ] {
        assert_eq!(check(first, url), expected, "{first} {url}");
    }
}

#[test]
fn a_proxy_is_asked_for_what_is_not_local() {
    let server = Server::start(|_| Reply::new(403, ""));
    let proxy = format!("http://{}", server.authority());
    let client = client_with(|it| {
        it.proxies.https = Some(proxy);
    });
    assert_eq!(
        get(&client, "https://repo.invalid/x").unwrap_err().code(),
        "network"
    );
    assert!(
        server
            .lines()
            .iter()
            .all(|it| it == "CONNECT repo.invalid:443")
    );
    assert!(!server.lines().is_empty());
    let direct = Server::start(|_| Reply::ok("x"));
    assert_eq!(get(&client, &direct.url("/")), Ok(b"x".to_vec()));
}

#[test]
fn a_client_can_be_shared_by_threads() {
    fn assert_shared<T: Send + Sync>(_: &T) {}
    assert_shared(&Arc::new(client()));
}

#[test]
fn a_client_for_peers_wishes_reaches_public_addresses_alone() {
    let server = Server::start(|_| Reply::ok("secret"));
    let client = client_with(|it| it.public_only = true);
    let port = server.url("/").rsplit(':').next().unwrap().to_owned();
    for host in [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "169.254.169.254",
        "[::1]",
    ] {
        let error = get(&client, &format!("http://{host}:{port}")).unwrap_err();
        assert_eq!(error.code(), "setup", "{host}");
        // Also as the goal of a redirect.
        let (first, goal) = ("https://a.example/", format!("https://{host}:{port}"));
        let (first, goal) = (Url::parse(first).unwrap(), Url::parse(&goal).unwrap());
        assert!(client.check_target(&first, &goal).is_err(), "{host}");
    }
    // A name that passes every look at the URL and resolves to this machine.
    let url = Url::parse(&format!("http://localhost:{port}")).unwrap();
    let exchange = client.exchange("GET", &url, &request(url.as_str()), None, None);
    let Err(Failure::Final(error)) = exchange else {
        panic!("it was asked, or would be asked again");
    };
    assert_eq!(error.code(), "setup");
    assert_eq!(server.lines(), Vec::<String>::new());
}
