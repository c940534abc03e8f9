"""Checks of networks: whether the destination has those that a guest is connected to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World

DEVICES = {"bridge": "bridge", "direct": "device"}


class Offer(NamedTuple):
    """A node's networks and devices, each with whether it is up."""

    networks: frozenset[tuple[str, bool]]
    devices: frozenset[tuple[str, bool]] | None


def present(world: World, asked: Iterable[tuple[str, str]], offered: Offer) -> Iterable[Issue]:
    """Whether every bridge and network of the guest exists and is up on the destination.

    Without it QEMU fails to start on the destination, or the guest arrives without a network.
    """
    for kind, source in sorted(asked):
        if kind == "network":
            yield from _network(source, dict(offered.networks))
        elif offered.devices is None:
            yield unknown(
                "not known: the network devices of the destination",
                "on the destination: make sure that 'ip -j link show' works, then check again",
            )
        else:
            yield from _device(DEVICES[kind], source, dict(offered.devices))


def wanted(world: World, guest: GuestFacts) -> Hashable:
    """Return the kinds and names of the networks that a guest is connected to."""
    if guest.guest is None:
        return UNREAD
    found = frozenset(
        (card.kind, card.source)
        for card in guest.guest.interfaces
        if card.kind in ("network", *DEVICES) and card.source
    )
    return found or None


def networks(world: World, node: NodeFacts) -> Hashable:
    """Return the networks and devices of a node, and whether they are up."""
    if node.daemon is None:
        return None
    devices = None if node.bridges is None else frozenset(node.bridges.items())
    return Offer(frozenset(node.daemon.networks.items()), devices)


def _network(name: str, networks: dict[str, bool]) -> Iterable[Issue]:
    if not networks.get(name):
        yield Issue(
            f"network {name} is not active on the destination",
            f"on the destination: virsh net-start {name}; if it is not defined, virsh net-define it"
            f" from the source's virsh net-dumpxml {name}",
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
