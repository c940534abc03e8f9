"""What Pacemaker's configuration (the CIB) holds of the pillar: fence devices, guests, constraints.

All of it has an id with our prefix. What a guest is told to Pacemaker by is in "Pacemaker
Explained"; the numbers were tried: see docs/ha.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import groups
from saltext_kvmcluster.core.pillar.clusters import Cluster, Listed
from saltext_kvmcluster.core.pillar.ha import (
    DISABLE,
    RELOCATE,
    Device,
    Fencing,
    GuestHa,
    Ha,
)

PREFIX = "kvmcluster-"
PROVIDER, AGENT = "kvmcluster", "VirtualDomain"
SECRET = "lrm://"
"""In place of a parameter: its value is in a file of each node, as cibsecret(8) keeps it."""
INFINITY = "INFINITY"
STICKINESS, STEP, NEAR = 100, 1000, 1
FENCING, GUESTS = "fencing", "guests"
"""The parts of the content, each of which is put in as a whole."""
RESOURCES, CONSTRAINTS, TOPOLOGY = "resources", "constraints", "fencing-topology"
PROPERTIES: Mapping[str, str] = {
    "stonith-enabled": "true",
    # A guest whose start fails is tried again there: its disks may be locked by the dead node.
    "start-failure-is-fatal": "false",
    # Failures are forgotten, and such a start tried again, no later than that.
    "cluster-recheck-interval": "60s",
}
# Seconds. A monitor of less restarts healthy guests on a host that is overloaded.
START, STOP, MONITOR, EVERY, TO, FROM = 180, 180, 90, 10, 600, 120
DEVICE_MONITOR, DEVICE_EVERY = 60, 60
# Of two nodes that fence each other, the first in the pillar is fenced by this many seconds later.
HEAD_START = 5

_Element = etree._Element


@dataclass(frozen=True)
class Piece:
    """An element of the CIB, as text: it has an id with our prefix, in a section of its own."""

    section: str
    id: str
    xml: str


def resource(guest: str) -> str:
    """Return the id of a guest's resource."""
    return f"{PREFIX}{guest}"


def device(name: str) -> str:
    """Return the id of a fence device's resource."""
    return f"{PREFIX}fence-{name}"


def fencing(cluster: Cluster) -> tuple[Piece, ...]:
    """Return the fence devices of the pillar, and their levels."""
    ha = cluster.ha
    if not ha:
        return ()
    return _distinct([*_devices(cluster, ha), *_levels(ha.fencing)])


def guests(cluster: Cluster, definitions: Mapping[str, str]) -> tuple[Piece, ...]:
    """Return the guests of the pillar that have ``ha``, and the constraints of each.

    definitions
        By guest the path of its definition.
    """
    listed = [guest for guest in cluster.guests.list.values() if guest.ha]
    managed = {guest.name: guest.ha for guest in listed if guest.ha}
    return _distinct(
        [
            *(
                _guest(cluster, guest, managed[guest.name], definitions[guest.name])
                for guest in listed
            ),
            *(piece for guest in listed for piece in _places(cluster, guest)),
            *_relations(cluster, managed),
            *_together(cluster, managed),
        ]
    )


def _distinct(pieces: list[Piece]) -> tuple[Piece, ...]:
    found: dict[str, Piece] = {}
    for piece in pieces:
        if found.setdefault(piece.id, piece) != piece:
            raise InputError(
                f"two things of the pillar would be {piece.id} in Pacemaker: rename a guest, a node"
                " or a fence device of that name"
            )
    return tuple(found.values())


def _devices(cluster: Cluster, ha: Ha) -> Iterator[Piece]:
    ties = len(cluster.nodes) == 2 and not ha.quorum_device
    first = next(iter(cluster.nodes))
    for one in ha.fencing.devices.values():
        given = {**_hosts(one), **one.options, **dict.fromkeys(one.secrets, SECRET)}
        if ties and first in one.nodes and not any("pcmk_delay" in name for name in given):
            given["pcmk_delay_base"] = f"{first}:{HEAD_START}s"
        name = device(one.name)
        yield _piece(
            RESOURCES,
            _element(
                "primitive",
                {"id": name, "class": "stonith", "type": one.agent},
                _pairs("instance_attributes", f"{name}-parameters", given),
                _element(
                    "operations", {}, _operation(name, "monitor", DEVICE_MONITOR, DEVICE_EVERY)
                ),
            ),
        )


def _hosts(one: Device) -> dict[str, str]:
    hosts = {"pcmk_host_check": "static-list", "pcmk_host_list": " ".join(one.nodes)}
    ports = {node: port for node, port in one.nodes.items() if port}
    if ports:
        hosts["pcmk_host_map"] = ";".join(f"{node}:{port}" for node, port in ports.items())
    return hosts


def _levels(found: Fencing) -> Iterator[Piece]:
    for node, levels in found.levels.items():
        for index, devices in enumerate(levels, 1):
            yield _piece(
                TOPOLOGY,
                _element(
                    "fencing-level",
                    {
                        "id": f"{PREFIX}level-{node}-{index}",
                        "target": node,
                        "index": str(index),
                        "devices": ",".join(map(device, devices)),
                    },
                ),
            )


def _guest(cluster: Cluster, guest: Listed, wanted: GuestHa, definition: str) -> Piece:
    name = resource(guest.name)
    on_fail = "stop" if wanted.on_failure == DISABLE else "restart"
    longest = max(TO, int(cluster.migration.options.timeout))
    return _piece(
        RESOURCES,
        _element(
            "primitive",
            {"id": name, "class": "ocf", "provider": PROVIDER, "type": AGENT},
            _pairs(
                "instance_attributes",
                f"{name}-parameters",
                {
                    "guest": guest.name,
                    "config": definition,
                    "migration_hosts": _migration_hosts(cluster),
                    "migrate_options": _migrate_options(cluster),
                },
            ),
            _pairs("meta_attributes", f"{name}-meta", _meta(wanted, len(guest.prefer))),
            _element(
                "operations",
                {},
                _operation(name, "start", START),
                _operation(name, "stop", STOP),
                _operation(name, "monitor", MONITOR, EVERY, on_fail=on_fail),
                # A failed move leaves the guest as it is, instead of a restart.
                _operation(name, "migrate_to", longest, on_fail="block"),
                _operation(name, "migrate_from", FROM),
            ),
        ),
    )


def _meta(wanted: GuestHa, tiers: int) -> dict[str, str]:
    # Above all that its preferences can add up to, nothing but a failure moves it back.
    stays = STICKINESS if wanted.failback else STICKINESS + STEP * tiers
    return {
        "allow-migrate": "true",
        "multiple-active": "block",
        "priority": str(wanted.priority),
        "resource-stickiness": str(stays),
        "migration-threshold": str(1 if wanted.on_failure == RELOCATE else wanted.restarts),
        "failure-timeout": "0s" if wanted.on_failure == DISABLE else f"{wanted.within}s",
    }


META = tuple(_meta(GuestHa(), 0))
"""The meta attributes that are ours; others of a guest's resource are set by whoever acts on it."""


def _migration_hosts(cluster: Cluster) -> str:
    nodes = cluster.nodes.values()
    return " ".join(f"{node.id}={node.migration}" for node in nodes if node.migration != node.id)


def _migrate_options(cluster: Cluster) -> str:
    options = cluster.migration.options
    words = {
        "--tls": options.tls,
        "--tunnelled": options.tunnelled,
        "--auto-converge": options.auto_converge,
        f"--bandwidth {options.bandwidth}": options.bandwidth,
        f"--parallel --parallel-connections {options.parallel}": options.parallel,
    }
    return " ".join(word for word, is_wanted in words.items() if is_wanted)


def _places(cluster: Cluster, guest: Listed) -> Iterator[Piece]:
    count = len(guest.prefer)
    for place, tier in enumerate(guest.prefer):
        for node in tier:
            yield _location(guest.name, "prefers", node, str(STEP * (count - place)))
    for node in cluster.nodes:
        if guest.only and node not in guest.only:
            yield _location(guest.name, "never", node, f"-{INFINITY}")


def _location(guest: str, how: str, node: str, score: str) -> Piece:
    name = resource(guest)
    return _piece(
        CONSTRAINTS,
        _element(
            "rsc_location",
            {"id": f"{name}-{how}-{node}", "rsc": name, "node": node, "score": score},
        ),
    )


def _relations(cluster: Cluster, managed: Mapping[str, GuestHa]) -> Iterator[Piece]:
    pairs = {(guest, other) for guest, wanted in managed.items() for other in wanted.apart}
    pairs |= {(one, other) for group in cluster.guests.apart for one in group for other in group}
    # At the same priority, the one that is to be apart from others yields to them.
    rank = {
        guest: (-wanted.priority, bool(wanted.apart), at)
        for at, (guest, wanted) in enumerate(managed.items())
    }
    for guest in managed:
        for other in managed:
            # Pacemaker places the other one first, so that is the one of the higher priority.
            if rank[other] < rank[guest] and {(guest, other), (other, guest)} & pairs:
                yield _colocation(guest, "apart", other, f"-{INFINITY}")
        for other in managed[guest].with_:
            yield _colocation(guest, "with", other, INFINITY)
        for other in managed[guest].after:
            yield _order(guest, other)


def _together(cluster: Cluster, managed: Mapping[str, GuestHa]) -> Iterator[Piece]:
    """Yield what has the groups of ``guests: with`` start on one node, where one can take them.

    Of each group one guest leads, and each other one has one score only, of 1. So no sum of scores
    reaches a stickiness, and no guest that runs is moved for its group; nor does what a score is
    worth to the leader, to which Pacemaker adds a millionth of each ``only`` of the others. It is
    below any preference, and finite, so that none is off for it.
    """
    named = {guest for group in cluster.guests.with_ for guest in group}
    for whole in dict.fromkeys(groups.kept_together(cluster.guests).values()):
        # Who has a ``with`` of its own follows that one.
        leaders = [guest for guest in managed if guest in whole and not managed[guest].with_]
        for other in leaders[1:] if named & whole else ():
            yield _colocation(other, "near", leaders[0], str(NEAR))


def _order(guest: str, other: str) -> Piece:
    """Return what has a guest start after another one; a stop of that one does not stop it."""
    given = {
        "id": f"{resource(guest)}-after-{other}",
        "first": resource(other),
        "then": resource(guest),
        "kind": "Mandatory",
        "symmetrical": "false",
    }
    return _piece(CONSTRAINTS, _element("rsc_order", given))


def _colocation(guest: str, how: str, other: str, score: str) -> Piece:
    name = resource(guest)
    given = {
        "id": f"{name}-{how}-{other}",
        "rsc": name,
        "with-rsc": resource(other),
        "score": score,
    }
    return _piece(CONSTRAINTS, _element("rsc_colocation", given))


def _pairs(tag: str, name: str, values: Mapping[str, str]) -> _Element:
    pairs = (
        _element("nvpair", {"id": f"{name}-{key}", "name": key, "value": value})
        for key, value in values.items()
        if value
    )
    return _element(tag, {"id": name}, *pairs)


def _operation(name: str, kind: str, timeout: int, every: int = 0, on_fail: str = "") -> _Element:
    given = {"id": f"{name}-{kind}", "name": kind, "interval": f"{every}s"}
    more = {"on-fail": on_fail} if on_fail else {}
    return _element("op", {**given, "timeout": f"{timeout}s", **more})


def _element(tag: str, given: Mapping[str, str], *children: _Element) -> _Element:
    element = etree.Element(tag, dict(given))
    element.extend(children)
    return element


def _piece(section: str, element: _Element) -> Piece:
    return Piece(section, str(element.get("id")), etree.tostring(element, encoding="unicode"))
