PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo lint test slow reliability golden bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: .venv/.installed ## virtual environment in .venv, with everything in it

demo: install ## train the default recipe on the digits
	$(BIN)/trainlab train

lint: install ## ruff: style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: install ## the quick tests
	$(BIN)/python -m pytest -n 2

slow: install ## the long tests, and those on real data (TRAINLAB_DATA)
	$(BIN)/python -m pytest -n 2 -m slow

reliability: install ## kills, damage, full disks, odd input, for minutes; counts at the end
	$(BIN)/python -m pytest -m reliability tests/reliability

golden: install ## train the golden runs anew, show what moved, and keep it
	$(BIN)/python tests/golden.py --write

bench: install ## speed against peers, as ratios
	$(BIN)/python -m benchmarks

clean: ## remove what can be made again (not outputs/)
	rm -rf .venv dist build .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
