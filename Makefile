# The entry points; continuous integration calls the same ones. PYTHON may name another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= $(LEANRAG_DATA)

.PHONY: reader demo test fast lint type bench docs dist pull pull-large clean

# The stamps are made anew when what must be installed changes. llama-cpp-python compiles once; pip keeps the wheel.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing; llama.cpp is compiled the first time, which takes minutes."
	$(INSTALL) .
	touch $@

# What the tests and benchmarks compare with, torch among it, and the tools.
$(VENV)/equipped: $(VENV)/installed
	$(INSTALL) '.[all,dev]'
	touch $@

demo: $(VENV)/installed
	@$(BIN)/python -m examples.demo

pull: $(VENV)/installed
	@$(BIN)/leanrag pull smollm2-135m all-minilm-l6-v2 cl100k_base ms-marco-minilm-l12-v2 qwen2.5-coder-0.5b
	@$(BIN)/leanrag pull gemma3-270m --accept-terms
	@$(BIN)/leanrag pull smollm2-135m --type q4_0

# In random order, so that no test comes to need another; the first lines of the output tell the seed, which SEED=... repeats.
# Python may keep what it compiled, for each worker and child process needs it. What tests write is in memory if 4 GB fit there.
SEED ?= $(shell date +%s)
MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 { print $$6 }')
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(if $(MEMORY),PYTEST_DEBUG_TEMPROOT=$(MEMORY)) $(BIN)/python -m pytest \
  --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --random-order --random-order-seed=$(SEED)

test: $(VENV)/equipped lint type pull
	$(PYTEST) -m "not network"

# Plug-ins that only slow tests need; they would take a tenth of the time.
WITHOUT := $(addprefix -p no:,anyio benchmark recording socket syrupy)

fast: $(VENV)/equipped
	HYPOTHESIS_PROFILE=few $(PYTEST) $(WITHOUT) -m "not network and not model and not slow"

lint: $(VENV)/equipped
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/equipped
	$(BIN)/mypy

# Every folder with a program.
BENCHMARKS := $(patsubst benchmarks/%/__main__.py,%,$(sort $(wildcard benchmarks/*/__main__.py)))

# What only the benchmarks need: 1.1 GB.
pull-large: $(VENV)/installed
	@$(BIN)/leanrag pull qwen2.5-coder-1.5b

bench: $(VENV)/equipped pull pull-large
	@test -n "$(DATA)" || { echo "Name the data: make bench DATA=DIR (benchmarks/README.md says what it holds)"; exit 2; }
	for name in $(BENCHMARKS); do \
	  $(BIN)/python -m benchmarks.$$name --data "$(DATA)" --json benchmarks/results/$$name.json || exit 1; \
	done
	$(BIN)/python -m benchmarks.tables

# The adapter that ships; on a GPU in a quarter of an hour, after half an hour that makes the rows.
reader: $(VENV)/equipped pull
	@test -n "$(DATA)" -a -n "$(WORK)" || { echo "Name the data and a folder for what is made: make reader DATA=DIR WORK=DIR"; exit 2; }
	$(BIN)/python -m benchmarks.training.reader --data "$(DATA)" --work "$(WORK)"

docs: $(VENV)/equipped
	$(BIN)/python -m benchmarks.tables --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	$(BIN)/python -m pytest tests/test_docs.py tests/test_site.py

# The wheel is made from the sdist, installed alone, and answers a question in a folder that has nothing of the repository.
EMPTY := build/empty

dist: $(VENV)/equipped pull
	rm -rf dist $(EMPTY)
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv $(EMPTY)/venv
	$(EMPTY)/venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	cp README.md $(EMPTY)
	cd $(EMPTY) && venv/bin/leanrag add README.md && venv/bin/leanrag ask --model qwen2.5-coder-0.5b "What does pip compile?"
	cd $(EMPTY) && venv/bin/leanrag doctor

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
