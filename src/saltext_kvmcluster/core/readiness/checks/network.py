"""Checks of networks: a guest's bridges and networks, and what it listens on."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

from saltext_kvmcluster.core.facts import questions
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts, Socket
from saltext_kvmcluster.core.facts.offers import canonical
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.guest.binds import Bind
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World

LISTED = {"network": "networks", "filter": "filters"}
COMMANDS = {"network": "net-list", "filter": "nwfilter-list"}
DEVICES = {"bridge": "bridge", "direct": "device", "ethernet": "device"}
CREATED = "created"
EDIT = "(virsh edit), then restart the guest"
LOCALHOST = "localhost"


class Offer(NamedTuple):
    """A node's networks and devices, each with whether it is up, and its network filters.

    ``drivers`` holds why libvirt listed no networks, or no filters; see Daemon.
    """

    networks: frozenset[tuple[str, bool]] | None
    devices: frozenset[tuple[str, bool]] | None
    filters: frozenset[str] | None
    drivers: frozenset[tuple[str, str]]


class Listened(NamedTuple):
    """What a guest listens on: addresses with ports, and its vsock address, 0 for none."""

    binds: frozenset[Bind]
    cid: int


class Listening(NamedTuple):
    """What can be listened on, on a node; see ``nodefacts.Resources``.

    ``names`` are addresses by host name, ``cids`` the vsock addresses of its guests.
    """

    addresses: frozenset[str] | None
    sockets: frozenset[Socket] | None
    anywhere: frozenset[int]
    names: frozenset[tuple[str, tuple[str, ...]]]
    cids: frozenset[tuple[int, str]]


def present(world: World, asked: Iterable[tuple[str, str]], offered: Offer) -> Iterable[Issue]:
    """Whether every bridge and network of the guest exists and is up on the destination.

    Without it QEMU fails to start on the destination, or the guest arrives without a network. The
    same holds for a network filter, which its ``<filterref>`` names. A name that its ``<target
    dev=>`` gives a device which libvirt is to create must be free.
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
        elif kind == CREATED:
            yield from _taken(source, offered.devices)
        else:
            devices = dict(offered.devices)
            if kind == "ethernet":
                devices = dict.fromkeys(devices, True)  # libvirt sets it up.
            yield from _device(DEVICES[kind], source, devices)


def wanted(world: World, guest: GuestFacts) -> Hashable:
    """Return the kinds and names of the networks that a guest is connected to, and its filters."""
    if guest.guest is None:
        return UNREAD
    found = frozenset(
        (card.kind, card.source)
        for card in guest.guest.interfaces
        if card.kind in ("network", *DEVICES) and card.source
    )
    found |= {("network", name) for name in guest.guest.networks}
    found |= {(CREATED, card.device) for card in guest.guest.interfaces if card.device}
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


def _taken(name: str, devices: Iterable[tuple[str, bool]]) -> Iterable[Issue]:
    """Yield the issue of a tap, which fails with EBUSY (tun(4)), or a macvtap that exists."""
    if name in dict(devices):
        yield Issue(
            f"a network device {name} exists on the destination: libvirt cannot create its own",
            f"leave out <target dev='{name}'/>, so that libvirt chooses a name {EDIT}",
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


def listen(world: World, asked: Listened, offered: Listening) -> Iterator[Issue]:
    """Whether the addresses that the guest listens on are the destination's, and its ports free.

    Of VNC, Spice, serial ports, channels and network cards; QEMU on the destination binds the same
    addresses, and the same ports unless ``autoport`` is set. Also a fixed vsock address, which no
    other guest may have there.
    """
    for bind in sorted(asked.binds, key=lambda one: (one.use, one.address, one.port)):
        found = _address(bind, offered)
        if found:
            yield found
        elif bind.port:
            yield from _port(bind, offered.sockets)
    for cid, name in sorted(offered.cids):
        if cid and cid == asked.cid:
            yield Issue(
                f"its vsock address {cid} is that of {name} on the destination",
                f"set <cid auto='yes'/> {EDIT}",
            )


def listened(world: World, guest: GuestFacts) -> Hashable:
    """Return what a guest listens on, less what every node has."""
    if guest.guest is None:
        return UNREAD
    needed = (one for one in guest.guest.binds if one.port or not _is_everywhere(one.address))
    found = Listened(frozenset(needed), guest.guest.tuning.cid)
    return found if any(found) else None


def listening(world: World, node: NodeFacts) -> Hashable:
    if node.daemon is None:
        return None
    has, guests = node.resources, [one for one in node.guests or () if one.active and one.guest]
    cids = {(one.guest.tuning.cid, one.name) for one in guests if one.guest}
    names = frozenset(node.names.items())
    return Listening(has.addresses, has.sockets, has.anywhere, names, frozenset(cids))


def host_names(guest: GuestFacts) -> Iterator[str]:
    """Yield the host names that a guest listens on, to be asked of its destination."""
    for bind in guest.guest.binds if guest.guest else ():
        named = not _is_everywhere(bind.address) and not _is_ip(canonical(bind.address))
        if named and questions.is_host(bind.address):
            yield bind.address


def _is_everywhere(address: str) -> bool:
    """Whether every host has an address: any, or loopback."""
    try:
        found = ipaddress.ip_address(canonical(address))
    except ValueError:
        return address in ("", LOCALHOST)
    return found.is_unspecified or found.is_loopback


def _address(bind: Bind, offered: Listening) -> Issue | None:
    """Return why an address cannot be bound on the destination; None if it can."""
    if _is_everywhere(bind.address):
        return None
    what = f"its {bind.use} listens on {bind.address}"
    remedy = f"set a listen address that every node has, such as 0.0.0.0 or 127.0.0.1 {EDIT}"
    own = offered.addresses
    found: tuple[str, ...] = (canonical(bind.address),)
    if not _is_ip(found[0]):
        resolved = dict(offered.names).get(bind.address)
        if resolved is None:
            return unknown(f"{what}: not known what that is on the destination", remedy)
        if not resolved:
            return Issue(f"{what}, which does not resolve on the destination", remedy)
        found = tuple(map(canonical, resolved))
    if own is None:
        see = "on the destination: make sure that 'ip -j address show' works, then check again"
        return unknown(f"{what}: not known whether the destination has it", see)
    if any(_is_bindable(one, own, offered.anywhere) for one in found):
        return None
    return Issue(f"{what}, an address that the destination does not have", remedy)


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _is_bindable(address: str, own: frozenset[str], anywhere: frozenset[int]) -> bool:
    if _is_everywhere(address) or address in own:
        return True
    return _is_ip(address) and ipaddress.ip_address(address).version in anywhere


def _port(bind: Bind, sockets: frozenset[Socket] | None) -> Iterator[Issue]:
    what = f"its {bind.use} listens on {bind.protocol} port {bind.port}"
    if sockets is None:
        see = "on the destination: make sure that 'ss -Htuln' works, then check again"
        yield unknown(f"{what}: not known whether that is free on the destination", see)
    elif any(_collide(bind, one) for one in sockets):
        flag = "u" if bind.protocol == "udp" else "t"
        yield Issue(
            f"{what}, which is taken on the destination",
            f"on the destination: ss -l{flag}np 'sport = :{bind.port}' shows by what; stop that, or"
            f" set another port, or autoport='yes' {EDIT}",
        )


def _collide(bind: Bind, taken: Socket) -> bool:
    """Whether two sockets cannot be bound together: see bind(2), EADDRINUSE."""
    if (bind.protocol, bind.port) != (taken.protocol, taken.port):
        return False
    here, there = canonical(bind.address), taken.address
    if not (_is_ip(here) and _is_ip(there)):
        return True
    one, other = ipaddress.ip_address(here), ipaddress.ip_address(there)
    if one.version != other.version:
        return False
    return one == other or one.is_unspecified or other.is_unspecified
