# Everything is built in one profile into one folder outside of the checkout, so that RocksDB is compiled once for run,
# test, lint and bench, and survives a fresh clone.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/quorate/target

# Programs that only the tests need, in pinned versions.
CLIENTS := $(HOME)/.cache/quorate/bin
GRPCURL := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
GHZ := github.com/bojand/ghz/cmd/ghz@v0.120.0

.PHONY: help setup build run test clients verify fmt lint clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Check what a build needs; install what is missing, or name the command that does
	@./tools/setup

build: setup ## Build the program
	cargo build --release --bins

run: build ## Build, and run a throw-away cluster of three nodes on 127.0.0.1:8001 to 8003 until Ctrl-C
	@exec "$(CARGO_TARGET_DIR)/release/quorate" dev --nodes 3

test: setup clients ## Run every test, with the real grpcurl and ghz where Go can install them
	PATH="$(CLIENTS):$$PATH" cargo test --release --all-targets
	cargo test --release --doc
	cargo check --release --no-default-features --lib

# Both or neither. Tests that need them skip themselves where they are missing, unless QUORATE_REQUIRE_CLIENTS=1.
clients:
	@export PATH="$(CLIENTS):$$PATH"; \
	if command -v grpcurl >/dev/null && command -v ghz >/dev/null; then \
		exit 0; \
	elif command -v go >/dev/null; then \
		echo "clients: installing grpcurl and ghz into $(CLIENTS), once: two to four minutes"; \
		GOBIN="$(CLIENTS)" go install $(GRPCURL) && GOBIN="$(CLIENTS)" go install $(GHZ); \
	elif [ "$${QUORATE_REQUIRE_CLIENTS:-}" = 1 ]; then \
		echo "clients: grpcurl, ghz and Go (which would install them) are missing, and QUORATE_REQUIRE_CLIENTS=1" >&2; \
		exit 1; \
	else \
		echo "clients: grpcurl or ghz is missing, and so is Go, which would install them: their tests will be SKIPPED"; \
	fi

verify: setup ## Check format, lints and the fast tests: seconds when warm
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings
	cargo test --release --lib

fmt: ## Format the code
	cargo fmt

lint: setup ## Check lints, warnings denied
	cargo clippy --release --all-targets -- -D warnings
	cargo clippy --release --no-default-features --lib -- -D warnings

clean: ## Remove what was built of Quorate itself; RocksDB and the other crates stay compiled
	cargo clean --release -p quorate
