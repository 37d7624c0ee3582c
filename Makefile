# `make demo` and `make check` are all that a fresh machine needs; both get what is missing first.
# Nothing outside this directory and ~/.cache is written.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Looked for only while .venv is made.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
PYTHON_CODE := statehub_plan tests tools $(wildcard benchmarks)
# The OPA that the tool itself would use.
OPA = $$($(BIN)/python -c 'from statehub_plan.components import find_opa; print(find_opa())')

.PHONY: help demo check bench fmt format-check lint types schemas policies test components lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: components ## move a real State Hub between two real clusters, and back
	@$(BIN)/statehub-plan demo

check: components format-check lint types schemas policies test ## everything that CI runs

bench: components ## measure, beside the peers; prints ratios
	@$(BIN)/python -m benchmarks

fmt: components ## format Python and Rego
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .
	@if [ -d policies ]; then "$(OPA)" fmt --write policies; fi

format-check: .venv/.complete
	@echo "ruff format" >&2
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --check .; exit 1; }

lint: .venv/.complete
	@echo "ruff check" >&2
	@$(BIN)/ruff check --quiet .

types: .venv/.complete
	@echo "mypy --strict" >&2
	@$(BIN)/mypy --no-error-summary $(PYTHON_CODE)

# Fails when schemas/ is not what the models say.
schemas: .venv/.complete
	@if [ -e statehub_plan/schemas.py ] || [ -d statehub_plan/schemas ]; then \
		echo "schemas" >&2; $(BIN)/python -m statehub_plan.schemas --check; fi

policies: components
	@if [ -d policies ]; then \
		echo "opa fmt, opa check --strict, statehub-plan policy test" >&2; \
		"$(OPA)" fmt --fail --list policies; \
		"$(OPA)" check --strict policies; \
		if [ -e statehub_plan/cli/__init__.py ]; then $(BIN)/statehub-plan policy test; else "$(OPA)" test policies; fi; fi

# Last, so that its "N passed" closes the run.
test: components
	@TMPDIR=$$($(BIN)/python tools/memory_folder.py) $(BIN)/pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --cov --cov-report=term

components: .venv/.complete
	@$(BIN)/python tools/get_components.py

.venv/.complete: requirements.lock pyproject.toml tools/make_venv.py
	@[ -n "$(PYTHON)" ] || { echo "make: Python 3.11 or newer was not found on PATH; apt-get install python3" >&2; exit 1; }
	@$(PYTHON) tools/make_venv.py
	@touch $@

lock: ## lock the newest dependencies that pyproject.toml allows (needs uv)
	uv pip compile --universal --upgrade --generate-hashes --python-version 3.11 --all-extras --no-emit-find-links \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock pyproject.toml

clean: ## remove what make and the tools made here (not ~/.cache/statehub-plan)
	rm -rf .venv .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
