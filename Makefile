# `make run` and `make test` do all set-up on a machine with Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test test-slow lint clean

run: $(VENV)/.run  ## rules × attacks on the embedded digits: a table and plots
	$(BIN)/fljax sweep configs/rules_by_attacks.toml

test: $(VENV)/.test  ## the whole test suite
	$(BIN)/python -m pytest -m "not slow" --numprocesses logical --dist worksteal

test-slow: $(VENV)/.slow  ## fuzzers, kills, and the tests that need TensorFlow (to prepare a data set offline)
	$(BIN)/python -m pytest -m slow --numprocesses logical --dist loadfile

lint: $(VENV)/.dev  ## linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) --editable '.[test,dev]'
	touch $@

$(VENV)/.slow: $(VENV)/.test
	$(PIP) --editable '.[test,prepare]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
