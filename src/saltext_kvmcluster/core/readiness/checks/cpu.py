"""Checks of CPUs: whether the destination can run the one that a guest has."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from saltext_kvmcluster.core.facts import questions
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World

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
