# make train and make test set up .venv themselves; PYTHON picks the interpreter that makes it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test lint wheel-check

train: .venv/ready
	$(BIN)/gpt-classifier train experiment=quickstart

test: .venv/ready
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The wheel in an environment of its own, in an empty folder.
wheel-check: .venv/ready
	.ci/wheel-check .venv

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
