"""The tests on every pair of Salt and Python, and a table of what came of it.

``make matrix`` runs all pairs but the one that ``make test`` runs; nox runs one by its name.
An interpreter is looked for on PATH and among pyenv's versions, activated or not; where there is
none, a Debian that has it is made and used as its place (lab/debian). What cannot be had is named.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LOGS = Path(".cache", "matrix")
TIERS = ("unit", "functional")
# Which Debian has which Python.
SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "forky"}
# What installing needs of an interpreter: pip, and the headers for libvirt-python.
PROBE = """
import ensurepip, os, sysconfig
os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))
"""
SUMMARY = re.compile(r"^=+ (\d+ .*) in \d[\d.]*s\b.*=+$", re.MULTILINE)
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)
VERSIONS = re.compile(r"^Salt (\S+) on Python (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Pair:
    salt: str
    python: str

    @property
    def name(self) -> str:
        return f"{self.salt}-{self.python}"


PAIRS = (
    Pair("3006", "3.10"),
    Pair("3006", "3.11"),
    *(Pair("3008", python) for python in ("3.10", "3.11", "3.12", "3.13", "3.14")),
)
NEWEST = PAIRS[-1].salt
# What passes the lab's selection, and in which Debian; empty for this machine's own system.
LABS = ((PAIRS[0], ""), (Pair(NEWEST, "3.13"), SUITES["3.13"]))


class NotAvailable(Exception):
    """What is missing here, and how to get it."""


Missing = dict[tuple[Pair, str], str]
"""Why a pair's step could not be run here."""


@dataclass(frozen=True)
class Outcome:
    """What came of one step with one pair."""

    pair: Pair
    step: str
    code: int
    seconds: float
    log: Path
    counts: Counter[str] = field(default_factory=Counter)
    failed: tuple[str, ...] = ()
    versions: str = ""

    @property
    def text(self) -> str:
        counts = ", ".join(f"{count} {word}" for word, count in self.counts.items())
        if self.code == 0:
            return counts or self.versions or "done"
        return f"{counts or 'broken off'}: see {self.log}"


def interpreter(version: str) -> str | None:
    """Return the path of a Python of this version with which the tests can be installed."""
    for path in candidates(version):
        # One of pyenv's shims is on PATH also for a version that is not activated, and fails.
        done = subprocess.run([path, "-c", PROBE], capture_output=True, check=False)
        if done.returncode == 0:
            return str(path)
    return None


def candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    for folder in os.get_exec_path():
        if (path := Path(folder, name)).is_file():
            yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"), reverse=True)


def command(pair: Pair, targets: Sequence[str], suite: str = "") -> list[str]:
    """Return what runs targets of the Makefile with a pair.

    suite
        The Debian in which; empty for this machine's system, if that has the Python.
    """
    words = ["make", "--no-print-directory", *targets]
    words += [f"SALT={pair.salt}", f"VENV=.nox/{pair.name}"]
    found = interpreter(pair.python) if not suite else None
    if found:
        return [*words, f"PYTHON={found}"]
    return [*debian(pair.python, suite), *words, f"PYTHON=python{pair.python}"]


def debian(version: str, suite: str = "") -> list[str]:
    """Return what runs a command on a Debian that has this Python."""
    name = f"python{version}"
    how = f"get it by pyenv install {version}, or packages {name}, {name}-venv and {name}-dev"
    missing = f"no {name} with venv and headers on PATH or among pyenv's versions"
    suite = suite or SUITES.get(version, "")
    if not suite:
        raise NotAvailable(f"{missing}; {how}")
    place = [sys.executable, "lab/debian", suite, "--"]
    done = subprocess.run(
        [*place, name, "--version"], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise NotAvailable(f"{missing}, and Debian {suite} was not to be had ({why}); {how}")
    return place


def run(pair: Pair, step: str, targets: Sequence[str], suite: str = "") -> Outcome:
    words = command(pair, targets, suite)
    log = LOGS / f"{pair.name}-{step}.log"
    # Each of these is a make of its own, whatever options this one was called with.
    ours = ("MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    started = time.monotonic()
    with open(PROJECT / log, "w", encoding="utf-8") as file:
        done = subprocess.run(
            words, stdout=file, stderr=subprocess.STDOUT, check=False, cwd=PROJECT, env=environment
        )
    seconds = time.monotonic() - started
    text = (PROJECT / log).read_text(encoding="utf-8", errors="replace")
    outcome = Outcome(pair, step, done.returncode, seconds, log, *read(text))
    print(row(outcome), flush=True)
    return outcome


def read(text: str) -> tuple[Counter[str], tuple[str, ...], str]:
    """Return from a log what pytest counted, which tests failed, and the versions."""
    counts: Counter[str] = Counter()
    for summary in SUMMARY.findall(text):
        for count, word in re.findall(r"(\d+) (failed|passed|skipped|error)", summary):
            counts[word] += int(count)
    versions = VERSIONS.search(text)
    return counts, tuple(FAILED.findall(text)), versions[0] if versions else ""


def row(outcome: Outcome) -> str:
    pair = outcome.pair
    where = f"{pair.salt:6}{pair.python:8}{outcome.step:12}"
    return f"{where}{outcome.text}  ({outcome.seconds:.0f} s)"


def table(outcomes: Sequence[Outcome], missing: Missing, usual: Pair) -> str:
    lines = [f"{'Salt':6}{'Python':8}{'tier':12}what came of it"]
    for pair in PAIRS:
        if pair == usual:
            lines.append(f"{pair.salt:6}{pair.python:8}{'all':12}make test runs this pair")
        for (which, step), reason in missing.items():
            if which == pair:
                lines.append(f"{pair.salt:6}{pair.python:8}{step:12}NOT AVAILABLE: {reason}")
        for outcome in outcomes:
            if outcome.pair == pair:
                lines.append(row(outcome))
                lines += [f"{'':26}failed: {name}" for name in outcome.failed]
    return "\n".join(lines)


def verdict(outcomes: Sequence[Outcome], missing: Missing) -> str:
    bad = [f"{one.pair.name} {one.step}" for one in outcomes if one.code]
    said = f"failed: {', '.join(bad)}" if bad else "all that ran passed"
    if missing:
        said += f"; not available: {', '.join(f'{pair.name} {step}' for pair, step in missing)}"
    return said


def main(pairs: Sequence[Pair]) -> int:
    """Install and compute with one pair, while the functional tests of others wait.

    Those wait more than they compute.
    """
    usual = Pair(NEWEST, "{}.{}".format(*sys.version_info))
    outcomes: list[Outcome] = []
    missing: Missing = {}
    waiting: list[Future[Outcome]] = []
    (PROJECT / LOGS).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as lane:
        for pair in pairs:
            if pair == usual:
                continue
            try:
                outcomes.append(run(pair, "install", ("dev", "versions")))
            except NotAvailable as error:
                missing[pair, "all"] = str(error)
                continue
            if outcomes[-1].code == 0:
                outcomes.append(run(pair, "unit", ("unit",)))
                waiting.append(lane.submit(run, pair, "functional", ("functional",)))
    outcomes += [future.result() for future in waiting]
    for pair, suite in LABS:
        try:
            outcomes.append(run(pair, "lab", ("lab-pair",), suite))
        except NotAvailable as error:
            missing[pair, "lab"] = str(error)
    print("\n" + table(outcomes, missing, usual))
    print("\n" + verdict(outcomes, missing))
    return 1 if any(outcome.code for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(PAIRS))
