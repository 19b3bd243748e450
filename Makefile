# `make` alone says what there is. Everything goes into .venv and .cupola below this directory.

VENV := .venv
PYTHON_IN := $(VENV)/bin/python
CUPOLA := $(VENV)/bin/cupola
PIP := $(PYTHON_IN) -m pip install -q --disable-pip-version-check --no-input
COMPILE := $(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command "make lock"

DATA ?= .cupola
SAMPLE ?= samples/python
PORT ?=
DETACH ?=
ARGS ?=
T ?= tests
# A file of tests stays in one process: what its tests share is made once.
N ?= auto
SPREAD = -n $(N) --dist loadfile
B ?= $(basename $(notdir $(filter-out benchmarks/__init__.py,$(wildcard benchmarks/*.py))))

# An environment knows its own path, so one that was moved or copied with its checkout is made anew.
ifneq ($(shell cat $(VENV)/.place 2>/dev/null),$(CURDIR))
$(VENV)/.place: FORCE
endif

.DEFAULT_GOAL := help
.PHONY: help install dev up down status doctor test check fmt bench lock clean FORCE

help: ## Say what there is
	@echo "Cupola: Cloud Foundry in Python. Targets:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'
	@echo "Variables: PORT=9080 DATA=.cupola SAMPLE=samples/python DETACH=1 PYTHON=python3 T=tests/path N=processes B=benchmark ARGS=..."

install: $(VENV)/.installed ## Make the environment: what the platform needs, versions and hashes locked

dev: $(VENV)/.dev ## The environment with what tests and checks need

$(VENV)/.place: scripts/bootstrap.sh
	@sh scripts/bootstrap.sh $(VENV)
	@printf '%s' '$(CURDIR)' > $@

$(VENV)/.base: requirements/base.txt requirements/build.txt $(VENV)/.place
	@echo "Installing the platform's packages (once; about half a minute)"
	@$(PIP) --require-hashes -r requirements/base.txt
	@$(PIP) --require-hashes -r requirements/build.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.base pyproject.toml cupola/__init__.py
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.installed
	@echo "Installing what tests and checks need"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

up: install ## Start the platform with a sample app; Ctrl-C stops it. DETACH=1 leaves it running
	@$(CUPOLA) up --data-dir $(DATA) $(if $(PORT),--port $(PORT)) $(if $(DETACH),--detach) $(if $(SAMPLE),--push $(SAMPLE)) $(ARGS)

down: install ## Stop the platform and its apps
	@$(CUPOLA) down --data-dir $(DATA)

status: install ## Show what runs
	@$(CUPOLA) status --data-dir $(DATA)

doctor: install ## Say what this machine lacks, and what follows
	@$(CUPOLA) doctor --data-dir $(DATA)

test: dev ## Run all tests, or those of T=tests/path
	@$(PYTHON_IN) -m pytest $(SPREAD) $(T) $(ARGS)

check: dev ## Everything that must hold: lint, format, types, layers, tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTHON_IN) -m pytest $(SPREAD) $(ARGS)

fmt: dev ## Format, and repair what lint can repair
	$(VENV)/bin/ruff check --fix-only -q .
	$(VENV)/bin/ruff format .

bench: dev ## Run the benchmarks, or B=name
	@for name in $(B); do echo "== $$name"; $(PYTHON_IN) -m benchmarks.$$name $(ARGS) || exit 1; done

lock: dev ## Choose versions anew within pyproject.toml; ARGS=--upgrade for the newest
	$(COMPILE) $(ARGS) pyproject.toml -o requirements/base.txt
	$(COMPILE) $(ARGS) -c requirements/base.txt --group dev pyproject.toml -o requirements/dev.txt
	$(COMPILE) $(ARGS) -c requirements/dev.txt requirements/build.in -o requirements/build.txt

clean: ## Remove the environment; the platform's data stays
	rm -rf $(VENV)
