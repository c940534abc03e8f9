"""Resumes a post-copy migration that broke."""

from __future__ import annotations

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import plans
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.ownership import settlements
from saltext_kvmcluster.core.verdicts import BROKEN
from saltext_kvmcluster.engine import inquiry
from saltext_kvmcluster.engine.environment import Environment

POLL = 0.5
# Seconds for it to resume, and for its end; it may still do so later.
RESUMED, RESUMING = 60.0, 600.0


def resume(env: Environment, entry: Entry, source: str) -> None:
    """Resume it from its source, and wait for its end.

    entry
        Its journal entry, the latest of its guest.
    """
    uuid, node = entry.move.uuid, env.cluster.node(entry.move.destination)
    if plans.dies_of_resumption(env.libvirt(node.id).version()):
        raise WorldError(
            f"not done: libvirt on {node.id} would die of it, and the guest with it; install"
            " libvirt 11.4 or newer there first; that leaves its QEMU as it is"
        )
    plan = settlements.resumption(env.cluster, entry, env.address(node.migration))
    libvirt, begun = env.libvirt(source), env.clock.monotonic()
    call = libvirt.migrate(uuid, plan)
    while not call.done() and (lasted := env.clock.monotonic() - begun) < RESUMING:
        env.clock.wait(call, POLL)
        if lasted >= RESUMED and libvirt.sight(uuid).job == BROKEN:
            raise WorldError(
                f"it had not resumed within {RESUMED:g} s, and still may; QEMU on {node.id} may"
                " be unresponsive; neither half was destroyed; check again later"
            )
    if not call.done():
        raise WorldError(f"it resumed, and had not ended within {RESUMING:g} s; check again later")
    error = call.exception()
    if error and not inquiry.has_arrived(env, entry.move, begun + RESUMING):
        raise WorldError(str(error))
