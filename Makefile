# Two commands do everything on a fresh Debian 12 machine:  make demo   and   make test
SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice
export CARGO_TARGET_DIR ?= $(CACHE)/target
export PATH := $(HOME)/.cargo/bin:$(PATH)
DEBUG := $(CARGO_TARGET_DIR)/debug/sluice
RELEASE := $(CARGO_TARGET_DIR)/release/sluice
SHARED ?= ../shared
# What another checkout has built is not taken for what this one would.
ifneq ($(shell tests/setup/checkout.sh $(CARGO_TARGET_DIR) 2>&1 || echo failed),)
$(error tests/setup/checkout.sh cannot write to $(CARGO_TARGET_DIR))
endif

.PHONY: help setup build release install-kubectl demo demo-fraud demo-iot test fmt clippy unit properties golden cluster scale conformance bench crash

help:            ## what there is to make
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup:           ## installs what building needs
	@tests/setup/setup.sh build

build: setup     ## debug build
	cargo build --workspace

release: setup   ## release build of the runtime
	cargo build --release -p sluice

install-kubectl: release ## `kubectl sluice`, and the `sluice` that it plans and checks with, into ~/.cargo/bin (or BIN=folder)
	cargo build --release -p kubectl-sluice
	install -D -t $(or $(BIN),$(HOME)/.cargo/bin) $(RELEASE) $(dir $(RELEASE))kubectl-sluice

demo: release    ## the main job on an embedded broker: matches as they come, until Ctrl-C
	$(RELEASE) run examples/anomaly-detection/standalone-etl-anomaly.yaml --local

demo-fraud: release  ## fraud detection by rules that come and go while it runs: a web page, until Ctrl-C
	cargo build --release -p sluice-fraud-webapp
	$(dir $(RELEASE))fraud-webapp --demo examples/fraud-detection/fraud-detection.yaml

demo-iot: release ## CPU loads above the thresholds in a real PostgreSQL, as Slack messages, on an embedded broker, until Ctrl-C
	@tests/setup/setup.sh postgresql
	@examples/iot-cpu-anomaly/demo.sh $(RELEASE)

test:            ## everything that CI checks; ends with "N passed, N failed"
	@tests/setup/test.sh

fmt:             ## formatting
	cargo fmt --all --check

clippy:          ## lints
	cargo clippy --workspace --all-targets -- -D warnings

unit:            ## unit tests
	cargo test --workspace --exclude sluice-tests

properties:      ## unit tests again and again (ROUNDS=20), property tests with other examples each time, until one fails
	for round in $$(seq $(or $(ROUNDS),20)); do echo "round $$round"; cargo test -q --workspace --exclude sluice-tests --lib --bins --tests || exit; done

golden:          ## Flink's answers, on real Kafka and a real registry
	cargo build -p sluice && cargo test -p sluice-tests --test golden

cluster:         ## jobs on a Kubernetes that is brought up for them: upgraded, killed, rolled back, and their rows counted
	tests/setup/setup.sh cluster && cargo build -p sluice -p sluice-operator -p kubectl-sluice && cargo test -p sluice-tests --test cluster

scale:           ## 1,000 StreamingDeployments on that Kubernetes: time, memory and requests of the operator
	tests/setup/setup.sh cluster && cargo build -p sluice -p sluice-operator && SLUICE_SCALE=1000 cargo test -p sluice-tests --test cluster -- scale::

crash:           ## kills jobs 100 times each, at every step and at random, and all faults with all jobs, on real Kafka
	cargo build -p sluice && SLUICE_CRASHES=100 cargo test -p sluice-tests --test crash --test faults

conformance:     ## Flink's own test programs, if ../shared is there
	@tests/conformance/run.sh $(SHARED)

bench: release   ## throughput, memory and start beside Flink's, if ../shared is there
	@tests/bench/run.sh $(RELEASE) $(SHARED)
