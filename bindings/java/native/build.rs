//! Keeps the library loaded: the JVM unloads it when its class loader dies, and threads of the
//! library may outlive that for a moment.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "linux" || target == "android" || target.ends_with("bsd") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        // Calls its own `kogge_*`, also in a process that has loaded `libkogge.so` before.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    }
}
