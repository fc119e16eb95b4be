//! The header: generated from the code, checked in, complete.

use std::path::Path;

/// The header as the code has it now.
pub(crate) fn generate(root: &Path) -> String {
    let config = cbindgen::Config::from_file(root.join("ffi/cbindgen.toml")).unwrap();
    let mut generated = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("ffi/src/lib.rs"))
        .generate()
        .unwrap()
        .write(&mut generated);
    let text = String::from_utf8(generated).unwrap();
    // What Rust calls safety are the caller's duties in C.
    text.replace("// # Safety\n", "// The caller sees to it that:\n")
        .replace("\n// # Errors\n", "\n// Errors:\n")
}
