//! The drivers inside `cargo test`: replay of the corpus, mutation, and the proof that a planted
//! fault is found.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use kogge_node::base::{Blake3, Rng};

use crate::mutate::{LENGTH_MAX, mutate};
use crate::targets::{self, Target};

/// Files of a corpus, and bytes in all of them.
pub(crate) const FILES_MAX: usize = 64;
pub(crate) const BYTES_MAX: usize = 64 * 1_024;

/// Inputs that are mutated further because they were accepted.
const POOL_MAX: usize = 256;

/// Mutated inputs until a planted fault is found at the latest.
const PLANTED_RUNS: u32 = 20_000;

/// The target with that name.
pub(crate) fn named(name: &str) -> &'static Target {
    let found = targets::ALL.iter().find(|it| it.name == name);
    found.unwrap_or_else(|| panic!("there is no target `{name}`"))
}

pub(crate) fn corpus_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name)
}

/// The corpus of a target, by file.
pub(crate) fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = corpus_dir(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|it| panic!("{}: {it}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|it| it.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|it| (it.clone(), fs::read(it).unwrap()))
        .collect()
}

/// Runs every input of the corpus; those named `seed-…` must be accepted.
pub(crate) fn replay(name: &str) {
    let (target, corpus) = (named(name), corpus(name));
    assert!(corpus.len() <= FILES_MAX, "{} files", corpus.len());
    let bytes: usize = corpus.iter().map(|it| it.1.len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
    let mut seeds = 0;
    for (file, bytes) in &corpus {
        let accepted = catch_unwind(|| targets::check(target, bytes, false));
        let Ok(accepted) = accepted else {
            panic!("{} fails `{name}`", file.display());
        };
        let is_seed = file
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("seed-");
        assert!(
            accepted || !is_seed,
            "{} is not accepted; if a format has changed, write the seeds anew: \
             KOGGE_FUZZ_BLESS=1 cargo test -p kogge-ffi --test fuzz the_seeds",
            file.display(),
        );
        seeds += usize::from(is_seed);
    }
    assert!(0 < seeds, "no good input for `{name}`");
}

/// Mutates the corpus.
pub(crate) fn mutated(name: &str) {
    let (target, seed) = (named(name), seed());
    let runs = target.runs.saturating_mul(factor());
    let Some(input) = search(target, seed, runs, false) else {
        return;
    };
    let file = keep(name, seed, &input);
    panic!(
        "`{name}` fails with seed {seed} (KOGGE_FUZZ_SEED); the input is {}; once it is mended, \
         keep it as tests/fuzz/corpus/{name}/regress-…",
        file.display(),
    );
}

/// Looks for the fault that the target plants: a search that misses it proves nothing.
pub(crate) fn planted(name: &str) {
    let found = search(named(name), seed(), PLANTED_RUNS, true);
    assert!(
        found.is_some(),
        "the planted fault of `{name}` is not found"
    );
}

/// An input that fails, if one is found.
fn search(target: &Target, seed: u64, runs: u32, is_planted: bool) -> Option<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let mut pool: Vec<Vec<u8>> = corpus(target.name).into_iter().map(|it| it.1).collect();
    pool.retain(|it| it.len() <= LENGTH_MAX);
    for _ in 0..runs {
        let parent = rng.pick(&pool)?.clone();
        let input = mutate(&mut rng, &parent, &pool);
        let checked = AssertUnwindSafe(|| targets::check(target, &input, is_planted));
        match catch_unwind(checked) {
            Err(_) => return Some(input),
            Ok(true) if pool.len() < POOL_MAX => pool.push(input),
            // The good seeds stay: they are the first.
            Ok(true) if rng.chance(1, 8) => {
                let at = POOL_MAX / 2 + usize::try_from(rng.below(POOL_MAX as u64 / 2)).unwrap();
                pool[at] = input;
            }
            Ok(_) => {}
        }
    }
    None
}

/// Writes a failing input where it survives the test.
fn keep(name: &str, seed: u64, input: &[u8]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    fs::create_dir_all(&dir).unwrap();
    let digest = Blake3::of(input).to_string();
    let file = dir.join(format!("{name}-{seed}-{}", &digest[..8]));
    fs::write(&file, input).unwrap();
    file
}

/// `KOGGE_FUZZ_SEED`: another seed finds other things.
fn seed() -> u64 {
    variable("KOGGE_FUZZ_SEED").unwrap_or(1)
}

/// `KOGGE_FUZZ_FACTOR`: so many times as many inputs.
fn factor() -> u32 {
    let factor = variable("KOGGE_FUZZ_FACTOR").unwrap_or(1);
    u32::try_from(factor).unwrap_or(u32::MAX)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().unwrap())
}
