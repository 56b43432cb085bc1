# make demo        sets everything up and runs the main job on a simulated case: demo/report.html
# make test        sets everything up, checks the style and runs all rings of tests
# make benchmark   measures accuracy, time and memory against the peers; writes Docs/benchmarks.md
# make lint        ruff and pyright only

PYTHON ?= python3
# threads that spin while they wait make a busy machine ten times slower
export OMP_WAIT_POLICY := PASSIVE
BIN := .venv/bin
SETTINGS := pyproject.toml Testing/tools/setup_environment.sh

.PHONY: demo test lint benchmark clean

demo: .venv/.ready
	$(BIN)/irai demo --out demo

test: .venv/.ready .venv-newest/.ready .venv-federated/.ready build/openigtlink/.ready lint
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-report=xml
	PYTHONPATH=IRAIExtension .venv-federated/bin/python -m pytest -p no:cacheprovider -q Testing/federated
	cd Testing/scene && PYTHONPATH=../../IRAIExtension ../../.venv-newest/bin/python -m pytest -p no:cacheprovider -q .

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/pyright

benchmark: .venv/.ready .venv/.peers build/openigtlink/.ready
	$(BIN)/python Testing/benchmarks/run.py

.venv/.ready: $(SETTINGS)
	PYTHON=$(PYTHON) Testing/tools/setup_environment.sh main

.venv/.peers: .venv/.ready
	Testing/tools/setup_environment.sh peers

.venv-newest/.ready: Testing/requirements-scene-newest.txt Testing/tools/setup_environment.sh
	PYTHON=$(PYTHON) Testing/tools/setup_environment.sh newest

.venv-federated/.ready: Testing/requirements-federated.txt Testing/tools/setup_environment.sh
	PYTHON=$(PYTHON) Testing/tools/setup_environment.sh federated

build/openigtlink/.ready: Testing/tools/setup_environment.sh
	Testing/tools/setup_environment.sh openigtlink

clean:
	rm -rf .venv .venv-newest .venv-federated demo build .pytest_cache .ruff_cache .coverage coverage.xml
