"""What ``make matrix`` says of each pair of Salt and Python: read from logs, and never left out."""

import re
from collections import Counter
from pathlib import Path

import matrix
from matrix import Outcome, Pair

FUNCTIONAL = """\
============================= test session starts ==============================
platform linux -- Python 3.10.13, pytest-9.2.0, pluggy-1.6.0
tests/functional/test_reactor.py ....                                    [100%]
================= 6 passed, 1 skipped, 1 deselected in 196.95s (0:03:16) ==================
=================================== FAILURES ===================================
FAILED tests/functional/test_doors.py::test_a[b c] - assert 1 == 2
ERROR tests/functional/test_doors.py::test_b - Timeout
============= 1 failed, 462 passed, 2 warnings, 1 error in 0.81s ==============
make: *** [Makefile:75: functional-node] Error 1
"""
OLD, USUAL, NEW = Pair("3006", "3.10"), Pair("3008", "3.11"), Pair("3008", "3.14")
REASON = "no python3.14; get it by pyenv install 3.14"


def outcome(step, text="", code=0, pair=OLD):
    return Outcome(pair, step, code, 61.4, Path("a.log"), *matrix.read(text))


def test_a_log_of_several_runs_is_added_up():
    counts, failed, versions = matrix.read(FUNCTIONAL)
    assert counts == Counter(passed=468, failed=1, skipped=1, error=1)
    assert failed == (
        "tests/functional/test_doors.py::test_a[b c]",
        "tests/functional/test_doors.py::test_b",
    )
    assert versions == ""


def test_a_row_says_what_came_of_it():
    said = [
        outcome("install", "a\nSalt 3006.30 on Python 3.10.13\n"),
        outcome("unit", "=== 8356 passed in 132.41s (0:02:12) ===\n"),
        outcome("functional", FUNCTIONAL, code=2),
        outcome("functional", "make: *** No rule", code=2),
    ]
    assert [matrix.row(one) for one in said] == [
        "3006  3.10    install     Salt 3006.30 on Python 3.10.13  (61 s)",
        "3006  3.10    unit        8356 passed  (61 s)",
        "3006  3.10    functional  468 passed, 1 skipped, 1 failed, 1 error: see a.log  (61 s)",
        "3006  3.10    functional  broken off: see a.log  (61 s)",
    ]


def test_the_table_has_every_pair_whatever_became_of_it():
    outcomes = [
        *(outcome("unit", "= 2 passed in 1s =", pair=pair) for pair in matrix.PAIRS[:-1]),
        outcome("functional", FUNCTIONAL, code=2),
    ]
    lines = matrix.table(outcomes, {(NEW, "all"): REASON}, USUAL).splitlines()
    for pair in matrix.PAIRS:
        assert any(line.split()[:2] == [pair.salt, pair.python] for line in lines), pair
    assert f"3008  3.14    all         NOT AVAILABLE: {REASON}" in lines
    assert "3008  3.11    all         make test runs this pair" in lines
    assert sum("failed: tests/functional/test_doors.py::test_a[b c]" in line for line in lines) == 1


def test_the_verdict_names_what_failed_and_what_was_not_run():
    good, bad = outcome("unit"), outcome("functional", FUNCTIONAL, code=2)
    assert matrix.verdict([good], {}) == "all that ran passed"
    assert (
        matrix.verdict([good], {(NEW, "all"): REASON})
        == "all that ran passed; not available: 3008-3.14 all"
    )
    assert matrix.verdict([good, bad], {(NEW, "all"): REASON}) == (
        "failed: 3006-3.10 functional; not available: 3008-3.14 all"
    )


def test_pairs_are_what_the_package_says_of_itself():
    project = (matrix.PROJECT / "pyproject.toml").read_text()
    pythons = {pair.python for pair in matrix.PAIRS}
    listed = set(re.findall(r"Programming Language :: Python :: (3\.\d+)", project))
    assert listed == pythons
    assert f'requires-python = ">={min(pythons, key=lambda name: int(name[2:]))}"' in project
