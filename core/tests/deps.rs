//! What the crates that others embed may depend on: no tokio runtime, permissive licences only.

#![expect(
    clippy::unwrap_used,
    reason = "a dependency tree that cannot be read fails the test"
)]

use std::collections::BTreeSet;
use std::process::Command;

/// The crates that others embed.
const EMBEDDED: [&str; 2] = ["kogge", "kogge-ffi"];

/// Features of tokio without a runtime, timers or IO: the engine of agreement uses its oneshot
/// channels.
const TOKIO_FEATURES: [&str; 2] = ["default", "sync"];

/// Licences under which a dependency may come. One whose licence offers a choice needs one of them.
const LICENCES: [&str; 10] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BlueOak-1.0.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// A crate that is linked into an embedded one.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Dependency {
    name: String,
    licence: String,
    features: Vec<String>,
}

/// All crates that `package` links, on this platform.
fn dependencies(package: &str) -> BTreeSet<Dependency> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args([
            "--no-dedupe",
            "--format",
            "{p}|{l}|{f}",
            "--package",
            package,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    let text = String::from_utf8(output.stdout).unwrap();
    let dependency = |line: &str| {
        let mut columns = line.splitn(3, '|');
        let mut column = || columns.next().unwrap();
        Dependency {
            name: column().split(' ').next().unwrap().to_owned(),
            licence: column().to_owned(),
            features: column().split(',').map(str::to_owned).collect(),
        }
    };
    let found: BTreeSet<_> = text.lines().map(dependency).collect();
    assert!(found.iter().any(|it| it.name == package), "{text}");
    found
}

#[test]
fn no_part_of_tokio_needs_a_runtime() {
    for package in EMBEDDED {
        let found = dependencies(package);
        for tokio in found.iter().filter(|it| it.name == "tokio") {
            let is_allowed = |it: &String| it.is_empty() || TOKIO_FEATURES.contains(&it.as_str());
            assert!(
                tokio.features.iter().all(is_allowed),
                "{package}: {tokio:?}"
            );
        }
        let others = ["hyper", "tokio-util", "tokio-rustls", "async-std"];
        let other = found.iter().find(|it| others.contains(&it.name.as_str()));
        assert_eq!(other, None, "{package}");
    }
}

#[test]
fn every_licence_is_permissive() {
    for package in EMBEDDED {
        for it in dependencies(package) {
            assert!(is_permissive(&it.licence), "{package}: {it:?}");
        }
    }
}

/// Whether an SPDX expression can be met with [`LICENCES`] alone; `/` is the old form of `OR`.
fn is_permissive(licence: &str) -> bool {
    let spaced = licence
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace(" WITH ", "+WITH+");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (is_met, rest) = either(&words);
    is_met && rest.is_empty()
}

/// `both (OR both)*`; what is left of the words comes back.
fn either<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut is_met, mut rest) = both(words);
    while let ["OR", others @ ..] = rest {
        let (is_other_met, others) = both(others);
        (is_met, rest) = (is_met | is_other_met, others);
    }
    (is_met, rest)
}

/// `one (AND one)*`, where one is a licence or an expression in parentheses.
fn both<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut is_met, mut rest) = one(words);
    while let ["AND", others @ ..] = rest {
        let (is_other_met, others) = one(others);
        (is_met, rest) = (is_met & is_other_met, others);
    }
    (is_met, rest)
}

fn one<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => match either(inner) {
            (is_met, [")", rest @ ..]) => (is_met, rest),
            (_, rest) => (false, rest),
        },
        [licence, rest @ ..] => {
            let licence = licence.replace("+WITH+", " WITH ");
            (LICENCES.contains(&licence.as_str()), rest)
        }
        [] => (false, words),
    }
}

#[test]
fn a_choice_needs_one_permissive_licence_and_a_sum_needs_all() {
    for (licence, expected) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("Apache-2.0 OR GPL-2.0-only", true),
        ("MIT AND GPL-2.0-only", false),
        ("ISC AND (Apache-2.0 OR OpenSSL)", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT AND OpenSSL) OR GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-3.0 WITH Classpath-exception-2.0", false),
        ("MIT AND", false),
        ("MIT ISC", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_permissive(licence), expected, "{licence}");
    }
}
