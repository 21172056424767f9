# The commands of the project, the same here and in CI. Each sets up what it needs, in .venv, from the hash-pinned locks.

# The first that runs and is new enough; `make test PYTHON=...` says otherwise.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PYTHON_313 ?= $(shell for p in python3.13 $(HOME)/.pyenv/versions/3.13*/bin/python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input

# One lock for every supported Python; packages come from where pip takes them.
COMPILE = UV_DEFAULT_INDEX="$$(.venv-lock/bin/python -m pip config get global.index-url 2>/dev/null)" \
	.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade)

BENCH ?= check server turn limiters workflows alarms memory sockets whoami

# What a developer's shell may have set must not decide what is tested.
unexport PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONWARNINGS PYTHONDONTWRITEBYTECODE VIRTUAL_ENV

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help run test check prove bench lint lock clean slow

help: ## List the commands
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 14

run: $(VENV)/.run ## Start the store and every service on this machine; Ctrl-C stops them
	@exec $(BIN)/tenure run

test: $(VENV)/.dev ## Run the tests, less the long proofs
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

check: lint test slow ## All that CI runs: lint, tests, long proofs at a small size, tests on Python 3.13 where it is found
ifneq ($(PYTHON_313),)
	$(MAKE) test PYTHON=$(PYTHON_313) VENV=.venv-3.13
else
	@echo "Python 3.13 is not found on this machine: the tests did not run on it."
endif

# Those that time real processes run alone: what ran beside them would be timed with them.
slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow --timeout 300 -n 2 --dist worksteal --ignore tests/e2e --ignore tests/faults
	$(BIN)/python -m pytest -m slow tests/e2e tests/faults

prove: $(VENV)/.dev ## Run the long proofs at full size
	TENURE_PROVE=1 $(BIN)/python -m pytest -m slow --timeout 7200

bench: $(VENV)/.dev ## Run the benchmarks, half an hour; BENCH="turn alarms" picks some; wants wrk, node and npm
	@failed=; for name in $(BENCH); do \
		echo "benchmarks.$$name"; $(BIN)/python -m benchmarks.$$name || failed="$$failed $$name"; \
	done; test -z "$$failed" || { echo "Not measured:$$failed" >&2; exit 1; }

lint: $(VENV)/.dev ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lock: ## Pin what pyproject.toml asks for, with hashes; UPGRADE=1 takes the newest releases
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install -qq --disable-pip-version-check --upgrade uv
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) --group build --output-file requirements-build.lock
	$(COMPILE) pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) benchmarks/peers/requirements.in --constraint requirements-dev.lock \
		--output-file benchmarks/peers/requirements.lock

clean: ## Remove all that these commands made, except the data in .tenure
	rm -rf .venv .venv-3.13 .venv-lock .benchmarks build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# What `make run` needs: the locked packages, and this one as `tenure`, straight from the tree.
$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml
	@$(if $(PYTHON),,echo "Python 3.11 or newer is needed; say where it is with PYTHON=..." >&2; exit 1)
	@echo "Setting up $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes --only-binary :all: -r requirements.lock -r requirements-build.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# What the other commands need on top of it.
$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(INSTALL) --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@
