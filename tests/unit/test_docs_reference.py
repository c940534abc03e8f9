"""The reference has every function of every door once, by whom it is called, and its arguments."""

import inspect
import re
from pathlib import Path

import docs_reference
import pytest
from docs_reference import DOORS

PROJECT = Path(__file__).parent.parent.parent
FOLDERS = ("beacons", "modules", "output", "returners", "runners", "states")
FUNCTIONS = [
    pytest.param(key, name, one, id=f"{key}-{name}")
    for key, door in DOORS.items()
    for name, one in docs_reference.functions(door).items()
]
FOR_WHOM = re.compile(
    r"[Ff]or (``salt-run |``kvmcluster\.|the (orchestration|runner|unit)|reactors|orchestrations)"
)


@pytest.mark.parametrize("key", DOORS)
def test_every_function_is_in_one_group(key):
    listed = [name for group in DOORS[key].groups for name in group.names]
    there = docs_reference.functions(DOORS[key])
    where = "tools/docs_reference.py says for whom a function is"
    assert sorted(listed) == sorted(there), where
    assert len({group.title for group in DOORS[key].groups}) == len(DOORS[key].groups)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_loader_module_has_a_page(folder):
    package = PROJECT / "src" / "saltext_kvmcluster" / folder
    assert [path.stem for path in package.glob("[!_]*.py")] == ["kvmcluster"]
    page = {"modules": "module", "output": "outputter"}.get(folder, folder.rstrip("s"))
    text = (PROJECT / "docs" / "ref" / f"{page}.rst").read_text(encoding="utf-8")
    assert f"kvmcluster-door:: {page}" in text or f"saltext_kvmcluster.{folder}.kvmcluster" in text


@pytest.mark.parametrize(("key", "name", "function"), FUNCTIONS)
def test_every_argument_is_a_field(key, name, function):
    fields = docs_reference.fields(function)
    said = set(re.findall(r"^:param (\w+):$", fields, re.M))
    arguments = {one.name for one in docs_reference._parameters(function)}
    # The name of a state that is about no one thing is only its id.
    assert said <= arguments and arguments - said <= ({"name"} if key == "state" else set())


@pytest.mark.parametrize(("key", "name", "function"), FUNCTIONS)
def test_plumbing_says_who_calls_it_and_nothing_else_does(key, name, function):
    group = next(group for group in DOORS[key].groups if name in group.names)
    if group.plumbing:
        assert FOR_WHOM.search(inspect.getdoc(function)) or name == "identity"
    if key == "state":
        orchestrates = "For orchestrations" in inspect.getdoc(function)
        assert orchestrates == (group.title == "For orchestrations") or group.plumbing


@pytest.mark.parametrize(("key", "name", "function"), FUNCTIONS)
def test_a_function_has_an_example_of_its_own(key, name, function):
    example = inspect.getdoc(function).rpartition(".. code-block:: ")[2]
    assert f"kvmcluster.{name}" in example


def test_a_docstring_becomes_fields():
    def sample(guest, bandwidth=None, downtime=None):
        """Move a guest; docs/migrating.md has more.

        guest
            The guest's name.

        bandwidth, downtime
            How fast.

            At most.

        Returns ``{guest}``:
        what came of it.

        CLI Example:

        .. code-block:: bash

            salt-run kvmcluster.sample web1
        """

    assert docs_reference.fields(sample).splitlines() == [
        "Move a guest; :doc:`/migrating` has more.",
        "",
        ":param guest:",
        "    The guest's name.",
        "",
        *(":param bandwidth:", "    How fast.", "", "    At most.", ""),
        *(":param downtime:", "    How fast.", "", "    At most.", ""),
        ":returns:",
        "    ``{guest}``:",
        "    what came of it.",
        "",
        ".. rubric:: Example",
        "",
        ".. code-block:: bash",
        "",
        "    salt-run kvmcluster.sample web1",
    ]


def test_every_sls_has_its_section():
    page = (PROJECT / "docs" / "ref" / "sls.md").read_text(encoding="utf-8")
    root = PROJECT / "states"
    for path in root.rglob("*.sls"):
        name = path.relative_to(root)
        dotted = ".".join(name.with_suffix("").parts).removesuffix(".init")
        title = str(name) if "reactor" in name.parts else dotted
        assert f"\n### {title}\n" in page, title
