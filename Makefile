# kogge: `make demo` shows a network at work, `make test` proves it. Both install what is missing.

export PATH := $(HOME)/.cargo/bin:$(PATH)
ARGS ?=

.PHONY: demo test check build bench header fuzz

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

# Writes include/kogge.h anew; look at the difference before you commit it.
header:
	KOGGE_BLESS=1 cargo test --quiet -p kogge-ffi --test ffi the_header
