# Two targets: `make lab` opens the course, `make test` proves that it works. Both need Python >= 3.11 and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: lab test clean help

help:
	@echo "make lab    install into $(VENV) and open JupyterLab on the course"
	@echo "make test   install what the tests need and run them all"
	@echo "make clean  remove $(VENV)"

lab: $(VENV)/installed
	$(BIN)/mesh lab

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

clean:
	rm -rf $(VENV)

# uv where it is installed, else venv and pip. constraints.txt holds the versions that were tested together.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "the lab needs Python 3.11 or newer; name one: make PYTHON=python3.12 lab" >&2; exit 1; }
	@if command -v uv >/dev/null; then uv venv --quiet --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi

define install
	@echo "installing the lab into $(VENV) (once; this takes a minute)"
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '$(1)'; \
	  else $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(1)'; fi
	@touch $@
endef

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.)

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[test])
