# Every target makes the environment that it needs. `make PYTHON=python3.12 test` picks another
# interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
CODE := modula examples benchmarks tests docs/_hooks conftest.py

.PHONY: train test hostile check check-all format bench dist docs serve-docs clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,docs,examples]'
	touch $@

train: $(READY)  ## train a small GPT on the source of Python's standard library
	$(BIN)/python examples/train_gpt.py

test: $(READY)  ## run all tests, the examples in the README, docs and docstrings included
	$(BIN)/python -m pytest -n 2

hostile: $(READY)  ## try thousands of hostile inputs, and write their table onto the documentation
	$(BIN)/python -m tests.hostile --write docs/results/robustness.md

check: $(READY) docs  ## formatting, lint, type checkers, programs that must not type, and the docs
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes modula --ignoreexternal
	$(BIN)/python -m tests.typing.corpus

check-all: check  ## the same programs under two more type checkers
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[checkers]'
	$(BIN)/python -m tests.typing.corpus --all
	$(BIN)/python -m tests.typing.width_corpus --all

format: $(READY)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(READY)
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.typecheck
	$(BIN)/python -m benchmarks.orthogonalize
	$(BIN)/python -m benchmarks.train_step

dist: $(READY)  ## build the wheel and the source distribution into dist/, and check both
	$(BIN)/pip install --quiet --editable '.[release]'
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

docs: $(READY)  ## build the site into site/; a link or an anchor that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

serve-docs: $(READY)
	$(BIN)/mkdocs serve

clean:
	rm -rf $(VENV) site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
