# The verbs of this project. CI uses only these.
#   make run            the quickstart pipeline on the embedded play: text in, text generator and report out
#   make test           the tests that need nothing but this machine
#   make check          format, lint, types, compiled pipelines and generated files current, locks free of addresses
#   make test-slow      the tests that take minutes
#   make coverage       the tests in random order, and which lines and branches of the package they reach (SEED=7, TESTS=…)
#   make test-page      the service's page in a real browser (Chromium; on Debian: apt-get install chromium)
#   make compile        compile components and pipelines to YAML, write the components' READMEs, draw the recipes
#   make lock           renew requirements/*.lock from pyproject.toml (needs the package registry)
#   make dist           the wheel and the sdist, in dist/
#   make images         build the images (docker; VARIANTS=cpu for one of them), write images/digests.json and images/sbom/
#   make images-push    push them: make images-push REGISTRY=registry.example/team
#   make test-cluster   the tests on a Kubernetes: KUBECONFIG's and KFP_ENDPOINT's, or the test cluster beside this project
#   make kind-up        a cluster of your own in docker, with Kubeflow Pipelines (needs kind, kubectl and the internet);
#   make kind-load      put the images on it; make kind-down takes it away
#   make docs           the documentation as a site, in site/ (an environment of its own; look: python3 -m http.server -d site)
#   make bench          the benchmarks (peers are installed into environments of their own)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DOCS_VENV ?= .venv-docs
UV_VERSION := 0.13.8
READY := $(VENV)/.ready
OUT ?= out

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow coverage dist test-page test-cluster check format compile lock lock-images docs bench clean
.PHONY: images images-push kind-up kind-load kind-down

help:
	@sed -n 's/^#  \( make.*\)/ \1/p' Makefile

setup: $(READY)

# tools/setup.py says in one line what is missing: a Python of the right version, venv, the network, space, permission.
$(READY): requirements/dev.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "there is no $(PYTHON) here; say which Python: make PYTHON=python3.11 …" >&2; exit 2; }
	@"$(PYTHON)" tools/setup.py "$(VENV)" $(UV_VERSION)
	@touch $@

run: setup
	@$(BIN)/textmill run pipelines/compiled/quickstart.yaml --output $(OUT)

test: setup
	$(BIN)/python -m pytest -n auto

test-slow: setup
	$(BIN)/python -m pytest -m slow

# An environment of its own: pytest-randomly shuffles every run where it is installed.
SEED ?= $(shell date +%Y%m%d)
COVERAGE_VENV ?= .venv-coverage
coverage: $(COVERAGE_VENV)/.ready
	@rm -f .coverage .coverage.*
	$(COVERAGE_VENV)/bin/python -m pytest -n auto --randomly-seed=$(SEED) --cov --cov-report= $(TESTS)
	$(COVERAGE_VENV)/bin/coverage report

$(COVERAGE_VENV)/.ready: requirements/dev.lock requirements/coverage.lock pyproject.toml | setup
	@test -x $(COVERAGE_VENV)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(COVERAGE_VENV)
	@$(BIN)/uv pip install --quiet --python $(COVERAGE_VENV)/bin/python --require-hashes \
	  -r requirements/dev.lock -r requirements/coverage.lock
	@$(BIN)/uv pip install --quiet --python $(COVERAGE_VENV)/bin/python --no-deps --editable .
	@touch $@

test-page: setup
	$(BIN)/python -m pytest -m page tests/page

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/compile.py --check
	$(BIN)/python tools/readmes.py --check
	$(BIN)/python tools/pictures.py --check
	$(BIN)/python -m benchmarks.page --check
	@if grep -l '://' requirements/*.lock; then echo "a lock holds an address; make lock" >&2; exit 1; fi

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

compile: setup
	$(BIN)/python tools/compile.py
	$(BIN)/python tools/readmes.py
	$(BIN)/python tools/pictures.py

lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --all-extras --group dev pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --group docs -o requirements/docs.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --constraint requirements/dev.lock --group coverage -o requirements/coverage.lock
	@$(MAKE) --no-print-directory lock-images

# One lock for each image, of the versions in dev.lock. The CPU images have TensorFlow's CPU build.
STAGES := --extra crawl --extra social --extra dumps --extra parquet --extra language --extra train \
  --extra gpt2-simple --extra report --extra s3 --extra gcs --extra kfp
IMAGE_LOCK = $(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --constraint requirements/dev.lock
lock-images:
	$(IMAGE_LOCK) images/requirements/build.in -o requirements/build.lock
	$(IMAGE_LOCK) --no-deps images/requirements/component.in -o requirements/component.lock
	$(IMAGE_LOCK) pyproject.toml $(STAGES) images/requirements/cpu.in \
	  --override images/requirements/without-tensorflow.txt -o requirements/cpu.lock
	$(IMAGE_LOCK) pyproject.toml $(STAGES) images/requirements/gpu.in \
	  --override images/requirements/without-libclang.txt -o requirements/gpu.lock
	$(IMAGE_LOCK) pyproject.toml --extra serve --extra train --extra s3 --extra gcs images/requirements/serve.in \
	  --override images/requirements/without-tensorflow.txt -o requirements/serve.lock

dist: setup
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist
	@ls -l dist

BASE ?= python:3.11-slim-bookworm
images: setup
	$(BIN)/python tools/images.py build --base $(BASE) $(VARIANTS)

images-push: setup
	$(BIN)/python tools/images.py push --registry "$(REGISTRY)" $(VARIANTS)
	@echo "now: make compile, so that the recipes name these images"

# An installation of the test cluster is looked for beside this project. TESTS: arguments of pytest.
CLUSTER ?= ../shared/cluster
test-cluster: setup
	$(BIN)/python tools/cluster_tests.py --cluster $(CLUSTER) $(STARTING) $(TESTS)

kind-up kind-load kind-down: setup
	$(BIN)/python tools/kind.py $(@:kind-%=%)

# Its generator has an environment of its own: what the tests run with stays as small as it is.
docs: $(DOCS_VENV)/.ready
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict
	@echo "the documentation is in site/; to look at it: python3 -m http.server -d site"

$(DOCS_VENV)/.ready: requirements/docs.lock
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.lock
	@touch $@

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(DOCS_VENV) $(COVERAGE_VENV) site $(OUT) dist build .pytest_cache .mypy_cache .ruff_cache
