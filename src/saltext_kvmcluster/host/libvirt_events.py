"""libvirt's events, watched for as long as the process lives."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NoReturn, TypeVar

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.events import transitions
from saltext_kvmcluster.core.migration import handover
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.host.calls import in_thread
from saltext_kvmcluster.host.libvirt_connection import LOCAL, TIME_LIMIT, error_text, load_libvirt
from saltext_kvmcluster.host.libvirt_domains import active_job, mark_on, reason_text

_T = TypeVar("_T")
_Report = Callable[[], "dict[str, Any] | None"]
# libvirt's lifecycle events and their details: virDomainEventType, virDomainEventStartedDetailType
# and so on. Events that are not here change nothing that is reported.
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
# Of a watched connection: seconds between two keepalive probes, and how many may be lost.
KEEPALIVE = (5, 3)
# Seconds between two attempts to connect. A daemon that systemd starts at each attempt, and that
# fails, stays below the 5 starts in 10 s at which systemd gives up on it.
PAUSE = 3.0
# There is one event loop, whichever thread needs it first.
_STARTING = threading.Lock()
# Seconds between two looks at a guest that is paused for migration: no event tells that its job is
# over and it is not resumed.
JOB_INTERVAL = 5.0


def watch(notify: Callable[[dict[str, Any]], None]) -> NoReturn:
    """Report the events of this host's guests and of its daemon, for ever; never raises.

    For a process of its own that does not fork: libvirt's event loop runs in a thread of it.

    notify
        Takes each event, as core/events/transitions.py expects it, in the daemon's order.
    """
    while True:
        try:
            with _watched(notify) as lost:
                detail = lost.result()
        except Exception as error:
            is_libvirt = hasattr(error, "get_error_message")
            detail = error_text(error) if is_libvirt else one_line(str(error))
        notify({"kind": transitions.LOST, "detail": detail})
        time.sleep(PAUSE)


@contextlib.contextmanager
def stops(uuid: str, notify: Callable[[], None]) -> Iterator[None]:
    """Report each stop of a guest of this host while the context lasts, if that can be had.

    For a process that does not fork afterwards: libvirt's event loop runs in a thread of it.
    """
    libvirt = load_libvirt()
    connection: Any = None

    def changed(connection: Any, domain: Any, event: int, detail: int, opaque: object) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
            notify()

    def connect() -> Any:
        found = libvirt.open(LOCAL)
        found.domainEventRegisterAny(
            found.lookupByUUIDString(uuid), libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, changed, None
        )
        return found

    _run_loop()
    with contextlib.suppress(libvirt.libvirtError, concurrent.futures.TimeoutError):
        connection = in_thread(connect).result(TIME_LIMIT)
    try:
        yield
    finally:
        if connection is not None:
            in_thread(connection.close)


@contextlib.contextmanager
def reboots(uuid: str) -> Iterator[Future[None]]:
    """Yield what is done once a guest of this host has rebooted while the context lasts.

    It fails once that can no longer be seen. For a process that does not fork afterwards, as
    ``stops``. WorldError if it cannot be seen at all.
    """
    libvirt = load_libvirt()
    seen: Future[None] = Future()

    def rebooted(connection: Any, domain: Any, opaque: object) -> None:
        if not seen.done():
            seen.set_result(None)

    def closed(connection: Any, reason: int, opaque: object) -> None:
        if not seen.done():
            seen.set_exception(WorldError(f"{LOCAL}: the connection ended"))

    def connect() -> Any:
        found = libvirt.open(LOCAL)
        found.registerCloseCallback(closed, None)
        found.domainEventRegisterAny(
            found.lookupByUUIDString(uuid), libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, rebooted, None
        )
        return found

    _run_loop()
    try:
        connection = in_thread(connect).result(TIME_LIMIT)
    except libvirt.libvirtError as error:
        raise WorldError(f"libvirt's events cannot be had: {error_text(error)}") from None
    except concurrent.futures.TimeoutError:
        raise WorldError(f"no response from {LOCAL} within {TIME_LIMIT:g} s") from None
    try:
        yield seen
    finally:
        in_thread(lambda: _disconnect(connection))


@contextlib.contextmanager
def _watched(notify: Callable[[dict[str, Any]], None]) -> Iterator[Future[str]]:
    """Connect, report all guests and all events; yield why the connection broke."""
    libvirt = load_libvirt()
    _run_loop()
    lost: Future[str] = Future()

    def late() -> None:
        detail = f"no response from {LOCAL} within {TIME_LIMIT:g} s"
        notify({"kind": transitions.LOST, "detail": detail})

    def changed(connection: Any, domain: Any, event: int, detail: int, opaque: object) -> None:
        if event in CHANGES:
            what, details = CHANGES[event]
            how = details[detail] if 0 <= detail < len(details) else ""
            found = {"kind": transitions.CHANGE, "what": what, **_named(domain)}
            reports.put(domain, lambda: {**found, "how": _how(domain, how)})

    def noted(connection: Any, domain: Any, kind: int, namespace: str, opaque: object) -> None:
        if namespace == handover.NAMESPACE:
            named = _named(domain)
            reports.put(domain, lambda: _marked(domain, named))

    def closed(connection: Any, reason: int, opaque: object) -> None:
        reasons = ("error", "end of file", "keepalive timeout", "closed")
        why = reasons[reason] if 0 <= reason < len(reasons) else "closed"
        lost.set_result(f"{LOCAL}: the connection ended: {why}")

    connection = _awaited(lambda: libvirt.open(LOCAL), late)
    reports = _Reports(notify)

    try:
        connection.registerCloseCallback(closed, None)
        connection.setKeepAlive(*KEEPALIVE)
        connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, changed, None
        )
        connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, noted, None
        )
        listed = _awaited(lambda: _listing(connection), late)
        for domain, guest in listed:
            reports.follow(domain, guest)
        notify({"kind": transitions.LISTING, "guests": [guest for _, guest in listed]})
        yield lost
    finally:
        reports.close()
        in_thread(lambda: _disconnect(connection))


def _disconnect(connection: Any) -> None:
    with contextlib.suppress(load_libvirt().libvirtError):
        connection.unregisterCloseCallback()
    connection.close()


class _Reports:
    """Reports one after the other, in their order, and that a migration's job left a guest paused.

    They are made in a thread, not in libvirt's callbacks, which must not wait for a response.
    """

    def __init__(self, notify: Callable[[dict[str, Any]], None]) -> None:
        self._notify, self._is_closed = notify, False
        self._waiting: queue.SimpleQueue[tuple[Any, _Report]] = queue.SimpleQueue()
        self._migrating: dict[str, Any] = {}
        in_thread(self._work)

    def put(self, domain: Any, report: _Report) -> None:
        """Have a report on a guest made and notified, unless it is None."""
        self._waiting.put((domain, report))

    def follow(self, domain: Any, guest: dict[str, Any]) -> None:
        """Look again at a guest that is paused for migration, until its job is over."""
        self._migrating.pop(guest["uuid"], None)
        if guest["how"] == transitions.MIGRATING:
            self._migrating[guest["uuid"]] = domain

    def close(self) -> None:
        """Drop what is left: what is listed next is newer."""
        self._is_closed = True
        self._waiting.put((None, lambda: None))

    def _work(self) -> None:
        due = time.monotonic() + JOB_INTERVAL
        while not self._is_closed:
            with contextlib.suppress(queue.Empty):
                self._report(*self._waiting.get(timeout=max(0.0, due - time.monotonic())))
            if time.monotonic() >= due:
                self._look_again()
                due = time.monotonic() + JOB_INTERVAL

    def _look_again(self) -> None:
        for domain in [*self._migrating.values()]:
            self._report(domain, functools.partial(_left_paused, domain))

    def _report(self, domain: Any, make: _Report) -> None:
        with contextlib.suppress(Exception):
            report = make()
            if report is not None and not self._is_closed:
                self.follow(domain, report)
                self._notify(report)


def _listing(connection: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Return every guest and its state, in one round trip."""
    libvirt = load_libvirt()
    how = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    reported = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, how)
    return [(domain, _listed(domain, stats)) for domain, stats in reported]


def _listed(domain: Any, stats: dict[str, Any]) -> dict[str, Any]:
    state, reason = stats.get("state.state", 0), stats.get("state.reason", 0)
    return {
        **_named(domain),
        "active": domain.ID() >= 0,
        "state": STATES.get(state, ""),
        "how": _how(domain, reason_text(state, reason)),
    }


def _marked(domain: Any, named: dict[str, Any]) -> dict[str, Any] | None:
    """Return why a paused guest is paused, now that its mark of a handover was set or removed."""
    if reason_text(*domain.state()) != transitions.BY_USER:
        return None
    found = {"kind": transitions.CHANGE, "what": transitions.PAUSED, **named}
    return {**found, "how": _how(domain, transitions.BY_USER)}


def _left_paused(domain: Any) -> dict[str, Any] | None:
    """Return that a guest is paused although no job is active that would resume it."""
    # The state after the job: without a job, no migration changes it.
    if active_job(domain) or reason_text(*domain.state()) != transitions.MIGRATION:
        return None
    found = {"kind": transitions.CHANGE, "what": transitions.PAUSED, **_named(domain)}
    return {**found, "how": transitions.MIGRATION}


def _how(domain: Any, how: str) -> str:
    """Return why a guest is paused: a copy that waits for its handover has a mark.

    One that is paused for migration is taken to migrate, until it is seen that it has no job.
    """
    if how == transitions.MIGRATION:
        return transitions.MIGRATING
    if how != transitions.BY_USER:
        return how
    try:
        return transitions.HANDOVER if mark_on(domain) else how
    except load_libvirt().libvirtError:
        return how


def _named(domain: Any) -> dict[str, Any]:
    return {"uuid": domain.UUIDString(), "name": domain.name(), "run": domain.ID()}


def _awaited(call: Callable[[], _T], late: Callable[[], None]) -> _T:
    """Wait for a call for as long as it takes; report once if it exceeds the time limit."""
    future = in_thread(call)
    try:
        return future.result(TIME_LIMIT)
    except concurrent.futures.TimeoutError:
        late()
    return future.result()


def _run_loop() -> None:
    """Run libvirt's event loop in a thread, for connections that are made afterwards."""
    with _STARTING:
        _loop()


@functools.cache
def _loop() -> None:
    libvirt = load_libvirt()
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    in_thread(run)
