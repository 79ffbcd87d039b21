# The chores. `make demo` and `make test` need nothing but Python 3.11 or newer and make.

PYTHON ?= python3
VENV ?= .venv
# A package index to prefer for torch, for instance https://download.pytorch.org/whl/cpu, which
# spares a Linux machine without a GPU some gigabytes.
TORCH_INDEX ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt

.PHONY: demo test test-slow lint bench clean

demo: $(VENV)/.user
	$(BIN)/axolemma demo -o demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.user
	$(BIN)/python bench/scores.py
	$(BIN)/python bench/precision.py
	$(BIN)/python bench/time_to_accuracy.py --budgets 5m

$(VENV)/bin/python $(VENV)/Scripts/python.exe:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Axolemma needs Python 3.11 or newer: make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml constraints.txt | $(BIN)/python$(if $(findstring Scripts,$(BIN)),.exe)
	$(INSTALL) -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python$(if $(findstring Scripts,$(BIN)),.exe)
	$(INSTALL) -e ".[dev]"
	touch $@ $(VENV)/.user

clean:
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
