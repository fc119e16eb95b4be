#!/bin/sh
# Installs the C library; `make install` calls it.
#
#   LIBRARY=target/library PREFIX=/usr/local DESTDIR= LIBDIR= INCLUDEDIR= scripts/install.sh
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
includedir=${INCLUDEDIR:-$prefix/include}
to=${DESTDIR:-}
library=${LIBRARY:-$root/target/library}

define() { sed -n "s/^#define $1 //p" "$root/include/kogge.h"; }
major=$(define KOGGE_ABI_MAJOR)
minor=$(define KOGGE_ABI_MINOR)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What a program needs that links the library statically: what Rust's standard library needs. Which
# library unwinds the stack is the linker's choice: a program without shared libraries has no -lgcc_s.
private=$(rustc --edition 2021 --crate-type staticlib --crate-name none \
    --print native-static-libs -o "$work/none.a" - </dev/null 2>&1 |
    sed -n 's/^note: native-static-libs: //p' | sed 's/-lgcc_s *//')
[ -n "$private" ] || { echo "rustc names no native libraries" >&2; exit 1; }

fill() {
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@INCLUDEDIR@|$includedir|g" \
        -e "s|@VERSION@|$version|g" -e "s|@VERSION_MAJOR@|${version%%.*}|g" \
        -e "s|@ABI_MAJOR@|$major|g" -e "s|@LIBS_PRIVATE@|$2|g" "$root/ffi/$1" > "$work/${1%.in}"
}
fill kogge.pc.in "$private"
# CMake divides libraries by semicolons.
listed=$(echo "$private" | tr -s ' ' ';')
fill kogge-config.cmake.in "${listed%;}"
fill kogge-config-version.cmake.in ""

real=libkogge.so.$major.$minor
strip --strip-unneeded -o "$work/$real" "$library/libkogge.so"
strip --strip-debug -o "$work/libkogge.a" "$library/libkogge.a"
cmake=$libdir/cmake/kogge
install -d "$to$libdir/pkgconfig" "$to$cmake" "$to$includedir"
install -m 755 "$work/$real" "$to$libdir/$real"
ln -sf "$real" "$to$libdir/libkogge.so.$major"
ln -sf "libkogge.so.$major" "$to$libdir/libkogge.so"
install -m 644 "$work/libkogge.a" "$to$libdir/libkogge.a"
install -m 644 "$root/include/kogge.h" "$to$includedir/kogge.h"
install -m 644 "$work/kogge.pc" "$to$libdir/pkgconfig/kogge.pc"
install -m 644 "$work/kogge-config.cmake" "$work/kogge-config-version.cmake" "$to$cmake/"
