//! `libkogge_jni.so`: the native methods of `dev.kogge.Native`.
//!
//! Each is one call of the C ABI, with its arguments taken from Java and its result packed for
//! Java. There is no second meaning here: the rules, limits and errors are those of `kogge.h`.
//!
//! * Handles are numbers (`long`); stale and invented ones are `KoggeException`s.
//! * Texts are UTF-8 in `byte[]`, records are little-endian in `byte[]` (see `pack.rs`): one crossing
//!   for a thousand entries.
//! * No thread of the library ever calls Java: Java threads wait in `queueNext` and `logNext`.

mod call;
mod config;
mod events;
mod fetch;
mod keep;
mod lines;
mod log;
mod node;
mod pack;
mod queue;
