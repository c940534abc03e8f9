"""Corosync on a node: what corosync.conf says of its nodes and its quorum, and what runs.

See corosync.conf(5), votequorum(5) and corosync-quorumtool(8). Of the file only what is needed
leaves the node: ``totem: key`` may be in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from saltext_kvmcluster.core.pacemaker.pacemaker_tools import SECONDS
from saltext_kvmcluster.core.text import printable

CONF = "/etc/corosync/corosync.conf"
CONFIGURED, QUORUM = "corosync_conf", "corosync_quorum"
COMMANDS: Mapping[str, tuple[str, ...]] = {
    CONFIGURED: (
        *("grep", "-E"),
        r"^[[:space:]]*([a-z_]+[[:space:]]*\{|\}"
        r"|(name|ring[0-9]+_addr|two_node|wait_for_all|model)[[:space:]]*:)",
        CONF,
    )
}
RUNNING: Mapping[str, tuple[str, ...]] = {QUORUM: ("timeout", SECONDS, "corosync-quorumtool", "-s")}
"""What is run where Pacemaker runs."""

Output = tuple[int | None, str, str]
_NONE: Output = (None, "", "")
_NO_FILE = "No such file or directory"
_LONGEST = 253
_FLAGS = re.compile(r"^Flags:[ \t]*(.*)$", re.M)
_NUMBER = r"^{}:[ \t]*(\d{{1,9}})\b"
_VOTES = re.compile(r"^[ \t]+(\d{1,10})[ \t]+(\d{1,9})[ \t]+\S", re.M)
_OPENS = re.compile(r"\s*([a-z_]+)\s*\{")
_SETS = re.compile(r"\s*(\w+)\s*:\s*(.*)")


@dataclass(frozen=True)
class Corosync:
    """Corosync on a node.

    ``names`` are those of its nodes, empty for one without a name; ``two_node``, ``wait_for_all``
    and ``device`` (a quorum device) what the file says. ``flags`` are those that are in force, None
    where Corosync does not tell; ``total`` and ``quorum`` the votes that there are and that are
    needed, then, ``votes`` those of each member, by its number.
    """

    names: tuple[str, ...] = ()
    two_node: bool = False
    wait_for_all: bool = False
    device: bool = False
    flags: frozenset[str] | None = None
    total: int | None = None
    quorum: int | None = None
    votes: Mapping[str, int] = field(default_factory=dict)

    def is_quorate_without(self, number: str) -> bool | None:
        """Return whether there is quorum once a member has gone; None if that is not known."""
        if self.total is None or self.quorum is None or number not in self.votes:
            return None
        return self.total - self.votes[number] >= self.quorum


def parse(outputs: Mapping[str, Output]) -> Corosync | None:
    """Return Corosync on a node, without names where it is not configured; None if not known."""
    code, text, detail = outputs.get(CONFIGURED, _NONE)
    if code == 2 and detail.rstrip().endswith(_NO_FILE):
        return Corosync()
    if code not in (0, 1):
        return None
    names, quorum, device = _configured(text)
    two = quorum.get("two_node") == "1"
    in_force = outputs.get(QUORUM, _NONE)[1]
    return Corosync(
        tuple(names),
        two,
        quorum.get("wait_for_all", str(int(two))) == "1",
        device,
        _flags(in_force),
        _number(in_force, "Total votes"),
        _number(in_force, "Quorum"),
        {number: int(votes) for number, votes in _VOTES.findall(in_force)},
    )


def _configured(text: str) -> tuple[list[str], dict[str, str], bool]:
    """Return the nodes' names, the settings of the section quorum, and whether it has a device."""
    names, quorum, device = [], {}, False
    path: list[str] = []
    for line in text.splitlines():
        if opens := _OPENS.match(line):
            path.append(opens[1])
            if path == ["nodelist", "node"]:
                names.append("")
        elif line.strip().startswith("}"):
            path = path[:-1]
        elif sets := _SETS.match(line):
            key, value = sets[1], printable(sets[2].strip()[:_LONGEST])
            if path == ["nodelist", "node"] and key == "name":
                names[-1] = value
            elif path == ["quorum"]:
                quorum[key] = value
            device = device or (path == ["quorum", "device"] and key == "model")
    return names, quorum, device


def _flags(text: str) -> frozenset[str] | None:
    found = _FLAGS.search(text)
    return frozenset(found[1].split()) if found else None


def _number(text: str, label: str) -> int | None:
    found = re.search(_NUMBER.format(label), text, re.M | re.ASCII)
    return int(found[1]) if found else None
