"""The doors' functions as pages of documentation: who calls which, and its docstring as fields.

The groups here are the one place that says for whom a function is. ``docs/_ext/doors.py`` puts
their text into the pages of ``docs/ref``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_PACKAGE = "saltext_kvmcluster"
_NAMES = re.compile(r"\w+(, \w+)*")
_PAGE = re.compile(r"\bdocs/([\w-]+)\.md")


@dataclass(frozen=True)
class Group:
    """Functions that belong together on the page of their door."""

    title: str
    text: str
    names: tuple[str, ...]
    plumbing: bool = False


@dataclass(frozen=True)
class Door:
    """One of the loader's modules: what is typed before its functions, and their groups."""

    folder: str
    command: str
    groups: tuple[Group, ...]


DOORS: dict[str, Door] = {
    "runner": Door(
        "runners",
        "salt-run ",
        (
            Group(
                "What is there, is anything wrong",
                "They change nothing.",
                (
                    "status",
                    "watch",
                    "check",
                    "job",
                    "history",
                    "capacity",
                    "report",
                    "metrics",
                ),
            ),
            Group(
                "Guests",
                "A guest is found by its name, wherever it is.",
                (
                    "migrate",
                    "cancel",
                    "recover",
                    "start",
                    "shutdown",
                    "reboot",
                    "freeze",
                    "unfreeze",
                    "console",
                    "display",
                ),
            ),
            Group(
                "Nodes",
                "``kvmcluster.reboot``, above, reboots nodes as well.",
                ("drain", "undrain", "cordon", "uncordon", "evacuate", "restore", "balance"),
            ),
            Group(
                "Setting up",
                "The steps of ``kvmcluster.orch.prepare``, what leads there, and new keys.",
                ("members", "publish", "ssh_matrix", "rotate", "import_cluster_conf"),
            ),
            Group(
                "High availability",
                "Once guests are given to Pacemaker, by ``kvmcluster.orch.ha``.",
                ("ha_preflight", "fence_test"),
            ),
            Group(
                "Maintenance",
                "The steps of ``kvmcluster.orch.maintenance`` and ``kvmcluster.orch.rolling``, each"
                " of which can be tried by itself.",
                ("preflight", "assess", "sls_check", "apply"),
            ),
            Group(
                "Plumbing",
                "Called by the master's reactor and by orchestrations, not by people.",
                ("react", "rolling", "rolling_done"),
                plumbing=True,
            ),
        ),
    ),
    "module": Door(
        "modules",
        "salt NODE ",
        (
            Group(
                "What is here, is anything wrong",
                "They change nothing.",
                (
                    "guests",
                    "check",
                    "job",
                    "history",
                    "peers",
                    "ssh_check",
                    "state_jobs",
                    "sls_check",
                    "boot",
                ),
            ),
            Group(
                "Guests of this node",
                "The runner's functions of the same names find the guest themselves.",
                (
                    "migrate",
                    "cancel",
                    "recover",
                    "start",
                    "shutdown",
                    "reboot_guest",
                    "freeze",
                    "unfreeze",
                ),
            ),
            Group("This node", "", ("cordon", "uncordon")),
            Group(
                "Called by Salt and systemd",
                "The mine and a unit call these; by hand they do no harm.",
                ("identity", "leave"),
                plumbing=True,
            ),
            Group(
                "Plumbing",
                "Called by the runner, not by people. What they take and return may change with"
                " any release.",
                (
                    "facts",
                    "peer_facts",
                    "inspect",
                    "sighting",
                    "access",
                    "responds",
                    "depart",
                    "departed",
                    "unsettled",
                    "startable",
                    "start_assigned",
                    "restart_crashed",
                    "standby",
                    "unstandby",
                    "fence_devices",
                    "fence",
                    "reboot",
                    "rotation",
                    "rotation_accept",
                    "rotation_begin",
                    "rotation_swap",
                    "rotation_end",
                ),
                plumbing=True,
            ),
        ),
    ),
    "state": Door(
        "states",
        "",
        (
            Group(
                "For your SLS: guests",
                "Place and start guests in a highstate of all nodes.",
                ("guest_placed", "guest_running", "migration_ready", "disk_leases"),
            ),
            Group(
                "For your SLS: trust",
                "The SLS ``kvmcluster`` has all four.",
                ("key_present", "authorized_keys", "known_hosts", "ssh_config"),
            ),
            Group(
                "For your SLS: high availability",
                "The SLS ``kvmcluster.ha`` and those beside it have them in the order in which"
                " ``kvmcluster.orch.ha`` applies them.",
                (
                    "ha_pillar",
                    "ha_fence_agents",
                    "ha_authkey",
                    "ha_corosync",
                    "ha_secrets",
                    "ha_properties",
                    "ha_fencing",
                    "ha_guests",
                ),
            ),
            Group(
                "For orchestrations",
                "They call the runner, so they work in ``salt-run state.orchestrate`` alone: use"
                " them in orchestrations of your own as those in ``kvmcluster.orch`` do.",
                (
                    "identities_published",
                    "ssh_ready",
                    "preflight",
                    "ha_preflight",
                    "sls_ready",
                    "assessed",
                    "drained",
                    "applied",
                    "reboot",
                    "undrained",
                    "restored",
                    "migration_settled",
                    "reported",
                ),
            ),
            Group(
                "Plumbing",
                "Parts of the orchestrations that come with the extension.",
                ("refused", "rolling", "rolling_done"),
                plumbing=True,
            ),
        ),
    ),
}


def functions(door: Door) -> dict[str, Callable[..., Any]]:
    """Return the public functions of a door by name, in the order of the source."""
    module = importlib.import_module(f"{_PACKAGE}.{door.folder}.kvmcluster")
    return {
        name: one
        for name, one in vars(module).items()
        if inspect.isfunction(one) and one.__module__ == module.__name__ and name[0] != "_"
    }


def document(key: str) -> str:
    """Return a door's groups as reStructuredText: for each a title, a table, and its functions."""
    known = functions(DOORS[key])
    return "\n".join(line for group in DOORS[key].groups for line in _group(key, group, known))


def _group(key: str, group: Group, known: dict[str, Callable[..., Any]]) -> Iterator[str]:
    yield from (group.title, "-" * len(group.title), "")
    yield from (
        (".. container:: plumbing", "", f"   {group.text}") if group.plumbing else (group.text,)
    )
    yield ""
    yield from _overview(key, {name: known[name] for name in group.names})
    for name in group.names:
        yield from _function(key, name, known[name], group.plumbing)


def _overview(key: str, known: dict[str, Callable[..., Any]]) -> Iterator[str]:
    yield from (".. list-table::", "   :class: overview", "   :widths: auto", "")
    for name, function in known.items():
        yield f"   * - :py:func:`{name} <{key}.kvmcluster.{name}>`"
        yield f"     - {_first(function)}"
    yield ""


def _first(function: Callable[..., Any]) -> str:
    """Return the first sentence of a docstring."""
    paragraph = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0]


def _function(key: str, name: str, function: Callable[..., Any], plumbing: bool) -> Iterator[str]:
    yield f".. kvmcluster-function:: kvmcluster.{name}({', '.join(_arguments(function))})"
    yield f"   :module: {key}"
    if plumbing:
        yield "   :plumbing:"
    yield ""
    for line in fields(function).splitlines():
        yield f"   {line}" if line else ""
    yield ""


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [one for one in inspect.signature(function).parameters.values() if one.kind not in kinds]


def _arguments(function: Callable[..., Any]) -> Iterator[str]:
    for one in _parameters(function):
        yield one.name if one.default is one.empty else f"{one.name}={one.default!r}"


def fields(function: Callable[..., Any]) -> str:
    """Return a docstring with what Salt's style says of arguments and returns as a field list.

    Salt's style has the name of an argument, or several with commas, in a line of its own, and
    indented below it what it is.
    """
    names = {one.name for one in _parameters(function)}
    text = _PAGE.sub(r":doc:`/\1`", inspect.getdoc(function) or "")
    return "\n".join(line for block in _blocks(text) for line in _field(block, names))


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield what begins at the margin, each with all that is indented below it."""
    block: list[str] = []
    for line in text.splitlines():
        at_margin = line and not line.startswith(" ")
        if block and at_margin and (not block[-1] or block[-1].startswith(" ")):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _field(block: list[str], names: set[str]) -> list[str]:
    first = block[0]
    indented = len(block) > 1 and block[1].startswith(" ")
    if indented and _NAMES.fullmatch(first) and set(first.split(", ")) <= names:
        # Sphinx would take the first of two names for a type: each is a field of its own.
        each = ([f":param {name}:", *block[1:]] for name in first.split(", "))
        return [line for field in each for line in field]
    if first.startswith("Returns "):
        body = [first.removeprefix("Returns "), *block[1:]]
        return [":returns:", *(f"    {line}" if line else "" for line in body)]
    if first == "CLI Example:":
        return [".. rubric:: Example", *block[1:]]
    return block
