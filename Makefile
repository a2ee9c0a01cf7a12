# Two commands: `make serve` installs Turnout and serves the sample models.yaml; `make test` runs what CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
PORT ?= 8080
BIN := .venv/bin
UV := $(BIN)/uv

# Many commands and tests start Python. Without its bytecode files each start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

# uv does not read pip's settings. A mirror that pip gets from its variable is uv's mirror, too.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.PHONY: help serve test test-torch check soak lint types types-js format lock lock-converters check-lock generated engine browser wheel vendor check-release clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '%-15s %s\n' "$$name" "$$text"; done

serve: .venv/.runtime ## install what serving needs and serve the sample models.yaml (PORT=8080)
	$(BIN)/turnout serve --port $(PORT)

test: lint types ## run what CI runs on each Python: lint, types, all tests with coverage
	@echo 'Running all tests on three processes (about half an hour on two cores; `make check` runs the fast ones)'
	$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder --durations=25 --cov --cov-report=term:skip-covered

test-torch: .venv/.dev ## the tests of PyTorch's converter, whose packages take 4.3 GB
	@echo 'Running the tests of .pt2 files (the first time, 2.5 GB are downloaded)'
	TURNOUT_TEST_TORCH=1 $(BIN)/python -m pytest tests/conversion -k 'torch or exported_program'

check: lint types ## lint, types and the fast tests: less than a minute
	@echo 'Running the fast tests, seven of ten (50 s on two cores)'
	$(BIN)/python -m pytest -n 2 --dist loadscope -m 'not slow' --hypothesis-profile fast

# docs/reliability.md says what each run promises.
soak: .venv/.dev ## attack a real server for minutes (MINUTES=6 SEED=12 RUNS=fuzz,overload REQUESTS=10000 JSON=1)
	@$(BIN)/python -m soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--only $(RUNS)) $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(JSON),--json)

lint: .venv/.dev ## check the code's style with ruff and the spelling with codespell
	@echo 'Checking style with ruff and spelling with codespell (5 s)'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell

types: .venv/.dev ## check the types with mypy
	@echo 'Checking types with mypy (up to 60 s, later 5 s)'
	@$(BIN)/mypy

types-js: ## check the types of the console's page with TypeScript, which npx fetches
	@npx --yes --package typescript@5.9.3 -- tsc --project turnout/console/jsconfig.json

format: .venv/.dev ## apply ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A .venv whose Python is gone, or has another version than the one that PYTHON= names, is made anew.
VERSION = -c 'import sys; print(sys.version_info[:2])'
NAMED = $(if $(filter file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))
ifneq ($(wildcard .venv/.uv),)
ifneq ($(shell $(BIN)/python $(VERSION) 2>/dev/null || echo gone),$(shell $(NAMED) $(VERSION) 2>/dev/null))
REMAKE = remake
endif
endif
.PHONY: remake

# pip installs uv alone, from its own lock: pip is 20 times slower than uv with everything else, and pip before 24 refuses
# a lock of hashes once the index has a newer release of a package with an extra.
.venv/.uv: requirements-uv.lock $(REMAKE)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Turnout needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=/path/to/python3.11")'
	@echo "Creating .venv with $$($(PYTHON) --version) (5 s)"
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }
	@echo 'Installing uv, which installs the rest (25 MB, 10 s)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-uv.lock
	@touch $@

# The development environment holds all of the runtime's packages at the same versions, so it is never stripped of its tools.
.venv/.runtime: .venv/.uv requirements.lock pyproject.toml
	@lock=requirements.lock; if [ -e .venv/.dev ]; then lock=requirements-dev.lock; fi; $(call install,$$lock,75 MB)
	@touch $@

.venv/.dev: .venv/.uv requirements-dev.lock pyproject.toml
	@$(call install,requirements-dev.lock,270 MB)
	@touch $@ .venv/.runtime

# uv names the large downloads as they start; its list of every package is left out.
define install
echo "Installing what $(1) pins (up to $(2) to download, seconds where uv's cache has them)"; \
$(UV) pip sync --python $(BIN)/python --require-hashes "$(1)" 2>&1 | sed -u '/^ [-+~] /d'; \
echo 'Installing Turnout itself, editable (2 s)'; \
$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
endef

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate --no-header \
	$(if $(UPGRADE),--upgrade)

# Extras stay in the locks: pip before 24 reads `coverage[toml]>=7` of a dependency as unpinned where only `coverage==7` is.
lock: .venv/.uv ## pin the dependencies after a change of pyproject.toml or an .in file (UPGRADE=1: the newest)
	$(COMPILE) --group dev --all-extras pyproject.toml -o requirements-dev.lock
	$(COMPILE) -c requirements-dev.lock pyproject.toml requirements-build.in -o requirements.lock
	$(COMPILE) -c requirements-dev.lock --group browser -o requirements-browser.lock
	echo uv | $(COMPILE) -c requirements-dev.lock - -o requirements-uv.lock
	for layer in turnout/runtimes/*_layer.in; do $(COMPILE) --no-deps -c requirements.lock "$$layer" -o "$${layer%.in}.lock"; done
	$(COMPILE) turnout/packaging/ric.in -o turnout/packaging/ric.lock
	@$(MAKE) check-lock

lock-converters: .venv/.runtime ## pin the newest packages that convert models (NAMES="sklearn xgboost"; default: all)
	@echo 'Resolving the requirements in turnout/conversion/converters (10 s)'
	@$(BIN)/python scripts/lock_converters.py $(NAMES)

check-lock: .venv/.uv ## check that the locks install with the oldest and the newest pip, also on a later day
	@echo 'Installing the locks with two releases of pip, as a dry run (2 minutes)'
	@$(BIN)/python scripts/check_locks.py

# Pages that are made from what the program knows; tests hold them against it.
generated: .venv/.dev ## write the pages that are made from the program: docs/cli.md, docs/manifest.md
	$(BIN)/python -m turnout.cli.reference > docs/cli.md
	$(BIN)/python -m turnout.manifest.reference_page > docs/manifest.md

wheel: .venv/.runtime ## build the wheel into dist/
	@$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist
	@wheel=$$(ls -t dist/turnout-*.whl | head -1); echo "Built $$wheel. Install it: pip install '$$wheel', or '$$wheel[aws]' to deploy"

vendor: ## fetch the libraries of the console's page with npm, and check their digests
	@$(PYTHON) scripts/vendor.py

check-release: ## check that TAG=v1.2.3 is the version in the code and has a section in CHANGELOG.md
	@$(PYTHON) scripts/check_release.py "$${TAG-}"

# The Pulumi engine out of the Go module proxy, for tests/engine; a `pulumi` on the PATH is taken as it is.
ENGINE = $(shell sed -n 's,.*github.com/pulumi/pulumi/pkg/v3 v\([0-9.]*\).*,\1,p' tests/engine/go.mod)
engine: .engine/pulumi ## build Pulumi's engine, which tests/engine needs, with Go

.engine/pulumi: tests/engine/go.mod tests/engine/go.sum
	@echo 'Building the Pulumi engine with Go (5 minutes, the first time)'
	cd tests/engine && go build -trimpath -o ../../$@ \
		-ldflags '-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$(ENGINE)' \
		github.com/pulumi/pulumi/pkg/v3/cmd/pulumi

browser: .venv/.dev ## install what tests/browser needs in addition to chromium (45 MB)
	@echo 'Installing what drives a browser (45 MB)'
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-browser.lock

clean: ## remove what the other targets made
	rm -rf .venv .turnout .coverage* .pytest_cache .mypy_cache .ruff_cache dist
