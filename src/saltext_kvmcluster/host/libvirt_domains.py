"""libvirt's facts of one domain: its state, its job, its definition."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.migration import handover
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.host.libvirt_connection import ask_qemu, load_libvirt

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
    4: ("shutting down", "shutting down"),
    6: ("crashed", "panicked"),
    7: ("asleep", "asleep"),
}


# VIR_DOMAIN_PAUSED_API_ERROR, which libvirt-python has since libvirt 9.2.
_PAUSED_API_ERROR = 14


def observe(find: Callable[[], Any]) -> Observation:
    """Observe a domain, which may disappear at any moment.

    Its job is read before its state: if no job was active, no job will change that state.

    One that is neither active nor defined is absent. libvirt 11.3 was seen to list such a one until
    its daemon was restarted: the copy of a migration whose QEMU it could not kill in time, since
    its storage hung.
    """
    libvirt = load_libvirt()
    try:
        domain = find()
        job = active_job(domain)
        state, reason = domain.state()
        sighting, mark = marked(domain, sighting_of(state, reason))
        job, persistent = lasting_job(job, state, reason), bool(domain.isPersistent())
        if sighting is Sighting.SHUT_OFF and not (persistent or job):
            return Observation(Sighting.ABSENT)
        return Observation(
            sighting,
            name=domain.name(),
            uuid=domain.UUIDString(),
            persistent=persistent,
            autostart=bool(domain.autostart()),
            job=job,
            saved=bool(domain.hasManagedSaveImage()),
            mark=mark,
            reason=reason_text(state, reason),
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Observation(Sighting.ABSENT)
        raise


def observe_active(domain: Any) -> tuple[Observation, int, int, dict[str, Any]]:
    """Observe a domain that was active in detail: job, state, definitions, and what blocks it."""
    libvirt = load_libvirt()
    try:
        job = active_job(domain)
        state, reason = domain.state()
        persistent = bool(domain.isPersistent())
        kept = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if persistent else ""
        reported = {"xml": domain.XMLDesc(), "kept": kept, "snapshots": domain.snapshotNum()}
        reported |= _blocking(domain, reported["xml"], job)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Observation(Sighting.ABSENT), 0, 0, {}
        raise
    found = handover.mark_of(reported["xml"])
    sighting = sighting_of(state, reason)
    if found and sighting is Sighting.PAUSED_BY_USER:
        sighting = Sighting.WAITING
    job = lasting_job(job, state, reason)
    observation = Observation(sighting, domain.name(), domain.UUIDString(), persistent, job=job)
    return observation, state, reason, reported


def _blocking(domain: Any, xml: str, job: str) -> dict[str, Any]:
    """Return what blocks a migration of a domain, and is not in its definition.

    Its QEMU is asked only if nothing else can tell, and while no job may delay its answer. Of the
    half that arrives libvirt would answer no question about its disks before the end, or 30 s.
    """
    try:
        guest = domainxml.parse(xml)
    except InputError:
        return {}
    disks = () if job == verdicts.INCOMING else guest.disks
    jobs = [disk.target for disk in disks if domain.blockJobInfo(disk.target)]
    found: dict[str, Any] = {"block_jobs": jobs}
    if guest.asks and not job:
        with contextlib.suppress(WorldError):
            found["refusals"] = ask_qemu(domain, "query-migrate").get("blocked-reasons", [])
    return found


def marked(domain: Any, sighting: Sighting) -> tuple[Sighting, str]:
    """Return a domain's sighting, and its mark if it is a copy that waits for its handover.

    By its state alone, such a copy looks like a guest that its user paused.
    """
    mark = mark_on(domain) if sighting is Sighting.PAUSED_BY_USER else ""
    return (Sighting.WAITING, mark) if mark else (sighting, "")


def mark_on(domain: Any) -> str:
    """Return the mark of a domain, empty if it has none."""
    libvirt = load_libvirt()
    kind, live = libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt.VIR_DOMAIN_AFFECT_LIVE
    try:
        return handover.mark(domain.metadata(kind, handover.NAMESPACE, live))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return ""
        raise


def persistent_definition(find: Callable[[], Any]) -> str:
    """Return the persistent definition of a domain, empty if it has none."""
    libvirt = load_libvirt()
    try:
        domain = find()
        if not domain.isPersistent():
            return ""
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return ""
        raise


def reason_text(state: int, reason: int) -> str:
    words = REASONS.get(state, ())
    return words[reason] if 0 <= reason < len(words) else ""


def sighting_of(state: int, reason: int) -> Sighting:
    libvirt = load_libvirt()
    running, paused = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED
    special = {
        (running, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY): Sighting.RUNNING_IN_POST_COPY,
        (running, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED): Sighting.RUNNING_IN_POST_COPY,
        (paused, libvirt.VIR_DOMAIN_PAUSED_USER): Sighting.PAUSED_BY_USER,
        (paused, libvirt.VIR_DOMAIN_PAUSED_MIGRATION): Sighting.PAUSED_FOR_MIGRATION,
        (paused, _PAUSED_API_ERROR): Sighting.PAUSED_BY_ERROR,
        (paused, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY): Sighting.PAUSED_IN_POST_COPY,
        (paused, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED): Sighting.PAUSED_IN_POST_COPY,
    }
    plain = {running: Sighting.RUNNING, libvirt.VIR_DOMAIN_SHUTOFF: Sighting.SHUT_OFF}
    return special.get((state, reason), plain.get(state, Sighting.PAUSED_OTHERWISE))


def active_job(domain: Any) -> str:
    """Return a domain's active job, empty if it has none.

    libvirt refuses the query on the receiving side, and while another operation holds the domain:
    those errors mean a job too.
    """
    libvirt = load_libvirt()
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
    """Return libvirt's errors that mean that only the sending side has statistics."""
    libvirt = load_libvirt()
    return libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_OPERATION_UNSUPPORTED


def may_have_job(job: str, stats: Mapping[str, Any]) -> bool:
    """Whether a guest in that state may have that job: an arriving guest is not just running."""
    state = sighting_of(stats.get("state.state", 0), stats.get("state.reason", 0))
    return job == verdicts.OUTGOING or state is not Sighting.RUNNING


def progress(domain: Any) -> dict[str, Any]:
    """Return the statistics of a domain's active job, empty if there are none.

    The receiving side has none.
    """
    libvirt = load_libvirt()
    try:
        found = dict(domain.jobStats())
    except libvirt.libvirtError as error:
        if error.get_error_code() in (*_arriving(), libvirt.VIR_ERR_NO_DOMAIN):
            return {}
        raise
    return {} if found.get("type") == libvirt.VIR_DOMAIN_JOB_NONE else found


def lasting_job(job: str, state: int, reason: int) -> str:
    """Return the active job, by the observed job and the state that was observed after it.

    A guest that is shut off can only have an operation that blocks libvirt: other jobs ended with
    it, and libvirt gives the same error as for an arriving guest. Only the state shows a start,
    and a broken post-copy migration, whose job stays.
    """
    libvirt = load_libvirt()
    if state == libvirt.VIR_DOMAIN_SHUTOFF and job != verdicts.ENDLESS:
        return ""
    if (state, reason) in (
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
    ):
        return verdicts.BROKEN
    begins = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
    return verdicts.BOOT if not job and (state, reason) == begins else job
