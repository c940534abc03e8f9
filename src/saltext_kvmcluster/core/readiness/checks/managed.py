"""Who else manages a guest: Pacemaker has to leave it alone while it is moved."""

from __future__ import annotations

from collections.abc import Iterable

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.findings import WARN, Issue, unknown
from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.pacemaker.managers import Management
from saltext_kvmcluster.core.readiness.checks.base import World


def management(world: World, guest: GuestFacts) -> Management:
    """Return which resource of Pacemaker manages a guest, by the nodes that responded."""
    return world.managers.of(guest.name, [guest.node] if guest.active else ())


def issues(world: World, guest: GuestFacts) -> Iterable[Issue]:
    """Yield what forbids a guest's move because of another manager; see ``ha.manager``."""
    found = management(world, guest)
    if why := holds.held(found, guest.name):
        yield Issue(why)
    elif found.doubts:
        for doubt in found.doubts:
            yield unknown(f"not known whether it is Pacemaker's: {doubt.sentence}", doubt.remedy)
    elif (one := found.managed) and (cannot := holds.obstacle(found, guest.name)):
        yield Issue(
            f"Pacemaker manages it, as its resource {one.name}, and would start it again; it"
            f" cannot be held meanwhile: {cannot}",
            f"to move it: {one.moved}",
        )
    elif found.managed:
        for node in world.on_standby:
            sentence = f"{node} is on standby: Pacemaker would move it on"
            yield Issue(sentence, f"salt-run kvmcluster.undrain {node}", destination=node)
        for node in world.without_pacemaker:
            sentence = f"Pacemaker does not run on {node}, and could not be given it back there"
            yield Issue(sentence, f"on {node}: systemctl start pacemaker", destination=node)
    elif one := found.unmanaged:
        sentence = f"it is Pacemaker's, as its resource {one.name}, which is unmanaged now"
        yield Issue(sentence, one.given_back, severity=WARN)
