# `make demo` and `make test` do all set-up on a fresh machine with Python 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# --no-compile: most modules of what is installed are never imported; those that are, Python compiles by itself.
PIP := $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --constraint requirements.lock

export JAX_PLATFORMS ?= cpu

.PHONY: demo test slow lint bench format

demo: $(VENV)/.demo  ## the whole path in small, on this machine's CPU
	rm -rf demo_output
	$(BIN)/melama demo --output demo_output

test: $(VENV)/.test  ## every test but the slow ones
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

slow: $(VENV)/.test  ## the slow tests
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.test  ## style, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test  ## what is measured, one file a claim, and the slow tests
	for file in $(filter-out benchmarks/tune_%,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done
	$(BIN)/python -m pytest -m slow

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "melama_jax needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) --editable '.[data,eval]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml requirements.lock
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo
