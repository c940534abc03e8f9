"""Checks of CPUs: whether the destination can run the one that a guest has."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from saltext_kvmcluster.core.facts import questions
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World


def model(world: World, asked: str, offered: Iterable[tuple[str, str]]) -> Iterable[Issue]:
    """Whether the destination's hypervisor can run the guest's CPU.

    libvirt on the destination is asked (virConnectCompareHypervisorCPU) about the CPU that the
    running guest has, or about the source's CPU where that is passed through.
    """
    why = dict(offered).get(asked)
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
    return questions.cpu_key(asked) if asked else None


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
    return frozenset(node.daemon.cpus.items()) if node.daemon else None
