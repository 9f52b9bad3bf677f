# One command each on a fresh machine with Python 3.11 or newer, git and make: `make demo`, `make test`.

.DEFAULT_GOAL := help
.PHONY: help demo test setup format lint types arrows tests wheel clean

PYTHON ?= python3
BIN := .venv/bin
CLEAN := build/clean

# Every install takes the tested versions, the tools that build the package included (older pip reads the first line for
# these, newer pip the second).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

# One thread: on data as small as these a second one only waits, for minutes where the machine is busy.
demo: .venv/base  ## train on scikit-learn's digits, draw new ones, write a report
	OMP_NUM_THREADS=1 $(BIN)/brenier fit digits --out runs/digits --overwrite

test: lint types arrows tests wheel  ## everything that CI checks

setup: .venv/test  ## the environment of a developer in .venv

format: .venv/test  ## put imports and layout in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: .venv/test  ## style and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test  ## types
	$(BIN)/mypy

arrows: .venv/test  ## imports between the folders run downwards only
	$(BIN)/lint-imports

# One thread each: the tests' problems are small.
tests: .venv/test  ## tests and doctests, warnings as errors
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

wheel: .venv/test  ## build the wheel, install it into a clean environment, use it there
	rm -rf dist $(CLEAN)
	$(BIN)/python -m build
	$(BIN)/python -m venv $(CLEAN)
	$(CLEAN)/bin/python -m pip install dist/*.whl
	$(CLEAN)/bin/brenier --version
	$(CLEAN)/bin/python -I -c "import brenier"
	$(CLEAN)/bin/python -I -c "from importlib.resources import files; \
	  root = files('brenier'); \
	  missing = [name for name in ('py.typed', 'report/report.html.jinja') if not root.joinpath(name).is_file()]; \
	  assert not missing, f'the wheel lacks {missing}'"
	rm -rf $(CLEAN)

clean:  ## remove what make made, but for runs
	rm -rf .venv build dist .*_cache
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/base: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -e .
	@touch $@

.venv/test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -e '.[test]'
	@touch $@ .venv/base

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { echo "Brenier needs Python 3.11 or newer, and there is no $(PYTHON)"; exit 1; }
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit( \
	  'Brenier needs Python 3.11 or newer, $(PYTHON) is %d.%d: name another, as in make PYTHON=python3.12' % v)"
	$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }
