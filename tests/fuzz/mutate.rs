//! Changes to inputs: of bytes, of numbers in text, and of CBOR, so that what comes out often
//! still decodes.

use kogge_node::base::Rng;

/// Longest input. Unit: bytes.
pub(crate) const LENGTH_MAX: usize = 16 * 1_024;

/// Most changes to one input.
const CHANGES_MAX: u64 = 6;

/// Numbers at which programs err.
const NUMBERS: [u64; 20] = [
    0,
    1,
    2,
    16,
    23,
    24,
    63,
    64,
    127,
    128,
    255,
    256,
    1_023,
    65_535,
    65_536,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 48,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Text that means something to some format.
const WORDS: [&str; 24] = [
    "\n",
    "\n\n",
    "/",
    "//",
    "..",
    ":",
    "@",
    "%2F",
    "%00",
    "+",
    "-",
    "-SNAPSHOT",
    "sha256:",
    "<a>",
    "</a>",
    "<a/>",
    "<![CDATA[",
    "&#0;",
    "null",
    "{}",
    "[]",
    ".sha1",
    "é",
    "\u{0}",
];

/// A changed `input`; `others` lend parts of themselves.
pub(crate) fn mutate(rng: &mut Rng, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=rng.below(CHANGES_MAX) {
        match rng.below(16) {
            0 => flip(rng, &mut bytes),
            1 => set(rng, &mut bytes),
            2 => bytes.truncate(place(rng, &bytes)),
            3 => insert_noise(rng, &mut bytes),
            4 => remove(rng, &mut bytes),
            5 => repeat(rng, &mut bytes),
            6 => splice(rng, &mut bytes, others),
            7 => write_number(rng, &mut bytes),
            8 => write_decimal(rng, &mut bytes),
            9 | 10 => insert_word(rng, &mut bytes),
            11 => bytes.push(u8::try_from(rng.below(4)).unwrap_or(0)),
            12 => fill_array(rng, &mut bytes),
            _ => change_item(rng, &mut bytes),
        }
        bytes.truncate(LENGTH_MAX);
    }
    bytes
}

fn place(rng: &mut Rng, bytes: &[u8]) -> usize {
    below(rng, bytes.len() + 1)
}

fn below(rng: &mut Rng, limit: usize) -> usize {
    usize::try_from(rng.below(limit as u64)).unwrap_or(0)
}

fn byte(rng: &mut Rng) -> u8 {
    u8::try_from(rng.below(256)).unwrap_or(0)
}

fn number(rng: &mut Rng) -> u64 {
    let known = rng.pick(&NUMBERS).copied().unwrap_or(0);
    match rng.below(4) {
        0 => rng.next_u64() >> rng.below(64),
        1 => known.wrapping_sub(1),
        _ => known,
    }
}

fn flip(rng: &mut Rng, bytes: &mut [u8]) {
    let (at, bit) = (below(rng, bytes.len()), rng.below(8));
    if let Some(it) = bytes.get_mut(at) {
        *it ^= 1 << bit;
    }
}

fn set(rng: &mut Rng, bytes: &mut [u8]) {
    let (at, value) = (below(rng, bytes.len()), byte(rng));
    if let Some(it) = bytes.get_mut(at) {
        *it = value;
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    bytes.splice(at..at, part.iter().copied());
}

fn insert_noise(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let noise: Vec<u8> = (0..=rng.below(16)).map(|_| byte(rng)).collect();
    insert(bytes, place(rng, bytes), &noise);
}

fn insert_word(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let word = rng.pick(&WORDS).copied().unwrap_or_default();
    insert(bytes, place(rng, bytes), word.as_bytes());
}

/// A run of bytes, short as a rule.
fn run(rng: &mut Rng, bytes: &[u8]) -> std::ops::Range<usize> {
    let start = place(rng, bytes);
    let scale = rng.below(10);
    let length = below(rng, 1 << scale);
    start..bytes.len().min(start + length)
}

fn remove(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let run = run(rng, bytes);
    bytes.drain(run);
}

/// Repeats a run, once or until the input is long.
fn repeat(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let run = run(rng, bytes);
    let (end, part) = (run.end, bytes[run].to_vec());
    let room = LENGTH_MAX.saturating_sub(bytes.len()) / part.len().max(1);
    let times = if rng.chance(1, 4) { room } else { 1 };
    insert(bytes, end, &part.repeat(times));
}

fn splice(rng: &mut Rng, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let Some(other) = rng.pick(others) else {
        return;
    };
    let (at, part) = (run(rng, bytes), run(rng, other));
    let part = if rng.chance(1, 3) {
        part.start..other.len()
    } else {
        part
    };
    bytes.splice(at, other[part].iter().copied());
}

/// Overwrites 1, 2, 4 or 8 bytes.
fn write_number(rng: &mut Rng, bytes: &mut [u8]) {
    let value = number(rng).to_be_bytes();
    let length = 1_usize << rng.below(4);
    let at = place(rng, bytes);
    for (it, new) in bytes.iter_mut().skip(at).zip(&value[8 - length..]) {
        *it = *new;
    }
}

/// Replaces a number in text.
fn write_decimal(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let from = place(rng, bytes);
    let is_digit = |it: &u8| it.is_ascii_digit();
    let Some(start) = bytes[from..].iter().position(is_digit).map(|it| from + it) else {
        return;
    };
    let end = start + bytes[start..].iter().take_while(|it| is_digit(it)).count();
    let text = number(rng).to_string();
    bytes.splice(start..end, text.bytes());
}

/// Where the items of CBOR begin, and how long their headers are.
fn items(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut items, mut at) = (Vec::new(), 0);
    while let Some(header) = bytes.get(at) {
        let extra = match header & 0x1f {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => 0,
        };
        items.push((at, 1 + extra));
        let body = match header >> 5 {
            2 | 3 => argument(bytes, at, extra),
            _ => 0,
        };
        at = (at + 1 + extra).saturating_add(body);
    }
    items
}

/// The number in the header at `at`, with `extra` bytes after the first.
fn argument(bytes: &[u8], at: usize, extra: usize) -> usize {
    if extra == 0 {
        return bytes.get(at).map_or(0, |it| usize::from(it & 0x1f));
    }
    let tail = bytes.get(at + 1..at + 1 + extra).unwrap_or_default();
    let value = tail.iter().fold(0_u64, |sum, it| sum << 8 | u64::from(*it));
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The canonical header of a major type with its number.
fn header(major: u8, value: u64) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    let tail: &[u8] = match value {
        0..=23 => return vec![major << 5 | h],
        24..=0xff => &[24, h],
        0x100..=0xffff => &[25, g, h],
        0x1_0000..=0xffff_ffff => &[26, e, f, g, h],
        _ => &[27, a, b, c, d, e, f, g, h],
    };
    let mut header = tail.to_vec();
    header[0] |= major << 5;
    header
}

/// Changes an item of CBOR so that it stays canonical: a number, the length of a string, the
/// number of elements, or a whole item for another.
fn change_item(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let items = items(bytes);
    let Some((at, length)) = rng.pick(&items).copied() else {
        return;
    };
    let Some(major) = bytes.get(at).map(|it| it >> 5) else {
        return;
    };
    let end = bytes.len().min(at + length);
    let value = argument(bytes, at, length - 1);
    match major {
        2 | 3 => {
            let body = end..end.saturating_add(value).min(bytes.len());
            let mut text = bytes[body.clone()].to_vec();
            match rng.below(4) {
                0 => text.truncate(place(rng, &text)),
                1 => insert_word(rng, &mut text),
                2 => text = text.repeat(2),
                _ => set(rng, &mut text),
            }
            let new = [header(major, text.len() as u64), text].concat();
            bytes.splice(at..body.end, new);
        }
        4 | 5 => {
            let (_, next) = (at, items.iter().find(|it| at < it.0));
            let element = next.map_or(end..end, |it| it.0..bytes.len().min(it.0 + it.1));
            let element = bytes[element].to_vec();
            let value = value as u64;
            let (count, more) = match rng.below(3) {
                0 => (value.saturating_sub(1), &[][..]),
                1 => (value.saturating_add(1), &element[..]),
                _ => (number(rng), &[][..]),
            };
            let new = [&header(major, count), more].concat();
            bytes.splice(at..end, new);
        }
        _ => {
            bytes.splice(at..end, header(major, number(rng)));
        }
    }
}

/// Makes a list of CBOR as long as possible with elements as short as possible.
fn fill_array(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let items = items(bytes);
    let lists: Vec<_> = items
        .iter()
        .filter(|it| bytes.get(it.0).is_some_and(|it| it >> 5 == 4))
        .collect();
    let Some((at, _)) = rng.pick(&lists) else {
        return;
    };
    let element = rng
        .pick(&[0x00_u8, 0x40, 0x60, 0x80, 0xf6])
        .copied()
        .unwrap_or(0);
    bytes.truncate(*at);
    let count = LENGTH_MAX.saturating_sub(bytes.len() + 3);
    bytes.extend(header(4, count as u64));
    bytes.extend(vec![element; count]);
}
