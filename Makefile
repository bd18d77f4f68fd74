# `make demo` and `make test` set up what they need. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= build/demo
# Two OpenMP threads on two busy cores are many times slower than one.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help setup java demo test lint nightly base pyfiles dist clean

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: setup.cfg setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "licet needs Python 3.10 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "python cannot make a virtual environment: on Debian, type 'sudo apt-get install -y python3-venv'"; exit 2; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[spark,train,lmdb,ray,wandb,s3,demo,dev]' --constraint constraints.txt
	@touch $@

java:
	@sh scripts/ensure-java.sh

setup: $(VENV)/.installed java ## the virtual environment with everything installed, and Java

demo: setup ## the whole path on this machine, from URLs to pictures; results in build/demo
	$(BIN)/python -m examples.demo.run --output $(DEMO)

test: setup lint ## lint, types, import laws, then the tests
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

nightly: setup ## every test, the long ones too
	$(BIN)/python -m pytest -m ""

base: setup ## train the shipped tiny Stable Diffusion again (about an hour on two cores)
	$(BIN)/python -m examples.base.make_base

pyfiles: ## build/licet-pyfiles.zip for spark-submit --py-files
	@mkdir -p build && rm -f build/licet-pyfiles.zip
	$(PYTHON) -m scripts.pyfiles build/licet-pyfiles.zip

dist: setup ## wheel and source distribution in dist/
	$(BIN)/python -m build --quiet

clean: ## remove what was built, but not the environment
	rm -rf build dist *.egg-info
