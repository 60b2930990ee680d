# Two commands do everything on a fresh Debian 12 or Ubuntu machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check-style system-packages clean

demo: $(READY)
	$(BIN)/quarterdose demo $(ARGS)

test: $(READY) system-packages
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Versions are pinned: what CI used is what everybody gets.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || deploy/system-packages.sh python3-venv
	@$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

# The peers that the tests talk to. Installed when we may (root), otherwise one line says what to install.
system-packages:
	@for program in storescu dciodvfy Orthanc nginx; do \
		PATH="$$PATH:/usr/sbin" command -v $$program >/dev/null || \
			exec deploy/system-packages.sh orthanc orthanc-dicomweb dcmtk dicom3tools nginx-light; \
	done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
