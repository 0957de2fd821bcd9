# Every target sets up what it needs in .venv; a second run is quick, since the set-up is done once per change of the pins.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
SETUP_TEST := $(VENV)/.set-up-test
SETUP_BENCH := $(VENV)/.set-up-bench
SETUP_OPENVINO := $(VENV)/.set-up-openvino
PINS := constraints.txt pyproject.toml runtime/pyproject.toml export/pyproject.toml
# Tests wait for processes and for calm; two workers use that time. WORKERS=0 runs all in one process, as a debugger wants it.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: demo test check bench lab clean

demo: $(SETUP) ## deploy the built-in example to this machine
	$(BIN)/edgekit deploy examples/fashion_mnist/recipe.py --target host --max-drop 0.005 --out fashion.edge

test: $(SETUP_TEST) ## run the tests
	$(PYTEST) $(TESTS)

check: $(SETUP_TEST) ## lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) $(TESTS)

bench: $(SETUP_BENCH) ## run every benchmark; the documents go to benchmarks/results
	$(BIN)/python -m benchmarks

lab: $(SETUP) ## fetch and build the emulated boards, in the cache folder of the user
	$(BIN)/edgekit lab setup

clean: ## remove what these targets made
	rm -rf $(VENV) fashion.edge build dist benchmarks/results .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "edgekit needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(SETUP): $(BIN)/python $(PINS)
	@echo "setting up $(VENV); the first time this fetches torch and onnxruntime and takes some minutes"
	$(PIP) torch -e ./runtime -e ./export -e .
	@touch $@

$(SETUP_TEST): $(SETUP)
	$(PIP) -e './runtime' -e './export' -e '.[dev]'
	@touch $@

$(SETUP_BENCH): $(SETUP_TEST)
	$(PIP) -e './runtime' -e './export' -e '.[bench]'
	@touch $@

$(SETUP_OPENVINO): $(SETUP_TEST)
	$(PIP) -e './runtime' -e './export' -e '.[openvino]'
	@touch $@
