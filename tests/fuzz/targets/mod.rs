//! What is fuzzed. A target is one function from bytes to whether the product accepted them; it
//! panics where the product breaks a promise. The drivers (replay, mutation, libFuzzer) all call
//! [`check`], which adds a promise of its own: memory is bounded by the length of the input.
//!
//! A target can be *planted*: then it stands between the product and its own checks and spoils
//! what the product answers, so that a check that sees nothing is itself found out.

pub(crate) mod heap;

mod chain;
mod clock;
mod dialer;
mod disk;
mod download;
mod exchange;
mod frames;
mod groups;
mod log;
mod messages;
mod package;
mod request;
mod sync;

#[cfg(test)]
pub(crate) use log::{honest, honest_waybill};

use kogge_node::proto::chain::rules::ENTRIES_MAX;

/// One function to fuzz.
pub(crate) struct Target {
    /// Its name; also that of its folder in `corpus`.
    pub(crate) name: &'static str,
    /// The function: input, whether its fault is planted → whether the input was accepted.
    pub(crate) run: fn(&[u8], bool) -> bool,
    /// What an input may cost.
    pub(crate) heap: Heap,
    /// Mutated inputs that `cargo test` tries.
    pub(crate) runs: u32,
}

/// Memory that an input of `n` bytes may cost: `n × per_byte + fixed` bytes.
#[derive(Clone, Copy)]
pub(crate) struct Heap {
    per_byte: usize,
    fixed: usize,
}

const KIB: usize = 1_024;

/// The rule for decoders.
const DECODER: Heap = Heap {
    per_byte: 16,
    fixed: 64 * KIB,
};

/// Messages with a block: it has at most 16,384 entries, which may be empty.
const BLOCK: Heap = Heap {
    per_byte: 16,
    fixed: 64 * KIB + 24 * ENTRIES_MAX,
};

/// Documents whose elements are much shorter in text than in memory (`<a/>`), and which come from
/// upstreams that the owner chose; their number of elements is bounded.
const DOCUMENT: Heap = Heap {
    per_byte: 64,
    fixed: 64 * KIB,
};

/// Messages grow in steps of 64 KiB, and are read twice.
const FRAMES: Heap = Heap {
    per_byte: 16,
    fixed: 256 * KIB,
};

/// A path of many empty words, each in several forms; paths are at most 2 KiB long.
const REQUEST: Heap = Heap {
    per_byte: 64,
    fixed: 256 * KIB,
};

/// The set of the groups of the largest artifact takes 2 MiB, and as ranges 16 bytes for each bit.
const GROUPS: Heap = Heap {
    per_byte: 512,
    fixed: 5 * KIB * KIB,
};

/// Machines and what is built around them: a chain, artifacts, a model.
const MACHINE: Heap = Heap {
    per_byte: 1_024,
    fixed: 8 * KIB * KIB,
};

const fn target(name: &'static str, run: fn(&[u8], bool) -> bool, heap: Heap, runs: u32) -> Target {
    Target {
        name,
        run,
        heap,
        runs,
    }
}

/// Every target.
pub(crate) const ALL: &[Target] = &[
    target("entry", log::entry, DECODER, 20_000),
    target("bundle", log::bundle, DECODER, 20_000),
    target("tile", log::tile, DECODER, 20_000),
    target("note", log::note, DECODER, 10_000),
    target("policy", log::policy, DECODER, 2_000),
    target("query", log::query, DECODER, 20_000),
    target("waybill", log::waybill, MACHINE, 2_000),
    target("block", chain::block, BLOCK, 10_000),
    target("certificate", chain::certificate, DECODER, 10_000),
    target("genesis", chain::genesis, DECODER, 2_000),
    target("state", chain::state, DECODER, 10_000),
    target("change", chain::change, DECODER, 5_000),
    target("rules", chain::rules, MACHINE, 500),
    target("hello", messages::hello, DECODER, 20_000),
    target("consensus", messages::consensus, BLOCK, 10_000),
    target("head", messages::head, DECODER, 20_000),
    target("book", messages::book, DOCUMENT, 20_000),
    target("build", messages::build, DECODER, 10_000),
    target("pending", messages::pending, DECODER, 10_000),
    target("spec", messages::spec, DECODER, 20_000),
    target("pool", messages::pool, DECODER, 5_000),
    target("kept", messages::kept, DECODER, 5_000),
    target("sync", messages::sync, BLOCK, 10_000),
    target("gossip", messages::gossip, DECODER, 10_000),
    target("requests", exchange::requests, MACHINE, 10_000),
    target("has", exchange::has, DECODER, 10_000),
    target("replies", exchange::replies, MACHINE, 1_000),
    target("groups", groups::groups, MACHINE, 300),
    target("purl", package::purl, DECODER, 10_000),
    target("image", package::image, DECODER, 20_000),
    target("maven", package::maven, DECODER, 20_000),
    target("xml", package::xml, DOCUMENT, 10_000),
    target("oci", package::oci, DECODER, 10_000),
    target("download", download::download, MACHINE, 2_000),
    target("syncing", sync::syncing, MACHINE, 1_000),
    target("dialer", dialer::dialer, MACHINE, 2_000),
    target("frames", frames::frames, FRAMES, 10_000),
    target("request", request::request, REQUEST, 10_000),
    target("row", disk::row, GROUPS, 20_000),
    target("provider", disk::provider, DECODER, 20_000),
    target("journal", disk::journal, MACHINE, 5_000),
];

/// Runs `target` on `bytes`.
///
/// # Panics
///
/// If the product breaks a promise: that is the finding.
pub(crate) fn check(target: &Target, bytes: &[u8], is_planted: bool) -> bool {
    let (accepted, peak) = heap::peak_of(|| (target.run)(bytes, is_planted));
    let allowed = bytes.len() * target.heap.per_byte + target.heap.fixed;
    assert!(
        peak <= allowed,
        "{} bytes of input took {peak} bytes of memory, {allowed} are allowed",
        bytes.len(),
    );
    accepted
}

/// What decodes is the one form of its value.
///
/// Planted: a decoder that overlooks a trailing zero.
fn canonical<T, E>(
    bytes: &[u8],
    is_planted: bool,
    decode: impl FnOnce(&[u8]) -> Result<T, E>,
    encode: impl FnOnce(&T) -> Vec<u8>,
) -> Option<T> {
    let seen = match bytes {
        [seen @ .., 0] if is_planted => seen,
        _ => bytes,
    };
    let value = decode(seen).ok()?;
    assert_eq!(
        hex(&encode(&value)),
        hex(bytes),
        "a second form is accepted"
    );
    Some(value)
}

fn hex(bytes: &[u8]) -> String {
    kogge_node::base::hex::encode(bytes)
}

/// What is read can be written, and what was written is read as the same.
///
/// Planted: a writer that swallows the last character.
fn stable<T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug>(
    text: &str,
    is_planted: bool,
) -> Option<T>
where
    T::Err: std::fmt::Debug,
{
    let value: T = text.parse().ok()?;
    let mut written = value.to_string();
    if is_planted {
        written.pop();
    }
    match written.parse::<T>() {
        Ok(again) => assert_eq!(again, value, "`{text}` is written as `{written}`"),
        Err(error) => panic!("`{text}` is written as `{written}`, which is refused: {error:?}"),
    }
    Some(value)
}

/// An endless supply of decisions: the bytes of the input, then zeros.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    /// A number below `limit`, which is at most 256.
    fn below(&mut self, limit: u64) -> u64 {
        u64::from(self.byte()) % limit
    }

    /// A number of any size: few bits are as likely as many.
    fn number(&mut self) -> u64 {
        let bits = u32::from(self.byte()) % 65;
        let bytes: [u8; 8] = std::array::from_fn(|_| self.byte());
        u64::from_be_bytes(bytes)
            .checked_shr(64 - bits)
            .unwrap_or(0)
    }

    fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }
}
