# Every target does its own set-up: python3 (3.11 or newer) and make are enough; with a C compiler scores come faster.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# Small data and a shared machine: with more threads than free cores, gradient boosting spends its time waiting.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test check lint types imports notebooks lock lab bench-packaging bench-startup bench-serve bench-reasons sweep-kill sweep-fuzz bench-rationale bench-rollback sweep-promotion clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(READY): requirements.lock pyproject.toml hatch_build.py nbkit/package/_kernel.c
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "nbkit needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@# The lock is complete: without --no-deps, pip asks for newer versions of what has extras, and refuses them for want of a hash.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $(READY)

demo: $(READY)  ## Do the whole job on real mortgage decisions, in the empty folder demo/
	rm -rf demo && mkdir demo
	cd demo && ../$(BIN)/nbkit demo
	@echo "nbkit is $(BIN)/nbkit of this checkout; put it on the path: export PATH=\"$(CURDIR)/$(BIN):\$$PATH\""

test: $(READY)  ## Run the tests; gates, audit, contract and package must be covered fully, branches too
	$(BIN)/python -m pytest -q -n 2 --dist loadscope --cov --cov-report=
	$(BIN)/coverage report --skip-covered --fail-under=100 \
		--include="nbkit/gates/*,nbkit/audit/*,nbkit/contract/*,nbkit/package/*,nbkit/files.py"

sweep-promotion: $(READY)  ## Kill a promotion before each of its writes, on SQLite and PostgreSQL
	NBKIT_SWEEP=1 $(BIN)/python -m pytest -q tests/attacks/test_concurrency.py

notebooks: $(READY)  ## Run the notebooks and compare their outputs
	$(BIN)/python -m pytest -q --nbval-lax --nbval-sanitize-with setup.cfg notebooks

lint: $(READY)  ## Check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)  ## Check types
	$(BIN)/mypy

imports: $(READY)  ## Check that imports go down only
	$(BIN)/lint-imports

check: lint types imports test notebooks  ## Everything that .ci/run runs

lock:  ## Resolve requirements.lock again (hashes, every platform, no index named)
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--constraint constraints.txt --extra notebook --extra boosting --extra postgres --extra demo --group dev \
		pyproject.toml --output-file requirements.lock
	rm -rf $(VENV)-lock

lab: $(READY)  ## Open JupyterLab with nbkit ready, in notebooks/
	$(BIN)/jupyter lab --notebook-dir=notebooks

bench-packaging: $(READY)  ## Packaging and registering against plain mlflow.sklearn.log_model
	$(BIN)/python benchmarks/packaging.py

bench-startup: $(READY)  ## import nbkit and nbkit --help against their parts
	$(BIN)/python benchmarks/startup.py

bench-reasons: $(READY)  ## The reasons of one declined row against shap, LightGBM and XGBoost
	$(BIN)/python -P benchmarks/reasons.py  # -P: benchmarks/packaging.py is not the package that shap imports

.PHONY: bench-bootstrap bench-evaluate sweep-coverage sweep-millions
bench-bootstrap: $(READY)  ## Paired bootstrap of two versions against a loop over scikit-learn
	$(BIN)/python benchmarks/bootstrap.py

bench-evaluate: $(READY)  ## The evaluation of 100,000 cases against mlflow.models.evaluate
	$(BIN)/python benchmarks/evaluate.py

sweep-coverage: $(READY)  ## How often intervals hold the truth, and what the regression gate blocks (about 10 minutes)
	$(BIN)/python benchmarks/coverage.py

sweep-millions: $(READY)  ## The whole evaluation of ten million cases, with its peak of memory
	$(BIN)/python benchmarks/millions.py

bench-serve: $(READY)  ## The scoring service against mlflow models serve, MLServer, BentoML and FastAPI (makes their environments)
	$(BIN)/python benchmarks/serving/run.py

sweep-kill: $(READY)  ## Kill a worker under load a hundred times on SQLite and on PostgreSQL; nothing answered may be lost
	$(BIN)/python tests/faults/killing.py --kills 100

sweep-fuzz: $(READY)  ## Send 10,000 malformed bodies
	NBKIT_FUZZ_BODIES=10000 $(BIN)/python -m pytest -q tests/faults/test_fuzz.py

bench-rationale: $(READY)  ## The rationale document of a model of 30,000 rows against shap alone
	$(BIN)/python -P benchmarks/rationale.py

bench-rollback: $(READY)  ## nbkit rollback on SQLite, PostgreSQL and through a guarded server against the bare move of an alias
	$(BIN)/python -P benchmarks/rollback.py

clean:  ## Remove what the targets made, but never mlruns/
	rm -rf $(VENV) $(VENV)-lock demo dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
