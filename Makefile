# Two commands: `make demo` trains on the embedded data and prints the result, `make test` runs all tests.
PYTHON ?= python3
BIN := .venv/bin

# glibc returns large freed blocks to the system, which costs tests on videos a tenth of their time in page faults;
# without bytecode every process that a test starts compiles the package again; two workers have a core each
QUICKLY := OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_MMAP_MAX_=0 PYTHONDONTWRITEBYTECODE=
ON_TWO_CORES := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-slow fuzz lint format benchmark clean

demo: .venv/ready
	$(BIN)/msafusion train --out runs/demo --overwrite

test: .venv/ready
	$(QUICKLY) $(BIN)/pytest -m "not slow" $(ON_TWO_CORES)

test-slow: .venv/ready
	$(QUICKLY) $(BIN)/pytest -m slow --timeout 900 $(ON_TWO_CORES)

# so many damaged files for each reader of foreign bytes; the table and what failed lie in runs/fuzz
FUZZ ?= 200
fuzz: .venv/ready
	OMP_NUM_THREADS=1 PYTHONPATH=tests/writers:tests/fuzz $(BIN)/python tests/fuzz/fuzzer.py --inputs $(FUZZ)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: .venv/ready
	$(BIN)/python benchmarks/module.py
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/startup.py

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch .venv/ready

# one set of docs/results.md: make results/smartwatch_exercises.json, make results/utd_mhad.json DATA=folder
results/%.json: .venv/ready FORCE
	$(BIN)/msafusion compare --data configs/$*.yaml $(if $(DATA),--data.root $(DATA)) --seeds 10 --out runs/compare/$*
	mkdir -p results && cp runs/compare/$*/results.json $@
	$(BIN)/python benchmarks/results.py

FORCE:

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache
