# The two commands to start with: `make demo` and `make test`.
# On Linux, PyPI's torch brings CUDA libraries (several GB). For the CPU build:
#   make setup PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_OPTIONS ?=
BIN := .venv/bin

.PHONY: setup demo test check clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "regard needs Python 3.11 or newer"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e ".[dev]"
	@touch .venv/ready

demo: setup
	@$(BIN)/regard example demo/data
	@$(BIN)/regard train demo/data/recipe.toml --out demo/run
	@echo
	@$(BIN)/regard evaluate demo/run --source demo/data/test.en --target demo/data/test.zh \
	    --alignments demo/data/test.align --categories demo/data/test.category --json-file demo/evaluation.json
	@echo
	@echo "ten held-out sentences and their translations:"
	@awk 'NR % 60 == 30' demo/data/test.en > demo/ten.en
	@$(BIN)/regard translate demo/run demo/ten.en --out demo/ten.zh --quiet
	@paste -d '|' demo/ten.en demo/ten.zh | sed 's/|/\n    → /'
	@echo
	@$(BIN)/regard attend demo/run "the train leaves at half past six on Tuesday the fourth of March" \
	    --png demo/alignment.png --html demo/alignment.html
	@echo
	@echo "pictures: demo/alignment.png and demo/alignment.html (open it in a browser)"
	@echo "next, your own sentence:  .venv/bin/regard attend demo/run \"never say never\""
	@echo "next, your own data:      .venv/bin/regard train --source a.en --target a.de --out runs/mine --minutes 20"

# One thread for each of two workers: tests share two cores without slowing each other down.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py

clean:
	rm -rf .venv demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
