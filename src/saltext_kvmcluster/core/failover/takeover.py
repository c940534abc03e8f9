"""The guests of nodes that are off, by a person's word, start on the others: the plan, the results.

Nobody tells what a node ran that is off. So the guests in question are those of the pillar's list
that no other node has active, and that were not shut down on purpose.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import NOBODY, GuestFacts, NodeFacts, nobody_answers
from saltext_kvmcluster.core.failover.eligibility import Eligibility
from saltext_kvmcluster.core.failover.survey import Survey
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.ownership import deliberate, startup
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.text import MAX_NAMES, listed, one_line, printable
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verdicts import COPIES, Observation, Sighting

KIND = "takeover"
_LEFT_BEHIND = (*COPIES, Sighting.PAUSED_IN_POST_COPY)
REFUSED, UNKNOWN = "refused", "unknown"
NOWHERE = ""
"""Stands for the node of guests that run nowhere, though no node is off."""


@dataclass(frozen=True)
class Guests:
    """The guests in question, by their definitions; ``stuck`` and ``off`` say why others are not.

    ``off`` are those that are off on purpose.
    """

    found: tuple[GuestFacts, ...] = ()
    stuck: Mapping[str, str] = field(default_factory=dict)
    off: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """A guest that starts on a node."""

    guest: str
    node: str


@dataclass(frozen=True)
class Plan:
    """Which guest starts where, the biggest first, and why others do not."""

    cluster: str
    nodes: tuple[str, ...]
    steps: tuple[Step, ...]
    stuck: Mapping[str, str]
    off: Mapping[str, str]

    def to_dict(self, rows: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Return it as plain data, with what came of it if it was carried out."""
        started = [] if rows is None else list(rows)
        was_begun = rows is None or len(started) == len(self.steps)
        return {
            "kind": KIND,
            "cluster": self.cluster,
            "nodes": list(self.nodes),
            "ok": not self.stuck and was_begun and all(row["ok"] for row in started),
            "test": rows is None,
            "plan": [{"guest": printable(one.guest), "node": one.node} for one in self.steps],
            "stuck": {printable(guest): printable(why) for guest, why in self.stuck.items()},
            "off": {printable(guest): why for guest, why in self.off.items()},
            "started": started,
        }


def nodes_off(cluster: Cluster, given: object) -> tuple[str, ...]:
    """Return the nodes that are off by a person's word; InputError if they cannot be."""
    asked = given if isinstance(given, list) else [given]
    found = tuple(dict.fromkeys(cluster.node(str(node)).id for node in asked))
    if not found:
        raise InputError("node: want a minion id, or a list of them, got an empty list")
    if len(found) == len(cluster.nodes):
        raise InputError("node: all nodes are named, so none is left on which guests could start")
    return found


def refuse_unless_off(
    nodes: Mapping[str, NodeFacts], off: Collection[str], answers: Mapping[str, object]
) -> None:
    """Raise WorldError if a node that is said to be off answers, or another one does not.

    answers
        What the other nodes' ``kvmcluster.responds`` returned.
    """
    if nobody_answers(nodes):
        raise WorldError(f"nothing was started: {NOBODY}")
    wrong = [f"{node} is not off: its minion answers" for node in off if _answers(nodes[node])]
    for node, facts in nodes.items():
        if node in off:
            continue
        if facts.guests is None:
            why = facts.detail or facts.daemon_detail or "it did not report its guests"
            wrong.append(
                f"{node} does not tell its guests, and a guest starts only if every other node"
                f" has answered: {why}; only if it has no power either, name it too"
            )
            continue
        heard = Reader(answers.get(node), lenient=True).at("responses")
        for name in off:
            response = heard.at(name).line(default=None)
            if response is None:
                wrong.append(f"{node} did not say whether {name} responds")
            elif response:
                wrong.append(f"{name} is not off: from {node}, {response}; power it off first")
    if wrong:
        raise WorldError(f"nothing was started: {'; '.join(dict.fromkeys(wrong))}")


def _answers(facts: NodeFacts) -> bool:
    return facts.answered or not facts.detail


def guests(world: World, off: Sequence[str], named: Collection[str] | None = None) -> Guests:
    """Return the guests in question, and why others of them are not started.

    named
        Only these; None for all. InputError if one is none of the pillar's list.
    """
    known = world.cluster.guests.list
    for name in named or ():
        if name not in known:
            raise InputError(f"guests: {printable(name)} is not in kvmcluster:guests:list")
    answering = {node: facts for node, facts in world.nodes.items() if node not in off}
    wanted = known if named is None else [name for name in known if name in named]
    active = {name: [one for one in world.by_name[name] if one.active] for name in wanted}
    stuck = {name: wrong for name in wanted if (wrong := _not_it(active[name], answering))}
    if named is not None:
        there = {name: f"it is active on {ones[0].node}" for name, ones in active.items() if ones}
        stuck = there | stuck
    absent = [name for name in wanted if not active[name]]
    stopped = {} if named is not None else deliberate.shutdowns(answering, absent)
    found = []
    for name in absent:
        if name in stopped:
            continue
        one = _guest(world, answering, off[0], name)
        if isinstance(one, str):
            stuck[name] = one
        else:
            found.append(one)
    why = {
        name: f"was shut down by kvmcluster.shutdown on {one.node} at {one.since}, and no node that"
        " responds shows that it ran since"
        for name, one in stopped.items()
    }
    return Guests(tuple(found), stuck, why)


def posed(world: World, off: Sequence[str], found: Guests) -> World:
    """Return a world in which the guests in question are where all can be asked about them."""
    host = _host(world, off)
    moved = tuple(replace(one, node=host) for one in found.found)
    facts = world.nodes[host]
    there = replace(facts, guests=(*(facts.guests or ()), *moved))
    return World(world.cluster, {**world.nodes, host: there})


def plan(world: World, answered: World, off: Sequence[str], found: Guests) -> Plan:
    """Return where the guests in question start.

    By memory, hugepages, groups and all checks of a start; what is not known forbids nothing here,
    since libvirt's start shows it.

    answered
        The world as ``posed``, with what nodes answered to the questions about it.
    """
    eligible, host = Eligibility(answered, tries=True), _host(world, off)
    survey = Survey(
        world,
        lambda guest: eligible.nodes(replace(guest, node=host)),
        lambda guest: eligible.against(replace(guest, node=host)),
        found.found,
    )
    placed, short = survey.placed(tuple(off))
    stuck = {**found.stuck, **{one.guest: one.why for one in short}}
    steps = tuple(Step(guest.name, node) for guest, node in placed)
    return Plan(world.cluster.name, tuple(off), steps, stuck, found.off)


def rounds(steps: Sequence[Step]) -> list[list[Step]]:
    """Return steps in rounds: what is started side by side is one guest on each node.

    So no node has to give two of them memory at once, and the disks and cables of one are as busy
    as with one guest after another.
    """
    by_node: dict[str, list[Step]] = {}
    for step in steps:
        by_node.setdefault(step.node, []).append(step)
    longest = max(map(len, by_node.values()), default=0)
    return [[found[at] for found in by_node.values() if at < len(found)] for at in range(longest)]


def row(step: Step, answer: object) -> dict[str, Any]:
    """Return what came of a guest, by what its node returned; ``owner``: where it is."""
    if not isinstance(answer, Mapping):
        result = UNKNOWN if answer is None else REFUSED
        reason = f"no response from {step.node}" if answer is None else one_line(str(answer))
        return _row(step, False, result, reason)
    sent = Reader(answer, lenient=True)
    result = sent.at("result").line(default=UNKNOWN)
    well = result in (startup.STARTED, startup.RUNNING)
    warnings = [one.line(default="") for one in sent.at("warnings").items(optional=True)]
    return {
        **_row(step, well, result, sent.at("reason").line(default="")),
        "owner": sent.at("owner").line(default=None) or "",
        "warnings": [one for one in warnings if one],
    }


def may_follow(row: Mapping[str, Any]) -> bool:
    """Whether another attempt may start a guest: locks of a node that is off end after a time."""
    return row["result"] in (startup.NOT_STARTED, UNKNOWN)


def _row(step: Step, well: bool, result: str, reason: str) -> dict[str, Any]:
    return {
        "guest": printable(step.guest),
        "node": step.node,
        "ok": well,
        "result": result,
        "reason": reason,
        "owner": "",
        "warnings": [],
    }


def _not_it(active: Sequence[GuestFacts], answering: Mapping[str, NodeFacts]) -> str:
    """Return why a guest that is active on nodes may run nowhere; empty if it runs, or is absent.

    A half that its lost node left behind does not run; nor is another guest of its name the guest.
    """
    if active and all(one.observation.sighting in _LEFT_BEHIND for one in active):
        where = listed(f"{one.observation.sighting.value} on {one.node}" for one in active)
        name = shlex.quote(active[0].name)
        return f"it is {where}, and runs on no node: salt-run kvmcluster.recover {name}"
    for one in active:
        texts = (facts.definitions.get(one.name) for facts in answering.values())
        text = next(filter(None, texts), "")
        if text and one.uuid not in text and one.uuid != _uuid(one.name, text):
            return (
                f"{one.node} has another guest of that name active, of UUID {one.uuid}: rename one"
                " of the two"
            )
    return ""


def _uuid(name: str, text: str) -> str:
    try:
        return store.parse(name, text, "its definition").uuid
    except InputError:
        return ""


def _host(world: World, off: Collection[str]) -> str:
    return next(node for node in world.nodes if node not in off)


def _guest(
    world: World, answering: Mapping[str, NodeFacts], off: str, name: str
) -> GuestFacts | str:
    """Return a guest by its definition, as if it ran on a node that is off; or why it stays off."""
    held = world.managers.of(name, [])
    if why := managers.refusal(held, "starts it elsewhere once that node was fenced", "started"):
        confirm = f"; to tell Pacemaker that it is off: stonith_admin --confirm {off}"
        return why + (confirm if held.managed else "")
    texts = {node: facts.definitions.get(name) for node, facts in answering.items()}
    node = next((node for node, text in texts.items() if text), "")
    if not node:
        notes = {facts.definition_notes.get(name, "") for facts in answering.values()} - {""}
        unread = [node for node, text in texts.items() if text is None]
        why = f"not known: its definition on {listed(unread)}" if unread else "no definition of it"
        return f"{why}{f' ({listed(sorted(notes), MAX_NAMES)})' if notes else ''}"
    try:
        guest = store.parse(name, str(texts[node]), f"its definition on {node}")
    except InputError as error:
        return str(error)
    there = Observation(Sighting.RUNNING, name=name, uuid=guest.uuid)
    return GuestFacts(off, there, guest=guest, memory_kib=guest.memory_kib, vcpus=guest.vcpus)
