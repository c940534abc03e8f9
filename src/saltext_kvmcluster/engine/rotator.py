"""Replaces the cluster key of nodes, one after another, from the master."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.core.trust import rotation
from saltext_kvmcluster.core.trust.rotation import Look
from saltext_kvmcluster.engine.fleet import ACTION, ASK_AGAIN, Fleet

ATTEMPTS = 3
"""How often a node is asked to accept what was published; the mine may be late."""


class Console(Protocol):
    """What the person at the terminal sees, and may interrupt."""

    def interrupted(self) -> bool: ...

    def show(self, line: str) -> None: ...


def rotate(nodes: Fleet, console: Console, work: Sequence[str], test: bool) -> dict[str, Any]:
    """Replace the keys of nodes, and return what became of each; the first that fails ends it."""
    rows: list[dict[str, Any]] = []
    for node in work:
        if rows and not rows[-1]["ok"] and not test:
            rows += [rotation.not_begun(one) for one in work[len(rows) :]]
            break
        rows.append(_Rotation(nodes, console, node).run(test))
    return rotation.result(nodes.cluster, rows, test)


class _Rotation:
    """The replacement of one node's key."""

    def __init__(self, nodes: Fleet, console: Console, node: str) -> None:
        self.nodes, self.console, self.node = nodes, console, node

    def run(self, test: bool) -> dict[str, Any]:
        """Replace it, or continue where another run was ended; see ``core.trust.rotation``."""
        seen = self._ask("kvmcluster.rotation", "looks at its key")
        why = rotation.refusal(self.nodes.cluster, self.node, seen)
        if why or seen.own is None:
            return rotation.row(self.node, "refused", seen, why=why)
        former = seen.own.former or seen.own.key
        if test:
            return rotation.row(self.node, "planned", seen, former, why=seen.own.phase)
        if seen.own.phase != rotation.SWAPPED:
            seen, why = self._replace()
            if why:
                return self._failed(seen, former, why)
        return self._clear(former)

    def _replace(self) -> tuple[Look, str]:
        """Have the node take another key in place of its own; return why it did not."""
        seen, why = self._step("kvmcluster.rotation_begin", "makes a key")
        if why or seen.own is None:
            return seen, why
        two = [seen.own.key, seen.own.next]
        seen = self._accepted(lambda found: found.without(two))
        if missing := seen.without(two):
            told = rotation.unknown(seen.failed)
            return seen, told or f"{listed(missing)} did not take over the second key"
        return self._step("kvmcluster.rotation_swap", "logs in everywhere with the new key")

    def _clear(self, former: str) -> dict[str, Any]:
        """Have every node accept the new key alone, and the record removed."""
        seen, why = self._step("kvmcluster.rotation_swap", "uses the new key")
        if why or seen.own is None:
            return self._failed(seen, former, why)
        key = seen.own.key
        if key == former:
            return self._failed(seen, former, "the second key is gone; its own was not replaced")
        seen = self._accepted(lambda found: found.beyond(key))
        if left := seen.beyond(key):
            why = rotation.left_sentence(left, seen.failed)
            return rotation.row(self.node, "left", seen, former, left, why)
        _, why = self._step("kvmcluster.rotation_end", "is done")
        if why:
            return self._failed(seen, former, why)
        return rotation.row(self.node, "replaced", seen, former)

    def _failed(self, seen: Look, former: str, why: str) -> dict[str, Any]:
        done = "interrupted" if self.console.interrupted() else "failed"
        return rotation.row(self.node, done, seen, former, why=why)

    def _accepted(self, missing: Any) -> Look:
        """Have all nodes accept what the node has published; ask those again that lag behind."""
        seen = self._ask("kvmcluster.rotation_accept", "every node takes over what it published")
        for _ in range(ATTEMPTS - 1):
            late = [node for node in missing(seen) if node not in seen.failed]
            if not late:
                break
            self.nodes.clock.wait(None, ASK_AGAIN / ATTEMPTS)
            seen = self._ask("kvmcluster.rotation_accept", f"again: {listed(late)}")
        return seen

    def _step(self, function: str, what: str) -> tuple[Look, str]:
        """Have the node itself do something; return what it has then, and why it failed."""
        if self.console.interrupted():
            return rotation.look(self.nodes.cluster, self.node, {}), rotation.ON_REQUEST
        self.console.show(f"{self.node}: {what}")
        answers = self.nodes.ask([self.node], function, within=ACTION)
        seen = rotation.look(self.nodes.cluster, self.node, answers)
        if seen.own is None:
            return seen, f"{self.node}: {seen.failed.get(self.node, 'no response')}"
        if bad := rotation.bad_logins(answers[self.node]):
            return seen, f"the new key does not open {listed(bad)}"
        return seen, seen.own.problem

    def _ask(self, function: str, what: str) -> Look:
        self.console.show(f"{self.node}: {what}")
        answers: Mapping[str, Any] = self.nodes.ask(self.nodes.all, function, self.node)
        return rotation.look(self.nodes.cluster, self.node, answers)
