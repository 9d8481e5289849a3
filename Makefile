# make run    install what is needed into .venv and rewrite one FFN of the bundled model in English
# make test   the whole test suite
# make test-checked  the same, with the signatures of slow tests checked too
# make test-servers  install real servers of language models (gcc, cmake; minutes, 5 GB) and test the client on them
# make lint   format, lint, types, import layers
# make check  the same and the fast tests

PYTHON ?= python3
BIN := .venv/bin
# What is never imported need not be compiled; the rest is when it is.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt
TOLD := installing the pinned dependencies into .venv; torch is large, this may take some minutes
# Tensors in the tests are small: one thread a worker is fastest, and a worker more than there are cores, as many tests
# wait for servers and programs of theirs. Each worker has a stretch of the order, so that a module's fixtures are made
# by one of them, not by all; who is done first takes from the others.
WORKERS := $(shell $(PYTHON) -c "import os; print(1 + len(getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count()))(0)))")
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

.PHONY: run test test-checked test-servers lint check install format

run: .venv/.installed
	$(BIN)/plainspoken run

install: .venv/.installed-dev

test: .venv/.installed-dev
	$(PYTEST) --slow-unchecked -m "not servers"

test-checked: .venv/.installed-dev
	$(PYTEST) -m "not servers"

# One server at a time: they take gigabytes. One that cannot be installed here is skipped, with the reason.
test-servers: .venv/.installed-dev
	-scripts/servers.sh llama
	-scripts/servers.sh transformers
	-scripts/servers.sh vllm
	@scripts/servers.sh versions
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs tests/servers

lint: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

check: lint
	$(PYTEST) -m "not slow and not servers"

format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "plainspoken needs Python 3.11 or later; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	@echo '$(TOLD)'
	$(INSTALL) -e .
	@touch $@

# All at once, so that there is nothing left to install for `make run`.
.venv/.installed-dev: .venv/bin/python pyproject.toml constraints.txt
	@echo '$(TOLD)'
	$(INSTALL) -e '.[dev]'
	@touch .venv/.installed $@
