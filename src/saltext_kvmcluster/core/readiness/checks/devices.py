"""What a guest has that cannot be migrated, judged with the versions of the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import BLOCK, PROBLEM, WARN, Issue, unknown
from saltext_kvmcluster.core.guest.blocker import Blocker, Versions
from saltext_kvmcluster.core.guest.blockers import block_job
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import version

REMOVE = "remove it: virsh edit GUEST, then restart the guest"


def refused(world: World, facts: GuestFacts, guest: Guest) -> Iterator[Issue]:
    """Yield an issue for each part of a guest that its own node does not migrate."""
    daemon = world.nodes[facts.node].daemon
    here = Versions(daemon.libvirt, daemon.qemu) if daemon else Versions(0, 0)
    parts = dict.fromkeys((*guest.blockers, *map(block_job, facts.block_jobs)))
    found = [issue for part in parts for issue in _judged(part, here, facts.refusals)]
    if not any(issue.severity == BLOCK for issue in found):
        # QEMU's own words may repeat what was found by the definition.
        found += [_by_qemu(parts, reason) for reason in facts.refusals or ()]
    if not world.cluster.guests.may_pass(facts.name):
        found += [_unchecked(sentence) for sentence in guest.passthrough]
    for issue in found:
        yield Issue(
            issue.sentence,
            issue.remedy.replace("GUEST", facts.name),
            issue.outcome,
            issue.severity,
        )


def bound_to_versions(guest: Guest) -> tuple[tuple[str, Versions], ...]:
    """Return the parts of a guest that only newer versions migrate, each with the versions."""
    parts = ((part.what, part.since) for part in guest.blockers)
    return tuple((what, since) for what, since in parts if since and any(since))


def too_old(parts: Iterable[tuple[str, Versions]], there: Versions) -> Iterator[Issue]:
    """Yield an issue for each part of a guest that a destination of those versions refuses."""
    for what, since in parts:
        if any(lacks := there.lacks(since)):
            yield Issue(
                f"{what}: to receive it takes {since}, and the destination has {lacks}",
                f"install {since} or newer on the destination, or remove it from the guest",
            )
        elif there.hides(since):
            yield unknown(
                f"{what}: not known whether the destination has {since}, which that takes",
                "on the destination: virsh version",
            )


def without_compression(
    compression: str, least: int, libvirts: Mapping[str, int]
) -> Iterator[Issue]:
    """Yield an issue for each node whose libvirt is too old for a compression.

    libvirts
        The versions of both, by what they are.
    """
    for node, libvirt in libvirts.items():
        if libvirt and libvirt < least:
            yield Issue(
                f"compression is {compression}, which takes libvirt {version(least)}, and the"
                f" {node} has {version(libvirt)}",
                "compression=none for this call, or in the pillar until all nodes have newer ones",
            )
        elif least and not libvirt:
            yield unknown(
                f"compression is {compression}, and it is not known whether libvirt on the {node}"
                " has it",
                f"on the {node}: virsh version",
            )


def not_taken(why: str, here: int, there: int) -> Issue:
    """Return the issue of a destination that does not take a guest's definition.

    here, there
        The versions of libvirt, of which the destination's is the older one.
    """
    return Issue(
        f"libvirt on the destination, {version(there)}, does not take its definition: {why}",
        "remove that from the guest (virsh edit), and restart it; or migrate it only to nodes with"
        f" libvirt {version(here)} or newer",
    )


def job_remedy(facts: GuestFacts) -> str:
    """Return what to do about a guest's active job: most end by themselves."""
    job, name = facts.observation.job, facts.name
    if job == verdicts.BROKEN:
        return f"it does not end by itself; repair the network, then: kvmcluster.recover {name}"
    if job == verdicts.ENDLESS:
        return (
            f"on {facts.node}: virsh domcontrol {name}; if that hangs, find what its QEMU waits"
            " for, mostly its storage; if it answers, restart libvirtd (or virtqemud), which leaves"
            " guests running"
        )
    # libvirt has no statistics on the receiving side.
    shows = "kvmcluster.job" if job in verdicts.MIGRATIONS else "virsh domjobinfo"
    return f"wait until it ends: {shows} {name}"


def _judged(part: Blocker, here: Versions, refusals: tuple[str, ...] | None) -> Iterator[Issue]:
    remedy = part.remedy or REMOVE
    if part.since is None:
        yield Issue(part.what, remedy, PROBLEM, part.severity)
    elif any(lacks := here.lacks(part.since)):
        yield Issue(
            f"{part.what}: to migrate it takes {part.since}, and its node has {lacks}",
            f"install {part.since} or newer on all nodes, or {REMOVE}",
            PROBLEM,
            BLOCK,
        )
    elif here.hides(part.since):
        yield unknown(
            f"{part.what}: not known whether its node has {part.since}, which that takes",
            "on its node: virsh version",
        )
    elif part.asks and refusals is None:
        yield unknown(f"{part.what}: its QEMU did not tell whether that can be migrated", _ASK)
    elif part.unless:
        yield Issue(f"{part.what}, which is migrated only if {part.unless}", _ASK, PROBLEM, WARN)


def _by_qemu(parts: Iterable[Blocker], reason: str) -> Issue:
    remedies = [part.remedy for part in parts if part.asks and part.remedy]
    return Issue(f"its QEMU does not migrate it: {reason}", (*remedies, REMOVE)[0], PROBLEM, BLOCK)


def _unchecked(sentence: str) -> Issue:
    return Issue(
        sentence,
        "make sure that each path, address and device in it is the same on all nodes, then allow it"
        " in the pillar: kvmcluster:guests:passthrough: [GUEST]; or remove it: virsh edit GUEST",
        PROBLEM,
        BLOCK,
    )


_ASK = """on its node: virsh qemu-monitor-command GUEST '{"execute":"query-migrate"}'"""
