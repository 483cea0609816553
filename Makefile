# Two commands: `make serve` shows the guide, `make test` passes every test. Both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ADDRESS ?= 127.0.0.1:8000
export NO_MKDOCS_2_WARNING = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: serve test build check bench format lint browser clean

serve: $(VENV)/.site  ## serve the guide with live reload of both languages
	$(BIN)/python -m generator serve --address $(ADDRESS)

build: $(VENV)/.site  ## check everything and build site/
	$(BIN)/python -m generator build

check: $(VENV)/.site  ## list every problem of catalog, snapshot and results
	$(BIN)/python -m generator check

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.test browser lint  ## every test, browser tests included
	$(BIN)/python -m pytest

bench: $(VENV)/.test  ## the benchmarks; results are printed, never asserted
	$(BIN)/python -m benchmarks

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Debian's Chromium drives the browser tests; another browser is used when CHROMIUM names it.
browser:
	@sh tests/browser.sh

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.site: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.site
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,gpu]'
	@touch $@

clean:
	rm -rf $(VENV) site pages
