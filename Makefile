# `make` alone explains the targets. They use .venv, which `setup` makes, so nothing needs to be activated.

PYTHON ?= python3
# More arguments for the install of torch. Elsewhere than on a machine with CPU wheels at hand, this avoids CUDA:
#   make setup TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed
# A process for each core, four at the most, as each loads models; a file's tests stay together for what they share.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile

# Waiting threads sleep instead of spinning, nothing is fetched while running, and tokenizers stay out of forked workers.
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all fuzz check bench docs dist audit

help:
	@echo "make setup     make .venv and install ragkit with everything it needs (once; again when the versions change)"
	@echo "make demo      compare prompting, example selection and fine-tuning offline, on the model that ships with ragkit"
	@echo "make test      check, then every test that is neither slow nor in need of a GPU"
	@echo "make test-all  check, then every test that needs no GPU, slow ones included"
	@echo "make fuzz      the property tests with cases that were not tried before; a failure prints how to try it again"
	@echo "make check     ruff, mypy and import-linter"
	@echo "make bench     run every benchmark under benchmarks/ and write its results"
	@echo "make docs      run every snippet in the README and in docs/, then build the site into build/site"
	@echo "make dist      build wheel and sdist, and try the wheel with the oldest and the newest of its dependencies"
	@echo "make audit     licences of all dependencies, and pip-audit on the pinned versions (asks PyPI for advisories)"

setup: $(STAMP)

# torch goes first and alone: resolved together with what depends on it, pip may bring a CUDA build of several gigabytes.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(TORCH_ARGS) -c constraints.txt torch==2.13.0
	$(BIN)/pip install -c constraints.txt -e ".[all,dev,docs]"
	@touch $@

demo: setup
	$(BIN)/ragkit demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup check
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not slow and not gpu"

test-all: setup check
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not gpu"

fuzz: setup
	RAGKIT_HYPOTHESIS=new $(BIN)/pytest $(SIDE_BY_SIDE) -m "not gpu" $(shell grep -rlE "from hypothesis" tests --include='test_*.py')

bench: setup
	@set -e; for script in $(wildcard benchmarks/*/run.py); do echo "$$script"; $(BIN)/python "$$script"; done

docs: setup
	$(BIN)/pytest tests/test_docs.py tests/test_site.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: setup .venv/.dist
	$(BIN)/python tests/wheels/try_wheels.py

# --strict: a package about which no advisories can be had is an error, not a clean bill.
audit: setup .venv/.audit
	$(BIN)/python benchmarks/reliability/licences.py
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

.venv/.dist .venv/.audit: .venv/.%: $(STAMP)
	$(BIN)/pip install -c constraints.txt -e ".[$*]"
	@touch $@
