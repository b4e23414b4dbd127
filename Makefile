# `make run` and `make test` do all set-up on a machine with Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test test-slow test-all lint docs bench-check clean

run: $(VENV)/.run  ## rules × attacks on the embedded digits: a table and plots
	$(BIN)/fljax sweep configs/rules_by_attacks.toml

# A worker that is done takes tests from the others, so that all end at the same time.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist worksteal

test: $(VENV)/.test  ## what a person runs all day
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.slow  ## fuzzers, kills, Ray clusters, a browser, what papers promise in whole runs, and data sets prepared with TensorFlow
	$(PYTEST) -m slow

test-all: $(VENV)/.slow  ## both
	$(PYTEST)

lint: $(VENV)/.dev  ## linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs  ## the site, in docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet -d docs/_build/doctrees docs docs/_build/html

bench-check: $(VENV)/.run  ## has anything become slower on this kind of machine? Not part of CI
	$(BIN)/python benchmarks/check.py

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

$(VENV)/.docs: $(VENV)/.run
	$(PIP) --editable '.[docs]'
	touch $@

$(VENV)/.slow: $(VENV)/.test
	$(PIP) --editable '.[test,prepare,docs]'
	touch $@

clean:
	rm -rf $(VENV) build docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache
