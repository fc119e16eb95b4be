//! Gives the C library its soname and keeps it loaded.
//!
//! Writes nothing: the header in `include/` is checked in, and a test compares it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "linux" || target == "android" || target.ends_with("bsd") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkogge.so.1");
        // Threads of the library may outlive the last handle for a moment: `dlclose` must not
        // unmap their code.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
