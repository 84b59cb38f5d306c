# The two commands: `make serve` and `make test`. Each sets up what it needs.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
# Address of an index with the CPU build of torch, where the default one brings another build.
TORCH_INDEX ?=

export HOST PORT

BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# The stamp carries a checksum, so that a changed file, not a touched one, installs again.
SERVE_STAMP := .venv/.serve-$(shell cat requirements.txt | cksum | cut -d' ' -f1)
TEST_STAMP := .venv/.test-$(shell cat requirements.txt requirements-cluster.txt requirements-dev.txt client/pyproject.toml | cksum | cut -d' ' -f1)
BENCH_STAMP := .venv/.bench-$(shell cat requirements.txt requirements-cluster.txt requirements-dev.txt requirements-bench.txt requirements-models.txt client/pyproject.toml | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help install serve test test-all lint format unit coverage trials docs fuzz bench load jobs bounds alarms few operators onnx imports models clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

install: $(TEST_STAMP) ## set up, and run nothing

serve: $(SERVE_STAMP) ## set up, and serve on HOST:PORT (default 127.0.0.1:8000)
	@printf '\ngradcheckd serves on http://%s:%s. Try, in another terminal:\n\n  %s\n\n' '$(HOST)' '$(PORT)' \
	  "curl -s http://$(HOST):$(PORT)/v1/check -H 'Content-Type: application/json' -d @examples/reference.json"
	@exec $(BIN)/gunicorn --config python:service.gunicorn.config 'service.app:create_app()'

test: $(TEST_STAMP) ## set up, lint, and run the tests and a tenth of the trials
	@$(MAKE) --no-print-directory --jobs=2 lint unit

test-all: $(TEST_STAMP) ## what a landing takes: `make test` with coverage, then the rest of the trials, and the documentation
	@$(MAKE) --no-print-directory --jobs=2 lint coverage
	@$(MAKE) --no-print-directory --jobs=2 trials docs

# Pyright fills its memory fast: the default of Node for new objects is small, and it collects them often.
lint: export NODE_OPTIONS = --max-semi-space-size=128
lint: $(TEST_STAMP) ## static checks alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile

# Tests start some hundred processes of Python. Each would compile the same modules again where the environment forbids
# bytecode, as images of containers do.
unit coverage trials: export PYTHONDONTWRITEBYTECODE =

unit: $(TEST_STAMP) ## the tests of `make test` alone
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --trials=tenth

# The tracer takes a quarter of the time of the tests: a landing measures, and `make test` does not.
coverage: $(TEST_STAMP) ## the same tests, and the lines that they reach
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n 2 --dist worksteal --trials=tenth
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

trials: $(TEST_STAMP) ## run the trials that `make test` leaves, some 10 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --trials=rest

docs: $(TEST_STAMP) ## build the site of the documentation into build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env docs build/docs

fuzz: $(TEST_STAMP) ## send tens of thousands of odd requests, others each time, some 10 minutes
	FUZZ_REQUESTS=20000 HYPOTHESIS_PROFILE=fresh OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/fuzz

format: $(TEST_STAMP) ## lay the code out
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH_STAMP) ## measure beside the peers, some 12 minutes
	$(BIN)/python -m benchmarks.reference
	$(BIN)/python -m benchmarks.diagnosis
	$(BIN)/python -m benchmarks.wire
	$(BIN)/python -m benchmarks.finite_differences
	$(BIN)/python -m benchmarks.fast_mode
	$(BIN)/python -m benchmarks.block_scaling

load: $(TEST_STAMP) ## put load on a real gunicorn, and attack it, and look at its memory; some 15 minutes
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.load_one_worker
	$(BIN)/python -m benchmarks.memory_attacks

jobs: $(TEST_STAMP) ## measure jobs: on several processes, on a dask cluster, their queue and growth; some 8 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.jobs
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.job_costs
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.job_scaling

bounds: $(TEST_STAMP) ## hold the error bounds of the differences against the truth, on fresh problems
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bound_coverage

alarms: $(BENCH_STAMP) ## count false alarms and misses beside the peers, on fresh problems, some 25 minutes
	$(BIN)/python -m benchmarks.false_alarms
	$(BIN)/python -m benchmarks.low_precision
	$(BIN)/python -m benchmarks.low_precision_diagnosis

few: $(TEST_STAMP) ## count misses of few evaluations against what reports state, on fresh functions, some 15 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.few_evaluations

onnx: $(BENCH_STAMP) ## import the node cases of ONNX, a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.onnx_cases

operators: $(BENCH_STAMP) ## judge PyTorch's own operators beside its checkers, some 20 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.operator_database

imports: $(BENCH_STAMP) ## import PyTorch's own operators, and judge their gradients, some 20 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.imported_operators

models: $(BENCH_STAMP) ## import models of torchvision, timm and transformers, some 30 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.imported_models

clean: ## remove what was set up
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .coverage* build *.egg-info client/build client/*.egg-info

.venv/bin/pip:
	$(PYTHON) -m venv .venv

$(SERVE_STAMP): | .venv/bin/pip
	@echo 'Installing what is needed into .venv, once; with torch that is some 200 MB.'
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) $(shell grep '^torch==' requirements.txt))
	@$(PIP) --requirement requirements.txt
	@touch $@

$(TEST_STAMP): $(SERVE_STAMP)
	@$(PIP) --requirement requirements-dev.txt
	@touch $@

$(BENCH_STAMP): $(TEST_STAMP)
	@$(PIP) --requirement requirements-bench.txt
	@$(PIP) --no-deps --requirement requirements-models.txt
	@touch $@
