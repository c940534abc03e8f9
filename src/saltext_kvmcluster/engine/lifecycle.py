"""Starts, shutdowns and freezes of guests on this node.

A guest starts only once: every node has answered that it does not have it, and none of them starts
it at the same time, since each node is claimed before it is queried for the last time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from saltext_kvmcluster.core.errors import AtWork, InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import ACTIVE
from saltext_kvmcluster.core.guest import domainxml, store
from saltext_kvmcluster.core.guest.domainxml import Frozen
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.ownership import next_boot, nowhere, startup
from saltext_kvmcluster.core.ownership.results import ShutdownResult, StartResult
from saltext_kvmcluster.core.ownership.startup import RUNNING, Decision, May, NodeAnswer, Request
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.verdicts import OFF, OUTGOING, Observation, Sighting
from saltext_kvmcluster.engine import by_word, inquiry, other_hands
from saltext_kvmcluster.engine.environment import Call, Claim, Clock, Environment, Libvirt
from saltext_kvmcluster.engine.peers import Peers, responding

POLL = 0.5
SETTLING = 10.0
# A claim outlives the time in which its holder may begin a start.
CLAIM_SPARE = 60.0


def start(
    env: Environment,
    guest: str,
    force_unreachable: object = None,
    timeout: float = 300.0,
    force_unguarded: bool = False,
) -> StartResult:
    """Start a guest on this node, unless it runs anywhere; return what was observed afterwards.

    force_unreachable
        Nodes that an administrator declares offline: they need not respond.
    timeout
        Seconds for all of it, another start of the same guest included.
    force_unguarded
        Whether to start it in spite of a node that is declared offline where no lock keeps that
        node off its disks.

    InputError or WorldError means that nothing was begun.
    """
    began, since = env.clock.now(), env.clock.monotonic()
    declared_offline = startup.declared_offline(env.cluster, env.here, force_unreachable)
    peers = Peers(env, env.cluster.nodes)
    request, text = _request(peers, guest, declared_offline, force_unguarded)
    done = _settled(peers, request, text, since + timeout)
    elapsed = round(env.clock.monotonic() - since, 3)
    done = replace(done, started=began.isoformat(timespec="milliseconds"), elapsed=elapsed)
    return by_word.remembered(env, done, declared_offline)


def runs(env: Environment, guest: str) -> Decision:
    """Return whether a guest runs anywhere, and may be started here, without starting it."""
    peers = Peers(env, env.cluster.nodes)
    request, _ = _request(peers, guest, frozenset())
    asked = peers.ask(guest, request.uuid)
    decision = startup.decide(request, asked)
    why = _managed(peers.env, guest, asked) if decision.may is May.START else ""
    return Decision(May.REFUSED, why) if why else decision


def startable(env: Environment, guest: str) -> str:
    """Return why a guest that is active here could not be started here if it were off; or nothing.

    A guest that libvirt keeps no definition of, where the pillar has definitions in libvirt, is
    gone once it is off; another definition of that name is another guest. All nodes are asked, as
    before every start.
    """
    peers = Peers(env, env.cluster.nodes)
    observation = peers.own.by_name(guest)
    if observation.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, env.here)
    request, _ = _known(peers, guest, frozenset())
    if request.detail:
        return request.detail
    if request.uuid != observation.uuid:
        return f"its definition has another UUID, {request.uuid}"
    if env.cluster.guests.definitions == "defined" and not observation.persistent:
        return f"it is transient, and {env.here} keeps no definition of it"
    asked = peers.ask(guest, request.uuid)
    decision = nowhere.once_off(request, observation, asked)
    return _managed(env, guest, asked) if decision.may is May.START else decision.sentence


def shutdown(
    env: Environment,
    guest: str,
    timeout: float = 120.0,
    destroy: bool = False,
    stays_off: bool = True,
) -> ShutdownResult:
    """Press a guest's power button and wait until it is off; return what was observed afterwards.

    A guest of the pillar's list need not be defined here.

    It is ``stopped`` if it was active here at first and is active on no node that responds, or if
    all nodes respond. It is ``unknown`` where a node does not and it may run there: if it was not
    active here at first, was observed migrating to another node, or its last migration from here is
    not settled.

    timeout
        Seconds until it is reported, or acted on, that it is not off.
    destroy
        Whether to end one that is still active then, without a shutdown, unless it is
        migrating to another node or a job of libvirt is active on it.
    stays_off
        Whether to note on this node, for the cluster's status, that it is off on purpose; also if
        it was off before.
    """
    peers = Peers(env)
    own, clock = peers.own, env.clock
    observation = own.by_name(guest)
    if observation.sighting is Sighting.ABSENT:
        if guest not in env.cluster.guests.list:
            raise migration.no_such_guest(guest, env.here)
        observation = replace(observation, name=guest)
    managed = other_hands.management(env, observation.name, [env.here], [env.here])
    if why := managers.refusal(managed, "would start it again", "stopped"):
        raise WorldError(f"{guest} was not shut down: {why}")
    if observation.sighting not in ACTIVE:
        steps = [f"it was {observation.sighting.value} on {env.here}"]
        return _ended(peers, observation, steps, False, stays_off)
    if observation.job:
        raise WorldError(
            f"{guest} was not shut down: {observation.job} of it is active on {env.here};"
            f" wait for its end (virsh domjobinfo {guest})"
        )
    unsettled = _may_be_unsettled(env, observation.uuid)
    steps = _tried(lambda: own.press_power(observation.uuid))
    last, stayed = _until_off(own, clock, observation.uuid, timeout)
    stayed &= not unsettled
    if last.sighting not in OFF:
        steps.append(f"it was not off {timeout:g} s after its power button was pressed")
        if destroy:
            steps += _destroyed(own, observation.uuid)
            stayed &= _until_off(own, clock, observation.uuid, SETTLING)[1]
    return _ended(peers, observation, steps, stayed, stays_off)


def freeze(own: Libvirt, clock: Clock, here: str, guest: str, reason: str | None) -> dict[str, Any]:
    """Keep in a guest's metadata that it must not be moved, and why; None unfreezes it.

    own
        This node's libvirt.

    Returns what is read there afterwards.
    """
    since = clock.now().isoformat(timespec="seconds")
    observation = _here(own, guest, here)
    before = _frozen(own, observation)
    text = None if reason is None else domainxml.frozen_xml(reason, since)
    own.note(observation.uuid, domainxml.METADATA, text)
    after = _frozen(own, observation)
    if any((one.reason if one else None) != reason for one in after):
        state = "frozen" if any(after) else "not frozen"
        raise WorldError(f"libvirt on {here} did not keep the change: {guest} is {state}")
    known = next(filter(None, (*after, *before)), None)
    return {
        "kind": "freeze",
        "guest": guest,
        "uuid": observation.uuid,
        "node": here,
        "frozen": any(after),
        "reason": known.reason if known else "",
        "since": known.since if known else "",
        "changed": after != before,
    }


def _frozen(own: Libvirt, observation: Observation) -> list[Frozen | None]:
    """Return whether a guest is frozen by the definition that runs, and by the persistent one."""
    texts = (own.described(observation.uuid), own.definition(observation.name))
    return [domainxml.parse(text).frozen for text in texts if text]


def _request(
    peers: Peers, guest: str, declared_offline: frozenset[str], force_unguarded: bool = False
) -> tuple[Request, str]:
    """Return what is to start, and its definition; empty where libvirt keeps it."""
    request, text = _known(peers, guest, declared_offline)
    if not declared_offline or not request.uuid:
        return request, text
    definition = text or peers.own.definition(guest)
    unguarded = tuple(peers.env.unguarded(store.as_text(definition)))
    return replace(request, unguarded=unguarded, force_unguarded=force_unguarded), text


def _known(peers: Peers, guest: str, declared_offline: frozenset[str]) -> tuple[Request, str]:
    env, here = peers.env, peers.here
    guests, cordon = env.cluster.guests, env.cordon()
    known = Request(guest, "", here, guests.definitions, declared_offline, cordoned=cordon)
    if guests.definitions == "defined":
        uuid = peers.own.by_name(guest).uuid
        missing = "" if uuid else f"{here} has no definition of it; the state guest_placed adds one"
        return replace(known, uuid=uuid, detail=missing, undefined=not uuid), ""
    path = ""
    try:
        there = [path for path in store.all_paths(guests, guest) if env.exists(path)]
        path = store.find(guests, guest, there).path
        text = env.read(path)
        uuid = store.parse(guest, text, path).uuid
    except InputError as error:
        return replace(known, detail=str(error), undefined=not path), ""
    return replace(known, uuid=uuid), text


def _settled(peers: Peers, request: Request, text: str, end: float) -> StartResult:
    """Start the guest, or find out where it runs, before time is up."""
    clock = peers.env.clock
    while True:
        asked = peers.ask(request.guest, request.uuid)
        decision = startup.decide(request, asked)
        if decision.may is not May.RUNS:
            _refuse_managed(peers.env, request, asked)
        if decision.may is May.START:
            claimed = peers.give_up(asked)
            try:
                with _claims(peers.env, request.uuid, claimed, end) as claims:
                    decision = _last_decision(peers, request, claims, end)
                    if decision.may is May.START:
                        again, text = _request(
                            peers,
                            request.guest,
                            request.declared_offline,
                            request.force_unguarded,
                        )
                        if again != request:
                            raise startup.refusal(request, startup.CHANGED)
                        _refuse_managed(peers.env, request, asked)
                        if request.declared_offline or len(claimed) < len(asked):
                            _forget(peers.env, request, claimed)
                        return _started(peers, request, text, end)
            except AtWork as taken:
                decision = Decision(May.WAIT, str(taken))
        if decision.may is May.RUNS:
            guest, uuid, here = request.guest, request.uuid, request.here
            return StartResult(guest, uuid, here, RUNNING, decision.owner, decision.sentence)
        startup.refuse_unless_waiting(request, decision, clock.monotonic() >= end)
        clock.wait(None, POLL)


def _managed(env: Environment, guest: str, asked: Mapping[str, NodeAnswer]) -> str:
    """Return why another hand forbids a start; empty if none does."""
    found = other_hands.management(env, guest, responding(asked))
    return managers.refusal(found, "would stop it again, or start it as well", "started")


def _refuse_managed(env: Environment, request: Request, asked: Mapping[str, NodeAnswer]) -> None:
    if why := _managed(env, request.guest, asked):
        raise startup.refusal(request, why)


def _forget(env: Environment, request: Request, nodes: Sequence[str]) -> None:
    """Have nothing complete an earlier migration of a guest to a node that counts as off.

    If that node was only cut off, a copy that waits there is older than the guest from now on.
    """
    with inquiry.locked(env, request.guest, request.uuid, nodes) as taken:
        if taken:
            raise AtWork(taken)
        for node in nodes:
            env.journal(node).clear(request.uuid)


def _last_decision(
    peers: Peers, request: Request, claims: dict[str, Claim], end: float
) -> Decision:
    """Ask all nodes while they are claimed, and make sure that they still are."""
    decision = startup.decide(request, peers.ask(request.guest, request.uuid))
    held = peers.env.side_by_side(lambda node: claims[node].is_held(), claims)
    lost = [node for node, is_held in held.items() if not is_held]
    return startup.last_decision(decision, lost, peers.env.clock.monotonic() >= end)


@contextlib.contextmanager
def _claims(
    env: Environment, uuid: str, nodes: Sequence[str], end: float
) -> Iterator[dict[str, Claim]]:
    """Claim a guest on nodes; AtWork if another start has a claim on it.

    The first claim decides between concurrent starts; the others are taken in parallel.
    """
    first, *others = startup.claim_order(nodes)
    seconds = max(0.0, end - env.clock.monotonic()) + CLAIM_SPARE
    claims = {node: env.claim(node, uuid, seconds) for node in nodes}
    try:
        claims[first].take()
        env.side_by_side(lambda node: claims[node].take(), others)
        yield claims
    finally:
        for claim in claims.values():
            claim.release()


def _started(peers: Peers, request: Request, text: str, end: float) -> StartResult:
    """Let libvirt start it, and ask all nodes afterwards."""
    own, clock = peers.own, peers.env.clock
    with contextlib.suppress(WorldError):
        peers.env.journal(peers.here).forget_shutdown(request.guest)
    call = own.create(store.as_text(text), end) if text else own.boot(request.uuid, end)
    clock.wait(call, max(0.0, end - clock.monotonic()))
    settled = clock.monotonic() + SETTLING
    while True:
        asked = peers.ask(request.guest, request.uuid)
        waiting = not call.done() or startup.decide(request, asked).may is May.WAIT
        if not waiting or clock.monotonic() >= settled:
            done = startup.ending(request, asked, _error(call), call.done())
            return _with_warnings(peers.env, request, asked, done)
        clock.wait(None, POLL)


def _with_warnings(
    env: Environment, request: Request, asked: Mapping[str, NodeAnswer], done: StartResult
) -> StartResult:
    if done.result != startup.STARTED:
        return done
    known = env.side_by_side(env.starters, next_boot.keepers(asked))
    return replace(done, warnings=tuple(next_boot.warnings(request, asked, known)))


def _may_be_unsettled(env: Environment, uuid: str) -> bool:
    try:
        return env.journal(env.here).entries().may_have(uuid)
    except WorldError:
        return True


def _here(own: Libvirt, guest: str, here: str) -> Observation:
    observation = own.by_name(guest)
    if observation.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, here)
    return observation


def _until_off(own: Libvirt, clock: Clock, uuid: str, timeout: float) -> tuple[Observation, bool]:
    """Wait until a guest is off; return the last observation, and whether none showed it leave."""
    end, stayed = clock.monotonic() + timeout, True
    while True:
        observation = own.sight(uuid)
        stayed &= observation.job != OUTGOING
        if observation.sighting in OFF or clock.monotonic() >= end:
            return observation, stayed
        clock.wait(None, POLL)


def _destroyed(own: Libvirt, uuid: str) -> list[str]:
    """Destroy a guest if that may be done now; return what was done."""
    observation = own.sight(uuid)
    if observation.sighting in OFF:
        return []
    why = startup.forbids_destroy(observation)
    if why:
        return [f"it was not destroyed: {why}"]
    return _tried(lambda: own.destroy(uuid)) or ["it was destroyed, as requested"]


def _ended(
    peers: Peers, observation: Observation, steps: Sequence[str], stayed: bool, stays_off: bool
) -> ShutdownResult:
    """Return what became of a guest that was to be shut down: it may have moved meanwhile."""
    definitions = peers.env.cluster.guests.definitions
    request = Request(observation.name, observation.uuid, peers.here, definitions)
    asked = peers.ask(observation.name, observation.uuid)
    done = startup.stopped(request, asked, steps, stayed)
    return _noted(peers.env, done) if stays_off and done.result == startup.STOPPED else done


def _noted(env: Environment, done: ShutdownResult) -> ShutdownResult:
    """Note that a guest is off because somebody wanted it; a failure is reported."""
    try:
        env.journal(env.here).note_shutdown(done.guest, env.clock.now())
    except WorldError as error:
        reason = f"{done.reason}; that this was wanted could not be noted: {error}"
        return replace(done, reason=reason)
    return done


def _tried(verb: Callable[[], None]) -> list[str]:
    """Do something; return libvirt's error if it failed. What is observed afterwards decides."""
    try:
        verb()
    except WorldError as error:
        return [f"libvirt: {error}"]
    return []


def _error(call: Call) -> str:
    error = call.exception() if call.done() else None
    return str(error) if error else ""
