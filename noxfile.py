"""Sessions for nox; each runs what the Makefile says. ``nox --list`` shows them."""

import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent / "tools"))

import matrix

nox.options.sessions = ["lint", "docs", "tests"]


def pairs(*wanted):
    return nox.parametrize("pair", [nox.param(pair, id=pair.name) for pair in wanted])


def make(session, pair, *targets, suite=""):
    try:
        session.run(*matrix.command(pair, targets, suite))
    except matrix.NotAvailable as error:
        session.error(f"NOT AVAILABLE: {error}")


@nox.session(python=False)
def lint(session):
    """Format, style, types, and the package."""
    session.run("make", "lint")


@nox.session(python=False)
def docs(session):
    """The documentation as HTML, in docs/_build."""
    session.run("make", "docs")


@nox.session(python=False)
@pairs(*matrix.PAIRS)
def tests(session, pair):
    """Unit and functional tests, or the named targets of the Makefile, with one Salt and Python."""
    make(session, pair, "dev", *(session.posargs or matrix.TIERS))


@nox.session(python=False)
@pairs(*dict(matrix.LABS))
def lab(session, pair):
    """A selection of the lab's tests: the oldest pair on this system, a new one on Debian 13."""
    make(session, pair, "lab-pair", suite=dict(matrix.LABS)[pair])
