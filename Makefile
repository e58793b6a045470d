# make train: core install and a first training run.  make test: everything, with all extras, and all tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := -c constraints.txt

.PHONY: train setup test faults lint clean

train: $(VENV)/core
	$(BIN)/gnnfast train

setup: $(VENV)/all

test: $(VENV)/all lint
	$(BIN)/python -m pytest -m "not gpu and not timing and not faults" -n auto --maxprocesses 4 --dist worksteal
	$(BIN)/python -m pytest -m "timing and not gpu"

faults: $(VENV)/all
	$(BIN)/python -m pytest -m faults

lint: $(VENV)/all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

$(VENV)/python:
	$(PYTHON) -c "import sys; sys.exit('gnnfast needs Python 3.11 or newer' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch first and alone: its wheel decides which build the rest is compiled against.
$(VENV)/core: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) install -q $(CONSTRAINTS) torch
	$(PIP) install -q $(CONSTRAINTS) -e .
	touch $@

# torch_scatter and torch_sparse ship as source and need the installed torch, a C++ compiler and minutes.
$(VENV)/all: $(VENV)/core
	$(PIP) install -q $(CONSTRAINTS) setuptools wheel
	$(PIP) install -q $(CONSTRAINTS) --no-build-isolation torch_scatter torch_sparse
	$(PIP) install -q $(CONSTRAINTS) -e ".[all]"
	touch $@
