# Everything a user does, in one word each. Only Python 3.11+, make and a C compiler are needed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help install demo seeds test test-slow bench lint clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

install: $(STAMP)  ## create .venv and install r1rl into it

demo: $(STAMP)  ## R1-Zero from nothing on this machine's CPU
	$(BIN)/r1rl run configs/tiny/zero.yaml

seeds: $(STAMP)  ## the demo on seeds 0, 1 and 2, and the table of the README
	$(BIN)/python -m benchmarks.seeds

test: $(VENV)/.installed-dev  ## lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.installed-dev  ## what takes minutes
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.installed-dev  ## r1rl beside TRL, and the learner against its arithmetic floor
	$(BIN)/python -m benchmarks.compare

clean:  ## remove the environment and what tests leave behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
