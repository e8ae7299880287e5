# make install: a virtual environment in .venv.  make run: the nas workflow on shipped data.  make test: lint, types, tests.
# PYTHON selects the interpreter (3.10 to 3.12). PIP_ARGS is passed to pip, PYTEST_ARGS to pytest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
FOLDERS := src hpc workflows site_configs tests benchmarks

.PHONY: install run test lint types unit clean

install: $(READY)

run: $(READY)
	$(BIN)/python workflows/nas.py --site local

test: lint types unit

lint: $(READY)
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)

# mypy does not follow the import hooks of an editable install, so links lay the package out as it is installed
types: $(READY)
	@rm -rf build/types && mkdir -p build/types/quatrain
	@ln -s $(CURDIR)/src/quatrain/* build/types/quatrain/
	@ln -s $(CURDIR)/hpc $(CURDIR)/workflows $(CURDIR)/site_configs build/types/quatrain/
	MYPYPATH=build/types $(BIN)/mypy -p quatrain

unit: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"quatrain needs Python 3.10 to 3.12, this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_ARGS) -c constraints.txt -e '.[all,test]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info
