"""The process that holds a lock: what it is, since when it has the lock, and what can be done.

A lock's file has one line, written by its holder: its process id, its start in clock ticks and the
time, in seconds, both since the node was started, and whose command it is part of, if not of one
on that node.
"""

from __future__ import annotations

from dataclasses import dataclass

from saltext_kvmcluster.core.text import one_line

LONGEST = 300
"""Bytes of a lock's file, and of a command line, that are read."""
STATE, BEGAN = 0, 19
"""Fields of a process's stat file, counted after its name; see proc(5)."""
_COMMAND = 100


@dataclass(frozen=True)
class Process:
    """What /proc reports of a process: its stat file and its command line, empty if it is gone."""

    stat: str
    command: str


@dataclass(frozen=True)
class Holder:
    """What holds a lock, as text, and the way out."""

    detail: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.detail}; {self.remedy}"


def line(pid: int, stat: str, uptime: str, requester: str = "") -> str:
    """Return the line that a process writes into the file of a lock that it has taken."""
    began = _fields(stat)[BEGAN : BEGAN + 1]
    return f"{pid} {(began or ['0'])[0]} {_seconds(uptime):.2f} {requester}".strip() + "\n"


def pid_of(text: str) -> int:
    """Return the process id in a lock's file; 0 if there is none."""
    first = text.partition(" ")[0]
    return int(first) if first.isascii() and first.isdecimal() and len(first) <= 10 else 0


def holder(node: str, path: str, text: str, found: Process, uptime: str) -> Holder:
    """Return what holds a lock.

    path
        The lock's file on ``node``, and ``text`` what is in it.
    found
        The process that it names, as it is now.
    uptime
        The node's /proc/uptime.
    """
    pid, fields = pid_of(text), _fields(found.stat)
    words = text.split()
    if not pid or len(words) < 3 or len(fields) <= BEGAN or fields[BEGAN] != words[1]:
        return Holder("its process is not known", f"to find it: on {node}: fuser -v {path}")
    command = one_line(found.command, _COMMAND) or "no command line"
    requester = f", for a command on {one_line(words[3])}" if len(words) > 3 else ""
    state, remedy = _way_out(node, pid, fields[STATE])
    held = max(0, round(_seconds(uptime) - _seconds(words[2])))
    detail = f"process {pid} ({command}){requester}, {state}, has held the lock for {held} s"
    return Holder(detail, remedy)


def _way_out(node: str, pid: int, state: str) -> tuple[str, str]:
    """Return a process's state as text, and what can be done about it."""
    if state == "T":
        return "stopped", (
            f"to let it go on: on {node}: kill -CONT {pid}; to end it: kill -KILL {pid}"
        )
    if state == "t":
        return "stopped by a debugger", f"end the debugger, or on {node}: kill -KILL {pid}"
    if state == "D":
        return "waiting for a disk or the network", (
            f"it ends when they respond, and cannot be killed before; to look at it: on {node}:"
            f" cat /proc/{pid}/stack"
        )
    return "running", (f"wait for its end; if it hangs: on {node}: kill {pid}")


def _fields(stat: str) -> list[str]:
    return stat.rpartition(")")[2].split()


def _seconds(text: str) -> float:
    try:
        return float(text.split()[0])
    except (ValueError, IndexError):
        return 0.0
