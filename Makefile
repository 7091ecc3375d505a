# Every target makes the environment it needs. `make PYTHON=python3.12 test` picks another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: train test check format bench docs serve-docs clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,docs,examples]'
	touch $@

train: $(READY)  ## train a small GPT on the Python standard library's own source
	$(BIN)/python examples/train_gpt.py

test: $(READY)  ## run all tests, the examples in README, docs and docstrings included
	$(BIN)/python -m pytest -n 2

check: $(READY)  ## formatting, lint, both type checkers, and the corpus of programs that hold modula's types to their word
	$(BIN)/ruff format --check modula examples benchmarks tests
	$(BIN)/ruff check modula examples benchmarks tests
	$(BIN)/mypy
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes modula --ignoreexternal
	$(BIN)/python -m tests.typing.corpus

format: $(READY)
	$(BIN)/ruff format modula examples benchmarks tests
	$(BIN)/ruff check --fix modula examples benchmarks tests

bench: $(READY)
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.typecheck
	$(BIN)/python -m benchmarks.orthogonalize
	$(BIN)/python -m benchmarks.train_step

docs: $(READY)  ## build the site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

serve-docs: $(READY)
	$(BIN)/mkdocs serve

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis
