# Everything runs in .venv. A second run is instant; a change of setup.cfg or of TORCH installs again.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help venv demo notebooks test soak style style_check typecheck clean

PYTHON ?= python3
# Installed before the rest, so that pip takes this build and not the newest one with its accelerator libraries.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
SOURCES := optimum_pixart_neuron tests examples
TORCH_STAMP := $(VENV)/.torch-$(shell printf '%s' '$(TORCH)' | cksum | cut -d ' ' -f 1)
INSTALLED := $(VENV)/.installed
# Where it is set, each worker of the tests and each of their children would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

help:  ## Show the targets.
	@grep -hE '^[a-z_]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@printf '\nVariables: PYTHON=%s TORCH=%s\n' '$(PYTHON)' '$(TORCH)'

venv: $(INSTALLED)  ## Create .venv and install the project with its test tools.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 12))' || \
		{ echo 'PYTHON=$(PYTHON) is not Python 3.10 or 3.11: name one, as in "make PYTHON=python3.11".' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(TORCH_STAMP): | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(TORCH)
	@rm -f $(VENV)/.torch-*
	@touch $@

$(INSTALLED): setup.cfg pyproject.toml $(TORCH_STAMP)
	$(BIN)/python -m pip install --quiet -e '.[docs,serve,test]'
	@touch $@

demo: $(INSTALLED)  ## Export a small checkpoint on 4 ranks, load it with optimum-neuron, draw beside diffusers.
	$(BIN)/optimum-cli neuron pixart-demo examples/output

test: $(INSTALLED)  ## Run the tests.
	$(BIN)/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: quick
quick: $(INSTALLED)  ## Run the tests that take less than a second and need no ranks: the first thing after a change.
	$(BIN)/python -m pytest tests -m 'not seconds and not ranks and not e2e and not neuron and not slow and not soak' -n 2 --dist loadfile --no-loadscope-reorder

soak: $(INSTALLED)  ## Run the tests that take long: every fault of the plan, and whatever else is marked so.
	$(BIN)/python -m pytest tests -m soak -n 3 --dist loadfile --no-loadscope-reorder

notebooks: $(INSTALLED)  ## Make the notebooks of examples/ from their scripts, and run them on the emulator.
	$(BIN)/python examples/make_notebooks.py

style: $(INSTALLED)  ## Format the code and mend what the linter can.
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))
	$(BIN)/ruff format $(wildcard $(SOURCES))

style_check: $(INSTALLED)  ## Fail on code that is not formatted or that the linter rejects.
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))

typecheck: $(INSTALLED)  ## Check the types of the product's code.
	$(BIN)/python -m mypy

.PHONY: docs
docs: $(INSTALLED)  ## Build the manual into site/; asks nothing of the network.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

clean:  ## Remove .venv and everything generated.
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +
