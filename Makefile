# Tasks. `make` lists them; each is what CI runs, or a part of it.
.DEFAULT_GOAL := help
.PHONY: help check test demo bench docs ci

# RUSTFLAGS in the environment would silently replace the flags of .cargo/config.toml.
unexport RUSTFLAGS
unexport CARGO_ENCODED_RUSTFLAGS

CARGO ?= cargo
# Arguments for `make demo` and `make bench`.
DEMO ?= --exit
BENCH ?= psi --n 65536

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## format, lints, licences and bans
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(CARGO) run --release --locked -q -p tally-tests --bin check-deps

test: ## all tests of all crates
	$(CARGO) test --release --locked --workspace

demo: ## a network of four nodes on this machine: DEMO='--exit'
	$(CARGO) run --release --locked -- quickstart $(DEMO)

bench: ## one measurement: BENCH='psi --n 65536'
	$(CARGO) run --release --locked -- bench $(BENCH)

docs: ## API documentation of every crate, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps

ci: ## everything that must pass before a merge
	./.ci/run
