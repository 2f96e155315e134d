# Run `make` for a list of targets. Each target sets up what it needs; .venv is created once.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 5000
ALLOWED_HOSTS ?=
# Another index for pip. On Linux, the default build of torch installs CUDA's libraries (about 5 GB
# in all); https://download.pytorch.org/whl/cpu has a build without them (about 2 GB).
TORCH_INDEX ?=
# Telemetry is off. To turn it on for MLflow: make ui MLFLOW_DISABLE_TELEMETRY=false; for DVC:
# make repro DVC_NO_ANALYTICS= after `dvc config --local core.analytics true`.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DVC_NO_ANALYTICS ?= true

BIN := .venv/bin
INSTALLED := .venv/.installed
INSTALLING := .venv/.installing
SETUP_LOG := .venv/setup.log
MYPY_FOLDERS := $(sort $(dir $(wildcard tinyllm/*.py stages/*.py tests/*.py benchmarks/*.py)))
CACHES := .mypy_cache .pytest_cache .ruff_cache

.PHONY: help
help: ## Show this list
	@b= n=; \
	if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then b=$$(printf '\033[1m') n=$$(printf '\033[0m'); fi; \
	echo; echo "  $${b}tinyllm$$n: a small language model, trained from scratch"; echo; \
	sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf "  $${b}make %-9s$$n  %s\n" "$$target" "$$text"; \
	done; echo

.PHONY: repro
repro: $(INSTALLED) ## Run what has to run of the pipeline: text to tokens to model to scores
	@PATH="$$PWD/$(BIN):$$PATH" python -m dvc repro $(ARGS)

.PHONY: ui
ui: $(INSTALLED) ## Look at the runs in MLflow, on this machine only (PORT=5000)
	@$(BIN)/python -m tinyllm ui --host "$(HOST)" --port "$(PORT)" \
		--allowed-hosts "$(ALLOWED_HOSTS)" $(ARGS)

.PHONY: test
test: $(INSTALLED) ## Run the tests (ARGS="-k name" chooses some)
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: verify
verify: $(INSTALLED) ## Check every byte of data, model, checkpoints and DVC's cache
	@$(BIN)/python -m tinyllm verify

.PHONY: lint
lint: $(INSTALLED) ## Check style, format and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy $(MYPY_FOLDERS)

.PHONY: bench
bench: $(INSTALLED) ## Compare with peers (ARGS="--nanogpt CHECKOUT"); results in benchmarks/
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: lock
lock: ## Renew the lock files from pyproject.toml (ARGS=--upgrade: the newest of all)
	@set -e; \
	if ! uv=$$(command -v uv); then \
		new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
		"$(PYTHON)" -m venv "$$new"; "$$new/bin/python" -m pip install --quiet uv; uv=$$new/bin/uv; \
	fi; \
	compile() { \
		"$$uv" pip compile --quiet --universal --python-version 3.11 pyproject.toml \
			--no-header --no-annotate $(ARGS) "$$@"; \
	}; \
	compile -o requirements.lock; \
	compile --extra dev --extra ecosystem -c requirements.lock -o requirements-dev.lock

.PHONY: ecosystem
ecosystem: $(INSTALLED) ## Install what `make test ARGS="-m ecosystem"` needs: llama.cpp, lm_eval, ...
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet \
		-c requirements-dev.lock -e '.[dev,ecosystem]'

.PHONY: setup
setup: $(INSTALLED) ## Set up .venv and nothing else

.PHONY: clean
clean: ## Remove the caches of tools; no data, no model, no run
	rm -rf $(CACHES)
	find stages tinyllm tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Prints the first package pinned in pyproject.toml that an environment lacks, if any.
define LACKING
import tomllib
from importlib.metadata import PackageNotFoundError, version
from packaging.requirements import Requirement

def lacking(pin):
    if pin.marker and not pin.marker.evaluate():
        return False
    try:
        return not pin.specifier.contains(version(pin.name), prereleases=True)
    except PackageNotFoundError:
        return True

project = tomllib.load(open("pyproject.toml", "rb")).get("project", {})
pins = project.get("dependencies", []) + project.get("optional-dependencies", {}).get("dev", [])
print(next((pin for pin in pins if lacking(Requirement(pin))), ""))
endef
export LACKING

# If .venv is a link to an environment elsewhere, it is used unchanged or refused.
#
# The marker is created before the work and renamed to the stamp after it. An existing marker means
# that a setup was interrupted, so the environment is made from scratch. The lock is a constraint,
# not a list to install, so that a CPU build of torch installs no CUDA libraries.
$(INSTALLED): pyproject.toml requirements-dev.lock
	@set -e; \
	if [ -L .venv ]; then \
		linked=".venv is a link to $$(readlink .venv), which"; mend="set it up there, or remove the link"; \
		if [ ! -e $(INSTALLED) ] || [ -e $(INSTALLING) ]; then \
			echo "error: $$linked is no finished environment; $$mend" >&2; exit 1; \
		fi; \
		lacking=$$($(BIN)/python -c "$$LACKING") || lacking="a Python that works"; \
		if [ -n "$$lacking" ]; then echo "error: $$linked lacks $$lacking; $$mend" >&2; exit 1; fi; \
		exit 0; \
	fi; \
	python=$(BIN)/python; mend="remove .venv"; \
	if [ -e $(INSTALLING) ] || [ ! -x $$python ]; then \
		python="$(PYTHON)"; mend="name another: make PYTHON=..."; \
	fi; \
	if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "error: $$python is not there, or is not 3.11 or newer; $$mend" >&2; exit 1; \
	fi; \
	step() { \
		printf '  %-24s' "$$1"; name=$$1; start=$$(date +%s); shift; \
		if "$$@" >> $(SETUP_LOG) 2>&1; then echo "$$(($$(date +%s) - start)) s"; return; fi; \
		echo failed; \
		{ echo "error: $$name failed; the end of its output, which is in $(SETUP_LOG):"; \
			tail -n 15 $(SETUP_LOG) | sed 's/^/  /'; } >&2; \
		exit 1; \
	}; \
	echo "Setting up .venv (the first time some minutes and 2 GB, or 5 with CUDA: see TORCH_INDEX)"; \
	if [ "$$python" != $(BIN)/python ]; then \
		rm -rf .venv; mkdir .venv; touch $(INSTALLING); \
		step "making .venv" "$$python" -m venv .venv; \
	fi; \
	rm -f $@ $(SETUP_LOG); touch $(INSTALLING); \
	step "installing packages" $(BIN)/python -m pip install --disable-pip-version-check \
		$(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -c requirements-dev.lock -e '.[dev]'; \
	mv $(INSTALLING) $@

# An upgrade of the system may delete the Python that .venv was made with.
ifneq ($(shell test -x $(BIN)/python && echo there),there)
.PHONY: $(INSTALLED)
endif
