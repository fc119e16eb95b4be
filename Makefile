# kogge: `make demo` shows a network at work, `make test` proves it. Both install what is missing.

export PATH := $(HOME)/.cargo/bin:$(PATH)
ARGS ?=

SECONDS_PER_TARGET ?= 60
TARGET ?= $(notdir $(wildcard tests/fuzz/corpus/*))

.PHONY: demo test test-ffi-full check build bench bench-ffi header install abi abi-bless fuzz

# A network of four authorized nodes and two regular ones on loopback; leaves it running unless
# ARGS=--exit.
demo:
	@scripts/setup.sh demo
	cargo build --release --quiet -p kogge-daemon -p kogge-testkit
	./target/release/kogge demo --kit ./target/release/kogge-testkit $(ARGS)

# Every test: the library, the simulator, networks of real processes, the program, real container
# clients, three versions of Maven, Go verifiers. Below 40 minutes on two cores.
test:
	@scripts/setup.sh test
	@$(BUILD_FOR_TESTS)
	KOGGE_BUILT=1 cargo test --workspace --no-fail-fast --features kogge/testing

# The C library and the programs with the features of the tests: `cargo test` builds no C library.
BUILD_FOR_TESTS = cargo build --quiet --workspace --lib --bins --tests --examples --features kogge/testing

# The C library with nothing left out: each of its programs under AddressSanitizer and valgrind too,
# and the size of the library that others get.
test-ffi-full:
	@scripts/setup.sh test
	@$(BUILD_FOR_TESTS)
	cargo build --profile library --quiet -p kogge-ffi --lib
	KOGGE_BUILT=1 KOGGE_FFI_FULL=1 cargo test --test ffi --features kogge/testing --workspace -- \
		--test-threads=1

# libFuzzer with AddressSanitizer, which need nightly Rust; what it finds lies in target/fuzz/found.
# TARGET=entry for one target.
FUZZ_FLAGS = -Zsanitizer=address -Cpasses=sancov-module \
	$(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares) \
	-Ccodegen-units=1 --cfg fuzzing
fuzz:
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo +nightly build --release --quiet \
		--target x86_64-unknown-linux-gnu --target-dir target/fuzz \
		--manifest-path tests/fuzz/libfuzzer/Cargo.toml
	@mkdir -p target/fuzz/found
	@for it in $(TARGET); do \
		mkdir -p target/fuzz/corpus/$$it; \
		echo "$$it, for $(SECONDS_PER_TARGET) s"; \
		KOGGE_FUZZ_TARGET=$$it \
			./target/fuzz/x86_64-unknown-linux-gnu/release/kogge-fuzz \
			-max_total_time=$(SECONDS_PER_TARGET) -max_len=16384 -rss_limit_mb=1024 \
			-verbosity=0 -print_final_stats=1 -artifact_prefix=target/fuzz/found/$$it- \
			target/fuzz/corpus/$$it tests/fuzz/corpus/$$it || exit 1; \
	done

# What every commit passes.
check: abi
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features kogge/testing -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

build:
	cargo build --release --workspace

# The numbers, beside those of the named peers in the same run.
bench:
	@scripts/setup.sh demo
	cargo build --release --quiet -p kogge-daemon
	./target/release/kogge bench $(ARGS)

# The figures of the C library and the bindings, beside Rust in the same run.
bench-ffi:
	@scripts/setup.sh test
	cargo build --release --quiet -p kogge-daemon -p kogge-testkit
	cargo build --profile library --quiet -p kogge-ffi -p kogge-jni -p kogge --lib \
		--example bench-ffi
	KOGGE_BUILT=1 ./target/release/kogge-testkit bench-ffi

# Writes include/kogge.h and the lists in tests/abi anew; look at the difference, and read docs/abi.md,
# before you commit it.
header:
	@$(BUILD_FOR_TESTS)
	KOGGE_BUILT=1 KOGGE_BLESS=1 cargo test --quiet --workspace --features kogge/testing --test ffi abi::

# Installs the C library below $(DESTDIR)$(PREFIX). LIBRARY=FOLDER takes one that is built already.
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
install:
ifeq ($(LIBRARY),)
	cargo build --profile library --quiet -p kogge-ffi --lib
endif
	@LIBRARY="$(LIBRARY)" PREFIX="$(PREFIX)" LIBDIR="$(LIBDIR)" INCLUDEDIR="$(INCLUDEDIR)" \
		DESTDIR="$(DESTDIR)" scripts/install.sh

# What the header promises its callers, compared with what was promised (docs/abi.md).
abi:
	@scripts/abi.sh
# A promise more: the baseline anew.
abi-bless:
	@scripts/abi.sh bless
