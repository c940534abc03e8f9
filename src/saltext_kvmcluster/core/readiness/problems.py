"""What of a cluster needs a person, and what is only worth a note: the sentences of its status."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.ownership import nowhere
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import MAX_NAMES, listed, printable
from saltext_kvmcluster.core.verdicts import Sighting

Nodes = Mapping[str, NodeFacts]

_PASSING = (*verdicts.MIGRATIONS, verdicts.BACKUP, verdicts.BOOT)
_LEFT_BY_A_MIGRATION = (
    *(Sighting.PAUSED_FOR_MIGRATION, Sighting.PAUSED_BY_ERROR, Sighting.WAITING),
    *(Sighting.RUNNING_IN_POST_COPY, Sighting.PAUSED_IN_POST_COPY),
)
_WELL = (Sighting.RUNNING, Sighting.PAUSED_BY_USER)


def found(cluster: Cluster, nodes: Nodes) -> list[str]:
    """Return what needs a person, the worst first."""
    by_uuid: dict[str, list[GuestFacts]] = {}
    for one in _guests(nodes):
        by_uuid.setdefault(one.uuid, []).append(one)
    return [
        *_doubled(nodes),
        *(sentence for facts in nodes.values() for sentence in _silence(facts)),
        *(sentence for copies in by_uuid.values() for sentence in _stands(copies)),
        *_nowhere(cluster, nodes),
        *(sentence for copies in by_uuid.values() for sentence in _starting_elsewhere(copies)),
        *(sentence for facts in nodes.values() for sentence in _odd(facts)),
    ]


def notes(nodes: Nodes) -> list[str]:
    """Return what a person did, or has to know, and nobody has to mend tonight."""
    paused = [
        f"{printable(one.name)} is paused by its user on {one.node}; to let it go on: on"
        f" {one.node}: virsh resume {_typed(one)}"
        for one in _guests(nodes)
        if one.observation.sighting is Sighting.PAUSED_BY_USER and not _is_passing(one)
    ]
    starting = [
        f"{one.node} would start {printable(one.name)} at its next boot, wherever it runs by then:"
        f" on {one.node}: virsh autostart --disable {_typed(one)}"
        for one in _guests(nodes)
        if one.active and one.observation.autostart
    ]
    return [*paused, *starting]


def is_passing(cluster: Cluster, nodes: Nodes) -> bool:
    """Whether there is a problem that another look a moment later may not show.

    Nodes respond one after the other, and a guest may have moved, or its copy been resumed,
    meanwhile.
    """
    return bool(
        any(one for one in doubles(_guests(nodes)))
        or any(True for copies in _by_uuid(nodes) for _ in _stands(copies))
        or _absentees(cluster, nodes)
    )


def doubles(guests: Iterable[GuestFacts]) -> list[tuple[dict[str, GuestFacts], verdicts.Doubled]]:
    """Return the guests that run more than once, by UUID, each with every node's report of it.

    The two sides of a migration do not count.
    """
    copies: dict[str, dict[str, GuestFacts]] = {}
    for one in guests:
        copies.setdefault(one.uuid, {})[one.node] = one
    judged = [
        (found, verdicts.doubled({node: one.observation for node, one in found.items()}))
        for found in copies.values()
    ]
    return [(found, double) for found, double in judged if double and not double.job]
