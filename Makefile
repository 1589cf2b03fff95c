# Everything here makes .venv by itself when it is missing or older than the two dependency files.
#   make book PROFILE=recorded|smoke|quick|validated|paper  JOBS=2  PYTHON=python3.12
SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON  ?= python3
PROFILE ?= recorded
# 0: as many notebooks at once as there are cores
JOBS    ?= 0
ARGS    ?=

CORE_TESTS := $(addprefix tests/test_,$(addsuffix .py,config rng data sampling models pruning \
  ranking stats training lottery kernels replays face sources))

BIN   := .venv/bin
READY := .venv/.ready

.PHONY: help book book-zip count test test-long coverage lint format bench lab lock clean

help:  ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' \
	  | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo
	@echo "  PROFILE=recorded|smoke|quick|validated|paper (now $(PROFILE))   JOBS=notebooks at once (0: one per core)"
	@echo "  PYTHON=interpreter for a new .venv (now $(PYTHON))   ARGS=more words for pytest or the benchmarks"

book: $(READY)  ## run the notebooks, build the book, say where to open it
	@$(BIN)/python -m lthnb book --profile $(PROFILE) --jobs $(JOBS)

book-zip: book  ## the built book as one file, for whoever cannot build it
	@$(BIN)/python -m zipfile -c _build/lthnb-book-$(PROFILE).zip _build/$(PROFILE)/html
	@echo "The book as one file: _build/lthnb-book-$(PROFILE).zip; unpack it and open html/index.html"

count: $(READY)  ## words, figures, tables and kB of each page of the built book
	@$(BIN)/python book/count.py _build/$(PROFILE)/html

test: $(READY)  ## the tests that take minutes together
	@$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

test-long: $(READY)  ## all tests, the slow ones too
	@$(BIN)/python -m pytest -m '' -n auto --dist loadgroup $(ARGS)

coverage: $(READY)  ## lines of the core that the tests of the core run, without compiled bodies
	@rm -f .coverage*
	@$(BIN)/coverage run -m pytest -q -p no:xdist $(CORE_TESTS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

lint: $(READY)  ## style, and notebooks without outputs or noise
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m lthnb.book.clean --check notebooks/*.ipynb

format: $(READY)  ## put style and notebooks right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python -m lthnb.book.clean notebooks/*.ipynb

bench: $(READY)  ## measure ours beside its peers (ARGS=rows and options; benchmarks/README.md)
	@$(BIN)/python -m benchmarks $(ARGS)

lab: $(READY)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab notebooks

clean:  ## remove what was built (book, executed copies, .venv); the run store .store stays
	rm -rf _build _executed .venv *.egg-info .pytest_cache .ruff_cache .hypothesis
	find lthnb tests book benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Recorded runs were kept: delete .store by hand if you mean to train everything again."

# --- the environment -----------------------------------------------------------------------------

# Installs into a .venv that is there already, so that a changed lock costs seconds. The stamp comes
# last: an interrupted installation is taken up again.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "lthnb needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	  "Name another one: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "Installing $$(grep -c == requirements.lock) packages from requirements.lock into .venv" \
	  "(about 370 MB, and torch; log: .venv/install.log)"
	@set -o pipefail; $(BIN)/python -m pip install --progress-bar off --disable-pip-version-check \
	    -r requirements.lock 2>&1 | tee .venv/install.log \
	  | awk '/^ *(Downloading|Processing) .*[0-9][0-9]\.[0-9] MB|^(Downloading|Processing) .*torch-/ \
	           { sub(".*/", "", $$2); print "  fetching " $$2; fflush() } \
	         /^Installing collected/ { print "  unpacking " NF - 3 " packages"; fflush() }' \
	  || { tail -n 15 .venv/install.log; echo "Installation failed."; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . \
	    >> .venv/install.log 2>&1 || { tail -n 15 .venv/install.log; echo "Installation failed."; exit 1; }
	@touch $@

# Resolves the ranges anew in a throw-away environment. torch keeps the version that the lock has
# (TORCH=2.12.0 to change it), because the registry's newest build is gigabytes on Linux.
TORCH ?= $(shell sed -n 's/^torch==//p' requirements.lock)
lock:  ## make requirements.lock anew from pyproject.toml
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(PYTHON) -m venv "$$dir" \
	  && echo "Resolving pyproject.toml with torch $(TORCH)" \
	  && "$$dir/bin/pip" install -qq torch==$(TORCH) '.[book,cluster,test,lint]' \
	  && { sed -n '/^#/p' requirements.lock; "$$dir/bin/pip" freeze --all \
	       | grep -vE '^(lthnb|pip)\b' \
	       | sed -E -e 's/^(torch==[0-9.]+)\+.*/\1/' \
	             -e "s/^((pexpect|ptyprocess)==.*)/\1; sys_platform != 'win32'/"; } > "$$dir/lock" \
	  && cp "$$dir/lock" requirements.lock && echo "requirements.lock is made; look at git diff"
