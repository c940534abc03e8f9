"""Whether Pacemaker has a leader and quorum, and what became of resources, by crm_mon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.text import printable

COMMAND = ("crm_mon", "--one-shot", "--inactive", "--output-as=xml")
STARTED, MIGRATING = "Started", "Migrating"


@dataclass(frozen=True)
class Resources:
    """What Pacemaker says of itself, and of resources.

    ``leader``: whether there is a DC. ``roles`` are by resource, and so are ``failures``, which are
    sentences. ``orphans`` have no resource any more. ``resting`` are those that somebody keeps off
    or holds: they need not run. ``moving`` are those that Pacemaker migrates now.
    """

    leader: bool
    quorum: bool
    online: tuple[str, ...]
    roles: dict[str, str]
    failures: dict[str, str]
    orphans: tuple[str, ...]
    resting: frozenset[str] = frozenset()
    moving: tuple[str, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether it can be configured, and acts."""
        return self.leader and self.quorum

    def unsettled(self, names: Iterable[str]) -> Iterator[str]:
        """Yield a sentence for each of these resources that does not run, and has to.

        A failure of one that runs is history.
        """
        for name in names:
            if name not in self.resting and self.roles.get(name) != STARTED:
                why = (
                    self.failures.get(name) or f"its role is {self.roles.get(name) or 'not known'}"
                )
                yield f"{name}: {why}"


def parse(text: str) -> Resources:
    """Return what ``COMMAND`` printed."""
    root = xmltext.parse_xml(text)
    leader = root.find("summary/current_dc")
    found = [one for one in root.iterfind("resources//resource") if one.get("id")]
    failures = {
        str(one.get("op_key", "")).rsplit("_", 2)[0]: _failure(one)
        for one in root.iterfind("failures/failure")
    }
    return Resources(
        leader is not None and leader.get("present") == "true",
        leader is not None and leader.get("with_quorum") == "true",
        tuple(str(one.get("name")) for one in root.iterfind("nodes/node[@online='true']")),
        {str(one.get("id")): str(one.get("role", "")) for one in found},
        failures,
        tuple(str(one.get("id")) for one in found if _is_orphan(one)),
        frozenset(str(one.get("id")) for one in found if _rests(one)),
        tuple(
            str(one.get("id"))
            for one in found
            if MIGRATING in (one.get("role"), one.get("pending"))
        ),
    )


def _is_orphan(one: etree._Element) -> bool:
    # Since 3.0.2 it is called removed.
    return "true" in (one.get("orphaned"), one.get("removed"))


def _rests(one: etree._Element) -> bool:
    is_held = one.get("managed") == "false" and one.get("blocked") != "true"
    return is_held or str(one.get("target_role", "")).lower() == "stopped"


def _failure(one: etree._Element) -> str:
    operation = printable(str(one.get("task") or one.get("op_key"))[:60])
    node, reason = (printable(str(one.get(key, ""))[:200]) for key in ("node", "exitstatus"))
    return (
        f"{operation} failed on {node} ({reason}); the log there says why: journalctl -u pacemaker"
    )
