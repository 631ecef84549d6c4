# fillpath: `make demo` to see it, `make test` and `make lint` to work on it.
#
# PYTHON=python3.13   which Python a new environment takes (default: python3)
# VENV=.venv-3.13     where the environment is (default: .venv)
# TESTS='-k spool'    what else to hand to pytest
# WORKERS=0           run the tests in so many processes (default: one a core; 0: in pytest's own)
# ONLY=caller,size    which benchmarks to run (default: all)
# FULL=1              run them at full size
# OTLP=1              send the demo to the stack that `make stack` or docker compose runs

VENV ?= .venv
PYTHON ?=
TESTS ?=
WORKERS ?= auto
ONLY ?=
FULL ?=
OTLP ?=
# With CI=true nothing may be skipped: then the environment also has Spark, half a gigabyte.
LOCK := $(if $(filter true,$(CI)),ci,dev)

# The checkout's folders must not be importable by their bare names.
export PYTHONSAFEPATH = 1
export MAKECMDGOALS

.DEFAULT_GOAL := help
.PHONY: help demo stack secrets test test-full test-nautilus2 smoke bench backends lint types format lock clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## */\t/' | expand -t 14

demo:  ## install what the demo needs and run it
	@.ci/venv '$(VENV)' demo '$(PYTHON)'
	@$(if $(OTLP),'$(VENV)/bin/python' deploy/stack demo,'$(VENV)/bin/fillpath' demo --data ./.fillpath)

stack:  ## Collector, Jaeger, Prometheus and Postgres on loopback, until Ctrl-C (docs/stack.md)
	@.ci/venv '$(VENV)' demo '$(PYTHON)'
	@exec '$(VENV)/bin/python' deploy/stack

secrets:  ## make the passwords that docker-compose.yml asks for
	@python3 deploy/make_secrets.py

test:  ## install what the tests need and run them, without the slow ones
	@.ci/venv '$(VENV)' $(LOCK) '$(PYTHON)'
	'$(VENV)/bin/python' -m pytest -n $(WORKERS) --dist loadfile -m 'not full' $(TESTS)

test-full:  ## every test
	@.ci/venv '$(VENV)' $(LOCK) '$(PYTHON)'
	'$(VENV)/bin/python' -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

test-nautilus2: VENV := .venv-nautilus2
test-nautilus2:  ## the tests of NautilusTrader 2.x, in an environment of its own (Python 3.13+)
	@.ci/venv '$(VENV)' nautilus2 '$(or $(PYTHON),python3.13)'
	'$(VENV)/bin/python' -m pytest tests/test_nautilus2*.py $(TESTS)

smoke:  ## the quick cross-section of the tests
	@.ci/venv '$(VENV)' dev '$(PYTHON)'
	'$(VENV)/bin/python' -m pytest -n $(WORKERS) --dist loadfile -m smoke $(TESTS)

backends:  ## build the servers that some tests run against, once (needs Go)
	@.ci/backends

bench:  ## measure; prints a table and writes build/bench.json
	@.ci/venv '$(VENV)' dev '$(PYTHON)'
	@'$(VENV)/bin/python' benchmarks --only '$(ONLY)' --size $(if $(FULL),full,usual)

lint:  ## ruff, mypy (strict, on the installed package), import-linter
	@.ci/venv '$(VENV)' dev '$(PYTHON)'
	'$(VENV)/bin/ruff' check .
	'$(VENV)/bin/ruff' format --check .
	.ci/types '$(VENV)/bin/python'
	'$(VENV)/bin/lint-imports' --no-logo

types:  ## mypy alone
	@.ci/venv '$(VENV)' dev '$(PYTHON)'
	.ci/types '$(VENV)/bin/python'

format:  ## let ruff lay out the code and mend what it can
	@.ci/venv '$(VENV)' dev '$(PYTHON)'
	'$(VENV)/bin/ruff' check --fix .
	'$(VENV)/bin/ruff' format .

lock:  ## write locks/ anew from pyproject.toml (needs uv)
	.ci/lock

clean:  ## remove environments and what tools left; keeps .fillpath, the demo's data
	rm -rf .venv .venv-* build dist ./*.egg-info instrumentation/*.so .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
