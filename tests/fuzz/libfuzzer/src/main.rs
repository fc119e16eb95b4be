//! The targets of `tests/fuzz` under libFuzzer; `KOGGE_FUZZ_TARGET` names the one to run.

#![no_main]

use std::sync::OnceLock;

#[path = "../../targets/mod.rs"]
mod targets;

#[global_allocator]
static HEAP: targets::heap::Counting = targets::heap::Counting;

fn target() -> &'static targets::Target {
    static TARGET: OnceLock<&targets::Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("KOGGE_FUZZ_TARGET").unwrap_or_default();
        let found = targets::ALL.iter().find(|it| it.name == name);
        found.unwrap_or_else(|| panic!("KOGGE_FUZZ_TARGET: there is no target `{name}`"))
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::check(target(), bytes, false);
});
