"""Checks of CPUs: whether the destination can run the guest's, and has those it is bound to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from saltext_kvmcluster.core.facts import questions
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import PROBLEM, WARN, Issue, unknown
from saltext_kvmcluster.core.guest.tuning import Pin
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World
from saltext_kvmcluster.core.text import listed

_CAPABILITIES = "on the destination: check virsh capabilities, then check again"
_UNPIN = (
    "pin it to CPUs that every node has: virsh vcpupin, emulatorpin or iothreadpin --live; or"
    " <vcpu cpuset=> (virsh edit), then restart the guest"
)


class Processors(NamedTuple):
    """A guest's pins and NUMA nodes."""

    pins: frozenset[Pin]
    nodes: frozenset[int]


class Topology(NamedTuple):
    """A node's CPUs: those online, those that may ever be, whether cgroups confine; its NUMA nodes.

    Empty where not known.
    """

    online: frozenset[int]
    possible: frozenset[int]
    confines: bool
    nodes: frozenset[int]


TOLERANCE = 250
"""Millionths by which a TSC may differ: libvirt's TSC_TOLERANCE (qemu_process.c)."""


class Wanted(NamedTuple):
    """The CPU that a guest has, by its key, empty if any will do; and its TSC in Hz, or 0."""

    key: str
    tsc: int


class Offered(NamedTuple):
    """What was asked about a node's CPU, with the answers; and its TSC if that is fixed, or 0."""

    answers: frozenset[tuple[str, str]]
    tsc: int


def model(world: World, asked: Wanted, offered: Offered) -> Iterable[Issue]:
    """Whether the destination's hypervisor can run the guest's CPU.

    libvirt on the destination is asked (virConnectCompareHypervisorCPU) about the CPU that the
    running guest has, or about the source's CPU where that is passed through. A frequency that is
    set for its time stamp counter has to be the host's, or one to which the host's CPU scales
    (libvirt's qemuProcessStartValidateTSC).
    """
    if asked.tsc and offered.tsc and abs(asked.tsc - offered.tsc) * 10**6 > offered.tsc * TOLERANCE:
        yield Issue(
            f"the destination's TSC runs at {offered.tsc} Hz and cannot be scaled to the guest's"
            f" {asked.tsc} Hz",
            "migrate it to nodes with the same TSC (virsh capabilities), or remove the frequency of"
            " <timer name='tsc'> from its definition, and restart it",
        )
    why = dict(offered.answers).get(asked.key) if asked.key else ""
    if why is None:
        yield unknown(
            "libvirt on the destination cannot tell whether it can run the guest's CPU",
            "fix node.versions first, if it has a finding; else set a named CPU model that all"
            " nodes"
            " have in the guest's definition, and restart it",
        )
    elif why:
        yield Issue(
            f"the destination cannot run the guest's CPU: {why}",
            "set a CPU model that all nodes have (virsh hypervisor-cpu-baseline) in the guest's"
            " definition, and restart it",
        )


def wanted(world: World, guest: GuestFacts) -> Hashable:
    if guest.guest is None:
        return UNREAD
    asked = asked_cpu(world, guest)
    wanted = Wanted(questions.cpu_key(asked) if asked else "", guest.guest.tsc)
    return wanted if any(wanted) else None


def asked_cpu(world: World, guest: GuestFacts) -> Mapping[str, str]:
    """Return what to ask about the CPU that the destination has to run, empty where any can.

    With host-passthrough that is the source's CPU; any other libvirt reports by model and features
    once the guest runs.
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


def known(world: World, node: NodeFacts) -> Hashable:
    daemon = node.daemon
    return Offered(frozenset(daemon.cpus.items()), daemon.tsc) if daemon else None


def pinning(world: World, asked: Processors, offered: Topology) -> Iterator[Issue]:
    """Whether the destination has the CPUs and NUMA nodes to which the guest is bound.

    The kernel refuses an affinity to CPUs of which none is online, and libvirt's cgroup refuses one
    that the kernel can never have (sched_setaffinity(2), update_cpumask in
    kernel/cgroup/cpuset.c); libvirt refuses a NUMA node that does not exist, whatever the mode
    (virNumaNodesetIsAvailable in src/util/virnuma.c).
    """
    yield from _pinned(sorted(asked.pins, key=lambda one: one.use), offered)
    if asked.nodes and not offered.nodes:
        yield unknown("not known: the NUMA nodes of the destination", _CAPABILITIES)
    elif missing := asked.nodes - offered.nodes:
        yield Issue(
            f"its memory is bound to NUMA node {listed(map(str, sorted(missing)))}, which the"
            " destination does not have",
            "set a nodeset in <numatune> that every node has (virsh edit), then restart the guest",
        )


def processors(world: World, guest: GuestFacts) -> Hashable:
    if guest.guest is None:
        return UNREAD
    found = Processors(frozenset(guest.guest.tuning.pins), guest.guest.tuning.nodes)
    return found if any(found) else None


def topology(world: World, node: NodeFacts) -> Hashable:
    if node.daemon is None:
        return None
    has = node.resources
    return Topology(
        node.daemon.online, has.cpus or frozenset(), has.confines, node.daemon.numa_nodes
    )


def _pinned(pins: Sequence[Pin], offered: Topology) -> Iterator[Issue]:
    """Yield one issue for all pins of a kind: a guest may have one for each of its vCPUs."""
    if pins and not (offered.online and offered.possible):
        yield unknown("not known: the CPUs of the destination", _CAPABILITIES)
        return
    none, beyond, few = [], [], []
    for pin in pins:
        if not pin.cpus & offered.online:
            none.append(pin)
        elif offered.confines and not pin.cpus <= offered.possible:
            beyond.append(pin)
        elif not pin.cpus <= offered.online:
            few.append(pin)
    if none:
        yield Issue(f"{_bound(none)}, of which the destination has none", _UNPIN)
    if beyond:
        yield Issue(f"{_bound(beyond)}, some of which the destination can never have", _UNPIN)
    if few:
        yield Issue(f"{_bound(few)}, of which the destination has only some", _UNPIN, PROBLEM, WARN)


def _bound(pins: Sequence[Pin]) -> str:
    cpus = sorted(frozenset().union(*(pin.cpus for pin in pins)))
    verb = "is" if len(pins) == 1 else "are"
    return f"{listed(pin.use for pin in pins)} {verb} pinned to CPU {listed(map(str, cpus))}"
