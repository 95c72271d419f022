# The two commands: `make book` builds the book, `make test` tests everything. `make help` lists the others.
# The environment .venv is made by the first that needs it. In an environment of your own (conda): make book RUN=python

# Only the command line sets these: a shell may use the same names for something else.
PROFILE = laptop
DATASET =
SEEDS =
NAME =
MODELS =
PROCESSES =
ENCODERS =
CORES =
EXECUTOR =
SEED = 0
ALL =
TRAIN =
PYTHON = python3.11 python3.12 python3.13 python3 python
RUN = .venv/bin/python

SHELL := /bin/sh
ENVIRONMENT := $(if $(filter .venv/bin/python,$(RUN)),.venv/installed.txt)
PARAMETERS = --profile '$(PROFILE)' --dataset '$(DATASET)' --seeds '$(SEEDS)'
BUILD = $(PARAMETERS) $(if $(CORES),--cores $(CORES)) $(if $(EXECUTOR),--executor '$(EXECUTOR)')
# Tests run in several processes, so that each takes one thread.
WORKERS = 2
ONE_THREAD = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# Kernels import this tree's compatlib and start from this environment, whatever else the user has. What else the shell
# has set is sorted out in compatlib/study/publishing/environment.py.
export PYTHONPATH := $(CURDIR)$(if $(ENVIRONMENT),,$(if $(PYTHONPATH),:$(PYTHONPATH)))
export JUPYTER_PREFER_ENV_PATH := 1
# What a terminal cannot write is escaped there.
export PYTHONIOENCODING := :backslashreplace

.PHONY: help book page status test lint notebooks rows models data fixture verify pin bench publish clean distclean env FORCE

help:
	@echo "make book       execute every notebook and build the HTML"
	@echo "                PROFILE=study DATASET=cifar100 SEEDS=0,1,2 CORES=2 EXECUTOR=executors/slurm"
	@echo "make page       execute one notebook: NAME=problem, and the parameters of make book"
	@echo "make publish    archive the book as one file that needs no network; parameters as for make book"
	@echo "make status     what is built, from what, how old, fresh or stale; size of the caches"
	@echo "make test       lint, unit tests, layers, examples, stored notebooks, the workflow on profile smoke"
	@echo "make lint       ruff alone"
	@echo "make notebooks  execute the notebooks on profile smoke and store their outputs, the README's table too: NAME=problem"
	@echo "make rows       measure a chapter seed by seed and publish its rows: NAME=problem PROFILE=study SEEDS=0,1,2"
	@echo "make models     train models of a chapter without measuring: NAME=sfsc PROFILE=large SEEDS=0 MODELS='BCT-S;SFSC' PROCESSES=4"
	@echo "make data       embed images once by encoders that nobody trains: NAME=cifar100_lite ENCODERS=lite0,lite2 (all)"
	@echo "make fixture    make the features that the project carries, out of those of make data NAME=omniglot_lite"
	@echo "make pin        pin a behaviour's values after its number was raised: NAME=bct"
	@echo "make verify     measure published rows again from the published models: NAME=bct SEED=0, ALL=1 all, TRAIN=1 one model anew"
	@echo "make bench      measure against the bounds: NAME=evaluation for one: data, evaluation, gallery, search, sfsc, training"
	@echo "make clean      remove what builds have written; trained models and data are kept"
	@echo "make distclean  remove trained models, downloaded data and the environment too"
	@echo "make env        make or mend the environment .venv: PYTHON=/path/to/python3.13"

env: $(ENVIRONMENT)

# Checked at every call, for the price of starting Python once. `installed.txt` is the copy of requirements.txt that is
# installed; `.incomplete` marks an environment whose making was interrupted, which is then made anew.
IS_READY = cmp -s requirements.txt .venv/installed.txt && (here=$$(pwd -P) && cd / && "$$here/.venv/bin/python" -I -c \
  'import os, sys, compatlib; sys.exit(not os.path.samefile(sys.argv[1], compatlib.__file__))' \
  "$$here/compatlib/__init__.py") 2>/dev/null

.venv/installed.txt: FORCE
	@if $(IS_READY); then exit 0; fi; \
	line=$$(printf '\n_'); \
	case $$(pwd -P) in *:*|*"$${line%_}"*) \
	  echo "the path of this checkout has a colon or a line break, which no environment bears; move it" >&2; exit 1;; \
	esac; \
	python=; found=; \
	for name in $(PYTHON); do \
	  version=$$("$$name" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
	  found="$$found $$name is $$version;"; \
	  case "$$version" in 3.11.*|3.12.*|3.13.*) python=$$name; break;; esac; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "compatlib needs Python 3.11, 3.12 or 3.13, and there is none here:$${found:- no Python found;}" >&2; \
	  echo "install it, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	set -e; \
	mkdir -p build; exec 9>build/environment.lock; \
	"$$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null || { \
	  echo "the environment is being made by another make; waiting for its end" >&2; \
	  "$$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'; \
	}; \
	if $(IS_READY); then exit 0; fi; \
	if [ -e .venv/.incomplete ] || ! .venv/bin/python -c 'import pip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  2>/dev/null; then \
	  "$$python" -m venv --clear .venv; \
	fi; \
	touch .venv/.incomplete; \
	.venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt; \
	.venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	cp requirements.txt $@; \
	rm .venv/.incomplete

FORCE:

book: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.publishing.workflow book $(BUILD)

page: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.publishing.workflow page '$(NAME)' $(BUILD)

publish: book
	@$(RUN) -m compatlib.study.publishing.publish $(PARAMETERS)

status: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.publishing.status

lint: $(ENVIRONMENT)
	@$(RUN) -m ruff check --quiet . && $(RUN) -m ruff format --check .

# One process for each file, for a notebook's cells share a kernel; the longest files begin (`tests/conftest.py`).
test: lint
	@$(ONE_THREAD) $(RUN) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --nbval --nbval-kernel-name python3 --nbval-cell-timeout 120 notebooks tests

notebooks: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.publishing.stored $(NAME)
	@$(RUN) -m compatlib.study.publishing.readme

verify: PROFILE = study
verify: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.publishing.verify '$(NAME)' --profile '$(PROFILE)' --seed '$(SEED)' \
	  $(if $(ALL),--all) $(if $(TRAIN),--train)

rows: PROFILE = study
rows: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.publishing.measure '$(NAME)' $(PARAMETERS)
	@$(RUN) -m compatlib.study.publishing.readme

models: PROFILE = study
models: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.publishing.train '$(NAME)' $(PARAMETERS) --models '$(MODELS)' \
	  $(if $(PROCESSES),--processes '$(PROCESSES)')

data: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.lab.features '$(NAME)' --encoders '$(ENCODERS)'

fixture: $(ENVIRONMENT)
	@$(RUN) -m compatlib.study.lab.fixtures

pin: $(ENVIRONMENT)
	@$(RUN) -m tests.study.lab.pinned '$(NAME)'

bench: $(ENVIRONMENT)
	@$(RUN) tests/bench $(NAME)

clean:
	rm -rf build book/chapters book/_build .snakemake

distclean:
	rm -rf build book/chapters book/_build .snakemake data/cache .venv *.egg-info
