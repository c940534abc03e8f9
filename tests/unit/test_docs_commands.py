"""Every command that the documentation shows exists, and has the arguments that it shows."""

import inspect
import re
from pathlib import Path

import docs_reference
import pytest

PROJECT = Path(__file__).parent.parent.parent
PAGES = (
    PROJECT / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "docs" / "ref").glob("*.*")),
)
COMMAND = re.compile(
    r"\b(?P<run>salt-run|salt|salt-call)(?P<before>(?: +[^\s`]+)*?) +kvmcluster\.(?P<name>\w+)"
    r"(?P<rest>(?: +(?:'[^'\n]*'|[^\s`|]+))*)"
)
ARGUMENT = re.compile(r"(?<= )\[?([a-z_]+)=")
ORCHESTRATION = re.compile(r"\bkvmcluster\.((?:orch|ha)\.\w+)")
NAMES = {key: docs_reference.functions(door) for key, door in docs_reference.DOORS.items()}
STATES = PROJECT / "states" / "kvmcluster"


def faults(text):
    """Yield what a text shows of our commands that there is not."""
    for match in COMMAND.finditer(text):
        shown, before = " ".join(match.group().split()), match["before"]
        if "state." in before or "sys." in before or "mine." in before:
            continue
        functions = NAMES["runner" if match["run"] == "salt-run" else "module"]
        if match["name"] not in functions:
            yield f"{shown}: no such function"
            continue
        known = inspect.signature(functions[match["name"]]).parameters
        for name in ARGUMENT.findall(match["rest"]):
            if name not in known:
                yield f"{shown}: no such argument: {name}"
    for name in ORCHESTRATION.findall(text):
        path = STATES.joinpath(*name.split("."))
        if not path.with_suffix(".sls").is_file():
            yield f"kvmcluster.{name}: no such SLS"


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_what_is_shown_exists(page):
    assert list(faults(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`salt-run kvmcluster.drian node1`", "no such function"),
        ("`salt node1 kvmcluster.drain node1`", "no such function"),
        ("`salt-run kvmcluster.drain node1 tset=True`", "no such argument: tset"),
        ("`salt-run kvmcluster.migrate web1 [bandwith=5]`", "no such argument: bandwith"),
        ("`salt-run state.orchestrate kvmcluster.orch.prepar`", "no such SLS"),
    ],
)
def test_what_there_is_not_is_found(text, fault):
    assert fault in "".join(faults(text))


def test_what_there_is_is_not():
    text = """
    salt-run kvmcluster.migrate web1 node2 bandwidth=50 --out=json
    salt 'node*' -t 30 kvmcluster.ssh_check timeout=5
    salt-run state.orchestrate kvmcluster.orch.ha pillar='{"cluster": "a"}'
    """
    assert list(faults(text)) == []
