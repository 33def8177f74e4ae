# make train   set up everything and learn a sentence by heart; ARGS="model.layers=3 seed=7" are passed on
# make test    set up everything and pass the tests; ARGS="tests/text -x" are passed on
# make quick   lint and what is tested within one process, in less than a minute
# make lint    format, lint, types, layering
# make oldest  pass the tests with the oldest versions that pyproject.toml allows, in an environment of their own
# The set-up happens once and again when the requirements change. PYTHON=python3.12 chooses the interpreter.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# several tests at once; tests/conftest.py says how they are distributed
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8
QUICK := tests/cells tests/cli tests/config tests/model/test_torch_model.py tests/text tests/training \
	--ignore tests/training/test_loop.py --ignore tests/training/test_streams.py tests/test_checkpoint.py

.PHONY: setup train test quick lint oldest
.DEFAULT_GOAL := train

train: setup
	@echo "== python train.py $(ARGS)"
	@$(BIN)/python train.py $(ARGS)

test: setup lint
	@echo "== tests"
	@$(PYTEST) $(ARGS)

quick: setup lint
	@echo "== quick tests"
	@$(PYTEST) $(QUICK) $(ARGS)

lint: setup
	@echo "== format, lint, types, layering"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

oldest:
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e ".[dev]"
	@.venv-oldest/bin/python -m pytest --numprocesses auto --maxprocesses 8 $(QUICK) tests/commands/test_commands.py \
		$(ARGS)

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "error: $$($(PYTHON) --version 2>&1): charlstm needs Python 3.11, 3.12 or 3.13;" \
		"name one with make PYTHON=python3.11"; exit 2; }
	@echo "== setting up .venv with $$($(PYTHON) --version): torch and a few more, some minutes the first time"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)
	@echo "== ready: .venv/bin/python"
