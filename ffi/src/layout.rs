//! The layout of the structs that cross, compared with what was promised (`tests/abi/layout.txt`).
//! A C program prints the same list from the header (`tests/ffi/abi.rs`).

use std::fmt::Write as _;
use std::mem::{align_of, offset_of};

use crate::types::*;

fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! layouts {
    ($text:ident: $($name:ident { $($field:ident)* })*) => { $(
        writeln!($text, "{} {} {}", stringify!($name), size_of::<$name>(), align_of::<$name>())
            .unwrap();
        $(
            let size = size_of_field(|it: &$name| &it.$field);
            let offset = offset_of!($name, $field);
            writeln!($text, "{}.{} {offset} {size}", stringify!($name), stringify!($field))
                .unwrap();
        )*
    )* };
}

#[test]
fn structs_have_the_layout_that_was_promised() {
    let mut text = String::new();
    layouts! { text:
        kogge_str { ptr len }
        kogge_completion { struct_size done_fn user_data drop_fn queue tag ended_out }
        kogge_bytes { ptr len }
        kogge_event_filter { struct_size kinds after }
        kogge_event_view { number lost time_ms kind json }
        kogge_name { struct_size what file }
        kogge_fetch_request { struct_size name range_offset range_len deadline_ms max_bytes }
        kogge_sink { struct_size kind place_flags path fd reserved write_fn user_data drop_fn }
        kogge_fetch_result {
            blake3 sha256 size log_index bytes_from_store bytes_from_peers placed reserved
        }
        kogge_stored { blake3 sha256 size is_pinned }
        kogge_entry {
            index height time_ms removed size kind purl file media_type blake3 sha256
        }
        kogge_completed { tag op status kind }
    }
    // The order is the header's, which does not matter here.
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let promised = include_str!("../../tests/abi/layout.txt");
    assert_eq!(sorted(&text), sorted(promised));
}
