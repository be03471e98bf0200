# Everything is built into one folder outside of the checkout, so that RocksDB is compiled once and survives a fresh
# clone.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/quorate/target

# How long `make faults` and each half of `make soak` run. A row of `make bench` takes 10 s, unless this is given.
SECONDS ?= 60

# The operation that `make flamegraph` measures: set or get.
OP ?= set

# The folder of programs that only tests need.
CLIENTS := $(HOME)/.cache/quorate/bin

# The program that measures clusters: tools/measure.
MEASURE := cargo run --release --example measure --

# `make install` puts the program into PREFIX/bin. By default that is cargo's own folder, which is on most PATHs.
PREFIX ?= $(or $(CARGO_INSTALL_ROOT),$(CARGO_HOME),$(HOME)/.cargo)

.PHONY: help setup build dist install run test model simulate mutants faults hostile fuzz soak bench bench-peers doors micro growth \
	flamegraph book clients verify fmt lint clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Check what a build needs; install what is missing, or name the command that does
	@./tools/setup

build: setup ## Build the program
	cargo build --release --bins

# `install`, the measurements and the packages use what this builds. So PGO=1 works for them too.
dist: setup ## Build the program optimized across crates: minutes of linking. PGO=1: guided by a profile, a fifth less CPU time
	@./tools/dist

install: dist ## Put `quorate` into cargo's bin folder, or into PREFIX/bin, and say where it is
	@./tools/install "$(CARGO_TARGET_DIR)/dist/quorate" "$(PREFIX)/bin"

run: build ## Build, and run a throw-away cluster of three nodes on 127.0.0.1:8001 to 8003 until Ctrl-C
	@exec "$(CARGO_TARGET_DIR)/release/quorate" dev --nodes 3

test: setup clients ## Run every test, with real clients (grpcurl, ghz, gofakes3, nc, redis-cli, schemathesis) where they can be installed
	PATH="$(CLIENTS):$$PATH" cargo test --release --all-targets --no-fail-fast
	cargo test --release --doc
	cargo check --release --no-default-features --lib

model: setup ## Try every run of small clusters (QUORATE_MODEL=large for larger ones), and print the table
	cargo test --release --test model -- --nocapture

simulate: setup ## Simulate clusters from the fixed seeds, or from SEEDS=7..8
	$(if $(SEEDS),QUORATE_SIMULATION_SEEDS=$(SEEDS)) cargo test --release --test simulation -- --nocapture

mutants: setup ## Break each rule of the protocol in turn, and show which seed, model and test finds it
	@./tools/mutants

faults: setup ## Check real processes under real faults, for SECONDS; then additions. MEMBERS=1: members change. SECURE=1: TLS and tokens do
	QUORATE_FAULTS_SECONDS=$(SECONDS) $(if $(MEMBERS),QUORATE_FAULTS_MEMBERS=$(MEMBERS)) \
		$(if $(SECURE),QUORATE_FAULTS_SECURE=$(SECURE)) cargo test --release --test faults -- --nocapture
	QUORATE_ONCE_ADDITIONS=1000 cargo test --release --test once -- --nocapture

hostile: setup ## Run each kind of hostile load for SECONDS beside clients that do nothing wrong, and print the table
	QUORATE_HOSTILE_SECONDS=$(SECONDS) cargo test --release --test hostile -- --nocapture

fuzz: setup ## Try each parser with damaged input, for SECONDS each; as many at once as there are processors
	BOLERO_RANDOM_TEST_TIME_MS=$(SECONDS)000 cargo test --release --lib -- fuzz_

soak: setup ## Simulate fresh seeds for SECONDS, then check real processes under faults for SECONDS
	QUORATE_SIMULATION_SECONDS=$(SECONDS) cargo test --release --test simulation -- --nocapture
	QUORATE_FAULTS_SECONDS=$(SECONDS) cargo test --release --test faults -- --nocapture

bench: dist ## Measure clusters of real nodes, and write target/bench/report.md: 14 minutes, or 3 with QUICK=1
	QUORATE_PROGRAM="$(CARGO_TARGET_DIR)/dist/quorate" $(MEASURE) report \
		$(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS)) $(if $(QUICK),--quick)

bench-peers: dist clients ## Measure Quorate beside etcd, a server that does nothing, and redis-server: SECONDS=5 for each figure
	@./tools/peers "$(CLIENTS)"
	PATH="$(CLIENTS):$$PATH" QUORATE_PROGRAM="$(CARGO_TARGET_DIR)/dist/quorate" $(MEASURE) peers \
		$(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS))

doors: dist ## Measure all protocols in one run, 10,000 idle connections, and redis-benchmark: SECONDS=5 for each figure
	QUORATE_PROGRAM="$(CARGO_TARGET_DIR)/dist/quorate" $(MEASURE) doors \
		$(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS))
	QUORATE_PROGRAM="$(CARGO_TARGET_DIR)/dist/quorate" $(MEASURE) redis \
		$(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS))

micro: setup ## Time the small parts alone: placement, clock, codec, protocol, store; ONLY=protocol for one of them
	cargo bench --profile release $(foreach part,$(or $(ONLY),placement clock codec protocol storage),--bench $(part))

growth: dist ## Measure placement on up to 1,000 nodes, and a cluster that fills: MINUTES=20 GIB=40 KEYS=100000000
	$(MEASURE) placement
	QUORATE_PROGRAM="$(CARGO_TARGET_DIR)/dist/quorate" $(MEASURE) fill \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(GIB),--gib $(GIB)) $(if $(KEYS),--keys $(KEYS))

flamegraph: build ## Draw where three nodes spend their CPU time under a load (Linux, perf): OP=set or OP=get
	@mkdir -p "$(CARGO_TARGET_DIR)/flamegraph"
	@./tools/flamegraph "$(OP)" "$(CARGO_TARGET_DIR)/flamegraph/$(OP).svg"

book: ## Build docs/ as a book with mdBook, and check its links; without mdbook it is skipped
	@./tools/book

clients:
	@./tools/clients "$(CLIENTS)"

# The rules of the source tree link nothing, so that the client library alone is compiled for them.
verify: setup ## Check format, rules of the source tree, lints and the fast tests: seconds when warm
	cargo fmt --check
	cargo test --release --no-default-features --test tidy
	cargo clippy --release --all-targets -- -D warnings
	cargo check --release --all-targets --features mutants
	cargo test --release --lib

fmt: ## Format the code
	cargo fmt

lint: setup ## Check lints, warnings denied
	cargo clippy --release --all-targets -- -D warnings
	cargo clippy --release --no-default-features --lib -- -D warnings

clean: ## Remove what was built of Quorate itself; RocksDB and the other crates stay compiled
	cargo clean --release -p quorate
	cargo clean --profile dist -p quorate
