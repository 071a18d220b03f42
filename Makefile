# `make up` starts the platform with an example on it; `make test` proves that it works.
# Every target stands on `make install`, which is quick once it has been done.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests

.DEFAULT_GOAL := help
.PHONY: help up install test check format bench lock clean

help: ## show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

up: install ## start the platform and examples/helloworld, in the foreground; Ctrl-C drains
	@exec $(BIN)/python -m microcosmos.cli.up

install: $(VENV)/.installed ## make .venv with everything, from the lock

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; try make PYTHON=python3.11 install")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -nE 's/^(uv==[^ ]+).*/\1/p' requirements.lock)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q src examples
	@touch $@

test: install ## run the tests, in parallel
	@$(BIN)/python -m pytest -n auto --dist worksteal -q $(TESTS)

check: install ## format, lint, types and the rules of import
	@$(BIN)/ruff format --check --quiet . || { echo "run make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -8

format: install ## format the code and mend what can be mended
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

bench: install ## measure beside the bare thing and the peers; writes bench/RESULTS.md
	@$(BIN)/python bench/run.py $(BENCH)

lock: install ## take new versions of what we stand on
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev \
		--no-emit-index-url --no-header --upgrade pyproject.toml -o requirements.lock

clean: ## remove what install made
	@rm -rf $(VENV)
