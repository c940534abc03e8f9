"""One migration as values: what speaks against it, how libvirt is to do it, what came of it."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree

from saltext_kvmcluster.core import recovery
from saltext_kvmcluster.core.cluster import Cluster, Node
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.findings import OK, PROBLEM, UNKNOWN, Finding, sentences
from saltext_kvmcluster.core.recovery import Look, Owner, Sighting, Verdict

MOVED, NOT_MOVED = "moved", "not_moved"
RESULTS = {Owner.DESTINATION: MOVED, Owner.SOURCE: NOT_MOVED}

MOVABLE = (Sighting.RUNNING, Sighting.PAUSED_BY_USER)
MAX_XML = 10 * 1024 * 1024
MAX_WORDS = 500


@dataclass(frozen=True)
class Host:
    """A host as its libvirt knows itself."""

    uuid: str
    name: str


@dataclass(frozen=True)
class Answer:
    """What the destination said: who it is, and what it has by the guest's UUID and name."""

    host: Host
    same_uuid: Look
    same_name: Look


@dataclass(frozen=True)
class Facts:
    """What is known when a migration is decided.

    ``answer`` is None where the destination could not be asked; ``said`` then holds its words.
    """

    guest: str
    source: str
    destination: str
    definitions: str
    here: Look
    host: Host
    answer: Answer | None = None
    said: str = ""


@dataclass(frozen=True)
class Plan:
    """How libvirt is to do it: names of its migration flags, and the three addresses."""

    flags: tuple[str, ...]
    connection: str
    data: str
    listen: str


@dataclass(frozen=True)
class Statistics:
    """What libvirt measured of a completed migration; None is what it did not say."""

    downtime_ms: int | None = None
    memory_bytes: int | None = None
    iterations: int | None = None


def target(cluster: Cluster, here: str, guest: object, destination: object) -> Node:
    """Return the node to migrate to; InputError if the request makes no sense by itself."""
    named(guest, "guest")
    node = cluster.node(named(destination, "destination"))
    if node.id == here:
        raise InputError(f"destination: {here} is this node itself; name one of its peers")
    return node


def move(
    cluster: Cluster, here: str | None, guest: object, destination: object
) -> tuple[str | None, str | None]:
    """Return the guest and destination to be examined, None for all; InputError as for `target`.

    here
        The node whose guests are examined, None for those of all nodes.
    """
    name = None if guest is None else named(guest, "guest")
    if destination is None:
        return name, None
    node = cluster.node(named(destination, "destination"))
    if node.id == here:
        raise InputError(f"destination: {here} is this node itself; name one of its peers")
    return name, node.id


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


def guest_here(facts: Facts) -> Finding:
    """Is it here to be moved: running, or paused by its user?"""
    if facts.here.sighting in MOVABLE:
        return Finding("guest.here", OK, f"{facts.guest} is {_seen(facts)} on {facts.source}")
    if facts.here.sighting is Sighting.UNREACHABLE:
        return Finding("guest.here", UNKNOWN, facts.here.said)
    return Finding(
        "guest.here",
        PROBLEM,
        f"{facts.guest} does not run on {facts.source}: it is {_seen(facts)} there",
        "run the command on the node where it runs",
    )


def guest_job(facts: Facts) -> Finding:
    """Does nothing else move, save or back it up now?"""
    if facts.here.sighting is Sighting.UNREACHABLE:
        return Finding("guest.job", UNKNOWN, f"not known without {facts.source}")
    if not facts.here.job:
        return Finding("guest.job", OK, f"no job is active on {facts.guest}")
    return Finding(
        "guest.job",
        PROBLEM,
        f"{facts.guest} has a job active on {facts.source}: {facts.here.job}",
        f"wait for its end; virsh domjobinfo {facts.guest} shows it",
    )


def guest_autostart(facts: Facts) -> Finding:
    """Does no node start it by itself? One that boots would start it a second time."""
    sides = {facts.source: facts.here}
    if facts.answer:
        sides[facts.destination] = facts.answer.same_uuid
    by_itself = [node for node, look in sides.items() if look.autostart]
    if by_itself:
        return Finding(
            "guest.autostart",
            PROBLEM,
            f"{' and '.join(by_itself)} would start {facts.guest} by itself at its next boot,"
            " wherever it runs then",
            f"there: virsh autostart --disable {facts.guest}",
        )
    if not facts.answer:
        return _not_asked("guest.autostart", facts)
    return Finding("guest.autostart", OK, f"no node starts {facts.guest} by itself")


def node_daemon(facts: Facts) -> Finding:
    """Does the destination's libvirt daemon answer?"""
    if facts.answer:
        return Finding("node.daemon", OK, f"{facts.destination}'s libvirt daemon answers")
    return Finding(
        "node.daemon",
        UNKNOWN,
        f"{facts.destination} cannot be asked: {facts.said}",
        f"salt {facts.source} kvmcluster.ssh_check; then look whether the libvirt daemon runs"
        f" on {facts.destination}",
    )


def node_uuid(facts: Facts) -> Finding:
    """Is the destination another host, for libvirt too?"""
    if not facts.answer:
        return _not_asked("node.uuid", facts)
    there = facts.answer.host
    if not (facts.host.uuid and there.uuid):
        return Finding("node.uuid", UNKNOWN, "a libvirt daemon does not tell its host's UUID")
    for word, value, other, remedy in (
        ("UUID", facts.host.uuid, there.uuid, "host_uuid in libvirtd.conf or virtqemud.conf"),
        ("host name", facts.host.name, there.name, "the host names"),
    ):
        if value == other:
            return Finding(
                "node.uuid",
                PROBLEM,
                f"{facts.source} and {facts.destination} have the same {word} for libvirt: {value}",
                f"make {remedy} differ; or {facts.destination}'s migration name leads back here",
            )
    return Finding("node.uuid", OK, f"{facts.source} and {facts.destination} are two hosts")


def guest_uuid(facts: Facts) -> Finding:
    """Has the destination no guest of that UUID but, where wanted, its definition?"""
    if not facts.answer:
        return _not_asked("guest.uuid", facts)
    found = facts.answer.same_uuid
    if found.sighting is Sighting.ABSENT:
        return Finding("guest.uuid", OK, f"{facts.destination} has no guest of that UUID")
    what = f"{facts.destination} has a guest of UUID {facts.here.uuid}, {found.name}"
    if found.sighting is not Sighting.SHUT_OFF:
        return Finding(
            "guest.uuid",
            PROBLEM,
            f"{what}: {found.sighting.value}",
            "find out which of the two is right before anything else is done with either",
        )
    if found.name == facts.guest and facts.definitions == "defined":
        return Finding("guest.uuid", OK, f"{what}: its definition, shut off")
    return Finding(
        "guest.uuid",
        PROBLEM,
        f"{what}, shut off: its old definition would replace the one that runs",
        f"if it is a leftover: virsh undefine {found.name} on {facts.destination}"
        " (never with --remove-all-storage or --nvram)",
    )


def guest_name(facts: Facts) -> Finding:
    """Has the destination no other guest of that name?"""
    if not facts.answer:
        return _not_asked("guest.name", facts)
    found = facts.answer.same_name
    if found.sighting is Sighting.ABSENT or found.uuid == facts.here.uuid:
        return Finding("guest.name", OK, f"{facts.destination} has no other {facts.guest}")
    return Finding(
        "guest.name",
        PROBLEM,
        f"{facts.destination} has another guest named {facts.guest}, of UUID {found.uuid}",
        "rename one of the two (virsh domrename, while it is shut off)",
    )


Check = Callable[[Facts], Finding]

LOCAL_CHECKS: tuple[Check, ...] = (guest_here, guest_job)
CHECKS: tuple[Check, ...] = (
    *LOCAL_CHECKS,
    node_daemon,
    node_uuid,
    guest_autostart,
    guest_uuid,
    guest_name,
)


def examined(facts: Facts, checks: Sequence[Check] = CHECKS) -> tuple[Finding, ...]:
    """Run checks and return all their findings; WorldError names those that forbid it."""
    findings = tuple(check(facts) for check in checks)
    refused = [finding for finding in findings if finding.blocks]
    if refused:
        raise refusal(facts.guest, facts.destination, refused)
    return findings


def refusal(guest: str, destination: str, findings: Sequence[Finding]) -> WorldError:
    """Return the error that says why a guest is left where it is."""
    return WorldError(f"{guest} was not touched, not sent to {destination}: {sentences(findings)}")


def at_work(guest: str, source: str) -> Finding:
    """Return the finding of a second call while the first one is at work."""
    return Finding(
        "guest.job",
        PROBLEM,
        f"another kvmcluster.migrate of {guest} is at work on {source}",
        "wait for its end",
    )


def plan(cluster: Cluster, destination: Node, persistent: bool, address: str) -> Plan:
    """Return how libvirt is to migrate a guest.

    persistent
        Whether the source keeps a definition of it.
    address
        What the destination's migration name means on the source. The destination listens there
        alone: left to itself it would listen on every network that it has.
    """
    definition = _definition_flags(persistent, cluster.guests.definitions)
    return Plan(
        flags=("LIVE", "PEER2PEER", *definition),
        connection=connection_uri(cluster.ssh.login, destination),
        data=f"tcp:{_in_uri(destination.migration)}",
        listen=address,
    )


def connection_uri(login: str, node: Node) -> str:
    """Return the URI of a peer's libvirt; ``no_tty`` because nobody is there to type a password."""
    return f"qemu+ssh://{login}@{_in_uri(node.migration)}/system?no_tty=1"


def result(
    facts: Facts,
    way: Plan,
    judged: Verdict,
    looks: tuple[Look, Look],
    measured: Statistics,
    said: str,
) -> dict[str, Any]:
    """Return what `migrate` returns, less findings and times.

    looks
        The last look at the source and at the destination.
    said
        libvirt's words if its call failed. They explain; they decide nothing.
    """
    found = RESULTS.get(judged.owner, "unknown")
    owners = {Owner.SOURCE: facts.source, Owner.DESTINATION: facts.destination}
    measured = measured if found == MOVED else Statistics()
    return {
        "guest": facts.guest,
        "uuid": facts.here.uuid,
        "source": facts.source,
        "destination": facts.destination,
        "owner": owners.get(judged.owner),
        "result": found,
        "reason": "; ".join(
            [judged.sentence, *_remarks(facts, way, found, looks), *_words(found, said)]
        ),
        "downtime_ms": measured.downtime_ms,
        "memory_bytes": measured.memory_bytes,
        "iterations": measured.iterations,
    }


def verdict(facts: Facts, looks: tuple[Look, Look], returned: bool, steady: bool) -> Verdict:
    """Return whose the guest is by the last look at source and destination.

    returned
        Whether libvirt's call had returned before that look.
    steady
        Whether the source said the same before and after the destination was asked.
    """
    if not returned:
        return Verdict(Owner.UNKNOWN, f"libvirt on {facts.source} has not ended the migration")
    nodes = (facts.source, facts.destination)
    jobs = [f"{look.job} on {node}" for node, look in zip(nodes, looks, strict=True) if look.job]
    if jobs:
        return Verdict(Owner.UNKNOWN, f"still at work: {' and '.join(jobs)}; look again later")
    if not steady:
        return Verdict(Owner.UNKNOWN, f"it changed on {facts.source} while it was looked at")
    judged = recovery.judge(looks[0].sighting, looks[1].sighting, *nodes)
    silent = [look.said for look in looks if look.said]
    return Verdict(judged.owner, "; ".join([judged.sentence, *silent]))


def host_uuid(capabilities: str) -> str:
    """Return the host's UUID from libvirt's capabilities, empty if they do not tell it."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    if len(capabilities) > MAX_XML:
        return ""
    try:
        root = etree.fromstring(capabilities.encode(), parser)
    except etree.XMLSyntaxError:
        return ""
    return (root.findtext("host/uuid") or "").strip()


def statistics(job: Mapping[str, Any]) -> Statistics:
    """Return what libvirt's completed job tells of a migration."""

    def number(key: str) -> int | None:
        value = job.get(key)
        return value if isinstance(value, int) else None

    return Statistics(number("downtime"), number("memory_processed"), number("memory_iteration"))


def short(words: str) -> str:
    """Return somebody's words as one line of bounded length."""
    line = " ".join(words.split())
    return line if len(line) <= MAX_WORDS else line[:MAX_WORDS] + "…"


def _definition_flags(persistent: bool, definitions: str) -> tuple[str, ...]:
    if not persistent:
        return ()
    if definitions == "defined":
        return ("PERSIST_DEST",)
    # A definition left behind is a second one, which somebody can start.
    return ("PERSIST_DEST", "UNDEFINE_SOURCE")


def _remarks(facts: Facts, way: Plan, found: str, looks: tuple[Look, Look]) -> list[str]:
    """Say where the definitions are not as they should be after a guest has moved."""
    if found != MOVED:
        return []
    remarks = []
    if "PERSIST_DEST" in way.flags and not looks[1].persistent:
        remarks.append(f"but {facts.destination} keeps no definition of it")
    if "UNDEFINE_SOURCE" in way.flags and looks[0].sighting is Sighting.SHUT_OFF:
        remarks.append(f"but {facts.source} still has a definition of it")
    return remarks


def _words(found: str, said: str) -> list[str]:
    if not said:
        return []
    return [f"all the same libvirt said: {said}" if found == MOVED else f"libvirt said: {said}"]


def _in_uri(name: str) -> str:
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return name
    return f"[{name}]"


def _seen(facts: Facts) -> str:
    return facts.here.sighting.value


def _not_asked(check: str, facts: Facts) -> Finding:
    return Finding(check, UNKNOWN, f"not known without {facts.destination}")
