# `make drill` and `make test` are all that a fresh machine needs to know.
# Everything goes into .venv; nothing is installed system-wide.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ON ?= local
SCENARIO ?= api-node-failure
# Tests start hundreds of processes, each of which would compile all that it imports.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest
QUICK := not sandbox and not slow and not browser and not alone and not docker and not acceptance

.DEFAULT_GOAL := help
.PHONY: help drill test acceptance bench truth torture lint types docs wheel clean

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

drill: $(VENV)/.drill ## Set everything up and run a drill (SCENARIO=api-node-failure).
	@# Exit code 1 is a refuted hypothesis: a finding, not a failure of the drill.
	@$(BIN)/gameday run $(SCENARIO) || { code=$$?; \
	  [ $$code -ne 3 ] || echo "Nothing was proved: if the machine was busy, say 'make drill' again when it is not."; \
	  [ $$code -eq 1 ] || exit $$code; }

test: $(VENV)/.dev ## Set up what testing needs and run the tests.
	@$(BIN)/python -m tests.engine
	$(PYTEST) -n 2 -m "$(QUICK)"
	@# Real processes mostly wait: three at a time. The quick tests would take the CPU from them.
	$(PYTEST) -n 3 --dist worksteal -m "not ($(QUICK)) and not alone and not docker and not acceptance"
	@# What measures, or burns a CPU, has the machine for itself; so has the Docker Engine.
	$(PYTEST) -m "(alone or docker) and not acceptance"

acceptance: $(VENV)/.dev ## Play what is shipped whole: every scenario, every fault on each kind of engine, the wheel.
	@$(BIN)/python -m tests.engine
	$(PYTEST) -n 2 --dist worksteal -m "acceptance and not alone and not docker"
	$(PYTEST) -m "acceptance and (alone or docker)"

bench: $(VENV)/.dev ## Compare with peers and floors, side by side; prints, judges nothing.
	$(BIN)/python tests/benchmarks/run.py

truth: $(VENV)/.dev ## Fifty real drills with outages from outside, against their true instants (ON=local or docker).
	$(BIN)/python tests/benchmarks/truth.py --on $(ON)

torture: $(VENV)/.torture ## Kill, simulate and fuzz for half an hour (as root), and write docs/reliability.md.
	$(BIN)/python -m tests.torture.run

lint: $(VENV)/.dev ## Format and lint check.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev ## Check types, strictly.
	$(BIN)/mypy

docs: $(VENV)/.dev ## Check that docs, schema and reference pages are current and their links lead somewhere.
	$(BIN)/python docs/check.py

wheel: $(VENV)/.dev ## Build the wheel.
	$(BIN)/python -m build --wheel

clean: ## Remove what was built.
	rm -rf $(VENV) build dist src/*.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Gameday needs Python 3.11 or later; found $$($(PYTHON) --version). Try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "This Python has no venv module; on Debian: apt install python3-venv"; exit 1; }
	@echo "Setting up $(VENV), once: a Python environment and what Gameday needs, in about half a minute."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.drill: pyproject.toml | $(VENV)/bin/python
	@[ ! -e $@ ] || echo "What Gameday needs has changed; bringing $(VENV) up to date."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.torture: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group torture
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing what the tests need into $(VENV)."
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@ $(VENV)/.drill
