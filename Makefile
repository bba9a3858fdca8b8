# Tasks. `make` lists them; each is what CI runs, or a part of it.
.DEFAULT_GOAL := help
.PHONY: help check test fuzz sanitize fuzz-seeds demo bench docs ci

# RUSTFLAGS in the environment would silently replace the flags of .cargo/config.toml.
unexport RUSTFLAGS
unexport CARGO_ENCODED_RUSTFLAGS

CARGO ?= cargo
# Arguments for `make demo`, `make bench` and `make fuzz`.
DEMO ?= --exit
BENCH ?= psi --n 65536
FUZZ ?= --seconds 30

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## format, lints, licences and bans
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(CARGO) run --release --locked -q -p tally-tests --bin check-deps

test: ## all tests of all crates
	$(CARGO) test --release --locked --workspace

fuzz: ## fuzz targets, as many at once as there are processors: FUZZ='--seconds 30 [TARGET ...]'
	./tests/fuzz/run $(FUZZ)

sanitize: ## private matching under AddressSanitizer
	./tests/sanitize

fuzz-seeds: ## the seeds of the fuzz targets, made anew
	cd tests/fuzz && ./run --seeds

demo: ## a network of four nodes on this machine: DEMO='--exit'
	$(CARGO) run --release --locked -- quickstart $(DEMO)

bench: ## one measurement: BENCH='psi --n 65536'
	$(CARGO) run --release --locked -- bench $(BENCH)

docs: ## API documentation of every crate, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps

ci: ## everything that must pass before a merge
	./.ci/run
