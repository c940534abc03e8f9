"""What is run on a node to find out about Pacemaker there: argument lists with time limits.

Whether it runs comes first: its tools take longer than all else that is run before a migration, and
are run only where they have something to tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SECONDS = "5"
FENCER_SECONDS = "12"
"""A fencer may have to ask its devices, which it does one after another."""
CIB = "/var/lib/pacemaker/cib/cib.xml"
LONGEST = 1_000_000
"""Bytes of a definition, or of a kept CIB, that are read."""

_LIMITED = ("timeout", SECONDS)
_WITH_PROCESS = 4
"""Words of a hold's mark: verb, node, time, process; see core/ha/holds.py."""
_BEGAN = 19
"""The index of a process's start time in its stat file, counted after its name."""
PROCESS, STARTS, KEPT, NAME, STATUS, CONFIGURATION = (
    *("pcmk_process", "pcmk_starts", "pcmk_kept"),
    *("pcmk_name", "pcmk_status", "pcmk_cib"),
)
PRESENCE: Mapping[str, tuple[str, ...]] = {
    # The kernel keeps 15 characters of a process's name.
    PROCESS: ("pgrep", "-x", "pacemakerd|pacemaker[-_]remot"),
    STARTS: (
        *("find", "-L", "/etc/systemd/system", "-maxdepth", "2"),
        *("-path", "*.wants/pacemaker*.service"),
    ),
}
"""Whether it runs, and whether it starts with the node."""

AT_REST: Mapping[str, tuple[str, ...]] = {KEPT: ("head", "-c", str(LONGEST), "--", CIB)}
TOOLS: Mapping[str, tuple[str, ...]] = {
    NAME: (*_LIMITED, "crm_node", "-n"),
    STATUS: (
        *(*_LIMITED, "crm_mon", "-1", "--output-as=xml"),
        *("--exclude=all", "--include=summary,options,nodes,resources"),
    ),
    CONFIGURATION: (*_LIMITED, "cibadmin", "--query", "--local", "--scope=configuration"),
}
HISTORY, LEFT, STATES = "pcmk_history", "pcmk_left", "pcmk_states"
FENCING: Mapping[str, tuple[str, ...]] = {
    HISTORY: (
        *(*_LIMITED, "stonith_admin", "--history", "*", "--verbose"),
        "--output-as=xml",
    ),
    STATES: (
        *(*_LIMITED, "cibadmin", "--query", "--local", "--no-children"),
        *("--xpath", "/cib/status/node_state"),
    ),
    LEFT: (
        *(*_LIMITED, "cibadmin", "--query", "--local", "--no-children"),
        *("--xpath", "/cib/status/node_state/lrm"),
    ),
    CONFIGURATION: TOOLS[CONFIGURATION],
    STATUS: TOOLS[STATUS],
}
"""What is asked where a node is silent; its membership last, since it may be back by then."""


AGENT, AGENT_PATH = "ha_agent", "/usr/lib/ocf/resource.d/kvmcluster/VirtualDomain"
AGENTS: Mapping[str, tuple[str, ...]] = {
    AGENT: ("find", "-L", AGENT_PATH, "-maxdepth", "0", "-type", "f", "-perm", "/111")
}
"""Whether the resource agent of our own is installed."""


def fencers_key(node: str) -> str:
    """Return the key of the output that lists the fence devices which can fence a node."""
    return f"pcmk_fencers {node}"


def fencers_commands(nodes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the commands that ask the fencer of a node for the devices which can fence others.

    It knows more than the configuration says: lists that agents make, bans, devices that are
    disabled, a watchdog.
    """
    return {
        fencers_key(node): (
            *("timeout", FENCER_SECONDS, "stonith_admin"),
            *(f"--list={node}", "--output-as=xml"),
        )
        for node in nodes
        if node and node.isprintable() and "\ufffd" not in node
    }


def holder(mark: str, node: str) -> tuple[str, str]:
    """Return the number and the start time of the process that holds a guest from this node.

    Both are empty for the mark of a hold from another node, or of one without a process.
    """
    words = mark.split(" ")
    number, _, began = words[-1].partition(":") if len(words) == _WITH_PROCESS else ("", "", "")
    known = number.isdecimal() and number.isascii() and words[1] == node
    return (number, began) if known else ("", "")


def holder_key(number: str) -> str:
    """Return the key of the output that is the state of a process."""
    return f"pcmk_holder {number}"


def holder_commands(marks: Iterable[str], node: str) -> dict[str, tuple[str, ...]]:
    """Return the commands that look whether the processes run that hold guests from this node."""
    numbers = {holder(mark, node)[0] for mark in marks} - {""}
    return {holder_key(one): ("cat", f"/proc/{one}/stat") for one in sorted(numbers)}


def is_running(stat: str, began: str) -> bool:
    """Whether a process that began then runs, by its stat file; one that has ended does not."""
    fields = stat.rpartition(")")[2].split()
    return len(fields) > _BEGAN and fields[0] not in "ZX" and fields[_BEGAN] == began


def config_key(path: str) -> str:
    """Return the key of the output that is a definition's text."""
    return f"pcmk_config {path}"


def is_config(key: str) -> bool:
    """Whether an output is a definition's text."""
    return key.startswith(config_key(""))


def config_commands(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the commands that read the definitions that resources name."""
    return {
        config_key(path): (*_LIMITED, "head", "-c", str(LONGEST), "--", path)
        for path in paths
        if path.startswith("/") and path.isprintable() and "\ufffd" not in path
    }
