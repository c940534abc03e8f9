"""What of ours, or of a move of Pacemaker's own, was left half-way in Pacemaker, and how it ends.

Held by us: Pacemaker neither starts nor stops the guest, not even when its node dies. On standby by
us: no guest of Pacemaker's comes to the node. Blocked: a live move of Pacemaker's own was
interrupted, or it takes the guest for active on several nodes, and leaves it alone until somebody
has it look again. `recover` ends the first and the last; it believes what every node answers, since
Pacemaker starts what it does not see.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.ownership.cases import NOWHERE, PAUSED, RUNNING
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.managers import Management, Manager
from saltext_kvmcluster.core.pacemaker.model import GuestResource, Pacemaker
from saltext_kvmcluster.core.text import listed, printable
from saltext_kvmcluster.core.verdicts import OFF, Observation, Sighting

Views = Mapping[str, "Pacemaker | None"]
"""What nodes know of Pacemaker, by node; None where that is not known."""


def sentences(views: Views, moving: Collection[str], uncordoned: Collection[str]) -> list[str]:
    """Return what was left half-way, each with its remedy.

    moving
        The guests of which a migration is under way: what holds them is at work.
    uncordoned
        The nodes that are known not to be cordoned: one that is, is meant to be on standby.
    """
    found: dict[str, None] = {}
    for view in _with_quorum(views):
        for resource in view.resources:
            guest = _guest(view, resource)
            if guest not in moving and not _is_at_work(views, resource.mark):
                found.update(dict.fromkeys(_of_resource(view, resource, guest)))
        found.update(dict.fromkeys(_standbys(view, uncordoned)))
    return list(found)


def at_work(views: Views) -> dict[str, str]:
    """Return the guests that a command of ours holds that is at work, and which one, a sentence."""
    found = {}
    for view in _with_quorum(views):
        for resource in view.resources:
            hold = holds.parse(resource.mark)
            if hold and hold.verb != holds.FREEZE and _is_at_work(views, resource.mark):
                guest = _guest(view, resource)
                found[guest] = (
                    f"{guest} is held from Pacemaker, as its resource {resource.id}, by"
                    f" {holds.describe(resource.mark)}, which is at work"
                )
    return found


def _is_at_work(views: Views, mark: str) -> bool:
    """Whether the command that holds a guest is at work, or was when its own node was asked.

    The nodes do not answer at the same moment. A hold that nobody is at work on is in the view of
    every node; one that its own node does not show was not made yet there, or ended already.
    """
    hold = holds.parse(mark)
    own = [view for view in _with_quorum(views) if hold and hold.process and view.name == hold.node]
    return any(
        mark in view.working or all(one.mark != mark for one in view.resources) for view in own
    )


def frozen(views: Views) -> list[str]:
    """Return the guests that are held since they were frozen, a sentence each."""
    found = {
        f"{guest} is held from Pacemaker, as its resource {resource.id}, since it is frozen: it is"
        f" not started again if its node dies; to end that: {_unfreeze(guest, hold.node)}"
        for view in _with_quorum(views)
        for resource in view.resources
        for guest in (_guest(view, resource),)
        if (hold := holds.parse(resource.mark)) and hold.verb == holds.FREEZE
    }
    return sorted(found)


def standbys_of_others(views: Views) -> list[str]:
    """Return the nodes that somebody else has put on standby, a sentence each."""
    found = {
        f"{printable(name)} is on standby in Pacemaker, but not by us: no guest of Pacemaker's runs"
        f" or starts there; to end that, on any node: crm_attribute -N {shlex.quote(name)} -n"
        f" standby -D (or: pcs node unstandby {shlex.quote(name)})"
        for view in _with_quorum(views)
        if view.status and view.configuration
        for name, member in view.status.members.items()
        if member.standby and name not in view.configuration.standbys
    }
    return sorted(found)


def _with_quorum(views: Views) -> Iterator[Pacemaker]:
    """Yield the views that count: a part of the cluster without quorum knows an old state."""
    for view in views.values():
        if view and view.runs and view.status and view.status.quorum:
            yield view


def _of_resource(view: Pacemaker, resource: GuestResource, guest: str) -> Iterator[str]:
    recover = f"salt-run kvmcluster.recover {shlex.quote(guest)}"
    hold = holds.parse(resource.mark)
    if resource.mark and not (hold and hold.verb == holds.FREEZE):
        yield (
            f"{guest} is held from Pacemaker, as its resource {resource.id}, by"
            f" {holds.describe(resource.mark)}: it is not started again if its node dies; once that"
            f" has ended: {recover}"
        )
    state = view.state(resource)
    if state.blocked and not resource.mark:
        where = f", which takes it for active on {listed(state.nodes)}" if state.nodes else ""
        by_hand = f"once it runs on one node and no other: crm_resource --refresh -r {resource.id}"
        remedy = recover if _plain(resource) else by_hand
        yield (
            f"{guest} is blocked in Pacemaker, as its resource {resource.id}{where}: it is neither"
            f" started, stopped nor moved until that ends: {remedy}"
        )


def _standbys(view: Pacemaker, uncordoned: Collection[str]) -> Iterator[str]:
    """Yield the nodes that are on standby by us though they take guests again."""
    marks = view.configuration.standbys if view.configuration else {}
    for node in uncordoned:
        if mark := marks.get(node):
            yield (
                f"{node} is on standby in Pacemaker by us ({printable(mark)}), though it is not"
                f" cordoned: salt-run kvmcluster.undrain {node}"
            )


def _plain(resource: GuestResource) -> bool:
    """Whether it is a guest by itself, so that nothing else is looked for along with it."""
    return resource.moved == resource.id and resource.is_virtual_domain


def _guest(view: Pacemaker, resource: GuestResource) -> str:
    names = [view.guests[path] for path in resource.configs if view.guests.get(path)]
    if resource.provider == managers.OURS and resource.parameters.get("guest"):
        names.insert(0, resource.parameters["guest"])
    return printable(names[0] if names else resource.id)


def _unfreeze(guest: str, node: str) -> str:
    return f"salt {node} kvmcluster.unfreeze {shlex.quote(guest)}"


# ---- what recover ends ----


@dataclass(frozen=True)
class End:
    """How what was left is ended.

    ``mark``: that of the hold that is given back; empty if a blocked resource is looked for anew.
    ``role``: the target-role from now on, empty to leave it. ``stays_off``: whether it must not be
    started by being given back.
    """

    resource: str
    mark: str
    role: str = ""
    stays_off: bool = False


def end(management: Management, result: str) -> End | None:
    """Return how what was left of a guest is ended; None if nothing is.

    A shutdown that has switched the guest off is completed: it stays off. Otherwise what is seen
    counts: a guest that runs goes on, one that is nowhere Pacemaker starts as it would have done.

    result
        What `recover` found of it.
    """
    for manager in management.managers:
        resource, hold = manager.resource, holds.parse(manager.resource.mark)
        if resource.mark:
            if hold and hold.verb == holds.FREEZE and result != NOWHERE:
                return None
            off = result == NOWHERE and hold is not None and hold.verb == holds.SHUTDOWN
            return End(resource.id, resource.mark, _role(manager, result, off), off)
        if manager.state.blocked and _plain(resource):
            return End(resource.id, "")
    return None


def _role(manager: Manager, result: str, stays_off: bool) -> str:
    """Return the target-role that fits what is seen, empty if it does already.

    One that somebody set otherwise while a migration held the guest is that person's.
    """
    hold = holds.parse(manager.resource.mark)
    if stays_off:
        return holds.STOPPED
    ours = hold and hold.verb in (holds.START, holds.SHUTDOWN)
    is_on = result != NOWHERE and manager.state.target == holds.STOPPED
    return holds.STARTED if ours and is_on else ""


def forbids_end(result: str, owner: str | None, observations: Mapping[str, Observation]) -> str:
    """Return why what was left must not be ended now; empty if it may.

    Every node has answered, or was fenced; no migration is active; and the guest is active on one
    node, or on none.

    result, owner
        What `recover` found of it.
    observations
        The last one of every node of the cluster.
    """
    for node, one in observations.items():
        if one.sighting is Sighting.UNREACHABLE:
            return f"no response from {node}: {one.detail}"
        if one.job:
            return f"{one.job} is active on {node}"
    if result not in (RUNNING, PAUSED, NOWHERE):
        return f"where it runs is not certain ({result})"
    active = [node for node, one in observations.items() if one.sighting not in OFF]
    if active != ([owner] if owner else []):
        return f"it is active on {listed(active) or 'no node'}"
    return ""


def blocked(view: Pacemaker | None, resource: str) -> str:
    """Return why a resource is not known to be rid of what blocked it; empty if it is."""
    if view is None or view.status is None or view.error:
        return f"Pacemaker cannot be read{f': {view.error}' if view and view.error else ''}"
    state = view.status.resources.get(resource)
    if state is None:
        return "crm_mon does not show it"
    if state.blocked:
        where = f", and takes it for active on {listed(state.nodes)}" if state.nodes else ""
        return f"Pacemaker still blocks it{where}"
    return ""
