"""The life of a guest on this node: started, shut down, frozen where it is.

Started once: every node has answered that it does not have the guest, and none of them starts it
at the same moment, since each node is claimed before the last look. A claim is a lock on that
node, held over ssh by a process that ends with us, with the connection, or after its time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import ACTIVE
from saltext_kvmcluster.core.guest import domainxml, store
from saltext_kvmcluster.core.guest.domainxml import Frozen
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.startup import Decision, May, Request
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import short
from saltext_kvmcluster.core.verdicts import OUTGOING, Observation, Sighting
from saltext_kvmcluster.host import commands, cordons, files, ssh
from saltext_kvmcluster.host.commands import Held
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.peers import Peers

POLL = 0.5
SETTLING = 10.0
ECHO_TIME = 15.0
# A claim outlives the time in which its holder may begin a start.
CLAIM_SPARE = 60.0
_OFF = (Sighting.SHUT_OFF, Sighting.ABSENT)


class _Taken(Exception):
    """Somebody else is starting the guest."""


def start(
    cluster: Cluster,
    here: str,
    guest: str,
    force_unreachable: object = None,
    timeout: float = 300.0,
) -> dict[str, Any]:
    """Start a guest on this node, unless it runs anywhere; return what was seen afterwards.

    force_unreachable
        Peers that are off, by an administrator's word: their silence does not stop the start.
    timeout
        Seconds for all of it, another's start of the same guest included.

    InputError or WorldError means that nothing was begun.
    """
    began, end = datetime.now(timezone.utc), time.monotonic() + timeout
    forced = startup.forced(cluster, here, force_unreachable)
    with contextlib.closing(Peers(cluster, here, forced)) as nodes:
        request, text = _request(cluster, nodes, guest, forced)
        done = _settled(cluster, nodes, request, text, end)
    elapsed = round(time.monotonic() - end + timeout, 3)
    return {**done, "started": began.isoformat(timespec="milliseconds"), "elapsed": elapsed}


def runs(cluster: Cluster, here: str, guest: str) -> Decision:
    """Look whether a guest runs anywhere, and may be started here, without starting it."""
    with contextlib.closing(Peers(cluster, here)) as nodes:
        request, _ = _request(cluster, nodes, guest, frozenset())
        return startup.decide(request, nodes.ask(guest, request.uuid))


def found(cluster: Cluster, guest: str) -> store.Found:
    """Return where the definition of a guest lies; InputError, which lists where was looked."""
    there = [path for path in store.all_paths(cluster.guests, guest) if files.exists(path)]
    return store.find(cluster.guests, guest, there)


def shutdown(
    cluster: Cluster, here: str, guest: str, timeout: float = 120.0, destroy: bool = False
) -> dict[str, Any]:
    """Press a guest's power button and wait until it is off; return what was seen.

    It is ``stopped`` if it was active here at first and is active on no node that answers, or if
    all nodes answer. It is ``unknown`` where a node is silent and it may run there: if it was not
    active here at first, or was seen on its way to another node.

    timeout
        Seconds until it is said, or acted on, that it is not off.
    destroy
        Whether to pull the plug of one that is still there then, unless it is on its way to
        another node or libvirt is at work on it.
    """
    with contextlib.closing(Peers(cluster, here)) as nodes:
        observation = _here(nodes.own, guest, here)
        if observation.sighting not in ACTIVE:
            detail = [f"it was {observation.sighting.value} on {here}"]
            return _ended(cluster, nodes, observation, detail, stayed=False)
        if observation.job:
            raise WorldError(
                f"{guest} was not shut down: {observation.job} of it is active on {here};"
                f" wait for its end (virsh domjobinfo {guest})"
            )
        detail = _tried(lambda: nodes.own.press_power(observation.uuid))
        last, stayed = _until_off(nodes.own, observation.uuid, timeout)
        if last.sighting not in _OFF:
            detail.append(f"it was not off within {timeout:g} s of its power button")
            if destroy:
                detail += _pulled(nodes.own, observation.uuid)
                stayed &= _until_off(nodes.own, observation.uuid, SETTLING)[1]
        return _ended(cluster, nodes, observation, detail, stayed)


def freeze(here: str, guest: str, reason: str | None) -> dict[str, Any]:
    """Keep in a guest's metadata that it must not be moved, and why; None lets it go again.

    Returns what is read there afterwards.
    """
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with contextlib.closing(Hypervisor()) as own:
        observation = _here(own, guest, here)
        before = _frozen(own, observation)
        text = None if reason is None else domainxml.frozen_xml(reason, since)
        own.note(observation.uuid, domainxml.METADATA, text)
        after = _frozen(own, observation)
    if any((one.reason if one else None) != reason for one in after):
        raise WorldError(f"libvirt on {here} did not keep it: {guest} is frozen: {any(after)}")
    known = next(filter(None, (*after, *before)), None)
    return {
        "guest": guest,
        "uuid": observation.uuid,
        "node": here,
        "frozen": any(after),
        "reason": known.reason if known else "",
        "since": known.since if known else "",
        "changed": after != before,
    }


def _frozen(own: Hypervisor, observation: Observation) -> list[Frozen | None]:
    """Return whether a guest is frozen by the definition that runs, and by the persistent one."""
    texts = (own.described(observation.uuid), own.definition(observation.name))
    return [domainxml.parse(text).frozen for text in texts if text]


def _request(
    cluster: Cluster, nodes: Peers, guest: str, forced: frozenset[str]
) -> tuple[Request, str]:
    """Return what is to start, and its definition; empty where libvirt keeps it."""
    kind, mark = cluster.guests.definitions, cordons.current()
    if kind == "defined":
        observation = nodes.own.by_name(guest)
        detail = (
            ""
            if observation.uuid
            else f"{nodes.here} has no definition of it; guest_placed puts it"
        )
        return Request(
            guest, observation.uuid, nodes.here, kind, forced, detail, mark, bool(detail)
        ), ""
    path = ""
    try:
        path = found(cluster, guest).path
        text = files.read(path).text or ""
        uuid = store.parse(guest, text, path).uuid
    except InputError as error:
        return Request(guest, "", nodes.here, kind, forced, str(error), mark, not path), ""
    return Request(guest, uuid, nodes.here, kind, forced, cordoned=mark), text


def _settled(
    cluster: Cluster, nodes: Peers, request: Request, text: str, end: float
) -> dict[str, Any]:
    """Start the guest, or find out where it runs, before time is up."""
    while True:
        asked = nodes.ask(request.guest, request.uuid)
        decision = startup.decide(request, asked)
        if decision.may is May.START:
            claimed = nodes.give_up(asked)
            try:
                with _claims(cluster, nodes.here, request.uuid, claimed, end) as claims:
                    decision = _last_observation(nodes, request, claims, end)
                    if decision.may is May.START:
                        again, text = _request(cluster, nodes, request.guest, request.forced)
                        if again != request:
                            raise startup.refusal(request, startup.CHANGED)
                        return _started(nodes, request, text, end)
            except _Taken as taken:
                decision = Decision(May.WAIT, str(taken))
        if decision.may is May.RUNS:
            return startup.shown(request, startup.RUNNING, decision.owner, decision.sentence)
        refused = decision.may in (May.REFUSED, May.UNDEFINED)
        if refused and request.detail and not request.cordoned:
            raise InputError(request.detail)
        if refused or time.monotonic() >= end:
            raise startup.refusal(request, decision.sentence)
        time.sleep(POLL)


def _last_observation(
    nodes: Peers, request: Request, claims: Mapping[str, Held], end: float
) -> Decision:
    """Look at all nodes while they are claimed, and make sure that they still are."""
    decision = startup.decide(request, nodes.ask(request.guest, request.uuid))
    lost = [node for node, held in _echoed(claims).items() if not held]
    if lost and decision.may is May.START:
        return Decision(May.REFUSED, f"the claim on {' and on '.join(lost)} was lost")
    if time.monotonic() >= end and decision.may is May.START:
        return Decision(May.REFUSED, "time was up before its start could begin; give more: timeout")
    return decision


@contextlib.contextmanager
def _claims(
    cluster: Cluster, here: str, uuid: str, nodes: Sequence[str], end: float
) -> Iterator[dict[str, Held]]:
    """Claim a guest on nodes; _Taken if another has a claim on it.

    The first one alone decides between starters; the others follow together.
    """
    first, *others = startup.claim_order(nodes)
    account = ssh.account(cluster.ssh.login)
    seconds = max(0.0, end - time.monotonic()) + CLAIM_SPARE

    def command(node: str) -> list[str]:
        home = account.home if node == here else "."
        path = startup.claim_path(account.login, home, node, uuid)
        line = startup.claim(path, here, seconds)
        if node != here:
            return ssh.over(cluster.nodes[node].migration, line, ECHO_TIME)
        return list(
            line if account.login == "root" else ("runuser", "-u", account.login, "--", *line)
        )

    with contextlib.ExitStack() as stack:
        claims: dict[str, Held] = {}
        for together in ([first], others):
            held = {node: stack.enter_context(commands.held(command(node))) for node in together}
            for node, echoed in _echoed(held).items():
                if not echoed:
                    raise _no_claim(node, held[node].outcome())
            claims.update(held)
        yield claims


def _echoed(claims: Mapping[str, Held]) -> dict[str, bool]:
    if not claims:
        return {}
    with ThreadPoolExecutor(max_workers=len(claims)) as pool:
        echoes = pool.map(lambda held: held.echoes(ECHO_TIME), claims.values())
        return dict(zip(claims, echoes, strict=True))


def _no_claim(node: str, outcome: commands.Outcome) -> Exception:
    if outcome.code == startup.CONFLICT:
        return _Taken(startup.claimed(node, outcome.stdout))
    detail = short(outcome.stderr) or "nothing"
    return WorldError(
        f"the guest cannot be claimed on {node}, so it is not started; it said: {detail}"
    )


def _started(nodes: Peers, request: Request, text: str, end: float) -> dict[str, Any]:
    """Let libvirt start it, and look at all nodes afterwards."""
    own = nodes.own
    call = own.create(store.as_text(text), end) if text else own.boot(request.uuid, end)
    wait([call], max(0.0, end - time.monotonic()))
    settled = time.monotonic() + SETTLING
    while True:
        asked = nodes.ask(request.guest, request.uuid)
        waiting = not call.done() or startup.decide(request, asked).may is May.WAIT
        if not waiting or time.monotonic() >= settled:
            return startup.ending(request, asked, _words(call), call.done())
        time.sleep(POLL)


def _here(own: Hypervisor, guest: str, here: str) -> Observation:
    observation = own.by_name(guest)
    if observation.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, here, own.names())
    return observation


def _until_off(own: Hypervisor, uuid: str, timeout: float) -> tuple[Observation, bool]:
    """Wait until a guest is off; return the last look at it, and whether none saw it leave."""
    end, stayed = time.monotonic() + timeout, True
    while True:
        observation = own.sight(uuid)
        stayed &= observation.job != OUTGOING
        if observation.sighting in _OFF or time.monotonic() >= end:
            return observation, stayed
        time.sleep(POLL)


def _pulled(own: Hypervisor, uuid: str) -> list[str]:
    """Pull a guest's plug if it may be pulled now; return what was done."""
    observation = own.sight(uuid)
    if observation.sighting in _OFF:
        return []
    why = startup.keeps_its_plug(observation)
    if why:
        return [f"its plug was not pulled: {why}"]
    return _tried(lambda: own.destroy(uuid)) or ["its plug was pulled, as asked for"]


def _ended(
    cluster: Cluster, nodes: Peers, observation: Observation, detail: Sequence[str], stayed: bool
) -> dict[str, Any]:
    """Say what became of a guest that was to be shut down: it may have moved meanwhile."""
    request = Request(observation.name, observation.uuid, nodes.here, cluster.guests.definitions)
    return startup.stopped(request, nodes.ask(observation.name, observation.uuid), detail, stayed)


def _tried(verb: Callable[[], None]) -> list[str]:
    """Do something; return libvirt's words if it failed. The look afterwards decides."""
    try:
        verb()
    except WorldError as error:
        return [f"libvirt said: {error}"]
    return []


def _words(call: Future[None]) -> str:
    error = call.exception() if call.done() else None
    return str(error) if error else ""
