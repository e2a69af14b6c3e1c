# The verbs of this project. CI uses only these.
#   make run            the quickstart pipeline on the embedded play: text in, text generator and report out
#   make test           the tests that need nothing but this machine
#   make check          format, lint, types, compiled pipelines and generated files current, locks free of addresses
#   make test-slow      the tests that take minutes
#   make compile        compile components and pipelines to YAML, write the components' READMEs
#   make lock           renew requirements/*.lock from pyproject.toml (needs the package registry)
#   make bench          the benchmarks (peers are installed into environments of their own)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
READY := $(VENV)/.ready
OUT ?= out

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow check format compile lock bench clean

help:
	@sed -n 's/^#  \( make.*\)/ \1/p' Makefile

setup: $(READY)

# uv installs the locked set in seconds; where it cannot be had, pip reads the same lock.
$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "textmill needs Python 3.11 to 3.13; this is $$($(PYTHON) --version 2>&1). Say which one: make PYTHON=python3.11 …" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "this Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "making the environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked packages (about 1 GB to download the first time)"
	@{ $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) && \
	   $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/dev.lock && \
	   $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .; } || \
	 { echo "uv did not do it; trying pip"; \
	   $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock && \
	   $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; }
	@touch $@

run: setup
	@$(BIN)/textmill run pipelines/compiled/quickstart.yaml --output $(OUT)

test: setup
	$(BIN)/python -m pytest -n auto

test-slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/compile.py --check
	$(BIN)/python tools/readmes.py --check
	@if grep -l '://' requirements/*.lock; then echo "a lock holds an address; make lock" >&2; exit 1; fi

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

compile: setup
	$(BIN)/python tools/compile.py
	$(BIN)/python tools/readmes.py

lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --all-extras --group dev pyproject.toml -o requirements/dev.lock

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(OUT) dist build .pytest_cache .mypy_cache .ruff_cache
