"""May a guest start here? What every node of the cluster answered, and what follows.

A guest starts only when every node has answered that it does not have it, or an administrator
declared a node offline that does not respond. QEMU's image lock is the last defence, never the
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from saltext_kvmcluster.core import cordons, validate, verdicts
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import ACTIVE
from saltext_kvmcluster.core.migration.migration import Host
from saltext_kvmcluster.core.ownership.results import ShutdownResult, StartResult
from saltext_kvmcluster.core.pacemaker.fencing import NO_WORD, FencingRuling
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.verdicts import Observation, Sighting

STARTED, RUNNING, NOT_STARTED, UNKNOWN = "started", "running", "not_started", "unknown"
STOPPED, NOT_STOPPED = "stopped", "not_stopped"

CHANGED = "its definition changed meanwhile; check it, and try again"
NOWHERE = Observation(Sighting.ABSENT)
_STANDING = (Sighting.RUNNING, Sighting.RUNNING_IN_POST_COPY, Sighting.PAUSED_BY_USER)
_WAITING_HALF = (*verdicts.WAITING_HALVES, Sighting.PAUSED_IN_POST_COPY)
_MOVING = (Sighting.RUNNING_IN_POST_COPY, *_WAITING_HALF)


@dataclass(frozen=True)
class NodeAnswer:
    """What one node answered about a guest, by UUID and by name; ``detail``: why it did not.

    ``alive``: how it responds all the same, so that its guests may run; empty if it does not.
    ``fenced``: whether Pacemaker's word counts that it is off.
    """

    same_uuid: Observation = NOWHERE
    same_name: Observation = NOWHERE
    host: Host | None = None
    detail: str = ""
    alive: str = ""
    fenced: FencingRuling = NO_WORD

    @property
    def is_off(self) -> bool:
        """Whether it does not respond, and certainly runs nothing."""
        return bool(self.detail) and not self.alive and self.fenced.off


@dataclass(frozen=True)
class Request:
    """A guest that is to start. ``declared_offline``: nodes, by an administrator.

    ``uuid`` is empty where there is no good definition of it; ``detail`` is why then, and
    ``undefined`` whether there is none at all. ``cordoned`` is what cordons its node.
    ``unguarded`` are the disks off which nothing keeps a second writer, a sentence each, asked for
    only where a node is declared offline; ``force_unguarded`` that an administrator accepts that.
    """

    guest: str
    uuid: str
    here: str
    definitions: str
    declared_offline: frozenset[str] = frozenset()
    detail: str = ""
    cordoned: Cordon | None = None
    undefined: bool = False
    unguarded: tuple[str, ...] = ()
    force_unguarded: bool = False


class May(Enum):
    """The decision that follows from the answers of all nodes."""

    START = "it may start here"
    RUNS = "it runs already"
    WAIT = "it is migrating, or a job on it is in progress"
    REFUSED = "it must not start"
    UNDEFINED = "only its definition is missing"


@dataclass(frozen=True)
class Decision:
    """What follows; ``owner`` is the node that has the guest, None if nobody or not certain."""

    may: May
    sentence: str
    owner: str | None = None


def declared_offline(cluster: Cluster, here: str, nodes: object) -> frozenset[str]:
    """Return the nodes that are declared offline; InputError if one cannot be."""
    wanted = [nodes] if isinstance(nodes, str) else [] if nodes is None else nodes
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(node, str) for node in wanted):
        raise InputError(f"force_unreachable: want a list of nodes, got {printable(repr(nodes))}")
    for node in wanted:
        cluster.node(node)
        if node == here:
            raise InputError(f"force_unreachable: {here} is this node itself, which is not offline")
    return frozenset(wanted)


def decide(request: Request, asked: Mapping[str, NodeAnswer]) -> Decision:
    """Return what follows from what every node of the cluster answered.

    One response is enough to know that it runs; that it runs nowhere takes responses of all nodes.
    """
    active = _active_nodes(request, asked)
    if double := verdicts.doubled(active):
        may = May.WAIT if double.job else May.REFUSED
        return Decision(may, f"it {double.sentence}; nothing was changed")
    for node, found in active.items():
        if found.sighting in _STANDING:
            how = "paused by its user" if found.sighting is Sighting.PAUSED_BY_USER else "and runs"
            others = [_location(name, other) for name, other in active.items() if name != node]
            silent = [f"no response from {name}" for name, answer in asked.items() if answer.detail]
            where = "; ".join([f"it is on {node}, {how}", *others, *silent])
            return Decision(May.RUNS, where, node)
    busy = {node: job for node, answer in asked.items() if (job := _busy(request, answer))}
    if active or busy:
        return _unsettled(request, {**busy, **active})
    troubles = list(_troubles(request, asked))
    if troubles:
        lacks = request.undefined and troubles == [request.detail]
        may = May.UNDEFINED if lacks else May.REFUSED
        return Decision(may, "; ".join(troubles))
    silent = _declared(request, asked)
    declared = f"; {' and '.join(silent)} declared offline (force_unreachable)" if silent else ""
    off = [f"; {node} was {one.fenced.sentence}" for node, one in asked.items() if one.is_off]
    return Decision(May.START, f"no node has it{declared}{''.join(off)}")


def last_decision(decision: Decision, lost: Sequence[str], is_over: bool) -> Decision:
    """Return what follows from the last observations before a start.

    decision
        What follows from what all nodes answered while they were claimed.
    lost
        Nodes on which the claim is no longer certain.
    is_over
        Whether time is up, so that the claims may end.
    """
    if decision.may is not May.START:
        return decision
    if lost:
        return Decision(May.REFUSED, f"the claim on {' and on '.join(lost)} was lost")
    if is_over:
        sentence = "it could not be begun within the timeout; use a longer one (timeout)"
        return Decision(May.REFUSED, sentence)
    return decision


def refuse_unless_waiting(request: Request, decision: Decision, is_over: bool) -> None:
    """Raise if a guest that does not run must not start, or time is up; return if it may wait.

    InputError where its definition or the pillar is what forbids it, otherwise WorldError.
    """
    refused = decision.may in (May.REFUSED, May.UNDEFINED)
    if refused and request.detail and decision.sentence.startswith(request.detail):
        raise InputError(request.detail)
    if refused or is_over:
        raise refusal(request, decision.sentence)


def whereabouts(request: Request, asked: Mapping[str, NodeAnswer]) -> list[str]:
    """Return where the guest is active, a sentence for each node, as far as they answered."""
    active = _active_nodes(request, asked)
    if double := verdicts.doubled(active):
        return [f"{request.guest} {double.sentence}"]
    return [
        f"{request.guest} is {found.sighting.value} on {node}" for node, found in active.items()
    ]


def ending(
    request: Request, asked: Mapping[str, NodeAnswer], detail: str, returned: bool
) -> StartResult:
    """Return what became of a guest whose start was begun.

    asked
        What the nodes answered afterwards.
    detail
        libvirt's error if its call failed. It explains; it decides nothing.
    returned
        Whether libvirt's call has ended.
    """
    decision, here = decide(request, asked), asked[request.here]
    if decision.may is May.RUNS:
        result = STARTED if decision.owner == request.here and not detail else RUNNING
    else:
        gone = returned and not here.detail and not _active(request, here)
        result = NOT_STARTED if gone else UNKNOWN
    parts = [] if returned else [f"libvirt on {request.here} has not ended the start"]
    parts.append(decision.sentence if result != NOT_STARTED else f"not running on {request.here}")
    parts += [f"libvirt: {detail}"] if detail else []
    return StartResult(
        request.guest, request.uuid, request.here, result, decision.owner, "; ".join(parts)
    )


def stopped(
    request: Request, asked: Mapping[str, NodeAnswer], steps: Sequence[str], stayed: bool
) -> ShutdownResult:
    """Return what became of a guest that was to be shut down.

    asked
        What the nodes answered afterwards.
    steps
        What was done, as sentences.
    stayed
        Whether it was active here at first, with no unsettled migration from here, and none
        since. Then it ended here; otherwise it may run on an unreachable node.
    """
    active = _active_nodes(request, asked)
    silent = [f"no response from {node}" for node, found in asked.items() if found.detail]
    nowhere = "it runs on no node that responds" if silent else "it runs nowhere"
    where = "; ".join(_location(node, observation) for node, observation in active.items())
    unsure = asked[request.here].detail or (silent and not stayed)
    result = NOT_STOPPED if active else UNKNOWN if unsure else STOPPED
    # A half that waits for the other one owns nothing.
    owners = [node for node, found in active.items() if found.sighting not in _WAITING_HALF]
    owner = owners[0] if len(active) == 1 and owners else None
    reason = "; ".join([*steps, where or nowhere, *silent])
    return ShutdownResult(request.guest, request.uuid, request.here, result, owner, reason)


def forbids_destroy(observation: Observation) -> str:
    """Return why a guest must not be destroyed; empty if it may be."""
    if observation.sighting is Sighting.UNREACHABLE:
        return f"its present state is unknown: {observation.detail}"
    if observation.job:
        return f"{observation.job} of it is active"
    return f"it is {observation.sighting.value}" if observation.sighting in _MOVING else ""


def refusal(request: Request, sentence: str) -> WorldError:
    """Return the error that says why a guest was not started."""
    return WorldError(f"{request.guest} was not started on {request.here}: {sentence}")


def freezing_reason(reason: object) -> str:
    """Return the reason of a freeze; InputError if it is not readable text."""
    return validate.reason(reason, "the guest must stay")


def claim_order(nodes: Iterable[str]) -> list[str]:
    """Return in which order nodes are claimed: the same for all starts, which avoids deadlocks."""
    return sorted(nodes)


def claimed(node: str, holder: str) -> str:
    """Return the sentence about a claim that another start holds, with its holder."""
    name = printable(holder.strip()[:100]) or "another node"
    return f"{name} is starting it: it holds the claim on {node}"


def _active_nodes(request: Request, asked: Mapping[str, NodeAnswer]) -> dict[str, Observation]:
    """Return the observations of the nodes that have the guest active."""
    return {
        node: observation
        for node, answer in asked.items()
        if (observation := _active(request, answer))
    }


def _active(request: Request, answer: NodeAnswer) -> Observation | None:
    """Return the observation of the guest to be started, if it is active."""
    if answer.same_uuid.sighting in ACTIVE:
        return answer.same_uuid
    same = answer.same_name.sighting in ACTIVE and request.uuid in ("", answer.same_name.uuid)
    return answer.same_name if same else None


def _busy(request: Request, answer: NodeAnswer) -> Observation | None:
    """Return the observation of the guest, active or not, if a job on it is in progress."""
    if answer.same_uuid.job:
        return answer.same_uuid
    same = answer.same_name.job and request.uuid in ("", answer.same_name.uuid)
    return answer.same_name if same else None


def _unsettled(request: Request, observations: Mapping[str, Observation]) -> Decision:
    """Wait for what will end by itself; otherwise refuse, with the locations."""
    observed = "; ".join(_location(node, observation) for node, observation in observations.items())
    if any(
        observation.job or observation.sighting in _MOVING for observation in observations.values()
    ):
        return Decision(May.WAIT, observed)
    remedy = f"virsh domstate --reason {request.guest} there shows why; fix that first"
    return Decision(May.REFUSED, f"{observed}: {remedy}")


def _location(node: str, observation: Observation) -> str:
    job = f", and {observation.job} is active" if observation.job else ""
    return f"it is {observation.sighting.value} on {node}{job}"


def _troubles(request: Request, asked: Mapping[str, NodeAnswer]) -> Iterator[str]:
    if request.cordoned:
        remedy = cordons.remedy(request.here)
        yield f"{request.here} is {request.cordoned}; to uncordon it: {remedy}"
    if request.detail:
        yield request.detail
    for node, answer in asked.items():
        declared = node in request.declared_offline or answer.is_off
        if answer.alive or (answer.detail and not declared):
            yield _silence(node, answer, node in request.declared_offline)
        yield from _conflicts(request, node, answer)
    yield from _unguarded(request, asked)
    yield from _doubles({node: answer.host for node, answer in asked.items() if answer.host})


def _silence(node: str, answer: NodeAnswer, declared: bool) -> str:
    """Return what to do about a node whose libvirt did not answer."""
    known = f"; {answer.fenced.sentence}" if answer.fenced.sentence else ""
    if not answer.alive:
        return (
            f"no response from {node}, which may have it: {answer.detail}{known}; if {node} is off,"
            f" declare it offline: force_unreachable={node}"
        )
    power = "power it off, or " if declared else ""
    return (
        f"no response from libvirt on {node}, which may have it: {answer.detail}; {node} is not"
        f" off: {answer.alive}, so its guests may run; {power}make libvirt respond: on {node}:"
        " systemctl restart libvirtd (or virtqemud)"
    )


def _unguarded(request: Request, asked: Mapping[str, NodeAnswer]) -> Iterator[str]:
    """Yield what a wrong declaration would destroy, unless an administrator accepts that."""
    silent = _declared(request, asked)
    if not silent or not request.unguarded or request.force_unguarded:
        return
    disks = "; ".join(request.unguarded)
    nodes = " or ".join(silent)
    yield (
        f"no lock keeps {nodes} from writing its disks ({disks}): if {request.guest} still runs"
        " there, two copies write them at once, which destroys their file systems. Make sure that"
        f" {nodes} has no power, by fencing or by eye, not by its silence; then add"
        " force_unguarded=true"
    )


def _declared(request: Request, asked: Mapping[str, NodeAnswer]) -> list[str]:
    """Return the nodes that are off by an administrator's word alone."""
    declared = sorted(request.declared_offline)
    return [node for node in declared if asked[node].detail and not asked[node].is_off]


def _conflicts(request: Request, node: str, answer: NodeAnswer) -> Iterator[str]:
    """Yield what on a node conflicts with a start, though the guest is not active there."""
    found = answer.same_uuid
    if request.uuid and answer.same_name.name and answer.same_name.uuid != request.uuid:
        yield (
            f"{node} has another guest of that name, of UUID {answer.same_name.uuid}:"
            " rename one of the two (virsh domrename, while it is shut off)"
        )
    if not found.name:
        return
    if found.saved:
        name = printable(found.name[:100])
        yield (
            f"{node} keeps a saved state of it, from which a start there would resume, over disks"
            f" that may have changed: to discard it, on {node}: virsh managedsave-remove {name};"
            f" or, if it has run nowhere since: virsh start {name}"
        )
    if found.name != request.guest:
        yield (
            f"{node} has a guest {printable(found.name[:100])} of the same UUID: give one of the"
            " two another (virsh undefine --keep-nvram, then define it again)"
        )
    elif found.autostart:
        yield (
            f"{node} would start it at its next boot (autostart):"
            f" virsh autostart --disable {request.guest} on {node}"
        )
    elif node == request.here and request.definitions == "shared":
        yield (
            f"{node} has an old definition of it, shut off, that would outlive this one:"
            f" virsh undefine --keep-nvram {request.guest} on {node} (never with"
            " --remove-all-storage or --nvram)"
        )


def _doubles(hosts: Mapping[str, Host]) -> Iterator[str]:
    """Yield which two nodes are one host: then the other one has not been queried."""
    first: dict[Host, str] = {}
    for node, host in hosts.items():
        known = first.setdefault(host, node)
        if known != node:
            yield (
                f"{known} and {node} are one host by libvirt, {printable(host.name[:100])}:"
                " the migration name of one leads to the other, so one was not queried"
            )
