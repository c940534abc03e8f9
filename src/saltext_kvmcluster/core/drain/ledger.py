"""What became of each node in a run of maintenance: noted step by step, reported in the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saltext_kvmcluster.core.drain import assessment
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.text import counted, listed, printable

DONE, SKIPPED, FAILED, WAITS, BEFORE = "done", "skipped", "failed", "not begun", "done before"
PLANNED = "would do"
NOTHING = "nothing to update, and no reboot is due"
EVERYTHING = {"skip": False, "drain": True, "update": True, "reboot": False, "left": []}
"""What there is to do on a node that was not assessed."""


@dataclass
class NodeEntry:
    """What was done to one node.

    ``step``: the one at which it failed. ``todo``: its assessment. ``moved`` and the others are
    guests.
    """

    state: str = WAITS
    step: str = ""
    todo: Mapping[str, Any] = field(default_factory=lambda: EVERYTHING)
    moved: list[str] = field(default_factory=list)
    shut_down: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    stay: list[str] = field(default_factory=list)
    rebooted: bool = False
    detail: str = ""

    def finish(self, test: bool = False) -> None:
        """Take in that all steps were done; under ``test``, that none was."""
        if self.state == WAITS:
            self.state = PLANNED if test else DONE
            self.detail = assessment.steps(self.todo) if test else self.detail

    def fail(self, step: str) -> None:
        """Take in which step failed."""
        self.state, self.step = FAILED, step

    def summary(self) -> str:
        """Return what was done, in a line."""
        parts = [f"failed: {self.step}"] if self.state == FAILED else []
        parts += [self.detail] if self.detail else []
        parts += [f"{counted(len(self.moved), 'guest')} moved"] if self.moved else []
        for what, names in (
            ("shut down", self.shut_down),
            ("started again", self.started),
            ("ran already", self.ran),
            ("stays", self.stay),
        ):
            parts += [f"{what}: {listed(map(printable, names))}"] if names else []
        off = [guest for guest in self.shut_down if guest not in self.started + self.ran]
        if off and self.state != DONE:
            parts.append(f"still off: {listed(map(printable, off))}")
        parts += ["rebooted"] if self.rebooted else []
        return "; ".join(parts)


class Ledger:
    """The nodes of one run, in order."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeEntry] = {}
        self._named: Mapping[str, Iterable[str]] | None = None

    def name(self, stuck: Mapping[str, Iterable[str]]) -> None:
        """Take in which guests cannot be moved, by node: those of no other name are shut down."""
        self._named = stuck

    def named(self, node: str) -> list[str] | None:
        """Return which guests of a node were named; None if none were looked for."""
        return None if self._named is None else [*self._named.get(node, ())]

    def of(self, node: str) -> NodeEntry:
        """Return a node's entry; a new one if it has none."""
        return self.nodes.setdefault(node, NodeEntry())

    def before(self, done: Mapping[str, str]) -> None:
        """Take in which nodes an earlier run has done, and what each one's report was."""
        for node, what in done.items():
            self.nodes[node] = NodeEntry(BEFORE, detail=what)

    def expect(self, nodes: Iterable[str]) -> None:
        """Take in which nodes are to be done."""
        for node in nodes:
            self.of(node)

    def evacuated(self, node: str, data: Mapping[str, Any]) -> None:
        """Take in what an evacuation returned."""
        one = self.of(node)
        one.moved = [row["guest"] for row in data.get("moved", ())]
        one.stay = list(data.get("stay", ()))
        one.shut_down += [row["guest"] for row in data.get("shut_down", ()) if row["ok"]]

    def restored(self, node: str, data: Mapping[str, Any]) -> None:
        """Take in which guests were started again, or found to run."""
        one = self.of(node)
        for row in data.get("started", ()):
            if row["ok"]:
                (one.ran if row["result"] == startup.RUNNING else one.started).append(row["guest"])

    def text(self) -> str:
        """Return the report, a line for each node."""
        width = max((len(node) for node in self.nodes), default=0)
        return "\n".join(
            f"{node.ljust(width)}  {one.state.ljust(len(BEFORE))}  {one.summary()}".rstrip()
            for node, one in self.nodes.items()
        )
