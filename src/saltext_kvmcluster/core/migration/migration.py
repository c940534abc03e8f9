"""One migration as values: what it is refused for, how libvirt is to do it, what came of it."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saltext_kvmcluster.core import verdicts, xmltext
from saltext_kvmcluster.core.errors import AtWork, InputError, WorldError
from saltext_kvmcluster.core.findings import PROBLEM, SEE, Finding, sentences
from saltext_kvmcluster.core.migration import pacing
from saltext_kvmcluster.core.migration.pacing import GiveUp, Pace, Step
from saltext_kvmcluster.core.migration.progress import POST_COPY, Progress
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.pillar.options import NO_COMPRESSION, Options
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verdicts import Observation, Owner, Sighting, Verdict

MOVED, NOT_MOVED, UNKNOWN = "moved", "not_moved", "unknown"
CANCELLED = "cancelled: "
"""How the reason of what somebody wanted to end goes on to say who."""
RESULTS = {Owner.DESTINATION: MOVED, Owner.SOURCE: NOT_MOVED}

MOVABLE = (Sighting.RUNNING, Sighting.PAUSED_BY_USER)


@dataclass(frozen=True)
class Host:
    """A host as its libvirt knows itself."""

    uuid: str
    name: str


@dataclass(frozen=True)
class Move:
    """Which guest is to go from where to where."""

    guest: str
    uuid: str
    source: str
    destination: str


@dataclass(frozen=True)
class Plan:
    """How libvirt is to do it.

    ``flags`` and ``parameters``: by libvirt's names, less VIR_MIGRATE_ and VIR_MIGRATE_PARAM_.
    """

    flags: tuple[str, ...]
    connection: str
    parameters: Mapping[str, str | int | float]


@dataclass(frozen=True)
class Snapshot:
    """One look at a migration that was begun.

    ``at``: seconds of the observer's monotonic clock. ``ended``: libvirt's call has returned.
    ``answered``: the source's daemon did, just now. ``progress``: None where it told of no job.
    ``stands``: the guest is paused there for the migration. ``cancel``: who wants it cancelled, in
    words, empty if nobody.
    """

    at: float
    ended: bool
    answered: bool
    progress: Progress | None
    stands: bool = False
    cancel: str = ""


@dataclass(frozen=True)
class Watch:
    """What is remembered of a migration between two looks at it.

    ``spoke``: when the source's daemon answered last. ``stood``: since when the guest was seen to
    stand still, None if it runs. ``ending``, ``since``: why we want it to end, and since when;
    empty and None if we do not.
    """

    began: float
    spoke: float
    pace: Pace
    stood: float | None = None
    ending: str = ""
    since: float | None = None


@dataclass(frozen=True)
class Abort:
    """Have libvirt end the migration; the guest goes on at the source."""


@dataclass(frozen=True)
class Judge:
    """Watch no longer; look at both sides."""


Act = Step | Abort | Judge


@dataclass(frozen=True)
class Statistics:
    """What libvirt measured of a completed migration; None is what it did not say."""

    downtime_ms: int | None = None
    memory_bytes: int | None = None
    iterations: int | None = None


def wanted(
    cluster: Cluster, here: str | None, guest: object, destination: object
) -> tuple[str | None, str | None]:
    """Return the guest and the destination in question, None for all; InputError as `target`.

    here
        The node whose guests are in question, None for those of all nodes.
    """
    return (
        None if guest is None else named(guest, "guest"),
        None if destination is None else target(cluster, here, destination).id,
    )


def target(cluster: Cluster, here: str | None, destination: object) -> Node:
    """Return the node to migrate to; InputError if the request makes no sense by itself."""
    node = cluster.node(named(destination, "destination"))
    if node.id == here:
        raise InputError(f"destination: {here} is this node itself; name one of its peers")
    return node


def named(value: object, argument: str) -> str:
    """Return an argument that may be a name; InputError if it is none."""
    if not isinstance(value, str) or not value:
        raise InputError(
            f"{argument}: want a name, got {value!r}; a number needs two pairs of quotes"
        )
    if not value.isprintable():
        raise InputError(f"{argument}: {value!r} has a character that does not print; no name has")
    return value


def no_such_guest(guest: str, here: str, names: Sequence[str]) -> InputError:
    """Return the error that says that the guest is not here, and which ones are."""
    close = difflib.get_close_matches(guest, names, n=1)
    known = ", ".join(sorted(names)[:10]) or "none"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    hint = f"; did you mean {close[0]}?" if close else ""
    return InputError(f"{here} has no guest {guest}; its guests are: {known}{more}{hint}")


def refuse_if_blocked(move: Move, findings: Iterable[Finding]) -> None:
    """Raise the WorldError that names every finding that forbids a migration, if there is one.

    What is not known because of another finding goes without saying.
    """
    refused = [finding for finding in findings if finding.blocks]
    if refused:
        causes = [finding for finding in refused if not finding.remedy.startswith(SEE)]
        raise _refusal(move, causes or refused)


def at_work(move: Move) -> AtWork:
    """Return the error of a second call while the first one is at work."""
    at_work = Finding(
        "guest.blockers",
        PROBLEM,
        f"another kvmcluster command is at work on {move.guest} on {move.source}",
        "wait for its end",
    )
    return AtWork(str(_refusal(move, [at_work])))


def act(
    watch: Watch, observed: Snapshot, options: Options, patience: float
) -> tuple[Watch, Act | None]:
    """Return what to remember of a migration, and what to do about it now; None for nothing.

    patience
        Seconds to wait for a daemon that no longer speaks, and for one that was told to end it:
        libvirt's call does not return while the destination's QEMU stands still.
    """
    if observed.ended:
        return watch, Judge()
    if not observed.answered:
        return watch, Judge() if observed.at - watch.spoke >= patience else None
    stood = (observed.at if watch.stood is None else watch.stood) if observed.stands else None
    watch, step = _paced(replace(watch, spoke=observed.at, stood=stood), observed, options)
    if observed.progress and observed.progress.phase == POST_COPY:
        # To end it now would lose the guest: its memory is on both sides.
        return watch, Judge() if pacing.broken(watch.pace, observed.progress) else None
    if isinstance(step, GiveUp):
        watch = _ending(watch, observed, step.reason)
    elif (
        observed.cancel and watch.pace.asked is None
    ):  # Post-copy that was asked for may have begun.
        watch = _ending(watch, observed, f"{CANCELLED}{observed.cancel}")
    if watch.since is None:
        return watch, step
    return watch, Judge() if observed.at - watch.since >= patience else Abort()


def downtime_ms(watch: Watch, observed: Snapshot) -> int | None:
    """Return for how long the guest has stood still so far, None if that is not known.

    In post-copy it runs at the destination, which was not looked at.
    """
    if observed.progress is None or observed.progress.phase == POST_COPY:
        return None
    return 0 if watch.stood is None else round(1000 * (observed.at - watch.stood))


def _paced(watch: Watch, observed: Snapshot, options: Options) -> tuple[Watch, Step | None]:
    if observed.progress:
        known, step = pacing.pace(watch.pace, observed.progress, options)
        return replace(watch, pace=known), step
    if observed.at - watch.began < options.timeout:
        return watch, None
    why = f"libvirt told of no progress within the timeout of {options.timeout:g} s"
    return watch, GiveUp(why)


def _ending(watch: Watch, observed: Snapshot, why: str) -> Watch:
    """Remember that it is to end; the first reason stands."""
    return watch if watch.since is not None else replace(watch, ending=why, since=observed.at)


def plan(
    cluster: Cluster, destination: Node, options: Options, persistent: bool, address: str
) -> Plan:
    """Return how libvirt is to migrate a guest.

    persistent
        Whether the source keeps a definition of it.
    address
        What the destination's migration name means on the source. The destination listens there
        alone: left to itself it would listen on every network that it has.
    """
    return Plan(
        flags=(
            "PEER2PEER",
            *_option_flags(options),
            *_definition_flags(persistent, cluster.guests.definitions),
        ),
        connection=connection_uri(cluster.ssh.login, destination),
        parameters={**_way(options, destination, address), **_parameters(options)},
    )


def connection_uri(login: str, node: Node) -> str:
    """Return the URI of a peer's libvirt; ``no_tty`` because nobody is there to type a password."""
    return f"qemu+ssh://{login}@{_in_uri(node.migration)}/system?no_tty=1"


def result(
    move: Move,
    way: Plan,
    judged: Verdict,
    observations: tuple[Observation, Observation],
    measured: Statistics,
    detail: str,
    ending: str = "",
) -> dict[str, Any]:
    """Return what `migrate` returns, less findings and times.

    looks
        The last look at the source and at the destination.
    said
        libvirt's words if its call failed. They explain; they decide nothing.
    ending
        Why we wanted it to end, empty if we did not.
    """
    found = RESULTS.get(judged.owner, UNKNOWN)
    owners = {Owner.SOURCE: move.source, Owner.DESTINATION: move.destination}
    measured = measured if found == MOVED else Statistics()
    return {
        "guest": move.guest,
        "uuid": move.uuid,
        "source": move.source,
        "destination": move.destination,
        "owner": owners.get(judged.owner),
        "result": found,
        "reason": "; ".join(
            [
                judged.sentence,
                *_why_ended(found, ending),
                *_remarks(move, way, found, observations),
                *_words(found, detail),
            ]
        ),
        "downtime_ms": measured.downtime_ms,
        "memory_bytes": measured.memory_bytes,
        "iterations": measured.iterations,
    }


def verdict(
    move: Move, observations: tuple[Observation, Observation], returned: bool, steady: bool
) -> Verdict:
    """Return whose the guest is by the last look at source and destination.

    returned
        Whether libvirt's call had returned before that look.
    steady
        Whether the source said the same before and after the destination was asked.
    """
    if not returned:
        return Verdict(Owner.UNKNOWN, f"libvirt on {move.source} has not ended the migration")
    nodes = (move.source, move.destination)
    jobs = [
        f"{observation.job} on {node}"
        for node, observation in zip(nodes, observations, strict=True)
        if observation.job
    ]
    if jobs:
        return Verdict(Owner.UNKNOWN, f"still at work: {' and '.join(jobs)}; look again later")
    if not steady:
        return Verdict(Owner.UNKNOWN, f"it changed on {move.source} while it was looked at")
    judged = verdicts.judge(observations[0].sighting, observations[1].sighting, *nodes)
    silent = [observation.detail for observation in observations if observation.detail]
    return Verdict(judged.owner, "; ".join([judged.sentence, *silent]))


def host_uuid(capabilities: str) -> str:
    """Return the host's UUID from libvirt's capabilities, empty if they do not tell it."""
    try:
        return (xmltext.parse_xml(capabilities).findtext("host/uuid") or "").strip()
    except InputError:
        return ""


def statistics(job: Mapping[str, Any]) -> Statistics:
    """Return what libvirt's completed job tells of a migration."""
    reported = Reader(job, lenient=True)
    return Statistics(
        reported.at("downtime").whole(default=None),
        reported.at("memory_processed").whole(default=None),
        reported.at("memory_iteration").whole(default=None),
    )


def _refusal(move: Move, findings: Sequence[Finding]) -> WorldError:
    return WorldError(
        f"{move.guest} was not touched, not sent to {move.destination}: {sentences(findings)}"
    )


def _option_flags(options: Options) -> tuple[str, ...]:
    wanted = {
        "LIVE": options.live,
        "TUNNELLED": options.tunnelled,
        "PARALLEL": options.parallel,
        "COMPRESSED": options.compression != NO_COMPRESSION,
        # A guest that stands still needs no throttle.
        "AUTO_CONVERGE": options.auto_converge and options.live,
        "POSTCOPY": options.post_copy,
        "TLS": options.tls,
    }
    return tuple(flag for flag, is_wanted in wanted.items() if is_wanted)


def _way(options: Options, destination: Node, address: str) -> dict[str, str]:
    """Return where the memory goes; what is tunnelled goes where the connection does."""
    if options.tunnelled:
        return {}
    return {"URI": f"tcp:{_in_uri(destination.migration)}", "LISTEN_ADDRESS": address}


def _parameters(options: Options) -> dict[str, str | int]:
    wanted: dict[str, str | int] = {}
    if options.bandwidth:
        wanted["BANDWIDTH"] = options.bandwidth
        if options.post_copy:
            wanted["BANDWIDTH_POSTCOPY"] = options.bandwidth
    if options.parallel:
        wanted["PARALLEL_CONNECTIONS"] = options.parallel
    if options.compression != NO_COMPRESSION:
        wanted["COMPRESSION"] = options.compression
    return wanted


def _definition_flags(persistent: bool, definitions: str) -> tuple[str, ...]:
    if not persistent:
        return ()
    if definitions == "defined":
        return ("PERSIST_DEST",)
    # A definition left behind is a second one, which somebody can start.
    return ("PERSIST_DEST", "UNDEFINE_SOURCE")


def _remarks(
    move: Move, way: Plan, found: str, observations: tuple[Observation, Observation]
) -> list[str]:
    """Say where the definitions are not as they should be after a guest has moved."""
    if found != MOVED:
        return []
    remarks = []
    if "PERSIST_DEST" in way.flags and not observations[1].persistent:
        remarks.append(f"but {move.destination} keeps no definition of it")
    if "UNDEFINE_SOURCE" in way.flags and observations[0].sighting is Sighting.SHUT_OFF:
        remarks.append(f"but {move.source} still has a definition of it")
    return remarks


def _why_ended(found: str, ending: str) -> list[str]:
    if not ending:
        return []
    return [f"it had moved before it could be ended ({ending})" if found == MOVED else ending]


def _words(found: str, detail: str) -> list[str]:
    if not detail:
        return []
    return [f"all the same libvirt said: {detail}" if found == MOVED else f"libvirt said: {detail}"]


def _in_uri(name: str) -> str:
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return name
    return f"[{name}]"
