#!/bin/sh
# Compares the interface of the C library with the baseline tests/abi/kogge-1.abi: functions, and the
# types of their parameters and results. `scripts/abi.sh bless` writes the baseline.
#
# What is compared is the header, compiled as a library of empty functions: what Rust's debugging
# information says of types differs between compilers, and has a thousand types that are not ours.
# That the header is what the real library has is what the tests prove (tests/ffi/abi.rs).
# Needs Debian's abigail-tools.
set -eu

cd "$(dirname "$0")/.."
baseline=tests/abi/kogge-1.abi
if ! command -v abidiff >/dev/null 2>&1; then
    echo "abidiff is missing (Debian: abigail-tools): the ABI is compared by size and offset only" >&2
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
major=$(sed -n 's/^#define KOGGE_ABI_MAJOR //p' include/kogge.h)
sed '/^extern "C" {/,$ s/);$/) { __builtin_trap(); }/' include/kogge.h > "$work/kogge.c"
(cd "$work" && cc -std=c11 -g -fPIC -shared -Wl,-soname,"libkogge.so.$major" -o libkogge.so kogge.c)
if [ "${1:-}" = bless ]; then
    abidw --no-comp-dir-path --no-corpus-path --no-show-locs --no-elf-needed \
        --out-file "$baseline" "$work/libkogge.so"
    exit
fi
abidiff "$baseline" "$work/libkogge.so" && exit
echo "the ABI is not what was promised; read docs/abi.md, then \`make abi-bless\` if it may change" >&2
exit 1
