# Each target sets up all it needs from nothing: a virtual environment in .venv, from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint bench checkpoints soak wheel clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[envs,data,engines,dev]' tensorboard
	touch $@

demo: setup
	$(BIN)/worldloom train balls --out runs/demo
	$(BIN)/worldloom imagine runs/demo --frames 200 --out runs/demo/dream.mp4
	$(BIN)/worldloom evaluate runs/demo
	@echo "Open runs/demo/report.html and runs/demo/dream.mp4."

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks

# The models that come with the package: trains them, two hours on two cores, and measures them.
checkpoints: setup
	$(BIN)/python -m benchmarks checkpoints

soak: setup
	$(BIN)/python -m pytest -m soak --timeout 3600

# The wheel, with its real dependencies, in an environment that holds nothing else.
wheel: setup
	rm -rf build dist $(VENV)-wheel
	$(BIN)/python -m build --quiet --wheel
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	cd dist && ../$(VENV)-wheel/bin/worldloom train balls --debug --out run
	cd dist && ../$(VENV)-wheel/bin/worldloom evaluate run --starts 4 --prompt 2 --horizon 5 --count-horizon 5
	rm -rf build dist $(VENV)-wheel

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
