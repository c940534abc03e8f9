"""Checks of networks: whether the destination has those that a guest is connected to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World

LISTED = {"network": "networks", "filter": "filters"}
COMMANDS = {"network": "net-list", "filter": "nwfilter-list"}
DEVICES = {"bridge": "bridge", "direct": "device"}


class Offer(NamedTuple):
    """A node's networks and devices, each with whether it is up, and its network filters.

    ``drivers`` holds why libvirt listed no networks, or no filters; see Daemon.
    """

    networks: frozenset[tuple[str, bool]] | None
    devices: frozenset[tuple[str, bool]] | None
    filters: frozenset[str] | None
    drivers: frozenset[tuple[str, str]]


def present(world: World, asked: Iterable[tuple[str, str]], offered: Offer) -> Iterable[Issue]:
    """Whether every bridge and network of the guest exists and is up on the destination.

    Without it QEMU fails to start on the destination, or the guest arrives without a network. The
    same holds for a network filter, which its ``<filterref>`` names.
    """
    drivers = dict(offered.drivers)
    for kind, source in sorted(asked):
        if kind == "network" and offered.networks is not None:
            yield from _network(source, dict(offered.networks), drivers.get("networks", ""))
        elif kind == "filter" and offered.filters is not None:
            yield from _filter(source, offered.filters, drivers.get("filters", ""))
        elif kind in LISTED:
            subject = LISTED[kind]
            yield unknown(
                f"not known: the {subject} of the destination: {drivers.get(subject, 'not sent')}",
                f"on the destination: make sure that 'virsh {COMMANDS[kind]}' works, then check"
                " again",
            )
        elif offered.devices is None:
            yield unknown(
                "not known: the network devices of the destination",
                "on the destination: make sure that 'ip -j link show' works, then check again",
            )
        else:
            yield from _device(DEVICES[kind], source, dict(offered.devices))


def wanted(world: World, guest: GuestFacts) -> Hashable:
    """Return the kinds and names of the networks that a guest is connected to, and its filters."""
    if guest.guest is None:
        return UNREAD
    found = frozenset(
        (card.kind, card.source)
        for card in guest.guest.interfaces
        if card.kind in ("network", *DEVICES) and card.source
    )
    filters = frozenset(("filter", card.filter) for card in guest.guest.interfaces if card.filter)
    return found | filters or None


def networks(world: World, node: NodeFacts) -> Hashable:
    """Return the networks and devices of a node, and whether they are up; and its filters."""
    daemon = node.daemon
    if daemon is None:
        return None
    devices = None if node.bridges is None else frozenset(node.bridges.items())
    known = None if daemon.networks is None else frozenset(daemon.networks.items())
    return Offer(known, devices, daemon.filters, frozenset(daemon.drivers.items()))


def _network(name: str, networks: dict[str, bool], lacking: str) -> Iterable[Issue]:
    if lacking:
        yield _no_driver(f"network {name} is not active", "network", lacking)
    elif not networks.get(name):
        yield Issue(
            f"network {name} is not active on the destination",
            f"on the destination: virsh net-start {name}; if it is not defined, virsh net-define it"
            f" from the source's virsh net-dumpxml {name}",
        )


def _filter(name: str, filters: frozenset[str], lacking: str) -> Iterable[Issue]:
    if lacking:
        yield _no_driver(f"network filter {name} is not defined", "nwfilter", lacking)
    elif name not in filters:
        yield Issue(
            f"network filter {name} is not defined on the destination",
            f"on the destination: virsh nwfilter-define it from the source's virsh"
            f" nwfilter-dumpxml {name}",
        )


def _no_driver(what: str, driver: str, detail: str) -> Issue:
    return Issue(
        f"{what} on the destination, whose libvirt lacks the {driver} driver ({detail})",
        f"on the destination: install libvirt-daemon-driver-{driver}, and restart libvirt's daemon",
    )


def _device(word: str, name: str, devices: dict[str, bool]) -> Iterable[Issue]:
    if name not in devices:
        yield Issue(
            f"{word} {name} does not exist on the destination",
            f"create {word} {name} in the destination's network configuration, as on the source",
        )
    elif not devices[name]:
        yield Issue(
            f"{word} {name} is down on the destination",
            f"on the destination: ip link set {name} up",
        )
