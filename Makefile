# Every target makes .venv first, when it is missing or older than what it is made from.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The demo and the tests are for the CPU; a machine's accelerator is for real studies.
export JAX_PLATFORMS ?= cpu
# Whatever the locale is, files and pipes are UTF-8.
export PYTHONUTF8 := 1

.PHONY: venv demo smoke test test-all lint docs lock bench clean

venv: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(READY)
	$(BIN)/poison-scaling study configs/demo.py --workdir results/demo

smoke: $(READY)
	$(BIN)/poison-scaling study configs/smoke.py --workdir results/smoke

# Three processes on two cores, because many tests wait for others; each file in one of them, in the order of
# tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST) -m 'not long'

test-all: $(READY)
	$(PYTEST)

# pyproject.toml with the lines of constraints.txt as uv's constraints.
PYPROJECT = { sed '/^constraint-dependencies = \[/q' pyproject.toml; \
	sed -n 's/^[^\#].*/    "&",/p' constraints.txt; \
	sed -n '/^\] \# end of constraints.txt/,$$p' pyproject.toml; }

# Takes uv, and the network.
UV ?= uv
lock: $(READY)
	$(PYPROJECT) > $(VENV)/pyproject.toml
	cp $(VENV)/pyproject.toml pyproject.toml
	$(UV) lock --default-index https://pypi.org/simple

lint: $(READY)
	@$(PYPROJECT) | cmp -s - pyproject.toml || { echo 'constraints.txt has changed: run make lock'; exit 1; }
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck --external-sources launch/*.sh
	$(BIN)/ty check poison_scaling analysis

# Warnings are errors, such as a link without a target. Docstrings are read from the sources; nothing is imported.
docs: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,bench]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) results site
