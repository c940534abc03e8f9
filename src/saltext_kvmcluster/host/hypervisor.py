"""The only place that speaks to libvirt: this host's own, and a peer's over ssh.

No verb waits for ever. libvirt's keepalive would need its event loop, a thread that does not
survive the fork by which Salt starts a job, so each call runs in a thread of its own that is
waited for by the clock; ssh's ServerAlive settings end what hangs on a dead link.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from typing import Any, NoReturn, TypeVar
from xml.sax.saxutils import escape

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.events import transitions
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.migration import Host, Plan
from saltext_kvmcluster.core.text import short
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.host.calls import begun

LOCAL = "qemu:///system"
# Above the 30 s for which libvirt itself waits for its lock on a domain.
TIME_LIMIT = 35.0
# Seconds between a decision and what it leads to; what comes later is not done at all.
MOMENT = 5.0

# libvirt's enumerations of reasons, by the number of the state: virDomainRunningReason and so on.
REASONS = {
    1: (
        *("", "booted", "migrated", "restored", "from a snapshot", "unpaused"),
        *("migration canceled", "save canceled", "woken up", "went on after a crash"),
        *("post-copy", "post-copy failed"),
    ),
    3: (
        *("", "by its user", "migration", "save", "dump", "I/O error", "watchdog"),
        *("from a snapshot", "shutting down", "snapshot", "crashed", "starting up"),
        *("post-copy", "post-copy failed", "API error"),
    ),
    5: (
        *("", "shut down", "destroyed", "crashed", "migrated", "saved", "failed"),
        *("from a snapshot", "ended by the daemon"),
    ),
}
# libvirt's lifecycle events and their details: virDomainEventType, virDomainEventStartedDetailType
# and so on. What is not here changes nothing that is watched.
CHANGES = {
    2: (
        transitions.STARTED,
        ("booted", "migrated", "restored", "from a snapshot", "woken up", "recovered"),
    ),
    3: (
        transitions.PAUSED,
        (
            *("by its user", "migration", "I/O error", "watchdog", "restored"),
            *("from a snapshot", "API error", "post-copy", "post-copy failed", "shutting down"),
        ),
    ),
    4: (
        transitions.RESUMED,
        ("unpaused", "migrated", "from a snapshot", "post-copy", "post-copy failed"),
    ),
    5: (
        transitions.STOPPED,
        (
            *("shut down", "destroyed", "crashed", "migrated", "saved", "failed"),
            "from a snapshot",
        ),
    ),
    8: (transitions.CRASHED, ("panicked", "crash loaded")),
}
STATES = {1: "running", 3: "paused", 6: "crashed"}
# Of a connection that is watched: seconds between two probes, and how many may go unanswered.
KEEPALIVE = (5, 3)
# Seconds between two attempts to reach a daemon. A daemon that systemd starts at each of them, and
# that fails, stays below the 5 starts in 10 s at which systemd gives it up.
PAUSE = 3.0

_NO_MODEL = "Unknown CPU model"
# A daemon that lets go of its connection to a peer, after a failure, may report that in its place.
LOST = "End of file while reading data"
HIDDEN = "; what it failed for may be hidden behind that, and is in the daemons' logs on both nodes"

_T = TypeVar("_T")


class Hypervisor:
    """One libvirt daemon. Its connection is made when needed and again after it broke.

    Every verb raises WorldError, with libvirt's words, when the daemon cannot be asked.
    """

    def __init__(self, uri: str = LOCAL) -> None:
        self.uri = uri
        self._connection: Any = None
        self._dialled: Future[Any] | None = None
        self._capabilities = ""

    def dial(self) -> None:
        """Begin to connect, for questions that come soon; they tell if it fails."""
        if self._connection is None and self._dialled is None:
            self._dialled = begun(lambda: _libvirt().open(self.uri))

    def host(self) -> Host:
        """Return who this libvirt says its host is."""
        capabilities, name = self._ask(lambda found: (found.getCapabilities(), found.getHostname()))
        return Host(migration.host_uuid(capabilities), name)

    def names(self) -> list[str]:
        """Return the names of all guests."""
        return self._ask(lambda found: [domain.name() for domain in found.listAllDomains()])

    def by_name(self, name: str) -> Observation:
        """Look at the guest of exactly that name."""
        return self._ask(lambda found: _observe(lambda: found.lookupByName(name)))

    def by_uuid(self, uuid: str) -> Observation:
        """Look at the guest of that UUID."""
        return self._ask(lambda found: _observe(lambda: found.lookupByUUIDString(uuid)))

    def sight(self, uuid: str) -> Observation:
        """Look at a guest; a daemon that cannot be asked is a sighting too."""
        try:
            return self.by_uuid(uuid)
        except WorldError as error:
            return Observation(Sighting.UNREACHABLE, detail=str(error))

    def migrate(self, uuid: str, way: Plan) -> Future[None]:
        """Begin a migration and return what its end can be waited for with.

        The daemon drives it: it goes on if we are killed. A daemon that stands still now does not
        begin it later, when nobody watches any more. The future's exception, if any, is a
        WorldError with libvirt's words, which do not tell where the guest is.
        """

        def verb(found: Any) -> None:
            flags, parameters = _reported(way)
            domain = found.lookupByUUIDString(uuid)
            domain.migrateToURI3(way.connection, parameters, flags)

        return self._begin(verb)

    def progress(self, uuid: str) -> dict[str, Any]:
        """Return libvirt's statistics of the guest's job that is at work, empty if none is."""
        return self._ask(lambda found: _progress(found.lookupByUUIDString(uuid)))

    def moving(self, job: str) -> dict[str, str]:
        """Return the names of the guests that leave, or arrive, by UUID.

        job
            recovery.OUTGOING or INCOMING.
        """
        libvirt = _libvirt()
        active = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE

        reported = self._ask(
            lambda found: [
                domain.UUIDString()
                for domain, stats in found.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, active)
                if _may_have(job, stats)
            ]
        )
        # Each by itself: one that hangs keeps libvirt busy for as long as a call may last.
        observations = [self.by_uuid(uuid) for uuid in reported]
        return {
            observation.uuid: observation.name
            for observation in observations
            if observation.job == job
        }

    def set_downtime(self, uuid: str, milliseconds: int) -> None:
        """Let the switch of the migration that is at work take so long."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).migrateSetMaxDowntime(milliseconds))

    def start_post_copy(self, uuid: str) -> None:
        """Switch the migration that is at work over to post-copy; it must have been allowed to."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).migrateStartPostCopy())

    def abort(self, uuid: str) -> None:
        """End the job that is at work; libvirt refuses to while it is in post-copy."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).abortJob())

    def create(self, definition: str, end: float) -> Future[None]:
        """Begin to start a transient guest; see ``migrate`` for what is returned.

        end
            When it must have begun, by the monotonic clock: whoever stood still until then has
            no claim on the guest any more.
        """
        return self._begin(lambda found: _in_time(end, lambda: found.createXML(definition)))

    def boot(self, uuid: str, end: float) -> Future[None]:
        """Begin to start a guest that is defined here; see ``create``."""

        def verb(found: Any) -> None:
            domain = found.lookupByUUIDString(uuid)
            _in_time(end, domain.create)

        return self._begin(verb)

    def press_power(self, uuid: str) -> None:
        """Press a guest's power button (ACPI); what it makes of it is its own affair."""
        how = _libvirt().VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        self._ask(lambda found: found.lookupByUUIDString(uuid).shutdownFlags(how))

    def destroy(self, uuid: str) -> None:
        """End a guest as if its plug was pulled."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).destroy())

    def destroy_copy(self, uuid: str) -> None:
        """End a guest's copy that is paused for migration, with no job at work; nothing else.

        Looked at and ended in one go: whatever held us up, a guest that has come to life meanwhile
        is not met.
        """
        end = time.monotonic() + MOMENT

        def verb(found: Any) -> None:
            domain = found.lookupByUUIDString(uuid)
            observation = _observe(lambda: domain)
            if observation.sighting is not Sighting.PAUSED_FOR_MIGRATION or observation.job:
                raise WorldError(
                    f"not done: it is {observation.sighting.value} now {observation.job}".rstrip()
                )
            _in_time(end, domain.destroy)

        self._ask(verb)

    def define(self, definition: str) -> None:
        """Define a guest, or redefine the one of its UUID and name; it is not started."""
        self._ask(lambda found: found.defineXML(definition))

    def undefine(self, uuid: str) -> None:
        """Let go of a guest's persistent definition; one that runs becomes transient.

        What belongs to it stays: its nvram, its TPM's state.
        """
        libvirt = _libvirt()
        kept = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        kept |= getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
        self._ask(lambda found: found.lookupByUUIDString(uuid).undefineFlags(kept))

    def autostart_off(self, uuid: str) -> None:
        """Keep the daemon from starting a guest by itself."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).setAutostart(0))

    def note(self, uuid: str, namespace: str, text: str | None) -> None:
        """Keep an element of ours in a guest's metadata, where it runs and where it is defined.

        None takes the element of that namespace away.
        """
        libvirt = _libvirt()

        def verb(found: Any) -> None:
            domain = found.lookupByUUIDString(uuid)
            live = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
            config = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            domain.setMetadata(kind, text, "kvmcluster", namespace, live | config)

        self._ask(verb)

    def described(self, uuid: str) -> str:
        """Return the definition of a guest: of an active one that by which it runs."""
        return str(self._ask(lambda found: found.lookupByUUIDString(uuid).XMLDesc()))

    def definition_of(self, uuid: str) -> str:
        """Return a guest as it would be defined again: by its persistent definition, if it has one.

        Passwords included: what leaves them out cannot be defined again.
        """
        libvirt = _libvirt()
        how = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        return str(self._ask(lambda found: found.lookupByUUIDString(uuid).XMLDesc(how)))

    def measured(self, uuid: str) -> dict[str, Any]:
        """Return libvirt's statistics of the guest's last completed job, empty if it has none."""
        libvirt = _libvirt()
        flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
        return dict(self._ask(lambda found: found.lookupByUUIDString(uuid).jobStats(flags)))

    def daemon(self) -> dict[str, Any]:
        """Return what the daemon says of itself and its host, in three round trips.

        ``capabilities`` as XML, ``networks``: the names of the active ones, ``qemu``: the version
        as a number, 0 if it has none.
        """

        def verb(found: Any) -> dict[str, Any]:
            active = _libvirt().VIR_CONNECT_LIST_NETWORKS_ACTIVE
            return {
                "capabilities": found.getCapabilities(),
                "networks": [network.name() for network in found.listAllNetworks(active)],
                "qemu": _qemu(found),
            }

        reported = self._ask(verb)
        self._capabilities = reported["capabilities"]
        return reported

    def guests(
        self, matters: Callable[[str, str, Mapping[str, Any]], bool] | None = None
    ) -> list[dict[str, Any]]:
        """Return what the daemon says of every guest: two round trips, and four for an active one.

        A guest that is not active is told by name, UUID, state, size, disks and autostart; an
        active one also by its definition, the persistent one if it has that, and its job.

        matters
            Whether an active guest is looked at as closely as that, by its name, its UUID, and
            libvirt's statistics of it, whose blocks are all layers of its disks then. None for all.
        """
        libvirt = _libvirt()
        groups = (
            libvirt.VIR_DOMAIN_STATS_STATE
            | libvirt.VIR_DOMAIN_STATS_BALLOON
            | libvirt.VIR_DOMAIN_STATS_VCPU
            | libvirt.VIR_DOMAIN_STATS_BLOCK
        )
        how = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        if matters:
            how |= libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING
        own = libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
        starting, reported = self._ask(
            lambda found: (
                {domain.UUIDString() for domain in found.listAllDomains(own)},
                found.getAllDomainStats(groups, how),
            )
        )

        def is_close(domain: Any, stats: Mapping[str, Any]) -> bool:
            return matters is None or matters(domain.name(), domain.UUIDString(), stats)

        guests = [
            self._guest(domain, stats, starting, is_close(domain, stats))
            for domain, stats in reported
        ]
        return [guest for guest in guests if guest]

    def definition(self, name: str) -> str:
        """Return the persistent definition of the guest of that name, empty if there is none."""
        return self._ask(lambda found: _kept(lambda: found.lookupByName(name)))

    def cpu_trouble(self, asked: Mapping[str, str]) -> str | None:
        """Return why this host cannot run a CPU, empty if it can, None if libvirt cannot tell.

        asked
            ``cpu`` as XML, ``emulator``, ``arch``, ``machine`` and ``type``; see
            virConnectCompareHypervisorCPU. It judges models and features, so a CPU that names no
            model (host-passthrough, maximum) is not judged.
        """
        if "<model" not in asked["cpu"]:
            return None
        known = self._capabilities
        return self._ask(lambda found: _cpu_trouble(found, asked, known or found.getCapabilities()))

    def _guest(
        self, domain: Any, stats: Mapping[str, Any], starting: Collection[str], close: bool
    ) -> dict[str, Any] | None:
        """Return one guest of all, None if it has gone meanwhile."""
        state, reason = stats.get("state.state", 0), stats.get("state.reason", 0)
        observation = Observation(
            _sighting(state, reason), domain.name(), domain.UUIDString(), persistent=True
        )
        definitions: dict[str, str] = {}
        if close and observation.sighting is not Sighting.SHUT_OFF:
            observation, state, reason, definitions = self._closer(
                domain, observation, state, reason
            )
        if observation.sighting is Sighting.ABSENT:
            return None
        return {
            "name": observation.name,
            "uuid": observation.uuid,
            "sighting": observation.sighting.value,
            "reason": _reason(state, reason),
            "persistent": observation.persistent,
            "autostart": observation.uuid in starting,
            "job": observation.job,
            "memory_kib": stats.get("balloon.maximum", 0),
            "vcpus": stats.get("vcpu.current", 0),
            "disks": [
                stats[f"block.{number}.path"]
                for number in range(stats.get("block.count", 0))
                if f"block.{number}.path" in stats
            ],
            **definitions,
        }

    def _closer(
        self, domain: Any, observation: Observation, state: int, reason: int
    ) -> tuple[Observation, int, int, dict[str, Any]]:
        """Look closer at an active guest; that this one does not answer hides no other.

        look, state, reason
            What is known of it without its answer.
        """
        uuid = observation.uuid

        def verb(found: Any) -> tuple[Observation, int, int, dict[str, Any]]:
            # On the connection on which a guest hangs, others may hang behind it.
            return _active(domain if domain.connect() is found else found.lookupByUUIDString(uuid))

        try:
            return self._ask(verb)
        except WorldError as error:
            self._ask(lambda found: found.getLibVersion())
            known = replace(observation, persistent=False, job=verdicts.ENDLESS)
            return known, state, reason, {"trouble": str(error)}

    def close(self, after: Sequence[Future[Any]] = ()) -> None:
        """Let the connection go, without waiting for a daemon that may never answer.

        after
            Calls that still use the connection: it is closed when they have ended.
        """
        connection, self._connection = self._connection, None
        targets, self._dialled = self._dialled, None
        self._capabilities = ""
        if connection is not None:
            begun(lambda: (wait(after), connection.close()))
        if targets is not None:
            begun(lambda: targets.result().close())

    def _begin(self, verb: Callable[[Any], object]) -> Future[None]:
        """Begin what may last, over a connection of its own."""
        libvirt = _libvirt()

        def call() -> None:
            try:
                verb(libvirt.open(self.uri))
            except libvirt.libvirtError as error:
                words = _words(error)
                raise WorldError(words + HIDDEN if LOST in words else words) from None

        return begun(call)

    def _ask(self, verb: Callable[[Any], _T]) -> _T:
        if self._connection is None:
            self.dial()
            targets, self._dialled = self._dialled, None
            assert targets is not None
            self._connection = self._ended(targets)
        connection = self._connection
        call = begun(lambda: verb(connection))
        try:
            return self._ended(call)
        except WorldError:
            self.close(after=[call])
            raise

    def _ended(self, call: Future[_T]) -> _T:
        try:
            return call.result(TIME_LIMIT)
        except FutureTimeout:
            raise WorldError(f"{self.uri} gave no answer within {TIME_LIMIT:g} s") from None
        except _libvirt().libvirtError as error:
            raise WorldError(f"{self.uri}: {_words(error)}") from None


def watch(notify: Callable[[dict[str, Any]], None]) -> NoReturn:
    """Tell what becomes of this host's guests and of its daemon, for ever; never raises.

    For a process of its own, that nothing is forked from: libvirt's event loop runs in a thread
    of it.

    tell
        Takes each happening, as ``core.watching`` reads it, in the order of the daemon's own.
    """
    while True:
        try:
            with _watched(notify) as lost:
                detail = lost.result()
        except Exception as error:
            is_libvirt = hasattr(error, "get_error_message")
            detail = _words(error) if is_libvirt else short(str(error))
        notify({"kind": transitions.LOST, "detail": detail})
        time.sleep(PAUSE)


@contextlib.contextmanager
def _watched(notify: Callable[[dict[str, Any]], None]) -> Iterator[Future[str]]:
    """Connect, and tell all that there is and that happens; yield why the connection broke."""
    libvirt = _libvirt()
    _turn_loop()
    lost: Future[str] = Future()

    def late() -> None:
        detail = f"{LOCAL} gave no answer within {TIME_LIMIT:g} s"
        notify({"kind": transitions.LOST, "detail": detail})

    def changed(connection: Any, domain: Any, event: int, detail: int, opaque: object) -> None:
        if event in CHANGES:
            what, details = CHANGES[event]
            how = details[detail] if 0 <= detail < len(details) else ""
            notify({"kind": transitions.CHANGE, "what": what, "how": how, **_named(domain)})

    def closed(connection: Any, reason: int, opaque: object) -> None:
        reasons = ("error", "end of file", "no answer to keepalive", "closed")
        why = reasons[reason] if 0 <= reason < len(reasons) else "closed"
        lost.set_result(f"{LOCAL}: the connection ended: {why}")

    connection = _awaited(lambda: libvirt.open(LOCAL), late)

    def let_go() -> None:
        with contextlib.suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()
        connection.close()

    try:
        connection.registerCloseCallback(closed, None)
        connection.setKeepAlive(*KEEPALIVE)
        connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, changed, None
        )
        guests = _awaited(lambda: _listing(connection), late)
        notify({"kind": transitions.LISTING, "guests": guests})
        yield lost
    finally:
        begun(let_go)


def _listing(connection: Any) -> list[dict[str, Any]]:
    """Return every guest with its state, in one round trip."""
    libvirt = _libvirt()
    how = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    reported = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, how)
    return [
        {
            **_named(domain),
            "active": domain.ID() >= 0,
            "state": STATES.get(stats.get("state.state", 0), ""),
            "how": _reason(stats.get("state.state", 0), stats.get("state.reason", 0)),
        }
        for domain, stats in reported
    ]


def _named(domain: Any) -> dict[str, Any]:
    return {"uuid": domain.UUIDString(), "name": domain.name(), "run": domain.ID()}


def _awaited(call: Callable[[], _T], late: Callable[[], None]) -> _T:
    """Wait for a call as long as it takes; say so once where it takes too long."""
    future = begun(call)
    try:
        return future.result(TIME_LIMIT)
    except FutureTimeout:
        late()
    return future.result()


@functools.cache
def _turn_loop() -> None:
    """Have a thread turn libvirt's event loop; for connections that are made afterwards."""
    libvirt = _libvirt()
    libvirt.virEventRegisterDefaultImpl()

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    begun(turn)


def address(name: str) -> str:
    """Return the address to which this host resolves a name; WorldError if to none."""
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise WorldError(f"{name} has no address here: {error.strerror}") from None


def _reported(way: Plan) -> tuple[int, dict[str, Any]]:
    """Return a plan's flags and parameters as libvirt wants them; WorldError if it is too old."""
    libvirt = _libvirt()

    def known(name: str) -> Any:
        found = getattr(libvirt, name, None)
        if found is None:
            raise WorldError(
                f"libvirt-python for {sys.executable} is of libvirt {_version(libvirt)}, which has"
                f" no {name}; install a newer one, or migrate without what needs it"
            )
        return found

    flags = sum(known(f"VIR_MIGRATE_{flag}") for flag in way.flags)
    return flags, {known(f"VIR_MIGRATE_PARAM_{name}"): it for name, it in way.parameters.items()}


def _version(libvirt: Any) -> str:
    number = libvirt.getVersion()
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _observe(find: Callable[[], Any]) -> Observation:
    """Look at a domain that may be gone at any moment.

    Its job is read before its state: if none was active, the state is one that no job will end.
    """
    libvirt = _libvirt()
    try:
        domain = find()
        job = _job(domain)
        state, reason = domain.state()
        return Observation(
            _sighting(state, reason),
            name=domain.name(),
            uuid=domain.UUIDString(),
            persistent=bool(domain.isPersistent()),
            autostart=bool(domain.autostart()),
            job=_lasting(job, state, reason),
            saved=bool(domain.hasManagedSaveImage()),
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Observation(Sighting.ABSENT)
        raise


def _active(domain: Any) -> tuple[Observation, int, int, dict[str, Any]]:
    """Look closer at a domain that was active: its job, state, definitions and snapshots."""
    libvirt = _libvirt()
    try:
        job = _job(domain)
        state, reason = domain.state()
        persistent = bool(domain.isPersistent())
        kept = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if persistent else ""
        reported = {"xml": domain.XMLDesc(), "kept": kept, "snapshots": domain.snapshotNum()}
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Observation(Sighting.ABSENT), 0, 0, {}
        raise
    sighting = _sighting(state, reason)
    job = _lasting(job, state, reason)
    observation = Observation(sighting, domain.name(), domain.UUIDString(), persistent, job=job)
    return observation, state, reason, reported


def _kept(find: Callable[[], Any]) -> str:
    """Return the persistent definition of a domain, empty if it has none."""
    libvirt = _libvirt()
    try:
        domain = find()
        if not domain.isPersistent():
            return ""
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return ""
        raise


def _cpu_trouble(connection: Any, asked: Mapping[str, str], capabilities: str) -> str | None:
    libvirt = _libvirt()
    try:
        connection.compareHypervisorCPU(
            _own_emulator(capabilities, asked["emulator"]),
            asked["arch"] or None,
            asked["machine"] or None,
            asked["type"] or None,
            asked["cpu"],
            libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
        )
    except libvirt.libvirtError as error:
        words = _words(error)
        if error.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE or _NO_MODEL in words:
            return words
        return None
    return ""


def _own_emulator(capabilities: str, path: str) -> str | None:
    """Return an emulator that this host's libvirt knows by itself, None for any other.

    libvirt runs what it is asked about, and the question comes from another's definition.
    """
    return path if f"<emulator>{escape(path)}</emulator>" in capabilities else None


def _qemu(connection: Any) -> int:
    try:
        return int(connection.getVersion())
    except _libvirt().libvirtError:
        return 0


def _in_time(end: float, verb: Callable[[], object]) -> None:
    if time.monotonic() >= end:
        raise WorldError("time was up before it was begun; nothing was done")
    verb()


def _reason(state: int, reason: int) -> str:
    words = REASONS.get(state, ())
    return words[reason] if 0 <= reason < len(words) else ""


def _sighting(state: int, reason: int) -> Sighting:
    libvirt = _libvirt()
    running, paused = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED
    special = {
        (running, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY): Sighting.RUNNING_IN_POST_COPY,
        (running, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED): Sighting.RUNNING_IN_POST_COPY,
        (paused, libvirt.VIR_DOMAIN_PAUSED_USER): Sighting.PAUSED_BY_USER,
        (paused, libvirt.VIR_DOMAIN_PAUSED_MIGRATION): Sighting.PAUSED_FOR_MIGRATION,
        (paused, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY): Sighting.PAUSED_IN_POST_COPY,
        (paused, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED): Sighting.PAUSED_IN_POST_COPY,
    }
    plain = {running: Sighting.RUNNING, libvirt.VIR_DOMAIN_SHUTOFF: Sighting.SHUT_OFF}
    return special.get((state, reason), plain.get(state, Sighting.PAUSED_OTHERWISE))


def _job(domain: Any) -> str:
    """Return what is under way with a domain, empty if nothing is.

    libvirt refuses to answer on the side that receives, and while it waits for another operation:
    that is an answer too.
    """
    libvirt = _libvirt()
    try:
        found = domain.jobStats()
    except libvirt.libvirtError as error:
        if error.get_error_code() in _arriving():
            return verdicts.INCOMING
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_TIMEOUT:
            return verdicts.ENDLESS
        raise
    if found.get("type") == libvirt.VIR_DOMAIN_JOB_NONE:
        return ""
    outgoing = found.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    return verdicts.OUTGOING if outgoing else verdicts.BACKUP


def _arriving() -> tuple[int, ...]:
    """Return libvirt's errors that say that statistics are to be had from the sending side."""
    libvirt = _libvirt()
    return libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_OPERATION_UNSUPPORTED


def _may_have(job: str, stats: Mapping[str, Any]) -> bool:
    """Whether a guest in that state may have that job: one that arrives does not just run."""
    state = _sighting(stats.get("state.state", 0), stats.get("state.reason", 0))
    return job == verdicts.OUTGOING or state is not Sighting.RUNNING


def _progress(domain: Any) -> dict[str, Any]:
    """Return the statistics of the job that is at work with a domain, empty if none is to be had.

    The side that receives tells nothing.
    """
    libvirt = _libvirt()
    try:
        found = dict(domain.jobStats())
    except libvirt.libvirtError as error:
        if error.get_error_code() in (*_arriving(), libvirt.VIR_ERR_NO_DOMAIN):
            return {}
        raise
    return {} if found.get("type") == libvirt.VIR_DOMAIN_JOB_NONE else found


def _lasting(job: str, state: int, reason: int) -> str:
    """Return what is under way, by the job that was seen and the state that was seen after it.

    Of a guest that is shut off only what keeps libvirt busy: other jobs ended with it, and
    libvirt answers of it as of a guest that arrives. A start shows in the state alone, and so does
    that a post-copy migration broke: its job stays.
    """
    libvirt = _libvirt()
    if state == libvirt.VIR_DOMAIN_SHUTOFF and job != verdicts.ENDLESS:
        return ""
    if (state, reason) in (
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
    ):
        return verdicts.BROKEN
    begins = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
    return verdicts.BOOT if not job and (state, reason) == begins else job


def _words(error: Any) -> str:
    return short(error.get_error_message() or str(error))


@functools.cache
def _libvirt() -> Any:
    """Return libvirt's Python module, told not to print errors by itself."""
    try:
        libvirt = importlib.import_module("libvirt")
    except ImportError as error:
        raise WorldError(
            f"libvirt-python is missing for {sys.executable} ({error}): where Salt comes from the"
            " distribution, install its python3-libvirt; else 'salt-pip install libvirt-python',"
            " which needs gcc, pkg-config and libvirt's headers (Debian libvirt-dev, RHEL"
            " libvirt-devel)"
        ) from None
    libvirt.registerErrorHandler(lambda context, error: None, None)
    return libvirt
