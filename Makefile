# Two commands are all a fresh machine needs: `make serve` and `make test`. Both make `.venv` first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
TOOLS := $(VENV)/.tools

COMPILE := --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.DEFAULT_GOAL := help
.PHONY: help serve test check format schema docs bench bench-live lock clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

serve: $(RUNTIME) ## serve on http://127.0.0.1:8000, with the simulator where no account is configured
	@$(BIN)/darkroom serve

test: $(TOOLS) check ## everything: checks, then all tests
	@$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: $(TOOLS) ## ruff, mypy --strict, and the committed schema against the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/darkroom schema --check schema.graphql

format: $(TOOLS) ## put the code in order
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

schema: $(RUNTIME) ## write schema.graphql from the code
	@$(BIN)/darkroom schema > schema.graphql

docs: $(RUNTIME) ## write into README.md and docs/providers.md what the code knows better
	@$(BIN)/python -m graph.docs README.md docs/providers.md

bench: $(TOOLS) ## how much time Darkroom adds, how many tasks a second it carries, what it costs when idle
	@$(BIN)/python -m bench

bench-live: $(TOOLS) ## how live delivery compares with strawberry.asgi and with Node's graphql-ws
	@$(BIN)/python -m bench.live

lock: $(TOOLS) ## write constraints.txt and constraints-tools.txt anew
	@$(BIN)/pip-compile $(COMPILE) --extra build --output-file constraints.txt pyproject.toml
	@$(BIN)/pip-compile $(COMPILE) --extra test --constraint constraints.txt --output-file constraints-tools.txt pyproject.toml

clean: ## remove the virtual environment and everything built
	rm -rf $(VENV) graph/static web/node_modules

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Darkroom needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Darkroom needs Python's venv module (Debian: python3-venv)."; exit 1; }

# Everything is pinned with its hash; the project itself comes last, and needs nothing more.
$(RUNTIME): $(VENV)/bin/python pyproject.toml constraints.txt $(shell find web/src web/*.json web/*.ts web/*.html web/hatch_build.py -type f 2>/dev/null)
	@echo "Installing Darkroom into $(VENV) …"
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes --requirement constraints.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(TOOLS): $(RUNTIME) constraints-tools.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes --requirement constraints-tools.txt
	@touch $@
