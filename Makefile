# make train and make test set up .venv themselves; PYTHON picks the interpreter that makes it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test lint

train: .venv/ready
	$(BIN)/python train.py experiment=quickstart

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
