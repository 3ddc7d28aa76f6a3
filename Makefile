# Everything that a person does with a checkout. `make` alone lists it.
# One optimised profile (release) serves demo, tests and benchmarks.

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BIN    := $(TARGET)/release
MNIST  := data/mnist

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: demo
demo: build mnist ## The main job before your eyes: a market of seven processes trains MNIST and pays for it
	@$(BIN)/deepmarket demo $(ARGS)

.PHONY: pluto
pluto: build pluto-program ## Open PLUTO, the desktop wallet, on the local market (GATEWAY=http://host:port: on that one)
	@GATEWAY=$(GATEWAY) scripts/pluto.sh $(BIN)

.PHONY: pluto-program
pluto-program:
	@scripts/packages.sh pluto
	@scripts/page.sh
	@cargo build --release --locked -p deepmarket-pluto

.PHONY: pluto-types
pluto-types: ## Write the page's types (desktop/ui/src/types.ts) from desktop/src/view.rs
	@scripts/packages.sh pluto
	@scripts/page.sh
	@PLUTO_RENEW_TYPES=1 cargo test --release --locked -p deepmarket-pluto --lib view

.PHONY: build
build: packages ## Build the programs deepmarket and deepmarket-trainer
	@cargo build --release --locked

.PHONY: test
test: test-packages mnist ## Run the whole test suite (it builds the programs itself)
	@scripts/page.sh check
	@cargo build --release --locked -p deepmarket-pluto
	@cargo test --release --locked -p deepmarket-pluto --lib
	@cargo test --release --locked
	@cargo test --release --locked -p deepmarket-window-tests

.PHONY: fuzz
fuzz: ## Fuzz the parsers of bytes from outside, a minute each (SECONDS=60), or RUNS=10000000 inputs each; TARGETS="block frame"
	@RUNS=$(RUNS) SECONDS_EACH=$(SECONDS) scripts/fuzz.sh $(TARGETS)

.PHONY: bench
bench: build mnist ## Measure trainer, workers and ledger; prints a table, writes bench.json
	@$(BIN)/bench $(ARGS)

.PHONY: simulation
simulation: ## Live thousands of virtual days under both price policies; writes docs/prices.md and docs/prices.svg
	@cargo run --release --locked -p deepmarket-tests --example simulation

.PHONY: zoo
zoo: ## Plant a thousand cheats in simulated markets and see which are caught; writes docs/zoo.md
	@cargo run --release --locked -p deepmarket-tests --example zoo

.PHONY: check
check: packages ## Formatting, lints, and cargo deny: licences, sources, advisories
	@scripts/packages.sh pluto
	@scripts/page.sh check
	@cargo fmt --all --check
	@cargo clippy --release --locked --all-targets -- -D warnings
	@cargo clippy --release --locked -p deepmarket-pluto -p deepmarket-window-tests --all-targets -- -D warnings
	@scripts/deny.sh

.PHONY: packages
packages: ## Install the Debian packages that the build needs; does nothing where they are there
	@scripts/packages.sh

.PHONY: test-packages
test-packages:
	@scripts/packages.sh test

.PHONY: mnist
mnist: ## Get MNIST's original files into data/mnist
	@scripts/mnist.sh $(MNIST)
