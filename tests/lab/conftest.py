"""One lab for the session, prepared, and taken down at the end."""

import os

import pytest
from labs import ROOT, Lab

__all__ = ["ROOT", "Lab"]
# The files that take longest come first, so that none is left over for one process in the end.
LONGEST = [
    *("drain", "recover", "handover", "guards", "migrate", "rolling", "pacemaker", "check"),
    *("beacon", "reactor"),
    *("trust", "progress", "pacing", "options", "start", "queue", "lab_itself"),
]


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.path.stem.removeprefix("test_")
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def bare_lab():
    """A lab with nothing prepared yet; each of several processes has one of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    name = os.environ.get("KVMCLUSTER_LAB", "test") + worker
    lab = Lab(name)
    lab.ctl("down")
    lab.ctl("up", timeout=300)
    try:
        yield lab
    finally:
        lab.ctl("down")


@pytest.fixture(scope="session")
def first_prepare(bare_lab):
    """What the first run of the orchestration returned."""
    return bare_lab.prepare()


@pytest.fixture(scope="session")
def prepared_lab(bare_lab, first_prepare):
    """A lab whose nodes trust each other."""
    failed = [
        f"{name}: {state['comment']}"
        for name, state in first_prepare.items()
        if not state["result"]
    ]
    # Not by assert, which would cut the text.
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)
    return bare_lab


@pytest.fixture
def lab(prepared_lab):
    return prepared_lab
