//! `libkogge.so.1` and `libkogge.a`: the functions of [`kogge_abi`], and nothing else.

pub use kogge_abi::*;
