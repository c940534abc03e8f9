"""The life of a guest on this node: started, shut down, frozen where it is.

Started once: every node has answered that it does not have the guest, and none of them starts it
at the same moment, since each node is claimed before the last look. A claim is a lock on that
node, held over ssh by a process that ends with us, with the connection, or after its time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core import definitions, guestxml, migration, starting
from saltext_kvmcluster.core.cluster import Cluster
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts import ACTIVE
from saltext_kvmcluster.core.guestxml import Frozen
from saltext_kvmcluster.core.migration import Host
from saltext_kvmcluster.core.recovery import OUTGOING, Look, Sighting
from saltext_kvmcluster.core.starting import Asked, Decision, May, Request
from saltext_kvmcluster.host import closing, commands, files, ssh
from saltext_kvmcluster.host.commands import Held
from saltext_kvmcluster.host.hypervisor import Hypervisor

POLL = 0.5
SETTLING = 10.0
ECHO_TIME = 15.0
KNOCK_TIME = 5.0
# A claim outlives the time in which its holder may begin a start.
CLAIM_SPARE = 60.0
_OFF = (Sighting.SHUT_OFF, Sighting.ABSENT)


class _Taken(Exception):
    """Somebody else is starting the guest."""


class Nodes:
    """Every node of the cluster, to be asked side by side about one guest."""

    def __init__(self, cluster: Cluster, here: str, forced: Collection[str] = frozenset()) -> None:
        self.here = here
        self._forced = {node: cluster.nodes[node].migration for node in forced}
        self._hypervisors = {
            node.id: Hypervisor()
            if node.id == here
            else Hypervisor(migration.connection_uri(cluster.ssh.login, node))
            for node in cluster.nodes.values()
        }
        self._hosts: dict[str, Host] = {}
        self._given_up: dict[str, Asked] = {}

    @property
    def own(self) -> Hypervisor:
        """This node's libvirt."""
        return self._hypervisors[self.here]

    def ask(self, guest: str, uuid: str) -> dict[str, Asked]:
        """Return what every node says of a guest; that one is silent is an answer too.

        uuid
            Empty to ask by name alone.
        """
        with ThreadPoolExecutor(max_workers=len(self._hypervisors)) as pool:
            said = pool.map(lambda node: self._asked(node, guest, uuid), self._hypervisors)
            return dict(zip(self._hypervisors, said, strict=True))

    def give_up(self, asked: Mapping[str, Asked]) -> list[str]:
        """Never ask again those that were silent; return the others."""
        self._given_up = {node: said for node, said in asked.items() if said.said}
        return [node for node in asked if node not in self._given_up]

    def close(self) -> None:
        """Let all connections go."""
        for hypervisor in self._hypervisors.values():
            hypervisor.close()

    def _asked(self, node: str, guest: str, uuid: str) -> Asked:
        if node in self._given_up:
            return self._given_up[node]
        hypervisor = self._hypervisors[node]
        try:
            if node not in self._hosts:
                self._hosts[node] = hypervisor.host()
            same_uuid = hypervisor.by_uuid(uuid) if uuid else starting.NOWHERE
            return Asked(same_uuid, hypervisor.by_name(guest), self._hosts[node])
        except WorldError as error:
            return Asked(said=str(error), alive=self._lets_in(node))

    def _lets_in(self, node: str) -> bool:
        """Whether a node that is off, by somebody's word, can be logged in to."""
        return node in self._forced and ssh.knock(self._forced[node], KNOCK_TIME).code == 0


def start(
    cluster: Cluster,
    here: str,
    guest: str,
    force_unreachable: object = None,
    timeout: float = 300.0,
) -> dict[str, Any]:
    """Start a guest on this node, unless it runs anywhere; return what was seen afterwards.

    force_unreachable
        Nodes that are off, by an administrator's word: their silence does not stop the start.
    timeout
        Seconds for all of it, another's start of the same guest included.

    InputError or WorldError means that nothing was begun.
    """
    began, end = datetime.now(timezone.utc), time.monotonic() + timeout
    forced = starting.forced(cluster, here, force_unreachable)
    with contextlib.closing(Nodes(cluster, here, forced)) as nodes:
        request, text = _request(cluster, nodes, guest, forced)
        done = _settled(cluster, nodes, request, text, end)
    elapsed = round(time.monotonic() - end + timeout, 3)
    return {**done, "started": began.isoformat(timespec="milliseconds"), "elapsed": elapsed}


def runs(cluster: Cluster, here: str, guest: str) -> Decision:
    """Look whether a guest runs anywhere, and may be started here, without starting it."""
    with contextlib.closing(Nodes(cluster, here)) as nodes:
        request, _ = _request(cluster, nodes, guest, frozenset())
        return starting.decide(request, nodes.ask(guest, request.uuid))


def found(cluster: Cluster, guest: str) -> definitions.Found:
    """Return where the definition of a guest lies; InputError, which lists where was looked."""
    there = [path for path in definitions.all_places(cluster.guests, guest) if files.exists(path)]
    return definitions.find(cluster.guests, guest, there)


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
    with contextlib.closing(Nodes(cluster, here)) as nodes:
        look = _here(nodes.own, guest, here)
        if look.sighting not in ACTIVE:
            said = [f"it was {look.sighting.value} on {here}"]
            return _ended(cluster, nodes, look, said, stayed=False)
        if look.job:
            raise WorldError(
                f"{guest} was not shut down: {look.job} of it is active on {here};"
                f" wait for its end (virsh domjobinfo {guest})"
            )
        said = _tried(lambda: nodes.own.press_power(look.uuid))
        last, stayed = _until_off(nodes.own, look.uuid, timeout)
        if last.sighting not in _OFF:
            said.append(f"it was not off within {timeout:g} s of its power button")
            if destroy:
                said += _pulled(nodes.own, look.uuid)
                stayed &= _until_off(nodes.own, look.uuid, SETTLING)[1]
        return _ended(cluster, nodes, look, said, stayed)


def freeze(here: str, guest: str, reason: str | None) -> dict[str, Any]:
    """Keep in a guest's metadata that it must not be moved, and why; None lets it go again.

    Returns what is read there afterwards.
    """
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with contextlib.closing(Hypervisor()) as own:
        look = _here(own, guest, here)
        before = _frozen(own, look)
        text = None if reason is None else guestxml.frozen_xml(reason, since)
        own.note(look.uuid, guestxml.METADATA, text)
        after = _frozen(own, look)
    if any((one.reason if one else None) != reason for one in after):
        raise WorldError(f"libvirt on {here} did not keep it: {guest} is frozen: {any(after)}")
    known = next(filter(None, (*after, *before)), None)
    return {
        "guest": guest,
        "uuid": look.uuid,
        "node": here,
        "frozen": any(after),
        "reason": known.reason if known else "",
        "since": known.since if known else "",
        "changed": after != before,
    }


def _frozen(own: Hypervisor, look: Look) -> list[Frozen | None]:
    """Return whether a guest is frozen by the definition that runs, and by the persistent one."""
    texts = (own.described(look.uuid), own.definition(look.name))
    return [guestxml.read(text).frozen for text in texts if text]


def _request(
    cluster: Cluster, nodes: Nodes, guest: str, forced: frozenset[str]
) -> tuple[Request, str]:
    """Return what is to start, and its definition; empty where libvirt keeps it."""
    kind, mark = cluster.guests.definitions, closing.mark()
    if kind == "defined":
        look = nodes.own.by_name(guest)
        said = "" if look.uuid else f"{nodes.here} has no definition of it; guest_placed puts it"
        return Request(guest, look.uuid, nodes.here, kind, forced, said, mark, bool(said)), ""
    path = ""
    try:
        path = found(cluster, guest).path
        text = files.read(path).text or ""
        uuid = definitions.read(guest, text, path).uuid
    except InputError as error:
        return Request(guest, "", nodes.here, kind, forced, str(error), mark, not path), ""
    return Request(guest, uuid, nodes.here, kind, forced, closed=mark), text


def _settled(
    cluster: Cluster, nodes: Nodes, request: Request, text: str, end: float
) -> dict[str, Any]:
    """Start the guest, or find out where it runs, before time is up."""
    while True:
        asked = nodes.ask(request.guest, request.uuid)
        decision = starting.decide(request, asked)
        if decision.may is May.START:
            claimed = nodes.give_up(asked)
            try:
                with _claims(cluster, nodes.here, request.uuid, claimed, end) as claims:
                    decision = _last_look(nodes, request, claims, end)
                    if decision.may is May.START:
                        again, text = _request(cluster, nodes, request.guest, request.forced)
                        if again != request:
                            raise starting.refusal(request, starting.CHANGED)
                        return _started(nodes, request, text, end)
            except _Taken as taken:
                decision = Decision(May.WAIT, str(taken))
        if decision.may is May.RUNS:
            return starting.shown(request, starting.RUNNING, decision.owner, decision.sentence)
        refused = decision.may in (May.REFUSED, May.UNDEFINED)
        if refused and request.said and not request.closed:
            raise InputError(request.said)
        if refused or time.monotonic() >= end:
            raise starting.refusal(request, decision.sentence)
        time.sleep(POLL)


def _last_look(nodes: Nodes, request: Request, claims: Mapping[str, Held], end: float) -> Decision:
    """Look at all nodes while they are claimed, and make sure that they still are."""
    decision = starting.decide(request, nodes.ask(request.guest, request.uuid))
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
    first, *others = starting.claim_order(nodes)
    account = ssh.account(cluster.ssh.login)
    seconds = max(0.0, end - time.monotonic()) + CLAIM_SPARE

    def command(node: str) -> list[str]:
        home = account.home if node == here else "."
        path = starting.claim_path(account.login, home, node, uuid)
        line = starting.claim(path, here, seconds)
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
    if outcome.code == starting.CONFLICT:
        return _Taken(starting.claimed(node, outcome.stdout))
    said = migration.short(outcome.stderr) or "nothing"
    return WorldError(
        f"the guest cannot be claimed on {node}, so it is not started; it said: {said}"
    )


def _started(nodes: Nodes, request: Request, text: str, end: float) -> dict[str, Any]:
    """Let libvirt start it, and look at all nodes afterwards."""
    own = nodes.own
    call = own.create(definitions.as_text(text), end) if text else own.boot(request.uuid, end)
    wait([call], max(0.0, end - time.monotonic()))
    settled = time.monotonic() + SETTLING
    while True:
        asked = nodes.ask(request.guest, request.uuid)
        waiting = not call.done() or starting.decide(request, asked).may is May.WAIT
        if not waiting or time.monotonic() >= settled:
            return starting.ending(request, asked, _words(call), call.done())
        time.sleep(POLL)


def _here(own: Hypervisor, guest: str, here: str) -> Look:
    look = own.by_name(guest)
    if look.sighting is Sighting.ABSENT:
        raise migration.no_such_guest(guest, here, own.names())
    return look


def _until_off(own: Hypervisor, uuid: str, timeout: float) -> tuple[Look, bool]:
    """Wait until a guest is off; return the last look at it, and whether none saw it leave."""
    end, stayed = time.monotonic() + timeout, True
    while True:
        look = own.sight(uuid)
        stayed &= look.job != OUTGOING
        if look.sighting in _OFF or time.monotonic() >= end:
            return look, stayed
        time.sleep(POLL)


def _pulled(own: Hypervisor, uuid: str) -> list[str]:
    """Pull a guest's plug if it may be pulled now; return what was done."""
    look = own.sight(uuid)
    if look.sighting in _OFF:
        return []
    why = starting.keeps_its_plug(look)
    if why:
        return [f"its plug was not pulled: {why}"]
    return _tried(lambda: own.destroy(uuid)) or ["its plug was pulled, as asked for"]


def _ended(
    cluster: Cluster, nodes: Nodes, look: Look, said: Sequence[str], stayed: bool
) -> dict[str, Any]:
    """Say what became of a guest that was to be shut down: it may have moved meanwhile."""
    request = Request(look.name, look.uuid, nodes.here, cluster.guests.definitions)
    return starting.stopped(request, nodes.ask(look.name, look.uuid), said, stayed)


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
