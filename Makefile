# Two commands: `make serve` sets up and runs the sample models.yaml; `make test` passes everything CI runs.
PYTHON ?= python3
PORT ?= 8080
BIN := .venv/bin

.PHONY: serve test lint format lock generated engine clean

serve: .venv/.runtime
	$(BIN)/turnout serve --port $(PORT)

test: .venv/.dev
	$(MAKE) lint
	$(BIN)/python -m pytest -n 2 --dist loadscope --cov --cov-report=term:skip-covered

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("turnout needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv

.venv/.runtime: .venv/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/.dev: .venv/bin/python requirements-dev.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@ .venv/.runtime

lock: .venv/.dev
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --group dev --extra aws pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -c requirements-dev.lock pyproject.toml requirements-build.in -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-deps -c requirements.lock turnout/packaging/layer.in -o turnout/packaging/layer.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header turnout/packaging/ric.in -o turnout/packaging/ric.lock

# Pages that are made from what the program knows; tests hold them against it.
generated: .venv/.dev
	$(BIN)/python -m turnout.cli.reference > docs/cli.md
	$(BIN)/python -m turnout.manifest_reference > docs/manifest.md

# The Pulumi engine out of the Go module proxy, for tests/engine; a `pulumi` on the PATH is taken as it is.
ENGINE = $(shell sed -n 's,.*github.com/pulumi/pulumi/pkg/v3 v\([0-9.]*\).*,\1,p' tests/engine/go.mod)
engine: .engine/pulumi

.engine/pulumi: tests/engine/go.mod tests/engine/go.sum
	cd tests/engine && go build -trimpath -o ../../$@ \
		-ldflags '-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$(ENGINE)' \
		github.com/pulumi/pulumi/pkg/v3/cmd/pulumi

clean:
	rm -rf .venv .turnout .coverage* .pytest_cache .mypy_cache .ruff_cache dist
