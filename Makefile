# kogge: `make demo` shows a network at work, `make test` proves it. Both install what is missing.

export PATH := $(HOME)/.cargo/bin:$(PATH)
ARGS ?=

SECONDS_PER_TARGET ?= 60
TARGET ?= $(notdir $(wildcard tests/fuzz/corpus/*))

.PHONY: demo test check build bench bench-ffi header fuzz

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
	KOGGE_BUILT=1 cargo test --workspace --no-fail-fast --features kogge/testing

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
check:
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
	cargo build --release --quiet -p kogge-ffi -p kogge-daemon -p kogge-testkit -p kogge \
		--lib --bins --example bench-ffi
	KOGGE_BUILT=1 ./target/release/kogge-testkit bench-ffi

# Writes include/kogge.h anew; look at the difference before you commit it.
header:
	KOGGE_BLESS=1 cargo test --quiet -p kogge-ffi --test ffi the_header
