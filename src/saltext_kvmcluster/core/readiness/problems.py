"""What of a cluster needs a person, and what is only worth a note: the sentences of its status."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.facts.nodefacts import NOBODY, GuestFacts, NodeFacts, nobody_answers
from saltext_kvmcluster.core.ha import holds, leftovers
from saltext_kvmcluster.core.ownership import deliberate, nowhere
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.managers import Manager
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pillar import agreement
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness import key_notes, rules
from saltext_kvmcluster.core.readiness.checks.node import restart_minion, silent_daemon
from saltext_kvmcluster.core.text import MAX_NAMES, listed, printable
from saltext_kvmcluster.core.verdicts import Sighting

Nodes = Mapping[str, NodeFacts]

_MEND = "virsh domstate --reason GUEST; mend the cause, then: virsh resume GUEST"
_MENDED = {
    "asleep": "virsh dompmwakeup GUEST",
    "panicked": (
        "virsh dump GUEST FILE, if its memory is to be examined; virsh destroy GUEST; then start it"
        " again"
    ),
}
_MENDED["crashed"] = _MENDED["panicked"]
# Why a guest stands that no job of libvirt has stopped.
_FAULTS = ("I/O error", "watchdog", "crashed", "panicked")
_KEEPS = {"apart": "apart", "with": "together"}
_WELL = (Sighting.RUNNING, Sighting.PAUSED_BY_USER)


def problems(
    cluster: Cluster, nodes: Nodes, pillars: Mapping[str, str], short: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Return by kind what needs a person, the worst first.

    pillars
        What is wrong with the pillars of nodes, as the master renders them.
    short
        What would find no place if a node were lost.
    """
    kept = {node: one.pillar for node, one in nodes.items()}
    unseen = [one for one in nodes.values() if one.guests is None]
    seen = [one for one in nodes.values() if one.guests is not None]
    return {
        "master": [NOBODY] if nobody_answers(nodes) else [],
        "runs_twice": _doubled(nodes),
        "node": [sentence for facts in unseen for sentence in _silence(facts, pillars)],
        "minion": [sentence for facts in seen for sentence in _silence(facts, pillars)],
        "stands": [sentence for copies in _active(nodes) for sentence in _stands(copies)],
        "runs_nowhere": list(_nowhere(cluster, nodes)),
        "pacemaker": _left_in_pacemaker(nodes),
        "autostart": list(_starting(nodes, at_home=False)),
        "pillar": list(agreement.sentences(cluster, kept, pillars)),
        "journal": [sentence for facts in nodes.values() for sentence in _odd(facts)],
        "capacity": list(short),
    }


def wanted_off(cluster: Cluster, nodes: Nodes) -> set[str]:
    """Return the guests of the list that run nowhere because somebody wants it so."""
    absent = [] if _silent(nodes) else _absentees(cluster, nodes)
    held = {name: _manager(name, nodes) for name in absent}
    stopped = deliberate.shutdowns(nodes, absent)
    return {
        name
        for name, one in held.items()
        if (one.state.target == "Stopped" if one else name in stopped)
    }


def notes(cluster: Cluster, nodes: Nodes) -> list[str]:
    """Return what somebody wanted so, and has to be known all the same."""
    absent = [] if _silent(nodes) else _absentees(cluster, nodes)
    stopped = deliberate.shutdowns(nodes, absent)
    return [
        *(
            f"{printable(name)} runs nowhere, as Pacemaker wants it: its resource {held.name} has"
            f" target-role Stopped; to start it: {held.started}"
            for name in absent
            if (held := _manager(name, nodes)) and held.state.target == "Stopped"
        ),
        *(
            f"{printable(name)} was shut down by kvmcluster.shutdown on {stop.node} at"
            f" {stop.since}; {_start(cluster, name, nodes)}"
            for name, stop in stopped.items()
            if not _manager(name, nodes)
        ),
        *(
            f"{printable(one.name)} is paused by its user on {one.node}; to let it go on: on"
            f" {one.node}: virsh resume {_typed(one)}"
            for one in _guests(nodes)
            if one.observation.sighting is Sighting.PAUSED_BY_USER and not one.observation.job
        ),
        *leftovers.at_work(_views(nodes)).values(),
        *leftovers.frozen(_views(nodes)),
        *leftovers.standbys_of_others(_views(nodes)),
        *_starting(nodes, at_home=True),
        *_strangers(cluster, nodes),
        *key_notes.notes(cluster, nodes),
        *rules.broken(cluster, nodes),
    ]


def may_pass(cluster: Cluster, nodes: Nodes) -> bool:
    """Whether there is a problem that another look a moment later may not show.

    Nodes respond one after the other, and a guest may have moved, or its copy been resumed,
    meanwhile.
    """
    stands = any(True for copies in _active(nodes) for _ in _stands(copies))
    absent = _absentees(cluster, nodes)
    lost = set(absent) - deliberate.shutdowns(nodes, absent).keys()
    return stands or bool(doubles(_guests(nodes)) or lost)


def doubles(guests: Iterable[GuestFacts]) -> list[tuple[dict[str, GuestFacts], verdicts.Doubled]]:
    """Return the guests that run more than once, by UUID, each with every node's report of it.

    The two sides of a migration do not count.
    """
    copies: dict[str, dict[str, GuestFacts]] = {}
    for found in guests:
        copies.setdefault(found.uuid, {})[found.node] = found
    judged = [
        (found, verdicts.doubled({node: one.observation for node, one in found.items()}))
        for found in copies.values()
    ]
    return [(found, double) for found, double in judged if double and not double.job]


def standing(nodes: Nodes) -> list[str]:
    """Report the copies that wait for a handover of a guest that is seen nowhere else."""
    return [
        _stands_alone(one)
        for one, *others in _active(nodes)
        if not others and one.observation.sighting is Sighting.WAITING
    ]


def _doubled(nodes: Nodes) -> list[str]:
    return [
        f"{printable(found[double.nodes[0]].name)} {double.sentence}"
        for found, double in doubles(_guests(nodes))
    ]


def _silence(facts: NodeFacts, pillars: Mapping[str, str]) -> Iterator[str]:
    """Report a node that its minion did not tell of, and what a peer sees of it instead.

    pillars
        As of ``problems``; what is wrong there explains the error of a minion.
    """
    node, silent = facts.node, facts.guests is None
    wrong = "its pillar is wrong" if facts.answered and node in pillars else ""
    if not facts.asker:
        if facts.detail and facts.answered:
            yield f"{node} answered, but did not report its guests: {wrong or facts.detail}"
        elif silent and facts.daemon_detail and not facts.detail:
            why, remedy = silent_daemon(facts)
            yield f"{node}: its libvirt does not respond: {why}; {remedy}"
        elif silent:
            yield f"{node} is unreachable: {silence(facts)}; if it is up: {restart_minion(node)}"
        return
    why = "its minion answered with an error" if facts.answered else "minion silent"
    mend = "" if facts.answered else f"; {restart_minion(node)}"
    active = [printable(one.name) for one in facts.guests or () if one.active]
    there = (
        f"its libvirt does not respond: {silence(facts)}"
        if silent
        else f"guests {listed(active, MAX_NAMES)} there"
        if active
        else "no guest is active there"
    )
    host = f"host reachable by ssh from {facts.asker}"
    yield f"{node}: {why} ({wrong or facts.minion}), {host}: {there}{mend}"


def silence(facts: NodeFacts) -> str:
    """Return why a node's guests are not known."""
    return facts.detail or facts.daemon_detail or "it did not report its guests"


def _stands(copies: Sequence[GuestFacts]) -> Iterator[str]:
    """Report a guest that stands still though nobody wants it to, and what a migration left of it.

    copies
        The active copies of one guest.
    """
    if any(one.observation.job in verdicts.PASSING for one in copies):
        yield from (_stands_alone(one) for one in copies if one.reason in _FAULTS)
        return
    if verdicts.doubled({one.node: one.observation for one in copies}):
        yield from _broken(copies)
        return
    well = [one for one in copies if one.observation.sighting in _WELL]
    for one in copies:
        if one not in well:
            yield _left(well[0], one) if well else _stands_alone(one)
        elif one.observation.job == verdicts.ENDLESS:
            yield (
                f"an operation of libvirt on {printable(one.name)} does not end on {one.node}: on"
                f" {one.node}: virsh domjobinfo {_typed(one)}; if that hangs, too: systemctl"
                " restart libvirtd (or virtqemud), which leaves its guests as they are"
            )


def _broken(copies: Sequence[GuestFacts]) -> Iterator[str]:
    """Report a post-copy migration that broke: its job stays."""
    halves = [one for one in copies if one.observation.job == verdicts.BROKEN]
    if halves:
        where = " and ".join(f"{one.observation.sighting.value} on {one.node}" for one in copies)
        yield (
            f"the post-copy migration of {printable(halves[0].name)} broke: it is {where}:"
            f" salt-run kvmcluster.recover {_typed(halves[0])}"
        )


def _left(owner: GuestFacts, copy: GuestFacts) -> str:
    return (
        f"{printable(owner.name)} is {owner.observation.sighting.value} on {owner.node}, and"
        f" {copy.node} still has a copy of it, {copy.observation.sighting.value}:"
        f" salt-run kvmcluster.recover {_typed(owner)}"
    )


def _stands_alone(one: GuestFacts) -> str:
    name, node, sighting = printable(one.name), one.node, one.observation.sighting
    if sighting is Sighting.PAUSED_OTHERWISE:
        why = f" ({one.reason})" if one.reason else ""
        mend = _MENDED.get(one.reason, _MEND).replace("GUEST", _typed(one))
        return f"{name} stands on {node}, {sighting.value}{why}: on {node}: {mend}"
    return (
        f"{name} stands on {node}, as {sighting.value}: salt-run kvmcluster.recover {_typed(one)}"
    )


def _nowhere(cluster: Cluster, nodes: Nodes) -> Iterator[str]:
    """Report the guests of the pillar's list that run nowhere, or of which that is not known."""
    absent = _absentees(cluster, nodes)
    silent = _silent(nodes)
    if silent and absent:
        names = listed(map(printable, absent), MAX_NAMES)
        runs = "runs" if len(absent) == 1 else "run"
        yield (
            f"it is not known whether {names} {runs}: not on a node that responded, and"
            f" {listed(silent, MAX_NAMES)} may have {'it' if len(absent) == 1 else 'them'}"
        )
        return
    stopped = deliberate.shutdowns(nodes, absent)
    at_work = leftovers.at_work(_views(nodes))
    for name in (name for name in absent if name not in at_work):
        held = _manager(name, nodes)
        if held.state.target != "Stopped" if held else name not in stopped:
            off = ", ".join(
                f"{one.observation.sighting.value} on {one.node}"
                + (f" ({one.reason})" if one.reason else "")
                for one in _guests(nodes)
                if one.name == name
            )
            found = f"it is {off}" if off else "no node has it"
            yield f"{printable(name)} runs nowhere: {found}; {_start(cluster, name, nodes)}"


def _absentees(cluster: Cluster, nodes: Nodes) -> list[str]:
    """Return the guests of the pillar's list that no node that responded has active."""
    active = {one.name for one in _guests(nodes) if one.active}
    return [name for name in cluster.guests.list if name not in active]


def _silent(nodes: Nodes) -> list[str]:
    return [node for node, facts in nodes.items() if facts.guests is None]


def _manager(name: str, nodes: Nodes) -> Manager | None:
    """Return Pacemaker's resource that starts and stops a guest, None if there is none."""
    return managers.of(name, _views(nodes)).managed


def _left_in_pacemaker(nodes: Nodes) -> list[str]:
    moving = {one.name for one in _guests(nodes) if one.observation.job in verdicts.PASSING}
    uncordoned = [node for node, facts in nodes.items() if facts.cordoned == ()]
    return leftovers.sentences(_views(nodes), moving, uncordoned)


def _views(nodes: Nodes) -> dict[str, Pacemaker | None]:
    return {node: facts.pacemaker for node, facts in nodes.items() if not facts.detail}


def _start(cluster: Cluster, name: str, nodes: Nodes) -> str:
    if why := holds.held(managers.of(name, _views(nodes)), name):
        return why
    if held := _manager(name, nodes):
        return f"Pacemaker manages it, as its resource {held.name}: {held.started}"
    keepers = [one.node for one in _guests(nodes) if one.name == name]
    answered = [node for node, facts in nodes.items() if facts.guests is not None]
    able = [node for node in answered if not nodes[node].asker]
    cordoned = [node for node in able if nodes[node].cordoned]
    return nowhere.remedy(cluster, name, keepers, able, cordoned)


def _starting(nodes: Nodes, at_home: bool) -> Iterator[str]:
    """Report the nodes that start a guest at their next boot, while it is active.

    at_home
        Whether to report those where it is active, or the others, which would run it twice.
    """
    active = {one.uuid: one.node for copies in _active(nodes) for one in copies}
    for one in _guests(nodes):
        where = active.get(one.uuid, "")
        if one.observation.autostart and where and one.active is at_home:
            then = "wherever it runs by then" if at_home else f"though it is on {where}"
            yield (
                f"{one.node} would start {printable(one.name)} at its next boot, {then}: on"
                f" {one.node}: virsh autostart --disable {_typed(one)}"
            )


def _strangers(cluster: Cluster, nodes: Nodes) -> Iterator[str]:
    """Report what a group names that is no guest: neither in the list, nor on any node."""
    if _silent(nodes):
        return
    known = {*cluster.guests.list, *(one.name for one in _guests(nodes))}
    by_key = {"apart": cluster.guests.apart, "with": cluster.guests.with_}
    for key, found in by_key.items():
        for name in dict.fromkeys(name for group in found for name in group):
            if name not in known:
                yield (
                    f"kvmcluster:guests:{key} names {printable(name)}, which is neither in"
                    f" guests:list nor on any node: it keeps nothing {_KEEPS[key]}"
                )


def _odd(facts: NodeFacts) -> list[str]:
    """Report what in a node's journal is no valid entry, the first MAX_NAMES."""
    found = tuple(dict.fromkeys(facts.journal))
    shown = [f"{facts.node}: {sentence}" for sentence in found[:MAX_NAMES]]
    excess = len(found) - MAX_NAMES
    if excess > 0:
        all_of_them = f"salt {facts.node} kvmcluster.unsettled"
        shown.append(f"{facts.node}: {excess} more in its journal: {all_of_them}")
    return shown


def _guests(nodes: Nodes) -> list[GuestFacts]:
    return [one for facts in nodes.values() for one in facts.guests or ()]


def _active(nodes: Nodes) -> list[list[GuestFacts]]:
    """Return the active guests, the copies of each together."""
    copies: dict[str, list[GuestFacts]] = {}
    for one in _guests(nodes):
        if one.active:
            copies.setdefault(one.uuid, []).append(one)
    return list(copies.values())


def _typed(one: GuestFacts) -> str:
    """Return a guest's name, quoted for a shell."""
    return shlex.quote(printable(one.name))
