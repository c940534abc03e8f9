"""Starts of guests on this node.

A guest starts only once: every node has answered that it does not have it, and none of them starts
it at the same time, since each node is claimed before it is queried for the last time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from saltext_kvmcluster.core.errors import AtWork, InputError, WorldError
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.ownership import next_boot, nowhere, startup
from saltext_kvmcluster.core.ownership.results import StartResult
from saltext_kvmcluster.core.ownership.startup import RUNNING, Decision, May, NodeAnswer, Request
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pillar import places
from saltext_kvmcluster.core.verdicts import Sighting
from saltext_kvmcluster.engine import by_word, holding, inquiry, other_hands
from saltext_kvmcluster.engine.environment import Call, Claim, Environment
from saltext_kvmcluster.engine.holding import Held
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
    by_hand: bool = True,
) -> StartResult:
    """Start a guest on this node, unless it runs anywhere; return what was observed afterwards.

    force_unreachable
        Nodes that an administrator declares offline: they need not respond.
    timeout
        Seconds for all of it, another start of the same guest included.
    force_unguarded
        Whether to start it in spite of a node that is declared offline where no lock keeps that
        node off its disks.
    by_hand
        Whether somebody asks for it: then one that Pacemaker manages is held, started, and given
        back as one that is to run. A state must not decide that.

    InputError or WorldError means that nothing was begun.
    """
    began, since = env.clock.now(), env.clock.monotonic()
    declared_offline = startup.declared_offline(env.cluster, env.here, force_unreachable)
    # A peer's journal, if it cannot be cleared, may complete a migration of it later.
    if declared_offline and (why := env.cluster.ssh.lacks_root):
        raise InputError(f"force_unreachable: {why}")
    peers = Peers(env, env.cluster.nodes)
    request, text = _request(peers, guest, declared_offline, force_unguarded)
    done = _settled(peers, request, text, since + timeout, by_hand)
    elapsed = round(env.clock.monotonic() - since, 3)
    done = replace(done, started=began.isoformat(timespec="milliseconds"), elapsed=elapsed)
    return by_word.remembered(env, done, declared_offline)


def runs(env: Environment, guest: str) -> Decision:
    """Return whether a guest runs anywhere, and a state may start it here, without starting it."""
    peers = Peers(env, env.cluster.nodes)
    request, _ = _request(peers, guest, frozenset())
    asked = peers.ask(guest, request.uuid)
    decision = startup.decide(request, asked)
    why = _managed(peers.env, guest, asked, by_hand=False) if decision.may is May.START else ""
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
    known = replace(known, detail=places.forbidden(env.cluster, guest, here))
    if guests.definitions == "defined":
        uuid = peers.own.by_name(guest).uuid
        missing = "" if uuid else f"{here} has no definition of it; the state guest_placed adds one"
        detail = missing or known.detail
        return replace(known, uuid=uuid, detail=detail, undefined=not uuid), ""
    path = ""
    try:
        there = [path for path in store.all_paths(guests, guest) if env.exists(path)]
        path = store.find(guests, guest, there).path
        text = env.read(path)
        uuid = store.parse(guest, text, path).uuid
    except InputError as error:
        return replace(known, detail=str(error), undefined=not path), ""
    return replace(known, uuid=uuid), text


def _settled(peers: Peers, request: Request, text: str, end: float, by_hand: bool) -> StartResult:
    """Start the guest, or find out where it runs, before time is up."""
    clock = peers.env.clock
    while True:
        asked = peers.ask(request.guest, request.uuid)
        decision = startup.decide(request, asked)
        if decision.may is not May.RUNS:
            _refuse_managed(peers.env, request, asked, by_hand)
        if decision.may is May.START:
            claimed = peers.give_up(asked)
            try:
                with (
                    _claims(peers.env, request.uuid, claimed, end) as claims,
                    _taken(peers.env, request, asked) as held,
                ):
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
                        if held is None:
                            _refuse_managed(peers.env, request, asked, by_hand)
                        if request.declared_offline or len(claimed) < len(asked):
                            _forget(peers.env, request, claimed)
                        _forget_shutdowns(peers.env, request.guest, claimed)
                        return _started_held(peers, request, text, end, held)
            except AtWork as taken:
                decision = Decision(May.WAIT, str(taken))
        if decision.may is May.RUNS:
            guest, uuid, here = request.guest, request.uuid, request.here
            return StartResult(guest, uuid, here, RUNNING, decision.owner, decision.sentence)
        startup.refuse_unless_waiting(request, decision, clock.monotonic() >= end)
        clock.wait(None, POLL)


def _managed(
    env: Environment, guest: str, asked: Mapping[str, NodeAnswer], by_hand: bool = True
) -> str:
    """Return why another hand forbids a start; empty if none does."""
    found = other_hands.management(env, guest, responding(asked))
    if by_hand:
        return holds.forbids(found, guest, holds.START)
    return holds.held(found, guest) or managers.refusal(found, *holds.AGAINST[holds.START])


def _refuse_managed(
    env: Environment, request: Request, asked: Mapping[str, NodeAnswer], by_hand: bool
) -> None:
    if why := _managed(env, request.guest, asked, by_hand):
        raise startup.refusal(request, why)


@contextlib.contextmanager
def _taken(
    env: Environment, request: Request, asked: Mapping[str, NodeAnswer]
) -> Iterator[Held | None]:
    """Keep Pacemaker off a guest that is to be started, if it manages it."""
    with contextlib.ExitStack() as stack:
        try:
            nodes = responding(asked)
            held = stack.enter_context(holding.taken(env, request.guest, holds.START, nodes))
        except WorldError as error:
            raise startup.refusal(request, str(error)) from None
        yield held


def _started_held(
    peers: Peers, request: Request, text: str, end: float, held: Held | None
) -> StartResult:
    """Start the guest, and give it back to Pacemaker if it was taken from it."""
    if held is None:
        return _started(peers, request, text, end)
    held.touched = True
    done = _started(peers, request, text, end)
    if done.result == startup.UNKNOWN:
        steps = [held.left("where it runs is not certain")]
    else:
        role = holds.STARTED if done.owner else ""
        steps = held.give_back(request.uuid, done.owner, role)
    return replace(done, warnings=(*done.warnings, *map(str, steps)))


def _forget(env: Environment, request: Request, nodes: Sequence[str]) -> None:
    """Have nothing complete an earlier migration of a guest to a node that counts as off.

    If that node was only cut off, a copy that waits there is older than the guest from now on.
    """
    with inquiry.locked(env, request.guest, request.uuid, nodes) as taken:
        if taken:
            raise AtWork(taken)
        for node in nodes:
            env.journal(node).clear(request.uuid)


def _forget_shutdowns(env: Environment, guest: str, nodes: Sequence[str]) -> None:
    """Remove the notes that a guest was to be off, wherever it was shut down."""

    def forget(node: str) -> None:
        with contextlib.suppress(WorldError):
            env.journal(node).forget_shutdown(guest)

    env.side_by_side(forget, nodes)


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
    found = other_hands.management(env, request.guest, responding(asked))
    warnings = (*next_boot.warnings(request, asked, known), *managers.ends_unmanaged(found))
    return replace(done, warnings=warnings)


def _error(call: Call) -> str:
    error = call.exception() if call.done() else None
    return str(error) if error else ""
