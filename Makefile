# Two commands do everything: `make run` (a working federation) and `make test`.
VENV := .venv
export PIP_DISABLE_PIP_VERSION_CHECK := 1
BIN := $(VENV)/bin
COMPILER := gcc=gcc /usr/include/python3*/Python.h=python3-dev
COMPILED_TESTS := $(addprefix tests/unit/,audio continuation core dispatch distributed http quota relay services test_registry.py test_writes.py) tests/e2e

SERVERS := rabbitmq-server=rabbitmq-server /usr/lib/postgresql/*/bin/postgres=postgresql haproxy=haproxy

.PHONY: run run-distributed test check format bench bench-distributed soak setup test-real test-compiled compile clean lock

run: $(VENV)/.runtime            ## a federation with simulated sites, ready to call
	-scripts/need.sh ffmpeg=ffmpeg     # for media; all else runs without it
	PYTHONPATH="$$(scripts/compile.sh path)" $(BIN)/ilaas demo $(ARGS)

run-distributed: $(VENV)/.runtime   ## the same over RabbitMQ and PostgreSQL, several gateways behind HAProxy
	scripts/need.sh $(SERVERS) ffmpeg=ffmpeg
	PYTHONPATH="$$(scripts/compile.sh path)" $(BIN)/ilaas demo --distributed $(ARGS)

test: setup                      ## every test that runs without a long build
	scripts/need.sh $(SERVERS) ffmpeg=ffmpeg espeak-ng=espeak-ng
	$(BIN)/python -m pytest -m "not real" $(ARGS)

test-real: setup                 ## against a real llama.cpp server (built once, then cached)
	scripts/real-server.sh
	$(BIN)/python -m pytest -m real $(ARGS)

check: setup                     ## format, lint, types, layers
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

bench: setup                     ## CPU per request and per chunk, side by side with nginx
	scripts/need.sh nginx=nginx-light
	scripts/bench-router.sh
	-scripts/need.sh $(COMPILER)   # without it the gateway is measured as plain Python
	scripts/compile.sh build
	PYTHONPATH="$$(scripts/compile.sh path)" $(BIN)/python -m tests.bench $(ARGS)

bench-distributed: setup         ## the price of a dispatcher behind RabbitMQ, beside embedded mode and nginx
	scripts/need.sh nginx=nginx-light $(SERVERS)
	-scripts/need.sh $(COMPILER)
	scripts/compile.sh build
	PYTHONPATH="$$(scripts/compile.sh path)" $(BIN)/python -m tests.bench.distributed

soak: setup                      ## half an hour of 200 streams while parts die; ARGS="--minutes 3 --seed 7" and others
	scripts/need.sh $(SERVERS)
	scripts/compile.sh build
	PYTHONPATH="$$(scripts/compile.sh path)" $(BIN)/python -m tests.soak $(ARGS)

compile: setup                   ## the path of a request as machine code; run and bench use it until a source changes
	scripts/need.sh $(COMPILER)
	scripts/compile.sh build

test-compiled: compile           ## the tests of what is compiled, against what was compiled
	PYTHONPATH="$$(scripts/compile.sh path)" $(BIN)/python -m pytest $(COMPILED_TESTS) $(ARGS)

setup: $(VENV)/.runtime $(VENV)/.dev   ## only make .venv

$(VENV)/bin/python:
	scripts/make-venv.sh $(VENV)

$(VENV)/.runtime: $(VENV)/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

lock: $(VENV)/bin/python         ## renew both lock files from pyproject.toml
	scripts/lock.sh $(BIN)

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
