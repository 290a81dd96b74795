# Needs make and Python 3.11 or newer; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

help: ## show what there is
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/'

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nbbatch needs Python 3.11 or newer; call make with PYTHON=python3.12, say"; exit 1; }
	@if command -v uv >/dev/null 2>&1; then uv venv -q --allow-existing --python $(PYTHON) .venv && \
		VIRTUAL_ENV=.venv uv pip install -q -c constraints.txt -e '.[test]'; \
	else $(PYTHON) -m venv .venv && $(BIN)/python -m pip install -q --disable-pip-version-check \
		-c constraints.txt -e '.[test]'; fi
	@touch .venv/ready

demo: .venv/ready ## run the FHIR bulk import headless and show its manifest
	@$(BIN)/python notebooks/run_demo.py

test: .venv/ready ## all tests: laws, doctests, types, crash tests, notebooks
	@$(BIN)/python -m pytest -q --cov --cov-report=term:skip-covered
	@env -u NBBATCH_FHIR_DATA $(BIN)/python -m pytest -q -p no:cacheprovider --nbval notebooks \
		--nbval-current-env --nbval-cell-timeout=120 --nbval-sanitize-with tests/sanitize.cfg --timeout 300

check: .venv/ready ## format, lint, types, then test
	@$(BIN)/ruff format --check nbbatch tests benchmarks
	@$(BIN)/ruff check nbbatch
	@$(BIN)/pyright
	@$(MAKE) test

bench: .venv/ready ## durable runs beside a bare pool, as ratios
	@$(BIN)/python -m benchmarks

clean: ## remove .venv and what runs leave behind
	rm -rf .venv build .pytest_cache .ruff_cache .mypy_cache .coverage

.PHONY: help demo test check bench clean
