# Needs make and a Python of 3.11 or newer with venv and pip; everything else is installed into .venv (to use the program;
# no torch in it) and .venv-dev (to work on it). Stamps make second runs instant. `make PYTHON=python3.12 demo` chooses.

PYTHON ?= python3
PIP_QUIET = -q --disable-pip-version-check
FAST = not slow and not network and not gpu
# two processes, a file of tests in one of them: most tests wait for one thread
JOBS ?= 2
TWICE = -n $(JOBS) --dist loadfile

.PHONY: help demo test test-slow check bench docs audit sbom lock package clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       install into .venv, get the weights, describe a real face (first time: minutes)"
	@echo "make test       install into .venv-dev, run the quick tests"
	@echo "make test-slow  the tests that take longer"
	@echo "make check      lint, format, types, quick tests: what has to pass before a commit"
	@echo "make docs       the documentation as a site in build/site; warnings are errors"
	@echo "make audit      known vulnerabilities of what is installed (needs a network)"
	@echo "make sbom       what is installed, as CycloneDX, in dist/"
	@echo "make lock       requirements-dev.lock: exact versions with hashes; 'make test LOCKED=1' installs those"
	@echo "make package    sdist and wheel in dist/, checked"
	@echo "make bench      speed beside peers, in one run and one table"
	@echo "make clean      remove environments and caches of this folder (weights stay in the user's cache)"

demo: .venv/.weights
	@.venv/bin/python examples/demo.py

test: .venv-dev/.weights
	.venv-dev/bin/python -m pytest $(TWICE) -m "$(FAST)"

test-slow: .venv-dev/.weights
	.venv-dev/bin/python -m pytest -m "slow and not network and not gpu"

check: .venv-dev/.weights
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/pyright --pythonpath .venv-dev/bin/python
	.venv-dev/bin/bandit -q -r src -c pyproject.toml
	.venv-dev/bin/python -m pytest $(TWICE) -m "$(FAST)"

# 0: nothing known, 1: vulnerabilities are known, 2: nobody could be asked
audit: .venv-dev/.installed
	@.venv-dev/bin/python tests/packaging/audit.py

sbom: .venv-dev/.installed
	@mkdir -p dist
	.venv-dev/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o dist/facellava-sbom.cdx.json .venv-dev/bin/python

# what the tests ran with, of this Python and this system
lock: .venv-dev/.installed
	.venv-dev/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > .venv-dev/pins.txt
	.venv-dev/bin/uv pip compile .venv-dev/pins.txt --no-deps --python .venv-dev/bin/python --generate-hashes --no-emit-index-url --no-annotate -q -o requirements-dev.lock --custom-compile-command "make lock"

package: .venv-dev/.installed
	rm -rf dist/*.whl dist/*.tar.gz
	.venv-dev/bin/python -m build --outdir dist
	.venv-dev/bin/python -m twine check --strict dist/*.whl dist/*.tar.gz

docs: .venv-dev/.installed
	NO_MKDOCS_2_WARNING=1 .venv-dev/bin/python -m mkdocs build --strict

bench: .venv-dev/.weights
	.venv-dev/bin/python benchmarks/run.py --json benchmarks/results/speed.json
	.venv-dev/bin/python benchmarks/table.py benchmarks/results/speed.json docs/performance.md

clean:
	rm -rf .venv .venv-dev demo-output build dist .pytest_cache .ruff_cache .hypothesis

%/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "facellava needs Python 3.11 or newer, and $(PYTHON) is %d.%d: name another one with PYTHON=..." % v[:2])'
	@$(PYTHON) -m venv --clear $* || { rm -rf $*; echo "facellava: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@

.venv/.installed: pyproject.toml | .venv/.created
	@echo "installing into .venv ..."
	@.venv/bin/python -m pip install $(PIP_QUIET) -e '.[demo]'
	@touch $@

.venv-dev/.installed: pyproject.toml requirements-dev.txt | .venv-dev/.created
	@echo "installing into .venv-dev ..."
	@if [ -n "$(LOCKED)" ]; then \
	  .venv-dev/bin/python -m pip install $(PIP_QUIET) --no-deps --require-hashes -r requirements-dev.lock && \
	  .venv-dev/bin/python -m pip install $(PIP_QUIET) --no-deps -e .; \
	else .venv-dev/bin/python -m pip install $(PIP_QUIET) -r requirements-dev.txt; fi
	@touch $@

.venv/.weights: src/facellava/weights/registry.toml .venv/.installed
	@.venv/bin/facellava weights pull
	@touch $@

# without a connection the tests that need weights are skipped, and the next run tries again
.venv-dev/.weights: src/facellava/weights/registry.toml .venv-dev/.installed
	@if .venv-dev/bin/facellava weights pull; then touch $@; else echo "going on without weights: tests that need them are skipped"; fi
