"""Whether Pacemaker has fenced a node that does not respond, so that nothing of it runs any more.

A fencing that succeeded says that the node had no power, or was reset, at that moment. That counts
only as long as the node has not been up since. When a node was fenced, its state is erased from the
CIB's status section (update_node_state_after_fencing in daemons/controld/controld_fencing.c); when
it joins, its history of resources (``lrm``) appears there, and stays when it leaves in an orderly
way. So a node without that history has not been a member since.

``stonith_admin --history`` shows one event alone, the oldest that succeeded, unless it is
``--verbose`` (pcmk__fence_history in lib/pacemaker/pcmk_fence.c).

An event does not say which device carried it out. So it proves nothing where one of the configured
devices leaves a node its power: fabric fencing takes storage or network away, and guests go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pacemaker import cib, crm_mon
from saltext_kvmcluster.core.pacemaker.cib import LONGEST
from saltext_kvmcluster.core.pacemaker.model import Member, Status
from saltext_kvmcluster.core.pacemaker.pacemaker_facts import NOT_KNOWN, Outputs
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import (
    CONFIGURATION,
    HISTORY,
    LEFT,
    STATES,
    STATUS,
)
from saltext_kvmcluster.core.text import listed, printable

SUCCESS, OFF, PERSON = "success", ("off", "reboot"), "a human"
AGE = timedelta(days=1)
"""After so long, a node may well have been up without Pacemaker."""
SKEW = timedelta(minutes=1)
"""By how much the fencing node's clock may be ahead of ours."""
_ASKED = (STATUS, HISTORY, STATES, LEFT, CONFIGURATION)
_NO_MATCH = 105
"""What cibadmin ends with if nothing matches (CRM_EX_NOSUCH)."""
_EPOCH = datetime.fromtimestamp(0, timezone.utc)
_AWAY = ("false", "0")
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d{1,9})? ?(Z|[+-]\d\d:?\d\d)\Z", re.ASCII
)


@dataclass(frozen=True)
class FenceEvent:
    """A fencing; ``completed`` is None while it is pending, and where its time is not known."""

    action: str
    target: str
    status: str
    delegate: str = ""
    completed: datetime | None = None


@dataclass(frozen=True, eq=False)
class Fencing:
    """What one node's Pacemaker knows of fencing. ``events``: the newest first.

    ``erased``: the nodes whose state was erased, and that have not been members since.
    ``powerless``: the fence devices that leave a node its power, or may.
    """

    status: Status
    events: tuple[FenceEvent, ...] = ()
    erased: frozenset[str] = frozenset()
    powerless: tuple[str, ...] = ()


@dataclass(frozen=True)
class FencingRuling:
    """Whether a silent node counts as off. ``sentence``: how it was fenced, or why it does not."""

    off: bool
    sentence: str = ""


NO_WORD = FencingRuling(False)
Views = Mapping[str, "Fencing | None"]


def parse(outputs: Outputs) -> Fencing | None:
    """Return what a node knows of fencing; None without Pacemaker, or if it does not tell."""
    found = {key: outputs.get(key, NOT_KNOWN) for key in _ASKED}
    if any(found[key][0] != 0 for key in _ASKED if key != LEFT):
        return None
    if found[LEFT][0] not in (0, _NO_MATCH):
        return None
    try:
        return Fencing(
            crm_mon.parse(found[STATUS][1]),
            tuple(map(_event, _all(found[HISTORY][1], "fence_event"))),
            _erased(found[STATES][1], found[LEFT][1] if found[LEFT][0] == 0 else ""),
            tuple(
                str(device)
                for device in cib.parse(found[CONFIGURATION][1]).fencing
                if not device.switches_power
            ),
        )
    except InputError:
        return None


def rule(
    names: Collection[str],
    views: Views,
    now: datetime,
    up: Iterable[datetime],
    unread: Collection[str] = (),
) -> FencingRuling:
    """Return whether a node that does not respond was fenced, and has not been up since.

    names
        Those that the node may have in Pacemaker's cluster.
    views
        What the nodes that respond know. A view without quorum proves nothing, but one that has the
        node as a member, or a fencing that is pending or failed later, counts against it.
    now
        The time of day.
    up
        When the node was up, as others noted it: migrations from or to it, its starts of guests.
    unread
        The nodes whose notes of that could not be read.
    """
    wanted = {name.lower() for name in names}
    known = [view for view in views.values() if view]
    seen = {view: one for view in known if (one := _member(view, wanted))}
    if len({member.name.lower() for member in seen.values()}) != 1:
        return NO_WORD
    if any(member.online or member.pending for member in seen.values()):
        return FencingRuling(False, "Pacemaker has it as a member")
    proofs = [view for view in seen if view.status.quorum]
    event = _newest([_of(view, wanted) for view in known], [_of(view, wanted) for view in proofs])
    if event is None:
        return FencingRuling(False, "Pacemaker, with quorum, shows no fencing of it")
    if event.status != SUCCESS or event.action not in OFF or event.completed is None:
        last = f"{event.action}, {event.status}"
        return FencingRuling(False, f"Pacemaker's last fencing of it: {last}")
    when, is_erased = event.completed, all(map(_erasing(wanted), proofs))
    if not is_erased or any(member.unclean for member in seen.values()):
        return FencingRuling(False, "it has been in Pacemaker's cluster since it was fenced")
    how = f"{event.action}, {when:%Y-%m-%d %H:%M:%S} UTC"
    if event.delegate == PERSON:
        word = "a person's word (stonith_admin --confirm"
        return FencingRuling(False, f"that it is off is {word}, {how})")
    if powerless := sorted({device for view in known for device in view.powerless}):
        sentence = f"it was fenced ({how}), but may still have power: {listed(powerless)}"
        return FencingRuling(False, f"{sentence} may fence without switching it off")
    if not now - AGE <= when <= now + SKEW or any(when <= moment for moment in up):
        return FencingRuling(False, f"it may have been up since Pacemaker fenced it ({how})")
    if unread:
        sentence = f"whether it has been up since Pacemaker fenced it ({how}) is not known"
        return FencingRuling(False, f"{sentence}: the journal of {listed(unread)} cannot be read")
    by = event.delegate or "a node"
    return FencingRuling(True, f"fenced by Pacemaker ({how}, by {by}), and no member since")


def back(alive: str) -> FencingRuling:
    """Return what follows for a node that was fenced and responds again; how it responds."""
    return FencingRuling(False, f"Pacemaker fenced it, and it is back: {alive}")


def _member(view: Fencing, wanted: Collection[str]) -> Member | None:
    """Return the one member with such a name."""
    found = [one for name, one in view.status.members.items() if name.lower() in wanted]
    return found[0] if len(found) == 1 else None


def _of(view: Fencing, wanted: Collection[str]) -> list[FenceEvent]:
    return [event for event in view.events if event.target.lower() in wanted]


def _newest(found: list[list[FenceEvent]], proofs: list[list[FenceEvent]]) -> FenceEvent | None:
    """Return the newest event that any view shows, one without a time first; None without proof."""
    if not any(proofs):
        return None
    return max((event for events in found for event in events), key=_order)


def _order(event: FenceEvent) -> tuple[bool, datetime, bool]:
    return event.completed is None, event.completed or _EPOCH, event.status != SUCCESS


def _erasing(wanted: Collection[str]) -> Callable[[Fencing], bool]:
    return lambda view: any(name.lower() in wanted for name in view.erased)


def _event(element: etree._Element) -> FenceEvent:
    words = {
        key: printable(element.get(key, "")[:LONGEST])
        for key in ("action", "target", "status", "delegate")
    }
    return FenceEvent(**words, completed=_time(element.get("completed", "")))


def _time(text: str) -> datetime | None:
    match = _TIME.match(text[:LONGEST])
    if not match:
        return None
    day, clock, zone = match.groups()
    try:
        found = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone == 'Z' else _zone(zone)}")
    except ValueError:
        return None
    return found.astimezone(timezone.utc)


def _zone(zone: str) -> str:
    return zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"


def _erased(states: str, left: str) -> frozenset[str]:
    """Return the nodes that are away, as after a fencing, without a history of resources."""
    with_history = {one.get("id") for one in (_all(left, "lrm") if left.strip() else ())}
    return frozenset(
        printable(one.get("uname", "")[:LONGEST])
        for one in _all(states, "node_state")
        if one.get("in_ccm") in _AWAY
        and one.get("crmd") in ("offline", "0")
        and one.get("expected") == "down"
        and one.get("id") not in with_history
    )


def _all(text: str, tag: str) -> list[etree._Element]:
    return list(xmltext.parse_xml(text).iter(tag))
