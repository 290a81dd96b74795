# Needs make and Python 3.11 or newer; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
SECONDS ?= 600
SEED ?= 1
REF ?= main
RUNS ?= 5
WORKLOADS ?= W1 W2 W5
comma := ,
into = if command -v uv >/dev/null 2>&1; then VIRTUAL_ENV=$(1) uv pip install -q -c constraints.txt -e '.[$(2)]'; \
	else $(1)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(2)]'; fi
install = $(call into,.venv,$(1))

help: ## show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-13s %s\n", $$1, $$2}' Makefile

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nbbatch needs Python 3.11 or newer; call make with PYTHON=python3.12, say"; exit 1; }
	@if command -v uv >/dev/null 2>&1; then uv venv -q --allow-existing --python $(PYTHON) .venv; \
	else $(PYTHON) -m venv .venv; fi
	@$(call install,test)
	@if [ "$$NBBATCH_BROWSER" = required ]; then $(call install,test$(comma)browser); fi
	@touch .venv/ready

demo: .venv/ready ## run the FHIR bulk import headless and show its manifest
	@$(BIN)/python notebooks/run_demo.py

test: .venv/ready ## all tests: laws, doctests, types, crash tests, notebooks
	@$(MAKE) -j3 test-1 test-2 test-3

# Three parts side by side on two cores, because tests wait half of their time: for the disk (so their files lie in memory
# where it has room), for processes, for the browser.
test-1 test-2 test-3: export TMPDIR := $(or $(shell df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000 {print $$6}'),$(TMPDIR))

test-1: .venv/ready
	@$(BIN)/python -m pytest -q --durations=15 tests nbbatch --ignore=tests/browser --ignore=tests/crash --ignore-glob='tests/test_[i-z]*.py'

test-2: .venv/ready
	@$(BIN)/python -m pytest -q -p no:cacheprovider --durations=15 tests/test_[i-z]*.py

test-3: .venv/ready
	@$(BIN)/python -m pytest -q -p no:cacheprovider --durations=15 tests/browser tests/crash
	@env -u NBBATCH_FHIR_DATA $(BIN)/python -m pytest -q -p no:cacheprovider --nbval notebooks \
		--nbval-current-env --nbval-cell-timeout=120 --nbval-sanitize-with tests/sanitize.cfg --timeout 300

check: .venv/ready ## format, lint, types, then test
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(MAKE) test

house: .venv/ready ## rooms, floors, arrows and circles of the imports
	@$(BIN)/python -m tests.house

bench: .venv/ready ## durable runs beside a bare pool, as ratios
	@$(BIN)/python -m benchmarks

bench-full: .venv/ready .venv-peers/ready ## the same with millions of chunks, and beside other durable libraries: make bench-full RUNS=5
	@$(BIN)/python -m benchmarks --full --runs $(RUNS) --peers .venv-peers/bin/python

bench-compare: .venv/ready ## this tree against another commit, by turns: make bench-compare REF=main RUNS=5 WORKLOADS="W1 W2 W5"
	@$(BIN)/python -m benchmarks.compare $(REF) $(WORKLOADS) --runs $(RUNS)

test-remote: .venv/ready ## the laws of pools on Ray and ipyparallel too, whose clusters take long to start (three minutes)
	@$(call install,test$(comma)ray$(comma)ipyparallel)
	@NBBATCH_REMOTE=1 $(BIN)/python -m pytest -q -p no:cacheprovider --timeout 200 --durations=5 tests/test_each_pool.py -k "ray or ipyparallel"

# The peers have an environment of their own: they want other versions than constraints.txt has.
.venv-peers/ready: pyproject.toml
	@if command -v uv >/dev/null 2>&1; then uv venv -q --allow-existing --python $(PYTHON) .venv-peers; \
		VIRTUAL_ENV=.venv-peers uv pip install -q -e '.[peers]' numpy; \
	else $(PYTHON) -m venv .venv-peers; \
		.venv-peers/bin/python -m pip install -q --disable-pip-version-check -e '.[peers]' numpy; fi
	@touch .venv-peers/ready

torture: .venv/ready ## random chains killed at random, for as long as you like: make torture SECONDS=600 SEED=1
	@$(BIN)/python -m tests.crash.torture --seconds $(SECONDS) --seed $(SEED) --keep

together: .venv/ready ## two notebooks, a terminal and Voila on one running store, each killed in turn (needs Chromium, two minutes)
	@$(call install,test$(comma)browser)
	@NBBATCH_TOGETHER=1 $(BIN)/python -m pytest -q -s -p no:cacheprovider tests/browser/test_together.py

mutants: .venv/ready ## a sample of 300 mutants of engine and store, each against the tests that cover it (an hour)
	@$(call install,mutants)
	@$(BIN)/python -m tests.mutants

pictures: .venv/ready ## the pictures of the panel in docs/pictures, drawn and filmed anew (needs Chromium)
	@$(call install,test$(comma)browser)
	@$(BIN)/python -m docs.make_pictures
	@$(BIN)/python -m docs.make_animation

binder: .venv/ready ## what Binder builds, in an empty virtual environment, and what it opens (two minutes)
	@NBBATCH_BINDER=1 $(BIN)/python -m pytest -q -s -p no:cacheprovider tests/test_binder.py

.venv-docs/ready: pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then uv venv -q --allow-existing --python $(PYTHON) .venv-docs; \
	else $(PYTHON) -m venv .venv-docs; fi
	@$(call into,.venv-docs,docs)
	@touch .venv-docs/ready

docs: .venv-docs/ready ## the site, in build/site; a warning is an error
	@.venv-docs/bin/python -m sphinx -q -W --keep-going -b html -c docs -d build/site-trees . build/site
	@echo build/site/docs/index.html

docs-serve: docs ## the site, served at http://127.0.0.1:8000
	@.venv-docs/bin/python -m http.server --bind 127.0.0.1 --directory build/site 8000

lab: .venv/ready ## JupyterLab on the notebooks
	@$(call install,test$(comma)notebooks)
	@$(BIN)/jupyter lab notebooks

gallery: .venv/ready ## the panel and the overview in every state, in build/gallery, to be looked at (needs Chromium, two minutes)
	@$(call install,test$(comma)browser)
	@$(BIN)/python -m docs.make_gallery

clean: ## remove .venv and what runs leave behind
	rm -rf .venv .venv-docs .venv-peers build .pytest_cache .ruff_cache .mypy_cache .coverage

.PHONY: help demo test test-1 test-2 test-3 test-remote check house bench bench-full bench-compare torture together mutants pictures gallery binder docs docs-serve lab clean
