SHELL := /bin/bash
.DELETE_ON_ERROR:
PYTHON ?= python3
# Another pair of Salt and Python: make unit PYTHON=python3.10 SALT=3006 VENV=.nox/3006-3.10
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
SALT :=
EXTRAS = libvirt,metrics,watch,tests$(if $(SALT),,$(TOOLS))
TOOLS := ,lint,package
ifneq ($(VENV),.venv)
# The lab and its sandbox run what is in there.
export KVMCLUSTER_VENV := $(abspath $(VENV))
endif

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | column -t -s '|'

dev: packages venv  ## install Debian packages, the guest image and the virtual environment

venv: $(STAMP)

packages:
	$(PYTHON) lab/ctl install

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check \
	  --editable '.[$(EXTRAS)]' $(if $(SALT),'salt==$(SALT).*')
	touch $(STAMP)

versions: $(STAMP)
	@$(BIN)/python -c 'import importlib.metadata as found, platform; print( \
	  "Salt", found.version("salt"), "on Python", platform.python_version())'

lint: $(STAMP)  ## ruff (format and lint), mypy --strict, and the package
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory package

package: $(STAMP)  ## sdist and wheel in dist/, checked
	rm -f dist/*.whl dist/*.tar.gz
	@# What git has, the sdist has; where there is no git, this is an sdist.
	test ! -e .git || $(BIN)/check-manifest --no-build-isolation
	@log=$$($(BIN)/python -m build --no-isolation 2>&1) || { echo "$$log"; exit 1; }
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/pyroma --min 10 --skip-tests AuthorEmail dist/*.tar.gz
	$(BIN)/python tools/package_check.py dist

release-check: package  ## whether what is in dist/ may be published: tag, changelog, URLs
	$(BIN)/python tools/package_check.py dist --release

test: dev  ## install all that is needed and run every tier
	$(MAKE) --no-print-directory --jobs 2 --output-sync lint unit sim
	$(MAKE) --no-print-directory functional
	$(MAKE) --no-print-directory lab-tests

# These two tiers use no plugin, and loading them costs a third of the first one; nor a log.
CORE_TESTS := PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/pytest -p no:logging
unit: $(STAMP)  ## core only: no process, no file
	$(CORE_TESTS) -m "not nightly" tests/unit

sim: $(STAMP)  ## the real engine in a simulated world in which anything fails
	$(CORE_TESTS) tests/sim

simulate: $(STAMP)  ## 100000 (SIMULATIONS) simulated runs of all kinds with faults, on all cores
	$(BIN)/python tests/sim/simulate.py $(or $(SIMULATIONS),100000)

SANDBOX := $(PYTHON) lab/ctl sandbox -- $(BIN)/pytest -m "not nightly"
REACTOR := tests/functional/test_reactor.py
MASTER := $(patsubst %,tests/functional/test_%.py,balance import master watch)
APPLIED := tests/functional/test_applied.py
AGENT := tests/functional/test_agent.py
MINION := $(patsubst %,tests/functional/test_%.py,beacon loader login mine)

functional: $(STAMP)  ## Salt's loader, a real master with minions, a real sshd, real files
	$(MAKE) --no-print-directory --jobs --output-sync functional-reactor functional-master \
	  functional-applied functional-minion functional-agent functional-node

# Side by side, each in a sandbox of its own: the first needs a master that reacts, which would
# repair what the others break; most of them wait more than they compute.
functional-reactor:
	$(SANDBOX) $(REACTOR)

functional-master:
	$(SANDBOX) $(MASTER)

functional-applied:
	$(SANDBOX) $(APPLIED)

functional-minion:
	$(SANDBOX) $(MINION)

functional-agent:
	$(SANDBOX) $(AGENT)

functional-node:
	$(SANDBOX) $(addprefix --ignore ,$(REACTOR) $(MASTER) $(APPLIED) $(MINION) $(AGENT)) tests/functional

# loadfile: a file's tests share what it prepares. Files begin with the longest, see conftest.py.
LAB := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=25

lab-tests: $(STAMP)  ## whole clusters, three side by side: real sshd, libvirtd, QEMU, Salt, GlusterFS
	$(LAB) -m "not nightly" tests/lab

# On Debian 13: lab/debian trixie -- make lab-pair VENV=...
lab-pair: dev  ## a selection of the lab's tests, for a pair of Salt and Python (VENV)
	$(BIN)/pytest --durations=10 -m pair tests/lab

matrix:  ## unit and functional tests on every other pair of Salt and Python, the lab's on two
	$(PYTHON) tools/matrix.py

nightly: test  ## make test, and what takes too long for it: series of kills, starts and faults, ...
	KVMCLUSTER_KILLS=200 KVMCLUSTER_STARTS=100 $(LAB) tests/lab/test_kill.py tests/lab/test_start.py
	$(BIN)/pytest tests/unit --hypothesis-profile=nightly
	$(LAB) -m nightly tests/lab
	$(MAKE) --no-print-directory lab-login
	$(PYTHON) lab/ctl sandbox -- $(BIN)/pytest -m nightly $(REACTOR)
	$(MAKE) --no-print-directory docs browser
	$(MAKE) --no-print-directory simulate
	KVMCLUSTER_FAULTS_FILE=$(CURDIR)/.cache/faults-$$(git rev-parse HEAD).jsonl \
	  $(MAKE) --no-print-directory faults
	KVMCLUSTER_OPERATIONS_FILE=$(CURDIR)/.cache/operations-$$(git rev-parse HEAD).jsonl \
	  $(MAKE) --no-print-directory operations
	KVMCLUSTER_TRUST_KILLS_FILE=$(CURDIR)/.cache/trust-kills-$$(git rev-parse HEAD).jsonl \
	  $(MAKE) --no-print-directory trust-kills
	$(MAKE) --no-print-directory debian13

LOGIN := $(patsubst %,tests/lab/test_%.py,trust migrate recover start handover check)

lab-login: dev  ## the lab's main tests where nodes log in as another account than root, the master runs as salt
	KVMCLUSTER_LAB_LOGIN=migrator $(LAB) -m "not nightly" $(LOGIN)

browser: docs  ## the page of a cluster and the documentation in a real Chromium
	$(PYTHON) lab/ctl install --browser
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[browser]'
	$(PYTHON) lab/ctl sandbox -- $(BIN)/pytest tests/browser

faults: dev  ## 300 (FAULTS) real migrations with faults; goes on where it stopped
	$(BIN)/python tests/lab/series.py $(SERIES)

MAIN := $(patsubst %,tests/lab/test_%.py,migrate handover check definitions_kept options contract) \
  tests/lab/test_trust.py::test_a_prepare_waits_for_penalties

lab-main: demo  ## the demo and the lab's main tests
	$(BIN)/pytest --durations=10 $(MAIN)

debian13:  ## the demo and the lab's main tests in a Debian 13 system of their own
	$(PYTHON) lab/debian trixie -- make lab-main

demo: dev  ## the whole setup, step by step
	$(BIN)/python lab/demo

demo-ha: dev  ## nodes fail, and their guests come back: Corosync, Pacemaker, fencing
	$(BIN)/python lab/demo-ha

kills: dev  ## 20 nodes that fail while Pacemaker guards their guests; goes on where it stopped
	$(BIN)/python tests/lab/kills.py

trust-kills: dev  ## 200 kills amid changes of ssh's files, 200 amid rotate, and no login fails; goes on where it stopped
	$(BIN)/python tests/lab/trust_kills.py

operations: dev  ## 100 random operations on guests that Pacemaker manages; goes on where it stopped
	$(BIN)/python tests/lab/operations.py

lab: dev  ## bring the lab up and leave it for you (lab/ctl down ends it)
	$(PYTHON) lab/ctl up

bench: dev  ## side-by-side measurements
	$(BIN)/python benchmarks/versions.py
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/lab.py
	$(BIN)/python benchmarks/readiness.py
	$(BIN)/python benchmarks/placement.py
	$(BIN)/python benchmarks/capacity.py
	$(BIN)/python benchmarks/beacon.py
	$(BIN)/python benchmarks/migration.py
	$(BIN)/python benchmarks/handover.py
	$(BIN)/python benchmarks/drain.py

changelog: $(STAMP)  ## what the fragments in changelog/ make of CHANGELOG.md
	@$(BIN)/towncrier build --draft --version unreleased 2>/dev/null

wheelhouse:  ## wheels for nodes in dist/wheelhouse: PYTHONS="..." here, or SUITES="..." in Debians of their own
ifdef SUITES
	for suite in $(SUITES); do $(PYTHON) tools/wheelhouse.py --suite $$suite || exit; done
else
	$(PYTHON) tools/wheelhouse.py $(PYTHONS)
endif

deb:  ## the Debian package in dist/deb, built, checked and installed in Debians of their own (SUITES)
	for suite in $(or $(SUITES),bookworm trixie); do \
	  $(PYTHON) lab/debian $$suite -- tools/deb.sh .cache/deb && mkdir -p dist/deb/$$suite && \
	  cp .cache/debian/$$suite/root/opt/kvmcluster/.cache/deb/*.deb dist/deb/$$suite || exit; \
	done

docs: $(STAMP)  ## the documentation as HTML, in docs/_build
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python tools/docs_checks.py > docs/checks.md
	$(BIN)/python tools/docs_pillar.py > docs/pillar.md
	$(BIN)/python tools/docs_blockers.py > docs/blockers.md
	set -o pipefail; $(BIN)/towncrier build --draft --version Unreleased 2>/dev/null | sed 's,](docs/,](,' > docs/unreleased.md
	$(BIN)/sphinx-build --quiet -W --keep-going -E -b html docs docs/_build
	$(BIN)/python tools/docs_links.py docs/_build

# All but files are names of what is to be done.
.PHONY: $(shell sed -nE 's/^([a-z0-9-]+):.*/\1/p' $(MAKEFILE_LIST))
