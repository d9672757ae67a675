PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup setup-test demo test lint clean

help:
	@echo "make demo   set up, train all 81 combinations on the simulated assay, show the results"
	@echo "make test   set up, run all tests"
	@echo "make lint   set up, check style and types"
	@echo "make clean  remove the environment and the demo's runs"

setup: $(VENV)/installed # what a user needs
setup-test: $(VENV)/installed-test # and what the tests need

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: setup
	$(BIN)/prixfixe train -m experiment=demo
	$(BIN)/prixfixe results runs/demo

test: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadgroup

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs/demo
