# Everything a newcomer types; `make help` explains. Each target sets up .venv by itself when needed.

PYTHON     ?= python3
EXPERIMENT ?= sandbox
CORPUS     ?=
ENCODER    ?=
ARGS       ?=
WORKERS    ?=
MODELS     ?= @champion @candidate
ON         ?=
PLAN       ?=
VENV       := .venv
BIN        := $(VENV)/bin
STAMP      := $(VENV)/.ready
# Beside what users need: what checks, tests and benchmarks do.
DEV        := $(VENV)/.dev
# torch from another index, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu for a machine without a GPU
TORCH_INDEX ?=
# extras of emonet, e.g. EXTRAS=postgres,objects
EXTRAS ?=
comma := ,

RUN := $(BIN)/emonet

# What was typed reaches the commands by the environment, in quotes, so that spaces, $ and quotes in it stay what they
# are. ARGS and MODELS stand in the shell's line as they are: they are several words.
override PYTHON := $(value PYTHON)
override EXPERIMENT := $(value EXPERIMENT)
override CORPUS := $(value CORPUS)
override ENCODER := $(value ENCODER)
override WORKERS := $(value WORKERS)
override ON := $(value ON)
override PLAN := $(value PLAN)
override TORCH_INDEX := $(value TORCH_INDEX)
override EXTRAS := $(value EXTRAS)
export PYTHON EXPERIMENT CORPUS ENCODER WORKERS ON PLAN TORCH_INDEX EXTRAS
OPTIONS = --experiment "$$EXPERIMENT" $(if $(CORPUS),--corpus "$$CORPUS") $(if $(ENCODER),--extraction.captioner "$$ENCODER") \
  $(ARGS)

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help install setup pretrain extract heads sweep compare benchmark serve corpus verify ui dashboard \
  bench-extract bench-cache bench-heads bench-sweep bench-use bench-serve bench-scale gpu-check check format test test-slow \
  test-portable test-install clean

help: ## show this list
	@echo "make TARGET [EXPERIMENT=sandbox] [CORPUS=ravdess:PATH] [ENCODER=FOLDER] [ARGS='--captioner.epochs 5']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with what running needs, and no more (EXTRAS=postgres,objects: extras, too)

setup: $(DEV) ## create .venv with pinned versions (every other target does so when needed)

pretrain: $(STAMP) ## stage 1: train a Whisper that writes how the speaker feels
	$(RUN) pretrain $(OPTIONS)

extract: $(STAMP) ## between: the frozen encoder's states of every clip into the feature store
	$(RUN) extract $(OPTIONS)

heads: $(STAMP) ## stage 2: train one expert per emotion, test them on unseen speakers, write the report
	$(RUN) heads $(OPTIONS)

sweep: $(STAMP) ## search for better experts (WORKERS=4: in so many processes); the best one becomes @candidate
	$(RUN) sweep $(OPTIONS) $(if $(WORKERS),--workers "$$WORKERS")

compare: $(STAMP) ## models of the registry on the same clips: MODELS='@champion @candidate' ON=STORE|CORPUS
	$(RUN) compare $(MODELS) $(if $(ON),--on "$$ON") $(ARGS)

benchmark: $(STAMP) ## models and encoders through published protocols, on one page: what is at hand, or PLAN=FILE.yaml
	$(RUN) benchmark run $(if $(PLAN),"$$PLAN") $(if $(CORPUS),--corpus "$$CORPUS") $(if $(ENCODER),--encoder "$$ENCODER") $(ARGS)

serve: $(STAMP) ## the champion over HTTP on http://127.0.0.1:5001: scores, timelines, captions, live streams, a page
	$(RUN) serve $(ARGS)

corpus: $(STAMP) ## report on a corpus: clips, hours, speakers, rated emotions, rejected clips
	$(RUN) corpus "$${CORPUS:-sandbox}" $(ARGS)

verify: $(STAMP) ## check the feature store of EXPERIMENT, every chunk of it
	name=$${EXPERIMENT##*/}; $(RUN) store verify "runs/$${name%.*}/store.zarr" --deep $(ARGS)

ui: $(STAMP) ## open MLflow's pages on http://127.0.0.1:5000
	$(RUN) ui

dashboard: $(STAMP) ## open the sweeps' pages on http://127.0.0.1:8080
	$(RUN) dashboard --experiment "$$EXPERIMENT" $(ARGS)

bench-extract: $(DEV) ## speed of the extraction against what people write today (at most 10 minutes)
	$(BIN)/python -m benchmarks.extract $(ARGS)

bench-cache: $(DEV) ## size and speed of the feature store against other formats (minutes)
	$(BIN)/python -m benchmarks.cache $(ARGS)

bench-heads: $(DEV) ## speed, memory and accuracy of full-size experts against the usual way (20 minutes)
	$(BIN)/python -m benchmarks.heads $(ARGS)

bench-sweep: $(DEV) ## trials per hour against re-reading states in each trial, and two workers against one (20 minutes)
	$(BIN)/python -m benchmarks.sweep $(ARGS)

bench-use: $(DEV) ## live streams and their latency, timelines of half an hour and of five (15 minutes; ARGS='--minutes 5')
	$(BIN)/python -m benchmarks.use $(ARGS)

bench-serve: $(DEV) ## the HTTP server against MLflow's, its memory, and exported models against torch (15 minutes)
	$(BIN)/python -m benchmarks.serve $(ARGS)

bench-scale: $(DEV) ## a million clips, several machines: cost, memory, overhead (an hour; ARGS='--only store', --quick)
	$(BIN)/python -m benchmarks.scale $(ARGS)

gpu-check: $(DEV) ## on a GPU: its tests, and what extraction, experts and captioner make of it (at most 8 minutes)
	$(BIN)/python -m benchmarks.gpu_check $(ARGS)

check: $(DEV) ## format, lint, types, import order: what CI holds the code to
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Tests are small, so more threads only wait for each other; bytecode is kept, since many tests start processes.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test: $(DEV) ## run the tests, all but the slow ones (under 6 minutes on two cores)
	$(PYTEST) -m 'not slow and not install' $(ARGS)

test-slow: $(DEV) ## run the slow tests: whole stages, servers, many processes, true sizes (minutes)
	$(PYTEST) -m slow $(ARGS)

test-portable: $(DEV) ## run the tests of numbers, slow ones too, as on a plain processor (AVX2, one thread)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m numeric $(ARGS)

test-install: $(DEV) ## load a registered model in a fresh environment that is made for it (minutes of installing)
	$(BIN)/pytest -m install $(ARGS)

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

$(STAMP): pyproject.toml constraints.txt tools/repair_torchaudio.py
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "emonet needs Python 3.11 or newer, and $$PYTHON is $$("$$PYTHON" --version); try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || "$$PYTHON" -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--no-deps --index-url "$$TORCH_INDEX") torch
	$(PIP) --editable ".[sandbox$(if $(EXTRAS),$(comma)$$EXTRAS)]"
	$(BIN)/python tools/repair_torchaudio.py
	@touch $@

$(DEV): $(STAMP)
	$(PIP) --editable '.[sandbox,dev,bench]'
	@touch $@
