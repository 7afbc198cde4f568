# Everything runs in .venv, made from the locks. A machine with Python 3.11, pip, make and git is enough.
PYTHON ?= python3.11
BIN := .venv/bin
SETUP := .stamps/setup
CLIENTS := .stamps/clients
PYTEST := $(BIN)/python -m pytest
CODE := src attestation enclave parent tests bench requirements

FUZZ_SECONDS ?= 600

.PHONY: demo setup clients test check lint bench soak fuzz mutation lock proto proto-check hsm-up hsm-down pg-up pg-down clean

setup: $(SETUP)

$(SETUP): pyproject.toml requirements/dev.lock src/anchorhold/__init__.py
	@echo "setting up .venv (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@mkdir -p $(@D) && touch $@

clients: $(CLIENTS)  ## clients that other people wrote, in an environment of their own

$(CLIENTS): requirements/clients.lock
	@test -x .clients/bin/python || $(PYTHON) -m venv .clients
	@.clients/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements/clients.lock
	@mkdir -p $(@D) && touch $@

demo: $(SETUP)  ## a real model, sealed, attested and served in simulation
	@$(BIN)/anchorhold demo

test: $(SETUP) $(CLIENTS)  ## every test
	@$(PYTEST) -q

check: lint  ## the truth: format, lint, types, contracts, drift, fast tests
	@$(PYTEST) -q -m "not slow"

lint: $(SETUP) proto-check  ## the part of check that is no test
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python requirements/lock.py --check

bench: $(SETUP)  ## ratios in one run; exits 1 when a limit is missed
	@$(BIN)/python -m bench

soak: $(SETUP)  ## long runs: property tests with many more examples, crash points of the authorities
	@ANCHORHOLD_SOAK=1 $(PYTEST) -q tests/properties
	@$(BIN)/python -m tests.authority.crash.program --points 300

fuzz: $(SETUP)  ## coverage-guided fuzzing of every reader, FUZZ_SECONDS each, two at a time
	@$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS) --jobs 2

mutation: $(SETUP)  ## take each numbered check of the verifier away; a test must notice
	@$(BIN)/python -m tests.mutation

hsm-up: $(SETUP)  ## a SoftHSM2 token of one's own; prints how to name it
	@$(BIN)/python -m tests.authority.hsm up .cache/hsm

hsm-down: $(SETUP)
	@$(BIN)/python -m tests.authority.hsm down .cache/hsm

pg-up: $(SETUP)  ## a PostgreSQL of one's own; prints its URL
	@$(BIN)/python tests/authority/postgres.py up .cache/postgres

pg-down: $(SETUP)
	@$(BIN)/python tests/authority/postgres.py down .cache/postgres

lock: $(SETUP)  ## the only step that resolves versions
	@$(BIN)/python requirements/lock.py

PROTOC := $(BIN)/python -m grpc_tools.protoc -Iproto
proto: $(SETUP)  ## regenerate the committed stubs
	@$(PROTOC) --python_out=src --pyi_out=src --grpc_python_out=src proto/anchorhold/v1/gateway.proto

proto-check: $(SETUP)
	@rm -rf .stamps/proto && mkdir -p .stamps/proto
	@$(PROTOC) --python_out=.stamps/proto --pyi_out=.stamps/proto --grpc_python_out=.stamps/proto proto/anchorhold/v1/gateway.proto
	@diff -r -x __init__.py -x __pycache__ .stamps/proto/anchorhold/v1 src/anchorhold/v1 || { echo "proto: the stubs differ; run \`make proto\`" >&2; exit 1; }

clean:
	rm -rf .venv .clients .stamps .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
