# Two commands are all a fresh machine needs: `make serve` and `make test`. Both make `.venv` first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test check schema bench lock clean

