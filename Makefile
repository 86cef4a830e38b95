# Weir. `make` alone lists the targets.

CARGO ?= cargo
# Where cargo puts what it builds.
BUILT := $(or $(CARGO_TARGET_DIR),target)
# rustup's cargo is found even where no profile was read (sudo, CI).
export PATH := $(HOME)/.cargo/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench soak

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

setup: ## install the Debian packages that are missing (root), or say which
	@deploy/setup.sh

demo: setup ## real packets through Weir, in about a minute (DEMO_SECONDS: the flood's length)
	$(CARGO) build --release --locked -p weir-control
	$(BUILT)/release/weir demo

test: setup lint ## lint, then every test
	$(CARGO) test --workspace --locked

lint: setup ## format, clippy, the house rules and the dependencies' licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --locked -p weir-control --test tidy --test dependencies
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; fi

bench: setup ## Weir beside the kernel on the same flood, then ns a packet; JSON
	$(CARGO) build --release --locked -p weir-bench
	$(BUILT)/release/weir-bench rx --json
	$(BUILT)/release/weir-bench packet --json

soak: setup ## the long tests: those marked #[ignore], minutes each
	$(CARGO) test --workspace --locked -- --ignored
