# Two commands do everything on a fresh machine: `make serve` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# Python compiles what it imports, and keeps that; most of what is installed is never imported.
INSTALL := $(PIP) install --no-compile

EMBEDDED := $(sort $(shell grep -rl 'mark\.embedded' tests --include='test_*.py'))
SEVERAL := $(wildcard tests/process/test_*shared*.py tests/process/test_workers*.py)
STORED := $(wildcard $(addprefix tests/contract/test_, store*.py cli*.py *limits*.py estimates*.py accounting*.py contents*.py own_prices*.py))

# Tests start hundreds of processes, and each would compile anew whatever it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test check unit contract surfaces stored process one several e2e embedded proof bench bench-gateway docs clean

serve: .venv/.run                ## install what is missing and start the service; ARGS="--small --port 9000" are passed on
	@exec $(BIN)/hanlin serve $(ARGS)

test: .venv/.dev                 ## everything that must hold before a change lands; what waits beside what computes
	@$(MAKE) --no-print-directory -j4 --output-sync=target stored one several surfaces e2e unit check .home/.weights .home/.vectors
	@$(MAKE) --no-print-directory embedded    # alone: beside other work the engine falls to a fraction of its speed

check: .venv/.dev                ## format, lint, types, and documents that are generated
	$(BIN)/ruff format --check src tests bench scripts examples
	$(BIN)/ruff check src tests bench scripts examples
	$(BIN)/mypy
	$(BIN)/python scripts/make_docs.py --check

unit: .venv/.dev                 ## decisions, dialects, data: a few seconds
	$(BIN)/pytest tests/unit

contract: surfaces stored        ## the fake engine behind the real service; the store on its databases

surfaces: .venv/.dev             ## the part of it about what clients see
	$(BIN)/pytest tests/contract $(STORED:%=--ignore=%)

stored: .venv/.dev               ## the part about what is kept and counted, and about the command that shows it
	$(BIN)/pytest $(STORED)

process: one several             ## downloads that fail, processes that die

one: .venv/.dev                  ## the part of them that is about one process and what it starts
	$(BIN)/pytest tests/process -m "not embedded" $(SEVERAL:%=--ignore=%)

several: .venv/.dev              ## the part about several workers, and about services that share a database and limits
	$(BIN)/pytest $(SEVERAL) -m "not embedded"

e2e: .venv/.dev .venv/.clients tests/e2e/node_modules/.package-lock.json    ## SDKs and other clients against the real service
	$(BIN)/pytest tests/e2e -m "not embedded"

embedded: .venv/.dev .venv/.clients .home/.weights .home/.vectors tests/e2e/node_modules/.package-lock.json    ## the real engine with the small weights
	$(BIN)/pytest $(EMBEDDED) -m embedded

proof: .venv/.dev .venv/.clients .home/.weights .home/.vectors tests/e2e/node_modules/.package-lock.json    ## longer drills, on the small and on the default weights: an hour or two
	$(BIN)/hanlin pull qwen2.5-coder-1.5b-instruct --home .home
	SPLITS=100000 $(BIN)/pytest tests/unit/test_markup_splits.py -k random
	TEST_KILLS=200 TEST_SERVICE_KILLS=50 $(BIN)/pytest tests/process/test_journal_kill.py tests/process/test_service_kill.py
	TEST_FILE_KILLS=100 $(BIN)/pytest tests/process/test_files_kill.py -k whole
	PARITY=5000 $(BIN)/pytest tests/contract/test_parity.py
	TEST_DRILLS=all $(BIN)/pytest tests/process/test_shared_services.py
	TEST_DRILLS=all $(BIN)/pytest tests/contract/test_needles.py
	TEST_CASES=all $(BIN)/pytest tests/e2e/test_embedded_cases.py
	TEST_DRILLS=all $(BIN)/pytest -s tests/e2e/test_embedded_intents.py tests/e2e/test_embedded_maths.py tests/e2e/test_embedded_gaps.py tests/e2e/test_embedded_dialogues.py
	TEST_DRILLS=all $(BIN)/pytest -s tests/e2e/test_embedded_translation.py
	TEST_DRILLS=all TEST_WEIGHTS=qwen2.5-coder-1.5b-instruct $(BIN)/pytest tests -m embedded

bench: .venv/.dev .home/.weights .home/.vectors      ## the service beside a direct call to the same engine, as ratios
	$(BIN)/python -m bench.first_token
	$(BIN)/python -m bench.concurrency
	$(BIN)/python -m bench.embeddings
	$(BIN)/python -m bench.parser
	$(BIN)/python -m bench.documents
	$(BIN)/python -m bench.retrieval
	$(BIN)/python -m bench.long_documents

bench-gateway: .venv/.dev        ## what a gateway costs, beside nginx, vllm-router and LiteLLM; ARGS="--seconds 2 --rounds 1" are passed on
	$(BIN)/python -m bench.gateway $(ARGS)

docs: .venv/.dev                 ## write the generated documents anew
	$(BIN)/python scripts/make_docs.py

clean:
	rm -rf .venv .home tests/e2e/node_modules

.venv/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hanlin needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.pip requirements/run.lock pyproject.toml
	@echo "Installing Hanlin and its locked dependencies into .venv …"
	@$(INSTALL) --require-hashes -r requirements/run.lock
	@$(INSTALL) --no-deps -e .
	@touch $@

.venv/.dev: .venv/.run requirements/dev.lock
	@echo "Installing the tools that tests need …"
	@$(INSTALL) --require-hashes -r requirements/dev.lock
	@touch $@

# In an environment of its own: these libraries want other versions of what Hanlin runs on.
.venv/.clients: .venv/.pip requirements/clients.lock
	@echo "Installing the clients that tests look through into .venv/clients …"
	@$(PYTHON) -m venv .venv/clients
	@.venv/clients/bin/python -m pip --disable-pip-version-check -q install --no-compile --require-hashes -r requirements/clients.lock
	@touch $@

.home/.weights: .venv/.run
	$(BIN)/hanlin pull qwen2.5-coder-0.5b-instruct --home .home
	@touch $@

.home/.vectors: .venv/.run
	$(BIN)/hanlin pull multilingual-e5-small --home .home
	@touch $@

tests/e2e/node_modules/.package-lock.json: tests/e2e/package-lock.json
	npm ci --prefix tests/e2e --no-audit --no-fund --loglevel=error
