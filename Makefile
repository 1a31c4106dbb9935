# Everything a person types. `make demo` and `make test` need Python 3.11 or newer, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest
STAMP_INPUTS := pyproject.toml constraints.txt packaging/build_backend.py
C_SOURCES := $(wildcard taskensemble/ai/module/*.c taskensemble/ai/module/*.h taskensemble/guard/*.c taskensemble/guard/*.h workers/inference/*.c workers/inference/*.h)
LOCK := flock .make.lock

.PHONY: demo test test-system test-long lint format bench bench-check docs wheel clean programs

demo: $(VENV)/.installed programs
	$(BIN)/taskensemble demo

test: $(VENV)/.installed-dev programs
	$(PYTEST) -n 2 --dist loadfile $(TESTFLAGS)

test-system: $(VENV)/.installed-dev programs
	bash tests/system/install.sh
	$(PYTEST) tests/system $(TESTFLAGS)

test-long: $(VENV)/.installed-dev programs
	TASKENSEMBLE_CHAOS_ROUNDS=$${TASKENSEMBLE_CHAOS_ROUNDS:-20} $(PYTEST) tests/chaos --timeout 7200 $(TESTFLAGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python packaging/build_backend.py --check

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev programs
	$(BIN)/python -m benchmarks

bench-check: $(VENV)/.installed-dev programs
	$(BIN)/python -m benchmarks --check

docs: $(VENV)/.installed-docs programs
	$(BIN)/python docs/build.py

wheel: $(VENV)/.installed
	$(PIP_INSTALL) build
	$(BIN)/python -m build

programs: $(VENV)/.installed $(C_SOURCES)
	@$(LOCK) $(BIN)/python packaging/build_backend.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "taskensemble needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(LOCK) sh -c 'test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)'

$(VENV)/.installed: $(VENV)/bin/python $(STAMP_INPUTS)
	$(LOCK) $(PIP_INSTALL) -e '.[torch,plots]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(LOCK) $(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(LOCK) $(PIP_INSTALL) -e '.[docs,plots]'
	@touch $@

clean:
	rm -rf .venv* .cache build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis out .make.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f taskensemble/ai/module/taskensemble_ai.so taskensemble/guard/te-guard
