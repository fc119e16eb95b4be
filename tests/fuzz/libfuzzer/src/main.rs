//! The targets of `tests/fuzz` under libFuzzer; `KOGGE_FUZZ_TARGET` names the one to run.
//! With `KOGGE_FUZZ_PLANTED` its fault is planted, and must be found.

#![no_main]

use std::sync::OnceLock;

#[path = "../../targets/mod.rs"]
#[allow(dead_code, reason = "the drivers in `cargo test` use more of it")]
mod targets;

#[global_allocator]
static HEAP: targets::heap::Counting = targets::heap::Counting;

/// The target, and whether its fault is planted.
fn target() -> (&'static targets::Target, bool) {
    static TARGET: OnceLock<(&targets::Target, bool)> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("KOGGE_FUZZ_TARGET").unwrap_or_default();
        let found = targets::ALL.iter().find(|it| it.name == name);
        let found =
            found.unwrap_or_else(|| panic!("KOGGE_FUZZ_TARGET: there is no target `{name}`"));
        (found, std::env::var_os("KOGGE_FUZZ_PLANTED").is_some())
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (target, is_planted) = target();
    targets::check(target, bytes, is_planted);
});
