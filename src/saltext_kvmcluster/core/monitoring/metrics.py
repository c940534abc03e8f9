"""The metrics of a cluster, as values: what monitoring is told of one look at it.

A figure that was not seen has no sample; 0 is only what was seen to be none. Labels are names of
the pillar (cluster, nodes, listed guests) and fixed words, never what a guest or a node calls
something, so that their number is bounded by the pillar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.facts.deeds import Deeds
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.migration import jobs
from saltext_kvmcluster.core.migration.totals import Spread
from saltext_kvmcluster.core.monitoring.snapshot import Snapshot
from saltext_kvmcluster.core.readiness.overview import NOWHERE
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.verdicts import Sighting

PREFIX = "kvmcluster_"
GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"
STATES: Mapping[Sighting, str] = {
    Sighting.RUNNING: "running",
    Sighting.RUNNING_IN_POST_COPY: "post_copy",
    Sighting.PAUSED_BY_USER: "paused",
    Sighting.PAUSED_FOR_MIGRATION: "migrating_here",
    Sighting.PAUSED_IN_POST_COPY: "post_copy_source",
    Sighting.PAUSED_BY_ERROR: "failed",
    Sighting.PAUSED_OTHERWISE: "stands",
    Sighting.WAITING: "waits_for_handover",
    Sighting.SHUT_OFF: "shut_off",
}
"""What a node reports of a guest, as a label."""
MOVABLE = {True: "yes", False: "no", None: "unknown"}
RUNS, LOST, WANTED_OFF, NOT_KNOWN = "runs", "nowhere", "wanted_off", "unknown"
_KIB = 1024

Sample = tuple[tuple[str, ...], "float | Spread"]


@dataclass(frozen=True)
class Family:
    """Samples of one name: each has the values of ``labels``, and a number; or a spread."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]


def families(seen: Snapshot) -> list[Family]:
    """Return the metrics of a cluster by one look at it."""
    cluster = seen.cluster.name
    found = [*_of_cluster(seen), *_of_nodes(seen), *_of_migrations(seen.deeds)]
    return [
        Family(
            PREFIX + one.name,
            one.kind,
            one.help,
            ("cluster", *one.labels),
            tuple(
                ((printable(cluster), *map(printable, values)), value)
                for values, value in one.samples
            ),
        )
        for one in found
    ]


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Iterable[Any]) -> Family:
    return Family(name, GAUGE, text, labels, tuple((key, float(value)) for key, value in samples))


def _of_cluster(seen: Snapshot) -> Iterator[Family]:
    yield _gauge(
        "observation_timestamp_seconds",
        "When the nodes were asked for what this file says, in seconds since 1970.",
        (),
        [((), seen.began.timestamp())],
    )
    yield _gauge(
        "observation_duration_seconds",
        "How long it took until they had answered, or had not within the time limit.",
        (),
        [((), round(seen.seconds, 3))],
    )
    yield _gauge(
        "problems",
        "Lines PROBLEM of kvmcluster.status, by their kind.",
        ("kind",),
        [((kind,), len(sentences)) for kind, sentences in seen.status.kinds.items()],
    )
    states = _listed(seen)
    counts = Counter(states.values())
    yield _gauge(
        "listed_guests",
        "Guests of the pillar's list: runs (active on a node), nowhere, wanted_off (nowhere, as"
        " somebody wants it), or unknown while a node's guests are not known.",
        ("state",),
        [((state,), counts[state]) for state in (RUNS, LOST, WANTED_OFF, NOT_KNOWN)],
    )
    yield _gauge(
        "listed_guest_up",
        "Whether a guest of the pillar's list is active on a node; nothing while that is unknown.",
        ("guest",),
        [((guest,), state == RUNS) for guest, state in states.items() if state != NOT_KNOWN],
    )
    yield _gauge(
        "listed_guest_wanted",
        "0 for a guest of the list that somebody wants off: kvmcluster.shutdown, or Pacemaker's"
        " target-role Stopped.",
        ("guest",),
        [((guest,), state != WANTED_OFF) for guest, state in states.items() if state != NOT_KNOWN],
    )
    yield _gauge(
        "node_loss_unplaced_guests",
        "Active guests that would find no room on the other nodes if this one were lost, by"
        " memory, hugepages and groups; nothing while a node's guests or memory are not known.",
        ("node",),
        [((node,), count) for node, count in (seen.unplaced or {}).items()],
    )


def _listed(seen: Snapshot) -> dict[str, str]:
    """Return the state of each guest of the pillar's list."""
    known: dict[str, str] = {}
    for facts in seen.nodes.values():
        known |= {guest.name: RUNS for guest in facts.guests or () if guest.active}
    blind = any(facts.guests is None for facts in seen.nodes.values())
    off = seen.wanted_off
    return {
        guest: known.get(guest) or (NOT_KNOWN if blind else WANTED_OFF if guest in off else LOST)
        for guest in seen.cluster.guests.list
    }


def _of_nodes(seen: Snapshot) -> Iterator[Family]:
    nodes = seen.nodes
    yield _gauge(
        "node_up",
        "Whether a node's minion has told its guests.",
        ("node",),
        [((node,), one.guests is not None and not one.asker) for node, one in nodes.items()],
    )
    yield _gauge(
        "node_seen",
        "Whether a node's guests are known, be it through a peer over ssh.",
        ("node",),
        [((node,), one.guests is not None) for node, one in nodes.items()],
    )
    yield _of_known(
        nodes, "node_cordoned", "Whether a node takes no guests.", lambda one: one.cordoned
    )
    yield _of_known(
        nodes, "node_memory_bytes", "Memory of a node.", lambda one: _bytes(one.memory_kib)
    )
    yield _of_known(
        nodes,
        "node_memory_available_bytes",
        "Memory of a node that is available for guests.",
        lambda one: _bytes(one.free_kib),
    )
    told = {node: one.guests for node, one in nodes.items() if one.guests is not None}
    states = {node: Counter(one.observation.sighting for one in told[node]) for node in told}
    yield _gauge(
        "guests",
        "Guests that a node has, listed or not, by state; a guest that migrates is on two nodes.",
        ("node", "state"),
        [
            ((node, label), count[state])
            for node, count in states.items()
            for state, label in STATES.items()
        ],
    )
    moves = Counter(
        (row["where"], MOVABLE[row["movable"]])
        for row in seen.status.rows
        if row["where"] not in (NOWHERE, "?")
    )
    yield _gauge(
        "active_guests",
        "Active guests, by whether something of their own or of their node keeps them from moving.",
        ("node", "movable"),
        [((node, word), moves[node, word]) for node in told for word in MOVABLE.values()],
    )
    yield _gauge(
        "node_trust_drifted_files",
        "Files of the ssh trust that differ from what kvmcluster.trust wrote.",
        ("node",),
        [
            ((node,), len(one.drifted))
            for node, one in seen.deeds.items()
            if one.drifted is not None
        ],
    )


def _of_known(
    nodes: Mapping[str, NodeFacts], name: str, text: str, figure: Callable[[NodeFacts], Any]
) -> Family:
    """Return a figure of each node that told it; what is a list counts as whether it has items."""
    told = {node: figure(one) for node, one in nodes.items() if not one.detail}
    return _gauge(
        name,
        text,
        ("node",),
        [
            ((node,), bool(value) if isinstance(value, tuple) else value)
            for node, value in told.items()
            if value is not None
        ],
    )


def _bytes(kib: int | None) -> int | None:
    return None if kib is None else kib * _KIB


def _of_migrations(deeds: Mapping[str, Deeds]) -> Iterator[Family]:
    sent = {
        node: Counter(row["phase"] for row in one.jobs)
        for node, one in deeds.items()
        if one.jobs is not None
    }
    yield _gauge(
        "migrations_queued",
        "Migrations from a node that wait for a slot.",
        ("node",),
        [((node,), phases[jobs.QUEUED]) for node, phases in sent.items()],
    )
    yield _gauge(
        "migrations_in_progress",
        "Migrations from a node that are under way.",
        ("node",),
        [
            ((node,), phases.total() - phases[jobs.QUEUED] - phases[jobs.ARRIVING])
            for node, phases in sent.items()
        ],
    )
    yield _gauge(
        "migrations_unsettled",
        "Migrations from a node that were begun, are not known to be settled, and that no process"
        " is at work on: kvmcluster.recover.",
        ("node",),
        [
            ((node,), sum(not row["watched"] for row in one.unsettled))
            for node, one in deeds.items()
            if one.unsettled is not None
        ],
    )
    sums = {node: one.totals for node, one in deeds.items() if one.totals is not None}
    yield Family(
        "migrations_total",
        COUNTER,
        "Migrations from a node that ended; one whose end was unknown counts once more when it is"
        " settled.",
        ("node", "result"),
        tuple(
            ((node, result), float(count))
            for node, one in sums.items()
            for result, count in one.results.items()
        ),
    )
    yield Family(
        "migration_sent_bytes_total",
        COUNTER,
        "Guests' memory that was sent by migrations from a node that moved their guests.",
        ("node",),
        tuple(((node,), float(one.bytes)) for node, one in sums.items()),
    )
    yield Family(
        "migration_duration_seconds",
        HISTOGRAM,
        "Seconds that migrations from a node took, of those that moved their guests.",
        ("node",),
        tuple(((node,), one.seconds) for node, one in sums.items()),
    )
    yield Family(
        "migration_downtime_seconds",
        HISTOGRAM,
        "Seconds for which guests stood still, of migrations from a node that moved them.",
        ("node",),
        tuple(((node,), one.downtime) for node, one in sums.items()),
    )
