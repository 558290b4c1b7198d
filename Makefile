# make up     everything, in the foreground; UPSTREAM=http://… puts your own service behind it
# make test   lint and the core suite, against real Postgres and Valkey
# make test-long  what takes longer: more walks under faults, crowds, killed workers under load
# make lint   ruff and strict types
# make native  the hot path as machine code: half the processor time a call; takes gcc and about three minutes
# make test-native  the tests of the hot path, against the compiled one
# make bench  the gateway against its goals and beside other proxies; BENCH='--rounds 3 --seconds 2' passes options
# make bench-gate  instructions a request against the accepted number; GATE=--accept accepts the new one
# make fuzz   hostile clients and odd services, for FUZZ_SECONDS (120); FUZZ='--seed 7' or '--replay build/fuzz/….json'
# make contract  the API against its own description, by schemathesis; CONTRACT_EXAMPLES (50) questions an operation
# make exact  limits held to the last unit by real workers under load, killed ones too: EXACT_ROUNDS (12) rounds, half a minute each
# make chaos  a house under load, broken in many ways; CHAOS='--only store --rounds 3 --seed 7' passes options (docs/reliability.md)
# make profile     where a worker under load spends its time
# make lock     the pinned dependencies in requirements/ anew, from pyproject.toml and what the index has now
# make reference  docs/cli.md anew, from the command line itself
# make audit    known vulnerabilities of the pinned dependencies, as the advisory service of the package index has them
# Needs Python >= 3.11 and a package index; PYTHON=… names another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXACT_ROUNDS ?= 12
LOCK := --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --custom-compile-command "make lock" --quiet
# Those that put stand-ins into the place of compiled classes or their methods are not among them: machine code takes the real ones.
NATIVE_TESTS := tests/integration/gateway tests/integration/rules tests/e2e tests/fuzz
CONTRACT_EXAMPLES ?= 50
export UPSTREAM FUZZ_SECONDS

.PHONY: up test test-long test-native lint native bench bench-gate fuzz contract exact chaos profile lock reference audit clean-venv
.DEFAULT_GOAL := up

up: $(VENV)/installed
	@exec $(BIN)/weighbridge up

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not long"

test-long: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m long

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

native: $(VENV)/installed-dev
	@$(BIN)/weighbridge compile

test-native: native
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -p tests.compiled $(NATIVE_TESTS)

bench: $(VENV)/installed-dev
	@$(BIN)/weighbridge compile || true
	@$(BIN)/python -m tests.benchmarks.run $(BENCH)

bench-gate: $(VENV)/installed-dev
	@$(BIN)/weighbridge compile || true
	@$(BIN)/python -m tests.benchmarks.gate $(GATE)

fuzz: $(VENV)/installed-dev
	@$(BIN)/python -m tests.fuzz.run $(FUZZ)

contract: $(VENV)/installed-dev
	@CONTRACT_EXAMPLES=$(CONTRACT_EXAMPLES) $(BIN)/python -m pytest -m long tests/contract

exact: $(VENV)/installed-dev
	@EXACT_ROUNDS=$(EXACT_ROUNDS) $(BIN)/python -m pytest tests/e2e/test_exactly.py

chaos: $(VENV)/installed-dev
	@$(BIN)/python -m tests.chaos.run $(CHAOS)

profile: $(VENV)/installed-dev
	@$(BIN)/python -m tests.benchmarks.profile $(PROFILE)

lock: $(VENV)/installed-dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile pyproject.toml $(LOCK) --upgrade --output-file requirements/core.lock
	@$(BIN)/uv pip compile pyproject.toml --extra embedded $(LOCK) --upgrade --output-file requirements/embedded.lock
	@$(BIN)/python -m pytest -q tests/unit/test_lock.py

reference: $(VENV)/installed-dev
	@$(BIN)/python -m weighbridge.cli.reference > docs/cli.md

audit: $(VENV)/installed-dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	@$(BIN)/python -m pip_audit --disable-pip --require-hashes --requirement requirements/embedded.lock

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Weighbridge needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml
	@echo "Installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded]'
	@touch $@

# Dependency groups need pip 25.1; the pip that comes with Python 3.11 is older.
$(VENV)/installed-dev: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,native]' --group dev
	@touch $@

clean-venv:
	rm -rf $(VENV)
