"""One libvirt daemon, here or on a peer: queries, and what is done to its guests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import handover, migration
from saltext_kvmcluster.core.migration.migration import Host, Run
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.host.calls import in_thread
from saltext_kvmcluster.host.libvirt_connection import (
    LOCAL,
    ask_qemu,
    error_text,
    load_libvirt,
    version,
)
from saltext_kvmcluster.host.libvirt_cpu import cpu_issue, definition_issue, emulator_devices
from saltext_kvmcluster.host.libvirt_domains import (
    may_have_job,
    observe,
    persistent_definition,
    progress,
)
from saltext_kvmcluster.host.libvirt_facts import Facts, run_of

# What a migration may leave of a guest, unmarked.
_LEFT = (Sighting.PAUSED_FOR_MIGRATION, Sighting.PAUSED_BY_ERROR)
# QEMU's words for a guest whose migration it has not ended.
_NOT_FINALIZED = "Migration is not finalized yet"
# Seconds between a decision and what it leads to; what comes later is not done at all.
MOMENT = 5.0


class Hypervisor(Facts):
    """One libvirt daemon.

    Every method raises WorldError, with libvirt's message, if the daemon gives no response.
    """

    def __init__(self, uri: str = LOCAL) -> None:
        super().__init__(uri)
        self._ready: dict[str, Any] = {}

    def close(self, after: Sequence[Future[Any]] = ()) -> None:
        """Close the connection, as ``Connection``; the next daemon may have other capabilities."""
        self._capabilities = ""
        self._ready = {}
        super().close(after)

    def host(self) -> Host:
        """Return the host's UUID and name, by libvirt."""
        capabilities, name = self._ask(lambda found: (found.getCapabilities(), found.getHostname()))
        return Host(migration.host_uuid(capabilities), name)

    def names(self) -> list[str]:
        """Return the names of all guests."""
        return self._ask(lambda found: [domain.name() for domain in found.listAllDomains()])

    def by_name(self, name: str) -> Observation:
        """Observe the guest with exactly that name."""
        return self._ask(lambda found: observe(lambda: found.lookupByName(name)))

    def by_uuid(self, uuid: str) -> Observation:
        """Observe the guest with that UUID."""
        return self._ask(lambda found: observe(lambda: found.lookupByUUIDString(uuid)))

    def sight(self, uuid: str) -> Observation:
        """Observe a guest; no response from the daemon is an observation too."""
        try:
            return self.by_uuid(uuid)
        except WorldError as error:
            return Observation(Sighting.UNREACHABLE, detail=str(error))

    def migrate(self, uuid: str, plan: Plan) -> Future[None]:
        """Start a migration; return a future of its end.

        The daemon drives it: it continues if this process is killed. A daemon that hangs now does
        not start it later, when nothing monitors it. The future's exception, if any, is a
        WorldError with libvirt's message, which does not tell where the guest is.
        """

        def verb(found: Any) -> None:
            flags, parameters = _migration_arguments(plan)
            domain = found.lookupByUUIDString(uuid)
            domain.migrateToURI3(plan.connection, parameters, flags)

        return self._begin(verb)

    def progress(self, uuid: str) -> dict[str, Any]:
        """Return libvirt's statistics of the guest's active job, empty if it has none."""
        return self._ask(lambda found: progress(found.lookupByUUIDString(uuid)))

    def moving(self, job: str) -> dict[str, str]:
        """Return the names of the guests that are migrating out, or in, by UUID.

        job
            verdicts.OUTGOING or INCOMING.
        """
        libvirt = load_libvirt()
        active = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE

        reported = self._ask(
            lambda found: [
                domain.UUIDString()
                for domain, stats in found.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, active)
                if may_have_job(job, stats)
            ]
        )
        # Each in its own call: a guest that hangs blocks libvirt for as long as a call may last.
        observations = [self.by_uuid(uuid) for uuid in reported]
        return {
            observation.uuid: observation.name
            for observation in observations
            if observation.job == job
        }

    def set_downtime(self, uuid: str, milliseconds: int) -> None:
        """Set the maximum downtime of the active migration."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).migrateSetMaxDowntime(milliseconds))

    def start_post_copy(self, uuid: str) -> None:
        """Switch the active migration to post-copy; its flags must allow it."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).migrateStartPostCopy())

    def abort(self, uuid: str) -> None:
        """Abort the active job; libvirt refuses to in post-copy."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).abortJob())

    def create(self, definition: str, end: float) -> Future[None]:
        """Start a transient guest; return a future, as ``migrate`` does.

        end
            Deadline for the start, by the monotonic clock: a process that was suspended until
            then no longer holds the claim on the guest.
        """
        return self._begin(lambda found: _in_time(end, lambda: found.createXML(definition)))

    def boot(self, uuid: str, end: float) -> Future[None]:
        """Start a guest that is defined here; see ``create``."""

        def verb(found: Any) -> None:
            domain = found.lookupByUUIDString(uuid)
            _in_time(end, domain.create)

        return self._begin(verb)

    def press_power(self, uuid: str) -> None:
        """Press a guest's power button (ACPI); the guest decides what to do."""
        how = load_libvirt().VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        self._ask(lambda found: found.lookupByUUIDString(uuid).shutdownFlags(how))

    def press_reboot(self, uuid: str) -> None:
        """Press a guest's power button (ACPI) for a reboot: libvirt starts it anew once it is off.

        Its QEMU stays.
        """
        how = load_libvirt().VIR_DOMAIN_REBOOT_ACPI_POWER_BTN
        self._ask(lambda found: found.lookupByUUIDString(uuid).reboot(how))

    def reset(self, uuid: str) -> None:
        """Reset a guest at once, as by its reset button."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).reset())

    def destroy(self, uuid: str) -> None:
        """Power a guest off at once."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).destroy())

    def destroy_copy(self, uuid: str, mark: str) -> None:
        """Destroy a guest's copy that a migration left, with no active job; nothing else.

        That is one that is paused for migration or by an error, or that waits for the handover of
        which it has the mark.

        Observed and destroyed in one step, so that a guest that resumed in the meantime is safe
        however long this process was suspended.
        """
        end = time.monotonic() + MOMENT

        def verb(found: Any) -> None:
            domain = found.lookupByUUIDString(uuid)
            observation = observe(lambda: domain)
            waits = observation.sighting is Sighting.WAITING and observation.mark == mark
            if not (waits or observation.sighting in _LEFT) or observation.job:
                state = f"{observation.sighting.value} {observation.job}".rstrip()
                raise WorldError(f"not destroyed: it is now {state}")
            _in_time(end, domain.destroy)

        self._ask(verb)

    def migratable(self, uuid: str) -> str:
        """Return the definition of an active guest as a migration takes it for its destination."""
        libvirt = load_libvirt()
        how = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
        return str(self._ask(lambda found: found.lookupByUUIDString(uuid).XMLDesc(how)))

    def run(self, uuid: str) -> Run:
        """Return what is known of the run of a paused guest's QEMU on this host; see run_of."""
        return self._ask(lambda found: run_of(found.lookupByUUIDString(uuid)))

    def version(self) -> int:
        """Return the version of the libvirt daemon as a number, 9000000 for 9.0.0."""
        return int(self._ask(lambda found: found.getLibVersion()))

    def ready(self, uuid: str) -> Future[None]:
        """Begin to find a guest ahead of ``resume``, so that this takes one message."""

        def verb() -> None:
            try:
                if self._connection is None:
                    self._connection = load_libvirt().open(self.uri)
                self._ready[uuid] = self._connection.lookupByUUIDString(uuid)
            except load_libvirt().libvirtError as error:
                raise WorldError(f"{self.uri}: {error_text(error)}") from None

        return in_thread(verb)

    def resume(self, uuid: str, mark: str) -> Future[None]:
        """Begin to resume a copy; return a future. One that runs already is no error.

        mark
            Resume it only if it waits with this mark. Empty: without a look.
        """
        known, connection = self._ready.get(uuid), self._connection
        end = time.monotonic() + MOMENT

        def verb() -> None:
            try:
                found = connection or load_libvirt().open(self.uri)
                domain = known or found.lookupByUUIDString(uuid)
                if not mark or _may_resume(domain, mark):
                    _in_time(end, lambda: _let_run(domain))
            except load_libvirt().libvirtError as error:
                raise WorldError(f"{self.uri}: {error_text(error)}") from None

        return in_thread(verb)

    def resume_stopped(self, uuid: str) -> None:
        """Let a guest go on that its own migration has stopped, with no active job; nothing else.

        Observed and resumed in one step, as ``destroy_copy``.
        """
        end = time.monotonic() + MOMENT

        def verb(found: Any) -> None:
            domain = found.lookupByUUIDString(uuid)
            observation = observe(lambda: domain)
            if observation.sighting is Sighting.RUNNING:
                return
            if observation.sighting not in _LEFT or observation.job:
                state = f"{observation.sighting.value} {observation.job}".rstrip()
                raise WorldError(f"not resumed: it is now {state}")
            try:
                _in_time(end, domain.resume)
            except load_libvirt().libvirtError as error:
                if _NOT_FINALIZED not in str(error):
                    raise
                _cancel_left(domain)

        self._ask(verb)

    def unmark(self, uuid: str) -> None:
        """Remove the mark of a handover from a guest."""
        self.note(uuid, handover.NAMESPACE, None)

    def define(self, definition: str) -> None:
        """Define a guest, or redefine the one of its UUID and name; it is not started."""
        self._ask(lambda found: found.defineXML(definition))

    def undefine(self, uuid: str) -> None:
        """Undefine a guest; a running one becomes transient. Its nvram and TPM state stay."""
        libvirt = load_libvirt()
        kept = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        kept |= getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
        self._ask(lambda found: found.lookupByUUIDString(uuid).undefineFlags(kept))

    def autostart_off(self, uuid: str) -> None:
        """Disable a guest's autostart."""
        self._ask(lambda found: found.lookupByUUIDString(uuid).setAutostart(0))

    def note(self, uuid: str, namespace: str, text: str | None) -> None:
        """Set our element in a guest's metadata, live and persistent.

        None removes the element of that namespace.
        """
        libvirt = load_libvirt()

        def verb(found: Any) -> None:
            domain = found.lookupByUUIDString(uuid)
            live = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
            config = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            domain.setMetadata(kind, text, "kvmcluster", namespace, live | config)

        self._ask(verb)

    def described(self, uuid: str) -> str:
        """Return the definition of a guest; of an active one, the live definition."""
        return str(self._ask(lambda found: found.lookupByUUIDString(uuid).XMLDesc()))

    def definition_of(self, uuid: str) -> str:
        """Return a definition that can be defined again: the persistent one, if the guest has it.

        With its passwords, without which it could not be.
        """
        libvirt = load_libvirt()
        how = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        return str(self._ask(lambda found: found.lookupByUUIDString(uuid).XMLDesc(how)))

    def measured(self, uuid: str) -> dict[str, Any]:
        """Return libvirt's statistics of the guest's last completed job, empty if it has none."""
        libvirt = load_libvirt()
        flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
        return dict(self._ask(lambda found: found.lookupByUUIDString(uuid).jobStats(flags)))

    def definition(self, name: str) -> str:
        """Return the persistent definition of the guest with that name, empty if there is none."""
        return self._ask(lambda found: persistent_definition(lambda: found.lookupByName(name)))

    def cpu_issue(self, asked: Mapping[str, str]) -> str | None:
        """Return why this host cannot run a CPU, empty if it can, None if libvirt cannot tell.

        asked
            ``cpu`` as XML, ``emulator``, ``arch``, ``machine`` and ``type``; see
            virConnectCompareHypervisorCPU. It compares models and features, so a CPU that names no
            model (host-passthrough, maximum) is not compared.
        """
        if "<model" not in asked["cpu"]:
            return None
        known = self._capabilities
        return self._ask(lambda found: cpu_issue(found, asked, known or found.getCapabilities()))

    def emulator_devices(self, asked: Mapping[str, str]) -> dict[str, list[str]] | None:
        """Return which devices an emulator of this host has; see core.facts.emulators.parse."""
        text = self._capabilities
        return self._ask(lambda one: emulator_devices(one, asked, text or one.getCapabilities()))

    def definition_issue(self, text: str) -> str:
        """Return why libvirt of this host does not take a definition; see libvirt_cpu."""
        return self._ask(lambda found: definition_issue(found, text))


def _let_run(domain: Any) -> None:
    """Resume a guest; libvirt refuses that for one that runs already."""
    libvirt = load_libvirt()
    try:
        domain.resume()
    except libvirt.libvirtError:
        if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            raise


def _may_resume(domain: Any, mark: str) -> bool:
    """Whether a copy is to be resumed; False if it runs already."""
    observation = observe(lambda: domain)
    waits = observation.sighting is Sighting.WAITING and observation.mark == mark
    if observation.sighting is Sighting.RUNNING or (waits and not observation.job):
        return waits
    raise WorldError(f"not resumed: it is now {observation.sighting.value} {observation.job}")


def _migration_arguments(plan: Plan) -> tuple[int, dict[str, Any]]:
    """Return a plan's flags and parameters as libvirt wants them; WorldError if it is too old."""
    libvirt = load_libvirt()

    def known(name: str) -> Any:
        found = getattr(libvirt, name, None)
        if found is None:
            raise WorldError(
                f"libvirt-python for {sys.executable} is of libvirt {version(libvirt)}, which has"
                f" no {name}; install a newer one, or migrate without the option that needs it"
            )
        return found

    flags = sum(known(f"VIR_MIGRATE_{flag}") for flag in plan.flags)
    return flags, {known(f"VIR_MIGRATE_PARAM_{name}"): it for name, it in plan.parameters.items()}


def _in_time(end: float, verb: Callable[[], object]) -> None:
    if time.monotonic() >= end:
        raise WorldError("the deadline passed before the call; nothing was done")
    verb()


def _cancel_left(domain: Any) -> None:
    """Have QEMU give up a migration that libvirt has forgotten; the guest goes on with that.

    libvirt cancels it when it gives up, but not if QEMU does not respond in time, as while its disk
    is cut off; then QEMU waits for ever for the word to switch over.
    """
    ask_qemu(domain, "migrate_cancel")
    end = time.monotonic() + MOMENT
    while domain.state()[0] != load_libvirt().VIR_DOMAIN_RUNNING and time.monotonic() < end:
        time.sleep(0.1)
