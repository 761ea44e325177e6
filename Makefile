# Treue: `make` lists what there is. Everything lands in this folder (.venv, .treue).
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo up down test test-unit test-servers test-containers test-compose check lint format types arch bench bench-quick lock clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^## / {printf "\n%s\n", substr($$0, 4)} \
	/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## First steps
setup: $(STAMP) ## virtual environment, dependencies, the local broker and database
	@$(BIN)/python -m shared.stack.setup

$(STAMP): requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: install it, or say PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version)"; exit 1; }
	@echo "Installing into $(VENV) (about half a minute) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## the whole system on this machine, with a year of real purchases
	@$(BIN)/treue demo

up: setup ## start the local stack (Ctrl-C stops it)
	@$(BIN)/treue up

down: $(STAMP) ## stop it; the data stays
	@$(BIN)/treue down

## Tests
test: setup ## all tests, against real servers (containers if a Docker engine answers, else local processes)
	@$(BIN)/pytest

test-unit: $(STAMP) ## the pure ones: hundreds in seconds
	@$(BIN)/pytest tests/unit tests/properties tests/contract

test-containers: setup ## what talks to servers, against containers
	@TREUE_TEST_SERVERS=containers $(BIN)/pytest -m "(servers or containers) and not stack" tests

## Quality
check: lint types arch ## lint, types, boundaries: what CI runs first

lint: $(STAMP) ## ruff
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: $(STAMP) ## let ruff format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

arch: $(STAMP) ## who may import whom
	@$(BIN)/lint-imports

## Measuring
bench: setup ## speed and memory, as ratios against peers in one interleaved run (about 12 minutes)
	@$(BIN)/python -m benchmarks

bench-quick: setup ## the same, fewer rounds
	@$(BIN)/python -m benchmarks --quick

## Upkeep
lock: ## resolve the dependencies anew, with hashes and without index addresses
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url requirements/runtime.in -o requirements/runtime.txt
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url requirements/build.in -o requirements/build.txt
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url requirements/dev.in -o requirements/dev.txt

clean: ## remove the virtual environment and all local data
	@if [ -x $(BIN)/treue ]; then $(BIN)/treue down || true; fi
	@rm -rf $(VENV) .treue
