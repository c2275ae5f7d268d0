# All the set-up there is: each target makes the virtual environment that it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BUILT  := $(VENV)/.compiled

EXTRAS := test,real,bench,compile
PINS   := constraints.txt

# What runs the compiled rooms; the property tests above all, since they reach what nobody thought of.
COMPILED_TESTS := tests/unit tests/property tests/cancellation tests/integration/grpc tests/integration/http tests/integration/http2

.PHONY: demo redis node kserve compile interpret test test-compiled fuzz lint format bench hostile upgrade schema clean

$(STAMP): pyproject.toml $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint $(PINS) --editable '.[$(EXTRAS)]'
	touch $@

$(BUILT): $(STAMP) $(shell find proxy -name '*.py')
	HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/python -m hatchling build --target wheel --hooks-only
	touch $@

demo: $(STAMP)  ## starts the demo model server and Pillion before it, prints a comparison, ends
	$(BIN)/pillion demo

redis:  ## the tests start a Redis of their own
	command -v redis-server >/dev/null || { apt-get update -qq && apt-get install -qq -y redis-server; }

node:  ## the tests run clients on Node.js
	command -v npm >/dev/null || { apt-get update -qq && apt-get install -qq -y nodejs npm; }

kserve: $(STAMP)  ## KServe's server, which the tests run in an environment of its own
	$(BIN)/python -m tests.support.kserve

compile: $(BUILT)  ## extension modules beside the sources of the hot rooms: what runs from here on is compiled

interpret:  ## removes them
	find proxy -name '*.so' -delete
	rm -f pillion__mypyc.*.so $(BUILT)

test: interpret $(STAMP) redis node kserve  ## every test, with coverage; those against real third-party servers included
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m 'real or not real'
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-compiled: compile node  ## the compiled rooms once more, on their extension modules
	PILLION_BUILD=compiled $(BIN)/pytest -m 'not real and not slow' $(COMPILED_TESTS)
	$(BIN)/pytest -m real tests/real/test_grpc_peers.py

fuzz: $(STAMP)  ## a minute of random input at HTTP/1.1 and one at HTTP/2, at the build that is there; says how to repeat finds
	$(BIN)/python -m tests.fuzz

lint: $(STAMP)  ## style, types, import contracts, Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: compile  ## measures; results in bench/results/
	$(BIN)/python -m bench passthrough
	$(BIN)/python -m bench batching
	$(BIN)/python -m bench caching
	$(BIN)/python -m bench streaming
	$(BIN)/python -m bench grpc
	$(BIN)/python -m bench loading
	$(BIN)/python -m bench loading-live
	$(BIN)/python -m bench loading-beside
	$(BIN)/python -m bench slow-readers

hostile: $(STAMP)  ## healthy clients beside a thousand slow ones (apt-get install slowhttptest nginx)
	$(BIN)/python -m bench hostile

upgrade:  ## the newest releases of everything, written to constraints.txt; then run the tests
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[$(EXTRAS)]'
	sed -n '/^#/p' $(PINS) > $(VENV)/pins
	$(BIN)/pip freeze --exclude-editable >> $(VENV)/pins
	mv $(VENV)/pins $(PINS)
	touch $(STAMP)

schema: $(STAMP)  ## writes again what is made from the configuration model: JSON Schema and reference
	$(BIN)/python -m proxy.config

clean:
	rm -rf $(VENV) .venv-kserve .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
