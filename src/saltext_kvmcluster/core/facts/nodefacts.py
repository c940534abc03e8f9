"""What is known of nodes and their guests at one moment: facts in, for the checks to judge.

Every value that could not be had is None, and says why beside it: silence is not absence. What a
node sends is hostile until it was read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

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
from saltext_kvmcluster.core.untrusted import MAX_LINE, Reader
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
MAX_FOLDERS = 1000
LONGEST_UPTIME = 100 * 366 * 86400.0
TOKEN = re.compile(r"[0-9a-f]{32}( \d{1,12})?\Z", re.ASCII)
KINDS = ("file", "block", "directory", "other", "nothing")
_SIGHTINGS = tuple(sighting.value for sighting in Sighting)
_SILENT_DAEMON = {"detail": "it did not speak of its libvirt daemon"}


def parse(node: str, sent: object, asked: float, answered: float) -> NodeFacts:
    """Return the facts that a node sent, or those of a silent node if they are none.

    asked, answered
        When the node was asked and when its answer came, in seconds by one clock: the asker's.
    """
    if not isinstance(sent, Mapping):
        return silent(node, _excuse(sent))
    try:
        return _parsed(node, Reader(sent), asked, answered)
    except InputError as error:
        return silent(node, f"what it sent is not facts: {error}")


def answered(facts: NodeFacts, answer: object) -> NodeFacts:
    """Return facts with what the node answered to its question; what is no answer is left out."""
    reply = Reader(answer, lenient=True)
    observed, links = {}, {}
    for path, reported in reply.at("paths").fields(optional=True).items():
        kind = reported.at("kind").choice(KINDS, default=None)
        real = reported.at("real").text(default=path)
        if kind:
            observed[path] = Inspection(kind)
        if kind and real != path:
            links[path] = real
    tokens = {
        (folder, writer): str(token.value)
        for folder, read in reply.at("tokens").fields(optional=True).items()
        for writer, token in read.fields(optional=True).items()
        if is_token(token.value)
    }
    daemon = facts.daemon
    if daemon:
        cpus = {
            cpu: why.line()
            for cpu, why in reply.at("cpus").fields(optional=True).items()
            if isinstance(why.value, str)
        }
        daemon = replace(daemon, cpus={**daemon.cpus, **cpus})
    found = facts.storage
    if found and links:
        found = replace(found, links={**found.links, **links})
    return replace(facts, daemon=daemon, storage=found, observed=observed, tokens=tokens)


def is_token(value: object) -> bool:
    """Whether a value is a token as nodes write it into a folder that they share."""
    return isinstance(value, str) and bool(TOKEN.match(value))


def _parsed(node: str, sent: Reader, asked: float, answered: float) -> NodeFacts:
    outputs = {
        name: CommandOutput(
            output.at("code").whole(default=None),
            output.at("out").text(default=""),
            _line(output.at("detail").text(default="").strip()),
        )
        for name, output in sent.at("commands").fields(optional=True).items()
    }

    def detail(name: str) -> CommandOutput:
        return outputs.get(name, NOTHING)

    reported = sent.at("daemon")
    if reported.value is None:
        reported = Reader(_SILENT_DAEMON)
    daemon = None if reported.has("detail") else _daemon(reported, detail)
    clock, memory = parsers.number(detail("clock")), parsers.memory(detail("memory"))
    started = parsers.started(detail("started"))
    guests = sent.at("guests")
    return NodeFacts(
        node,
        daemon=daemon,
        daemon_detail=reported.at("detail").line(default=""),
        guests=None
        if guests.value is None
        else tuple(_guest(node, guest, started, clock) for guest in guests.items()),
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
        ssh={
            check: tuple(_issue(issue) for issue in issues.items())
            for check, issues in sent.at("ssh").fields(optional=True).items()
        },
        peers={
            peer: _logins(found) for peer, found in sent.at("peers").fields(optional=True).items()
        },
        written=_written(sent.at("written")),
        written_said=_lines(sent.at("written_said")),
        definitions={
            guest: text.text()
            for guest, text in sent.at("definitions").fields(optional=True).items()
        },
        definitions_said=_lines(sent.at("definitions_said")),
    )


def _lines(sent: Reader) -> dict[str, str]:
    return {key: value.line() for key, value in sent.fields(optional=True).items()}


def _written(sent: Reader) -> dict[str, str]:
    """Return the tokens that a node wrote, by folder."""
    written = {}
    for folder, token in sent.fields(optional=True, most=MAX_FOLDERS).items():
        if not is_path(folder):
            raise sent.error("absolute paths of folders")
        if not is_token(token.value):
            raise token.error("a token")
        written[folder] = str(token.value)
    return written


def _daemon(reported: Reader, detail: Callable[[str], CommandOutput]) -> Daemon:
    capabilities = parsers.capabilities(reported.at("capabilities").text(default=""))
    if capabilities is None:
        raise InputError("libvirt's capabilities cannot be read")
    settings = parsers.settings(detail("settings"))
    return Daemon(
        uuid=capabilities[0],
        name=parsers.word(detail("host_name")),
        qemu=parsers.qemu(detail("qemu"), detail("qemu_kvm"))
        or reported.at("qemu").whole(default=0),
        machines=capabilities[1],
        cpu=capabilities[2],
        threads=capabilities[3],
        networks={name.line(): True for name in reported.at("networks").items(optional=True)},
        ports=parsers.ports(settings),
        lock_manager=settings.get("lock_manager", ""),
        certificates=parsers.certificates(detail("certificates"), settings),
        verifies=parsers.verifies(settings),
    )


def _guest(
    node: str, reported: Reader, started: Mapping[str, float], clock: float | None
) -> GuestFacts:
    name = reported.at("name").text(default="")
    observation = Observation(
        Sighting(reported.at("sighting").choice(_SIGHTINGS)),
        name=name,
        uuid=reported.at("uuid").line(default=""),
        persistent=reported.at("persistent").flag(default=False),
        autostart=reported.at("autostart").flag(default=False),
        job=reported.at("job").line(default=""),
    )
    guest, trouble = _definition(reported.at("xml").text(default=""))
    kept, kept_trouble = _definition(reported.at("kept").text(default=""))
    begun = started.get(name)
    facts = GuestFacts(
        node,
        observation,
        reason=reported.at("reason").line(default=""),
        guest=guest,
        trouble=reported.at("trouble").line(default="") or trouble or kept_trouble,
        kept=kept,
        disks=tuple(path.text() for path in reported.at("disks").items(optional=True)),
        memory_kib=reported.at("memory_kib").whole(default=0),
        vcpus=reported.at("vcpus").whole(default=0),
        snapshots=reported.at("snapshots").whole(default=0),
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
        return None, _line(str(error))


def _issue(reported: Reader) -> Issue:
    return Issue(
        reported.at("sentence").line(default=""),
        reported.at("remedy").line(default=""),
        PROBLEM if reported.at("outcome").value == PROBLEM else UNKNOWN,
    )


def _logins(reported: Reader) -> LoginResults:
    return LoginResults(
        tuple(logins.cells(reported.at("cells").value)),
        reported.at("port").line(default=""),
        tuple(name.text() for name in reported.at("names").items(optional=True)),
    )


def _line(text: str) -> str:
    return printable(text[:MAX_LINE])


def _excuse(sent: object) -> str:
    """Return why there are no facts: what the node said, where that is words."""
    if isinstance(sent, str) and sent.startswith(NO_RETURN):
        return _line(sent.split("\n")[0])
    if isinstance(sent, str) and sent:
        return _line(" / ".join(sent.split("\n")[-3:]))
    return "did not answer" if sent in (None, "", False) else "what it sent is not facts"
