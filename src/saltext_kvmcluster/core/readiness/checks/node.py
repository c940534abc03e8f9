"""Checks of nodes: daemon, cordon, versions, names, ports, certificates, memory, labels, clock."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.facts import parsers
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import PROBLEM, UNKNOWN, WARN, Issue, unknown
from saltext_kvmcluster.core.guest.blocker import Versions
from saltext_kvmcluster.core.migration import plans
from saltext_kvmcluster.core.readiness.checks import devices
from saltext_kvmcluster.core.readiness.checks.base import NO_DESTINATION, UNREAD, World, unreported
from saltext_kvmcluster.core.text import listed, version
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.core.verdicts import Sighting

CLOCK_LIMIT = 5.0
MINION = "node.minion"
OUT_OF_SIGHT = "the master loses sight of what runs there, and cannot move it away"
AUTHORITY = "ca-cert.pem"
CLIENT = ("client-cert.pem", "client-key.pem")
SERVER = ("server-cert.pem", "server-key.pem")
MIB = 1024


class Machine(NamedTuple):
    """What a guest needs of QEMU: ARCH/TYPE and machine type; and the versions that it runs on.

    ``post_copy``: whether it may be moved by that, without the risk being accepted.
    ``compression``: the one that takes libvirt of the version ``least``, if that is not 0.
    ``parts`` are those that only newer versions migrate, each with the versions. ``uuid`` is the
    guest's where a node was asked about its definition, else empty.
    """

    kind: str
    type: str
    qemu: int
    post_copy: bool
    compression: str
    least: int
    libvirt: int
    parts: tuple[tuple[str, Versions], ...] = ()
    uuid: str = ""


class Machines(NamedTuple):
    """What a node's QEMU offers: machine types by ARCH/TYPE, and its version; and libvirt's.

    ``refuses``: why its libvirt does not take a definition, by the guest's UUID.
    """

    types: frozenset[tuple[str, frozenset[str]]]
    qemu: int
    libvirt: int
    refuses: frozenset[tuple[str, str]] = frozenset()


def daemon(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether its libvirt daemon responds: libvirtd, or virtqemud where it is modular.

    No response from the daemon of a reachable node is a PROBLEM; an unreachable node is UNKNOWN.
    """
    if node.detail:
        yield unknown(
            f"it is unreachable: {node.detail}",
            f"salt {node.node} test.ping; then, on a peer, kvmcluster.ssh_check",
        )
    elif node.daemon is None:
        why, remedy = silent_daemon(node)
        yield Issue(f"no response from its libvirt daemon: {why}", remedy)


def cordon(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether guests may move to it: it is not cordoned, as a drain leaves it."""
    if node.cordoned is None:
        yield unreported("whether it is cordoned", node)
    for cordoned in node.cordoned or ():
        yield Issue(f"it is {cordoned}", cordons.remedy(node.node))


def versions(world: World, asked: Machine, offered: Machines) -> Iterable[Issue]:
    """Whether the destination's QEMU has the guest's machine type.

    QEMU keeps a machine type compatible from an older version to a newer one, so an older QEMU on
    the destination is a warning although it has the type.

    A destination whose libvirt cannot resume a broken post-copy migration is refused with
    ``post_copy``: the guest would be lost with the first fault of the network. So is one that is
    too old for a device that only newer versions migrate, and either node for a compression that
    its libvirt does not have. Before a migration, a destination whose libvirt is older than the
    source's is asked whether it takes the guest's definition.
    """
    yield from devices.too_old(asked.parts, Versions(offered.libvirt, offered.qemu))
    pair = {"source": asked.libvirt, "destination": offered.libvirt}
    yield from devices.without_compression(asked.compression, asked.least, pair)
    if asked.post_copy and plans.dies_of_resumption(offered.libvirt):
        yield Issue(
            f"post_copy is true, and libvirt on the destination is {version(offered.libvirt)}:"
            " if a post-copy migration breaks, that daemon dies when it is resumed, and the guest"
            " is lost",
            "install libvirt 11.4 or newer there; or post_copy=false; or take that risk for one"
            " call: force_post_copy=true",
        )
    types = dict(offered.types).get(asked.kind)
    if types is None or (asked.type and asked.type not in types):
        what = f"guests of {asked.kind}" if types is None else f"machine type {asked.type}"
        number = f", {version(offered.qemu)}," if offered.qemu else ""
        yield Issue(
            f"QEMU on the destination{number} does not support {what}",
            "install the source's version of QEMU, or a newer one, on the destination; or define"
            " the"
            " guest with a machine type that all nodes have, and restart it",
        )
    elif why := dict(offered.refuses).get(asked.uuid):
        yield devices.not_taken(why, asked.libvirt, offered.libvirt)
    elif asked.qemu and offered.qemu and offered.qemu < asked.qemu:
        yield Issue(
            f"QEMU is older on the destination, {version(offered.qemu)}, than on the source,"
            f" {version(asked.qemu)}",
            "install one version of QEMU on all nodes; until then, migrate only to newer ones",
            PROBLEM,
            WARN,
        )


def machine(world: World, guest: GuestFacts) -> Hashable:
    """Return the kind of guest, its machine type, the QEMU that it runs on; and how it is moved."""
    found = guest.guest
    if found is None:
        return UNREAD
    here = world.nodes[guest.node].daemon
    options = world.cluster.migration.options
    runs = guest.observation.sighting is Sighting.RUNNING
    uuid = guest.observation.uuid
    post_copy = runs and options.post_copy and not options.force_post_copy
    return Machine(
        f"{found.arch}/{found.type}",
        found.machine,
        here.qemu if here else 0,
        post_copy,
        options.compression,
        plans.least_libvirt(options),
        here.libvirt if here else 0,
        devices.bound_to_versions(found),
        uuid if uuid in world.refused else "",
    )


def machines(world: World, node: NodeFacts) -> Hashable:
    """Return the machine types by kind of guest, and QEMU's version."""
    if node.daemon is None:
        return None
    daemon = node.daemon
    types = frozenset(daemon.machines.items())
    return Machines(types, daemon.qemu, daemon.libvirt, frozenset(daemon.refuses.items()))


def uuid(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether libvirt takes the two for different hosts: it refuses to migrate to the same one.

    libvirt takes the UUID from the firmware, and many boards have none or share one.
    """
    here, there = source.daemon, destination.daemon
    if here is None or there is None or not (here.uuid and there.uuid):
        what = "the host UUID of a libvirt daemon"
        return (unreported(what, source, destination),)
    if here.uuid == there.uuid:
        return (
            Issue(
                f"both hosts have the same libvirt host UUID: {here.uuid}",
                "on one of the two: set host_uuid in /etc/libvirt/libvirtd.conf (or virtqemud.conf)"
                " to what 'cat /proc/sys/kernel/random/uuid' prints, and restart the daemon; if"
                " only one"
                " host has it, the migration name resolves to the source itself",
            ),
        )
    if here.name and here.name == there.name:
        return (
            Issue(
                f"both hosts have the same host name: {here.name}",
                "rename one of them: hostnamectl set-hostname NAME",
            ),
        )
    return ()


def name(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether its own host name does not resolve to loopback on it.

    Where libvirt has no better address, it gives the source this name to connect to. A name that
    resolves to 127.0.0.1 would send the guest's memory back to the source.
    """
    if node.resolves is None:
        yield unreported("what its host name resolves to", node)
    elif not node.resolves:
        yield Issue(
            f"its host name {node.host_name} does not resolve on it", _hosts_remedy(node.host_name)
        )
    else:
        loops = [address for address in node.resolves if _is_loopback(address)]
        if loops:
            yield Issue(
                f"its host name {node.host_name} resolves to loopback on it: {listed(loops)}",
                _hosts_remedy(node.host_name),
            )


def ports(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether a migration port is free on the destination and reachable from the source.

    libvirt takes the first free port of its range (migration_port_min and _max in qemu.conf,
    49152 to 49215); GlusterFS's bricks use the same range. A refused connection proves the port
    reachable: nothing listens yet, and no firewall is in between. Where the range is changed, only
    whether a port is free is known.
    """
    free = world.free_ports[destination.node]
    if destination.daemon is None:
        yield NO_DESTINATION
        return
    if free is False:
        yield Issue(
            "no migration port is free on the destination",
            "on the destination: ss -ltnp shows what uses them; or set migration_port_min and"
            " migration_port_max in /etc/libvirt/qemu.conf to a free range, and restart the daemon",
        )
        return
    if free is None:
        yield unreported("the ports in use on the destination", source, destination)
    first, last = destination.daemon.ports
    observed = source.peers.get(destination.node)
    tried = observed.port if observed else ""
    if (first, last) != parsers.PORTS:
        yield Issue(
            f"not known whether migration ports {first} to {last} are reachable: only libvirt's"
            " default range was tried",
            f"on the destination: open TCP ports {first} to {last} for the peers in the firewall",
            UNKNOWN,
            WARN,
        )
    elif not tried:
        yield unreported("whether a migration port is reachable", source, destination)
    elif tried not in ("refused", "taken"):
        yield Issue(
            f"a migration port of the destination is unreachable: {tried}",
            f"on the destination: open TCP ports {first} to {last} for the peers in the firewall",
        )


def tls(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether both have the certificates for encrypted migration, where it is requested.

    It is requested by ``tls``, in the pillar or for one migration. Whether the certificates match,
    QEMU finds out when a migration starts, before any memory is sent.
    """
    if not world.cluster.migration.options.tls:
        return
    here, there = source.daemon, destination.daemon
    if not (here and there and here.certificates and there.certificates):
        yield unreported("the certificates for migrations", source, destination)
        return
    client = CLIENT if there.verifies else ()
    for where, (folder, found), wanted in (
        ("the source", here.certificates, (AUTHORITY, *client)),
        ("the destination", there.certificates, (AUTHORITY, *SERVER)),
    ):
        missing = [name for name in wanted if name not in found]
        if missing:
            yield Issue(
                f"{listed(missing)} missing in {folder} on {where}",
                "install certificates of one authority, as docs/migrating.md describes; or migrate"
                " with tls=False",
            )


def memory(world: World, asked: int, offered: int) -> Iterable[Issue]:
    """Whether the destination has enough available memory for all that the guest may use.

    Less what is on hugepages, which memory.hugepages judges.
    """
    if offered < asked:
        yield Issue(
            f"it needs {asked // MIB} MiB of memory, {offered // MIB} MiB are available on the"
            " destination",
            "move or stop another guest on the destination, or choose another node",
        )


def needed_memory(world: World, guest: GuestFacts) -> Hashable:
    """Return the memory that a guest needs besides hugepages, which are not available memory."""
    known = guest.memory_kib or (guest.guest.memory_kib if guest.guest else 0)
    if not known:
        return UNREAD
    paged = sum(size for _, size in guest.guest.tuning.hugepages) if guest.guest else 0
    return max(0, known - paged) or None


def free_memory(world: World, node: NodeFacts) -> Hashable:
    return node.free_kib


def minion(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether a salt-minion runs there; of a guest on a node without one the master sees nothing.

    A node that its own minion reported has one. Of a peer that was asked over ssh, ``ps`` tells.
    """
    if node.minion_process is None:
        yield unreported("whether a salt-minion runs there", node)
    elif node.minion_process:
        yield Issue(f"{node.minion_process}: {OUT_OF_SIGHT}", restart_minion(node.node))


def silent_daemon(node: NodeFacts) -> tuple[str, str]:
    """Return why a libvirt daemon does not respond, and what to do; it may refuse the login."""
    remedy = logins.REMEDIES[logins.NO_LIBVIRT]
    why = node.daemon_detail.removesuffix(f"; {remedy}")
    if why == node.daemon_detail:
        remedy = f"on {node.node}: systemctl restart libvirtd (or virtqemud), and read its journal"
    return why, remedy


def restart_minion(node: str) -> str:
    """Return how a minion that does not answer is started again."""
    return f"on {node}: systemctl restart salt-minion"


def labels(world: World, asked: frozenset[str], offered: frozenset[str]) -> Iterable[Issue]:
    """Whether libvirt on the destination has the security driver of each of the guest's labels.

    libvirt refuses a label of another driver, one that was given by itself included
    (virSecurityManagerCheckModel in src/security/security_manager.c).
    """
    if not offered:
        yield unknown(
            "not known: the security drivers of the destination",
            "on the destination: check virsh capabilities, then check again",
        )
    elif missing := asked - offered:
        yield Issue(
            f"its labels are of {listed(sorted(missing))}, and libvirt on the destination has"
            f" {listed(sorted(offered - {'none'})) or 'no security driver'} only",
            "use one security_driver on all nodes (/etc/libvirt/qemu.conf, SELinux or AppArmor of"
            " the host); a running guest keeps its label until it is restarted",
        )


def labelled(world: World, guest: GuestFacts) -> Hashable:
    if guest.guest is None:
        return UNREAD
    return guest.guest.tuning.models or None


def models(world: World, node: NodeFacts) -> Hashable:
    return node.daemon.models if node.daemon else None


def clock(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether its clock agrees with the other nodes', to 5 s plus the error of measurement.

    The time inside a guest follows the host's, so it would jump. Compared with the median clock.
    """
    if node.clock is None or world.steady is None or world.steady.clock is None:
        yield unreported("its time", node)
        return
    ahead = node.clock - world.steady.clock
    if abs(ahead) > CLOCK_LIMIT + node.clock_error + world.steady.clock_error:
        side = "ahead of" if ahead > 0 else "behind"
        yield Issue(
            f"its clock is {abs(ahead):.1f} s {side} that of {world.steady.node}",
            "run a time service on both: apt-get install chrony; then chronyc makestep",
        )


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _hosts_remedy(host_name: str) -> str:
    return (
        f"on that node: give {host_name} its real address in /etc/hosts, not 127.0.0.1 or 127.0.1.1"
    )
