# Everything a person types. `make demo` and `make test` need Python 3.11 or newer, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest
STAMP_INPUTS := pyproject.toml constraints.txt packaging/build_backend.py
C_SOURCES := $(wildcard taskensemble/ai/module/*.c taskensemble/ai/module/*.h taskensemble/guard/*.c taskensemble/guard/*.h workers/inference/*.c workers/inference/*.h)
LOCK := flock .make.lock
TORCH_ONLY := torch triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 \
  cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)

.PHONY: demo test test-system test-gpu test-long lint lock locked format bench bench-check docs wheel clean programs

demo: $(VENV)/.installed programs
	$(BIN)/taskensemble demo

test: $(VENV)/.installed-dev programs
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder $(TESTFLAGS)

test-system: $(VENV)/.installed-dev programs
	bash tests/system/install.sh
	$(PYTEST) tests/system $(TESTFLAGS)

test-gpu: $(VENV)/.installed-dev programs
	$(PYTEST) tests/gpu $(TESTFLAGS)

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

# What CI installs before the rest, each file known by its hash. torch comes afterwards, by version: docs/security.md says why.
locked: $(VENV)/bin/python
	$(LOCK) $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-ci.lock

# uv takes no notice of upper bounds of Requires-Python, so what they rule out is said here.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	echo 'backports.strenum==1.2.8' > .venv-lock/further.txt
	.venv-lock/bin/uv pip compile --quiet --system-certs --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  $$(printf -- '--no-emit-package %s ' $(TORCH_ONLY)) -c constraints.txt -c .venv-lock/further.txt \
	  --extra dev pyproject.toml -o requirements-ci.lock

$(VENV)/.installed: $(VENV)/bin/python $(STAMP_INPUTS)
	@echo "Installing the package and torch into $(VENV): pip says nothing meanwhile, and needs minutes the first time."
	$(LOCK) $(PIP_INSTALL) -e '.[torch,plots,dashboard]'
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
