# What people type. `make` alone lists the targets. Everything that is compiled goes to one folder outside of the
# checkout, so that a fresh clone does not compile its dependencies again; CARGO_TARGET_DIR moves it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/phala
export CARGO_TARGET_DIR ?= $(CACHE)/target

# Always the whole workspace, so that each dependency has one set of features and is compiled once for all targets.
CARGO := cargo
FLAGS := --locked --workspace
BIN := $(CARGO_TARGET_DIR)/debug
TOOLS := $(CACHE)/tools
DENY_VERSION := 0.20.2
EXAMPLES := $(notdir $(patsubst %/Cargo.toml,%,$(wildcard contracts/examples/*/Cargo.toml)))
# Tests and examples measure, wait and print; what they check must not.
TESTS_MAY := -A clippy::disallowed-methods -A clippy::disallowed-macros -A clippy::disallowed-types

.PHONY: help demo dev test contracts bench verify build wasm-target cargo-deny $(EXAMPLES:%=bundle-%)

help: ## list the targets
	@echo "Compiled files: $(CARGO_TARGET_DIR)"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: bundle-psp22 bundle-ballot ## a fresh network: deploy, read, write, measure, kill a worker; then stop
	@$(BIN)/phala demo

dev: build ## start a network for development and keep it running
	@$(BIN)/phala dev

test: build contracts ## everything that has tests
	$(CARGO) test $(FLAGS) --no-fail-fast
	$(CARGO) test --locked --manifest-path contracts/Cargo.toml --no-fail-fast

contracts: $(EXAMPLES:%=bundle-%) ## build the example contracts into target/ink

$(EXAMPLES:%=bundle-%): bundle-%: build wasm-target
	@$(BIN)/phala build contracts/examples/$* --out target/ink/$*

bench: ## measure encrypted queries against a plain native server, and contracts against native code
	$(CARGO) build $(FLAGS) --bin phala --bin bench
	@$(BIN)/bench

verify: cargo-deny ## format, lints, layers, documents, licences; changes nothing
	$(CARGO) fmt --all --check
	$(CARGO) xtask verify
	PATH="$(TOOLS)/bin:$$PATH" cargo deny --locked --log-level error check licenses bans sources
	$(CARGO) clippy $(FLAGS) --lib --bins -- -D warnings
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings $(TESTS_MAY)
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc $(FLAGS) --no-deps --quiet

build: ## compile the command line, which is the whole network
	$(CARGO) build $(FLAGS) --bin phala

wasm-target: ## make sure that contracts can be compiled
	@sh deploy/wasm-target.sh

# The one tool that rustup does not bring. It is compiled once and kept beside the target folder.
cargo-deny:
	@PATH="$(TOOLS)/bin:$$PATH" cargo deny --version >/dev/null 2>&1 || \
		env -u CARGO_TARGET_DIR cargo install cargo-deny --version $(DENY_VERSION) --locked --root "$(TOOLS)"
