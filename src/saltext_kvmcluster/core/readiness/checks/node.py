"""Whether a node can take part: its daemon, name, ports, memory, clock, versions and CPU."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.facts import parsers, questions
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import PROBLEM, UNKNOWN, WARN, Issue, unknown
from saltext_kvmcluster.core.readiness.checks.base import NOT_TOLD, UNREAD, World, unreported
from saltext_kvmcluster.core.text import listed

CLOCK_LIMIT = 5.0
AUTHORITY = "ca-cert.pem"
CLIENT = ("client-cert.pem", "client-key.pem")
SERVER = ("server-cert.pem", "server-key.pem")
MIB = 1024


class Machine(NamedTuple):
    """What a guest needs of QEMU: its kind as ARCH/TYPE, its machine type; QEMU where it is."""

    kind: str
    type: str
    qemu: int


class Machines(NamedTuple):
    """What a node's QEMU has: machine types by ARCH/TYPE, and its version."""

    types: frozenset[tuple[str, frozenset[str]]]
    qemu: int


def daemon(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether its libvirt daemon answers: libvirtd, or virtqemud where it is modular.

    A daemon that is silent on a node that answers is a problem; of a node that does not answer
    nothing is known.
    """
    if node.detail:
        yield unknown(
            f"it did not answer: {node.detail}",
            f"salt {node.node} test.ping; then kvmcluster.ssh_check on a peer",
        )
    elif node.daemon is None:
        yield Issue(
            f"its libvirt daemon does not answer: {node.daemon_detail}",
            "there: systemctl restart libvirtd (or virtqemud), and read its journal",
        )


def is_open(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether guests may come to it: nobody has cordoned it, as a drain does."""
    if node.cordoned is None:
        yield unreported("no word of whether it is cordoned", node)
    for cordoned in node.cordoned or ():
        yield Issue(f"it is {cordoned}", cordons.remedy(node.node))


def versions(world: World, asked: Machine, offered: Machines) -> Iterable[Issue]:
    """Whether the destination's QEMU has the guest's machine type.

    A machine type is a promise of QEMU from an older version to a newer one, so a destination
    whose QEMU is older is warned of though it knows the type.
    """
    types = dict(offered.types).get(asked.kind)
    if types is None or (asked.type and asked.type not in types):
        what = f"guests of {asked.kind}" if types is None else f"machine type {asked.type}"
        yield Issue(
            f"QEMU there knows no {what}",
            "install there the version of QEMU that is installed here, or newer; or define the"
            " guest with a machine type that all nodes have, and start it anew",
        )
    elif asked.qemu and offered.qemu and offered.qemu < asked.qemu:
        yield Issue(
            f"QEMU is older there, {_version(offered.qemu)}, than here, {_version(asked.qemu)}",
            "give all nodes one version of QEMU; until then move guests only to newer ones",
            PROBLEM,
            WARN,
        )


def machine(world: World, guest: GuestFacts) -> Hashable:
    """Return the kind of guest, its machine type, and the QEMU on which it is."""
    found = guest.guest
    if found is None:
        return UNREAD
    here = world.nodes[guest.node].daemon
    return Machine(f"{found.arch}/{found.type}", found.machine, here.qemu if here else 0)


def machines(world: World, node: NodeFacts) -> Hashable:
    """Return the machine types by kind of guest, and QEMU's version."""
    if node.daemon is None:
        return None
    return Machines(frozenset(node.daemon.machines.items()), node.daemon.qemu)


def uuid(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether the two are two hosts for libvirt, too: it refuses to migrate to the same host.

    libvirt takes the UUID from the firmware, and many boards have none or all the same.
    """
    here, there = source.daemon, destination.daemon
    if here is None or there is None or not (here.uuid and there.uuid):
        what = "a libvirt daemon does not tell its host's UUID"
        return (unreported(what, source, destination),)
    if here.uuid == there.uuid:
        return (
            Issue(
                f"both hosts have the same UUID for libvirt: {here.uuid}",
                "on one of the two: set host_uuid in /etc/libvirt/libvirtd.conf (or virtqemud.conf)"
                " to what 'cat /proc/sys/kernel/random/uuid' prints, and restart the daemon; or the"
                " migration name leads back here",
            ),
        )
    if here.name and here.name == there.name:
        return (
            Issue(f"both hosts have the same name: {here.name}", "give one another: hostnamectl"),
        )
    return ()


def name(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether its own idea of its name leads to it from elsewhere.

    Where libvirt has no better address it tells the source this name: one that means 127.0.0.1
    sends the guest's memory back to where it comes from.
    """
    if node.resolves is None:
        yield unreported("no word of what its name resolves to", node)
    elif not node.resolves:
        yield Issue(
            f"its name {node.host_name} has no address there", _hosts_remedy(node.host_name)
        )
    else:
        loops = [address for address in node.resolves if _is_loopback(address)]
        if loops:
            yield Issue(
                f"its name {node.host_name} is {listed(loops)} there: loopback",
                _hosts_remedy(node.host_name),
            )


def ports(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether a migration port is free there, and can be reached from here.

    libvirt takes the first free one of its range (migration_port_min and _max in qemu.conf,
    49152 to 49215); GlusterFS's bricks use the same range. A connection that is refused got
    there: nobody listens yet, and no firewall is in between. Where the range is another, only
    whether one is free is known.
    """
    free = world.free_ports[destination.node]
    if destination.daemon is None:
        yield NOT_TOLD
        return
    if free is False:
        yield Issue(
            "no migration port is free there",
            "there: ss -ltnp shows who has them; or set migration_port_min and"
            " migration_port_max in /etc/libvirt/qemu.conf to a free range, and restart the daemon",
        )
        return
    if free is None:
        yield unreported("no word of the ports that are in use there", source, destination)
    first, last = destination.daemon.ports
    observed = source.peers.get(destination.node)
    tried = observed.port if observed else ""
    if (first, last) != parsers.PORTS:
        yield Issue(
            f"not known whether its migration ports {first} to {last} can be reached: only"
            " libvirt's own range was tried",
            f"open TCP ports {first} to {last} there, for the peers, in the firewall",
            UNKNOWN,
            WARN,
        )
    elif not tried:
        yield unreported("no connection to a migration port was tried", source, destination)
    elif tried not in ("refused", "taken"):
        yield Issue(
            f"a migration port there cannot be reached: {tried}",
            f"open TCP ports {first} to {last} there, for the peers, in the firewall",
        )


def certificates(world: World, source: NodeFacts, destination: NodeFacts) -> Iterable[Issue]:
    """Whether both have the certificates for memory that is encrypted, where it is to be.

    That is wanted by ``tls``, of the pillar or of one migration. Whether the certificates fit,
    QEMU finds out at the start, before any memory is sent.
    """
    if not world.cluster.migration.options.tls:
        return
    here, there = source.daemon, destination.daemon
    if not (here and there and here.certificates and there.certificates):
        yield unreported("no word of the certificates for migrations", source, destination)
        return
    client = CLIENT if there.verifies else ()
    for where, (folder, found), wanted in (
        ("here", here.certificates, (AUTHORITY, *client)),
        ("there", there.certificates, (AUTHORITY, *SERVER)),
    ):
        missing = [name for name in wanted if name not in found]
        if missing:
            yield Issue(
                f"there is no {listed(missing)} in {folder} {where}",
                "put certificates of one authority there, as docs/migrating.md says; or migrate"
                " with tls false",
            )


def memory(world: World, asked: int, offered: int) -> Iterable[Issue]:
    """Whether the memory that is available there is enough for all that the guest may have."""
    if offered < asked:
        yield Issue(
            f"it needs {asked // MIB} MiB of memory, and {offered // MIB} MiB are available there",
            "move or stop another guest there, or choose another node",
        )


def needed_memory(world: World, guest: GuestFacts) -> Hashable:
    return guest.memory_kib or (guest.guest.memory_kib if guest.guest else UNREAD)


def free_memory(world: World, node: NodeFacts) -> Hashable:
    return node.free_kib


def clock(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether its clock agrees with the others', to 5 s and as well as it could be measured.

    The time inside a guest follows the host's, so it would jump. Compared with the clock that is
    in the middle of all.
    """
    if node.clock is None or world.steady is None or world.steady.clock is None:
        yield unreported("no word of its time", node)
        return
    ahead = node.clock - world.steady.clock
    if abs(ahead) > CLOCK_LIMIT + node.clock_error + world.steady.clock_error:
        side = "ahead of" if ahead > 0 else "behind"
        yield Issue(
            f"its clock is {abs(ahead):.1f} s {side} that of {world.steady.node}",
            "run a time service on both: apt-get install chrony, chronyc makestep",
        )


def cpu(world: World, asked: str, offered: Iterable[tuple[str, str]]) -> Iterable[Issue]:
    """Whether the destination's hypervisor can run the guest's CPU.

    libvirt there is asked (virConnectCompareHypervisorCPU) for the CPU that the running guest
    has, or for that of the guest's host where it is passed through.
    """
    why = dict(offered).get(asked)
    if why is None:
        yield unknown(
            "libvirt there cannot tell whether it can run the guest's CPU",
            "mend node.versions first, if that tells something; else give the guest a CPU of a"
            " named model, one that all nodes have, and start it anew",
        )
    elif why:
        yield Issue(
            f"it cannot run the guest's CPU: {why}",
            "give the guest a CPU model that all nodes have (virsh hypervisor-cpu-baseline), and"
            " start it anew",
        )


def wanted_cpu(world: World, guest: GuestFacts) -> Hashable:
    if guest.guest is None:
        return UNREAD
    asked = asked_cpu(world, guest)
    return questions.cpu_key(asked) if asked else None


def asked_cpu(world: World, guest: GuestFacts) -> Mapping[str, str]:
    """Return what to ask of the CPU that the destination has to run, empty where any can.

    That of its host where the guest has it whole; of a running guest libvirt tells any other by
    model and features.
    """
    found = guest.guest
    cpu = found.cpu if found else ""
    if 'mode="host-passthrough"' in cpu:
        daemon = world.nodes[guest.node].daemon
        cpu = (daemon.cpu if daemon else "") or cpu
    elif "<model" not in cpu and 'mode="maximum"' not in cpu:
        return {}
    if found is None:
        return {}
    asked = (found.type, found.arch, found.machine, found.emulator, cpu)
    return dict(zip(questions.CPU, asked, strict=True))


def cpus(world: World, node: NodeFacts) -> Hashable:
    return frozenset(node.daemon.cpus.items()) if node.daemon else None


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _hosts_remedy(host_name: str) -> str:
    return (
        f"there: give {host_name} the node's own address in /etc/hosts, not 127.0.0.1 or 127.0.1.1"
    )


def _version(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
