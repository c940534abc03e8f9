"""How the guests of a cluster.conf migrate, and to which names."""

from __future__ import annotations

from collections.abc import Iterable

from saltext_kvmcluster.core.rgmanager.elements import Element
from saltext_kvmcluster.core.rgmanager.fates import CHANGED, LEFT, Fate, is_yes
from saltext_kvmcluster.core.rgmanager.nodes import Nodes
from saltext_kvmcluster.core.rgmanager.refusals import Pillar


def map_migration(guests: Iterable[Element], nodes: Nodes) -> None:
    """Import the names to which guests migrate."""
    plain = []
    for part in guests:
        mapping = part.take("migration_mapping")
        if not mapping:
            plain.append(part)
        for pair in filter(str.strip, (mapping or "").split(",")):
            if why := nodes.map(pair):
                part.remark("migration_mapping", pair.strip(), Fate(LEFT, why))
    if any("migration" in body for body in nodes.bodies.values()):
        why = "it has no migration_mapping, but here the nodes' migration names hold for all guests"
        for part in plain:
            part.remark(None, None, Fate(CHANGED, why))


def migration_settings(guests: list[Element]) -> Pillar:
    """Return the pillar's part about how guests migrate, which holds for all of them."""
    return {**_tunnelled(guests), **_live(guests)}


def _tunnelled(guests: list[Element]) -> Pillar:
    wanted = [part for part in guests if is_yes(part.given.get("tunnelled"))]
    why = (
        "other guests are tunnelled, and the pillar's setting holds for all; without it:"
        " salt-run kvmcluster.migrate GUEST NODE tunnelled=false"
    )
    for part in guests if wanted else ():
        value = part.take("tunnelled")
        if part not in wanted:
            part.remark("tunnelled" if value else None, value, Fate(CHANGED, why))
    return {"tunnelled": True} if wanted else {}


def _live(guests: list[Element]) -> Pillar:
    paused = [part for part in guests if _is_paused(part)]
    everywhere = bool(paused) and len(paused) == len(guests)
    why = (
        "other guests migrate live, and the pillar's setting holds for all; for this one:"
        " salt-run kvmcluster.migrate GUEST NODE live=false"
    )
    for part in paused:
        value = part.take("migrate")
        if not everywhere:
            part.remark("migrate", value, Fate(LEFT, why))
    return {"live": False} if everywhere else {}


def _is_paused(part: Element) -> bool:
    return part.given.get("migrate", "").strip().lower() not in ("", "live")
