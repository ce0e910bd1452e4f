# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
PY := .venv/bin/python
MODELS ?= models
UPLOADS ?= 2000
SEED ?= 0
BENCH_ROWS ?= 1000000
BENCH ?=
export PYTHONDONTWRITEBYTECODE := 1
# Waiting OpenMP threads that spin make fits many times slower on a busy machine; see benchmarks/threads.py.
export OMP_WAIT_POLICY := PASSIVE
# Packages of somebody's other environment would count as installed, and be imported in place of ours.
unexport PYTHONPATH PYTHONHOME
MAKEFLAGS += --no-print-directory

.PHONY: help setup demo test faults soak check format build test-build deploy lock bench clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: .venv/.installed  ## make .venv with .venv/bin/refit in it

# An environment knows the folder it was made in: in a clone that was moved or copied it would run the code over there.
ifneq ($(shell test -x .venv/bin/python && cat .venv/.installed 2> /dev/null),$(CURDIR))
.PHONY: .venv/.installed
endif

.venv/.installed: requirements/dev.txt pyproject.toml
	@command -v $(firstword $(PYTHON) python3) > /dev/null || { echo "There is no $(PYTHON) on PATH. Refit needs Python 3.11 or newer; install it, or try: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Refit needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.13 $(MAKECMDGOALS)")'
	@$(PYTHON) scripts/alone .setup.lock scripts/setup $(PYTHON)

demo: setup  ## replay a year of real flights on this machine, no AWS account needed
	@.venv/bin/refit demo

soak: setup  ## thousands of uploads, their events repeated, shuffled and lost; takes a quarter of an hour
	@$(PY) -m refit_cli.soak --uploads $(UPLOADS) --seed $(SEED)

test: setup  ## run every test, on all cores
	@$(PY) -m pytest -n auto --dist loadfile

faults: setup  ## fail every request to AWS once in every way, and write the table of docs/promises.md
	@$(PY) scripts/sweep.py

check: setup  ## lint, format and types: the one gate, here and in CI
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: setup  ## let ruff rewrite what it can
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

# The tools of the build in an environment of their own: aws-sam-cli pins what Refit wants newer.
.venv-sam/.installed: requirements/sam.txt
	@echo "Setting up .venv-sam (once, about a minute) ..."
	@rm -rf .venv-sam
	@$(PYTHON) -m venv .venv-sam
	@.venv-sam/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/sam.txt
	@touch $@

build: export SAM_CLI_TELEMETRY := 0
build: export REFIT_MODELS_DIR := $(abspath $(MODELS))
build: setup .venv-sam/.installed  ## build functions and layers for AWS into .aws-sam/build
	@scripts/python313 > /dev/null
	@.venv/bin/refit check --models $(MODELS)
	@.venv-sam/bin/sam validate --lint
	@.venv-sam/bin/sam build
	@scripts/sizes

test-build: setup  ## test what `make build` left: sizes, bytecode, imports on python3.13
	@$(PY) -m pytest tests/build

deploy: build  ## build, then let sam ask what it must know and deploy
	@.venv-sam/bin/sam deploy --guided

# The peers of the benchmark in an environment of their own: they want other packages, and older ones.
.venv-bench/.installed: requirements/bench.txt
	@echo "Setting up .venv-bench (once, about three minutes) ..."
	@rm -rf .venv-bench
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/bench.txt
	@touch $@

bench: setup .venv-bench/.installed  ## measure intake beside its peers; BENCH_ROWS="1000000 10000000" BENCH="--write" and others
	@$(PY) benchmarks/intake.py --rows $(BENCH_ROWS) $(BENCH)

lock: .venv-sam/.installed  ## lock all requirements anew
	@scripts/lock

clean:  ## remove what was built and cached; the environments stay
	@rm -rf .aws-sam build .pytest_cache .mypy_cache .ruff_cache
