"""What is known of nodes and their guests at one moment: facts in, for the checks to judge.

Every value that could not be had is None, and says why beside it: silence is not absence. What a
node sends is hostile until it was read here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts import parsers
from saltext_kvmcluster.core.facts.parsers import NOTHING, CommandOutput
from saltext_kvmcluster.core.facts.questions import is_path
from saltext_kvmcluster.core.findings import PROBLEM, UNKNOWN, Issue
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.storage import inventory
from saltext_kvmcluster.core.storage.inventory import StorageFacts
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.core.verdicts import Observation, Sighting

ACTIVE = tuple(
    sighting
    for sighting in Sighting
    if sighting not in (Sighting.SHUT_OFF, Sighting.ABSENT, Sighting.UNREACHABLE)
)


@dataclass(frozen=True)
class GuestFacts:
    """One guest as one node reports it.

    ``guest`` is what its definition says (of an active guest: the one that runs), None if it was
    not asked for or could not be read; ``trouble`` says why it could not. ``kept`` is the
    persistent definition of an active guest. ``disks`` are the paths that it writes, known even
    where the definition was not asked for. ``uptime`` is in seconds, None if it does not run or
    it is not known.
    """

    node: str
    observation: Observation
    reason: str = ""
    guest: Guest | None = None
    trouble: str = ""
    kept: Guest | None = None
    disks: tuple[str, ...] = ()
    memory_kib: int = 0
    vcpus: int = 0
    snapshots: int = 0
    uptime: float | None = None

    @property
    def name(self) -> str:
        return self.observation.name

    @property
    def uuid(self) -> str:
        return self.observation.uuid

    @property
    def active(self) -> bool:
        """Whether a process of it exists: running, or paused for whatever reason."""
        return self.observation.sighting in ACTIVE


@dataclass(frozen=True)
class Daemon:
    """A node's libvirt daemon as it describes itself and its host.

    ``qemu`` is QEMU's version as a number, 7002000 for 7.2.0, 0 if not known. ``machines`` are the
    machine types by architecture and domain type, as ``"x86_64/kvm" -> {"pc-i440fx-7.2", …}``;
    aliases count. ``cpu`` is the host's own, as XML; ``threads`` how many it has, threads counted,
    0 if not known. ``cpus`` tells of CPUs that were asked
    about, by question.cpu_key: empty if the host can run them, else why not. ``certificates``
    are the folder of those for migrations and the files in it, None where that is not known;
    ``verifies`` is whether it wants to see the certificate of a node that sends it a guest.
    """

    uuid: str
    name: str
    qemu: int
    machines: Mapping[str, frozenset[str]] = field(default_factory=dict)
    networks: Mapping[str, bool] = field(default_factory=dict)
    cpu: str = ""
    cpus: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, int] = (49152, 49215)
    lock_manager: str = ""
    certificates: tuple[str, frozenset[str]] | None = None
    verifies: bool = True
    threads: int = 0


@dataclass(frozen=True)
class LoginResults:
    """What a node saw of one peer.

    ``cells`` are its logins (see reach.cell), ``port`` how a connection to one of the peer's
    migration ports ended: ``refused`` (reachable and free), ``taken``, or what went wrong; empty
    if it was not tried. ``names`` are those by which a login was wanted, empty for all.
    """

    cells: tuple[Mapping[str, object], ...] = ()
    port: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What lies at a path on a node: ``kind`` is file, block, directory, other or nothing."""

    kind: str


@dataclass(frozen=True)
class NodeFacts:
    """What one node says of itself.

    ``said`` is why it could not be asked at all; everything else is None or empty then.
    ``daemon_said`` is why its libvirt daemon could not. ``clock`` is how far its clock is ahead
    of the asker's, in seconds, give or take ``clock_error``. ``cordoned`` says what cordons it: one
    thing or, if it is not cordoned, nothing. ``resolves`` are the addresses that
    its own host name has there. ``bridges`` says of each bridge, and of each device that carries
    guests directly, whether it is up. ``listening`` are the TCP ports in use. ``ssh`` holds, by
    the check's id, what is wrong there. ``seen`` holds the paths that it was asked about,
    ``tokens`` the freshly written token that it read in each folder, by folder and writer.
    """

    node: str
    detail: str = ""
    daemon: Daemon | None = None
    daemon_detail: str = ""
    guests: tuple[GuestFacts, ...] | None = None
    clock: float | None = None
    clock_error: float = 0.0
    cordoned: tuple[Cordon, ...] | None = None
    memory_kib: int | None = None
    free_kib: int | None = None
    host_name: str = ""
    resolves: tuple[str, ...] | None = None
    bridges: Mapping[str, bool] | None = None
    listening: frozenset[int] | None = None
    storage: StorageFacts | None = None
    ssh: Mapping[str, tuple[Issue, ...]] = field(default_factory=dict)
    peers: Mapping[str, LoginResults] = field(default_factory=dict)
    observed: Mapping[str, Inspection] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    """The token that it wrote itself, by folder."""
    written_said: Mapping[str, str] = field(default_factory=dict)
    """Why it could write no token, by folder."""
    tokens: Mapping[tuple[str, str], str] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)
    """For each guest of the pillar's list: the definition's text, empty if there is none there."""
    definitions_said: Mapping[str, str] = field(default_factory=dict)
    """What is to be said of where these were found, or why one could not be read."""
    by_peer: bool = False
    """Whether a peer asked it, which sees nothing of its ssh and of its own peers."""


def silent(node: str, detail: str) -> NodeFacts:
    """Return the facts of a node that could not be asked."""
    return NodeFacts(node, detail=detail, daemon_detail=detail)


NO_RETURN = "Minion did not return"
WORDS = 1000
MAX_FOLDERS = 1000
MAX_ITEMS = 100_000
LONGEST_UPTIME = 100 * 366 * 86400.0
TOKEN = re.compile(r"[0-9a-f]{32}( \d{1,12})?\Z", re.ASCII)
KINDS = ("file", "block", "directory", "other", "nothing")
_T = TypeVar("_T")


def parse(node: str, sent: object, asked: float, answered: float) -> NodeFacts:
    """Return the facts that a node sent, or those of a silent node if they are none.

    asked, answered
        When the node was asked and when its answer came, in seconds by one clock: the asker's.
    """
    if not isinstance(sent, Mapping):
        return silent(node, _excuse(sent))
    try:
        return _parsed(node, sent, asked, answered)
    except InputError as error:
        return silent(node, f"what it sent is not facts: {error}")


def answered(facts: NodeFacts, answer: object) -> NodeFacts:
    """Return facts with what the node answered to its question; what is no answer is left out."""
    if not isinstance(answer, Mapping):
        return facts
    observed, links = {}, {}
    for path, reported in _pairs(answer, "paths"):
        if isinstance(reported, Mapping) and reported.get("kind") in KINDS:
            observed[path] = Inspection(str(reported["kind"]))
            if isinstance(reported.get("real"), str) and reported["real"] != path:
                links[path] = str(reported["real"])
    tokens = {
        (folder, writer): token
        for folder, read in _pairs(answer, "tokens")
        if isinstance(read, Mapping)
        for writer, token in read.items()
        if isinstance(writer, str) and is_token(token)
    }
    daemon = facts.daemon
    if daemon:
        cpus = {cpu: _short(why) for cpu, why in _pairs(answer, "cpus") if isinstance(why, str)}
        daemon = replace(daemon, cpus={**daemon.cpus, **cpus})
    found = facts.storage
    if found and links:
        found = replace(found, links={**found.links, **links})
    return replace(facts, daemon=daemon, storage=found, observed=observed, tokens=tokens)


def is_token(value: object) -> bool:
    """Whether a value is a token as nodes write it into a folder that they share."""
    return isinstance(value, str) and bool(TOKEN.match(value))


def _parsed(node: str, sent: Mapping[str, Any], asked: float, answered: float) -> NodeFacts:
    outputs = _outputs(_get(sent, "commands", Mapping, {}))

    def detail(name: str) -> CommandOutput:
        return outputs.get(name, NOTHING)

    reported = _get(sent, "daemon", Mapping, {"detail": "it did not speak of its libvirt daemon"})
    daemon = None if "detail" in reported else _daemon(reported, detail)
    clock, memory = parsers.number(detail("clock")), parsers.memory(detail("memory"))
    started = parsers.started(detail("started"))
    guests = _get(sent, "guests", list, None)
    return NodeFacts(
        node,
        daemon=daemon,
        daemon_detail=_short(_get(reported, "detail", str, "")),
        guests=None if guests is None else tuple(_guest(node, g, started, clock) for g in guests),
        clock=None if clock is None else clock - (asked + answered) / 2,
        clock_error=max(0.0, (answered - asked) / 2),
        cordoned=parsers.cordoned(detail("cordoned")),
        memory_kib=memory[0] if memory else None,
        free_kib=memory[1] if memory else None,
        host_name=parsers.word(detail("host_name")),
        resolves=parsers.addresses(detail("resolves")),
        bridges=parsers.links(detail("bridges")),
        listening=parsers.listening(detail("listening")),
        storage=inventory.parse({key: (one.code, one.out) for key, one in outputs.items()}),
        ssh=_each(_get(sent, "ssh", Mapping, {}), _troubles),
        peers=_each(_get(sent, "peers", Mapping, {}), _reach),
        written=_folders(_each(_get(sent, "written", Mapping, {}), _token)),
        written_said=_each(_get(sent, "written_said", Mapping, {}), _words),
        definitions=_each(_get(sent, "definitions", Mapping, {}), _text),
        definitions_said=_each(_get(sent, "definitions_said", Mapping, {}), _words),
    )


def _folders(written: dict[str, str]) -> dict[str, str]:
    if len(written) > MAX_FOLDERS or not all(map(is_path, written)):
        raise InputError("the folders that it wrote tokens to are none")
    return written


def _outputs(commands: Mapping[str, Any]) -> dict[str, CommandOutput]:
    def output(reported: object) -> CommandOutput:
        if not isinstance(reported, Mapping):
            raise InputError("a command's output is none")
        code = reported.get("code")
        if code is not None and not _is_whole(code):
            raise InputError("a command's exit code is none")
        return CommandOutput(
            code, _get(reported, "out", str, ""), _short(_get(reported, "detail", str, "").strip())
        )

    return _each(commands, output)


def _daemon(reported: Mapping[str, Any], detail: Callable[[str], CommandOutput]) -> Daemon:
    capabilities = parsers.capabilities(_get(reported, "capabilities", str, ""))
    if capabilities is None:
        raise InputError("libvirt's capabilities cannot be read")
    settings = parsers.settings(detail("settings"))
    return Daemon(
        uuid=capabilities[0],
        name=parsers.word(detail("host_name")),
        qemu=parsers.qemu(detail("qemu"), detail("qemu_kvm")) or _number(reported, "qemu"),
        machines=capabilities[1],
        cpu=capabilities[2],
        threads=capabilities[3],
        networks={_words(name): True for name in _get(reported, "networks", list, [])},
        ports=parsers.ports(settings),
        lock_manager=settings.get("lock_manager", ""),
        certificates=parsers.certificates(detail("certificates"), settings),
        verifies=parsers.verifies(settings),
    )


def _guest(
    node: str, reported: object, started: Mapping[str, float], clock: float | None
) -> GuestFacts:
    if not isinstance(reported, Mapping):
        raise InputError("a guest is none")
    try:
        sighting = Sighting(reported.get("sighting"))
    except ValueError:
        raise InputError("a guest is in a state that is none") from None
    name = _get(reported, "name", str, "")
    observation = Observation(
        sighting,
        name=name,
        uuid=_words(_get(reported, "uuid", str, "")),
        persistent=_get(reported, "persistent", bool, False),
        autostart=_get(reported, "autostart", bool, False),
        job=_short(_get(reported, "job", str, "")),
    )
    guest, trouble = _definition(_get(reported, "xml", str, ""))
    kept, kept_trouble = _definition(_get(reported, "kept", str, ""))
    begun = started.get(name)
    facts = GuestFacts(
        node,
        observation,
        reason=_short(_get(reported, "reason", str, "")),
        guest=guest,
        trouble=_short(_get(reported, "trouble", str, "")) or trouble or kept_trouble,
        kept=kept,
        disks=tuple(_text(path) for path in _get(reported, "disks", list, [])),
        memory_kib=_number(reported, "memory_kib"),
        vcpus=_number(reported, "vcpus"),
        snapshots=_number(reported, "snapshots"),
    )
    if not facts.active or begun is None or clock is None:
        return facts
    uptime = max(0.0, clock - begun)
    return replace(facts, uptime=uptime if uptime < LONGEST_UPTIME else None)


def _definition(text: str) -> tuple[Guest | None, str]:
    if not text:
        return None, ""
    try:
        return domainxml.parse(text), ""
    except InputError as error:
        return None, _short(str(error))


def _troubles(reported: object) -> tuple[Issue, ...]:
    if not isinstance(reported, list):
        raise InputError("what it says of ssh is no list")
    return tuple(_trouble(item) for item in reported)


def _trouble(reported: object) -> Issue:
    if not isinstance(reported, Mapping):
        raise InputError("what it says of ssh is no trouble")
    outcome = PROBLEM if reported.get("outcome") == PROBLEM else UNKNOWN
    return Issue(
        _short(_get(reported, "sentence", str, "")),
        _short(_get(reported, "remedy", str, "")),
        outcome,
    )


def _reach(reported: object) -> LoginResults:
    if not isinstance(reported, Mapping):
        raise InputError("what it saw of a peer is nothing")
    return LoginResults(
        tuple(logins.cells(reported.get("cells"))),
        _short(_get(reported, "port", str, "")),
        tuple(_text(name) for name in _get(reported, "names", list, [])),
    )


def _token(reported: object) -> str:
    if not is_token(reported):
        raise InputError("a token that it wrote is none")
    return str(reported)


def _words(reported: object) -> str:
    return _short(_text(reported))


def _text(reported: object) -> str:
    if not isinstance(reported, str):
        raise InputError("what should be text is not")
    return reported


def _get(reported: Mapping[str, Any], key: str, kind: Any, default: Any) -> Any:
    """Return a value of a mapping; InputError if it is there and of another kind."""
    value = reported.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InputError(f"{key} is of another kind")
    if isinstance(value, (Mapping, list)) and len(value) > MAX_ITEMS:
        raise InputError(f"{key} has more than {MAX_ITEMS} entries")
    return value


def _number(reported: Mapping[str, Any], key: str) -> int:
    value = reported.get(key, 0)
    if not _is_whole(value):
        raise InputError(f"{key} is no number")
    return int(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= sys.maxsize


def _each(reported: Mapping[Any, Any], read: Callable[[object], _T]) -> dict[str, _T]:
    return {_text(key): read(value) for key, value in reported.items()}


def _pairs(answer: Mapping[Any, Any], key: str) -> list[tuple[str, object]]:
    """Return a part of an answer; what is of another kind is left out."""
    part = answer.get(key)
    if not isinstance(part, Mapping):
        return []
    return [(name, value) for name, value in part.items() if isinstance(name, str)]


def _short(text: str) -> str:
    return printable(text[:WORDS])


def _excuse(sent: object) -> str:
    """Return why there are no facts: what the node said, where that is words."""
    if isinstance(sent, str) and sent.startswith(NO_RETURN):
        return _short(sent.split("\n")[0])
    if isinstance(sent, str) and sent:
        return _short(" / ".join(sent.split("\n")[-3:]))
    return "did not answer" if sent in (None, "", False) else "what it sent is not facts"
