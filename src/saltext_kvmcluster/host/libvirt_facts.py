"""The facts of a libvirt daemon and its guests, for the checks: few round trips, much at once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.migration import Run
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.host import leaving
from saltext_kvmcluster.host.libvirt_connection import (
    LOCAL,
    Connection,
    ask_qemu,
    error_text,
    load_libvirt,
)
from saltext_kvmcluster.host.libvirt_domains import (
    marked,
    observe_active,
    reason_text,
    sighting_of,
)

# libvirt's virSecretUsageType.
_USAGES = ("", "volume", "ceph", "iscsi", "tls", "vtpm")


class Facts(Connection):
    """A connection to one libvirt daemon that reports the facts of its guests."""

    def __init__(self, uri: str = LOCAL) -> None:
        super().__init__(uri)
        self._capabilities = ""

    def daemon(self) -> dict[str, Any]:
        """Return the daemon's facts of itself and its host, in seven round trips.

        ``capabilities`` as XML, ``networks``: the names of the active ones, ``filters``: those of
        its network filters, ``qemu``: the version as a number, 0 if it has none, ``libvirt``: the
        daemon's own, in the same way. The drivers of networks and filters are packages and daemons
        of their own, without which guests run: ``drivers`` says why one lists nothing. One that the
        daemon does not have lists none; of one that fails, the names are missing.
        ``secrets``: what is known of each secret without its value, missing if they are not known.
        """

        def verb(found: Any) -> dict[str, Any]:
            return {
                "capabilities": found.getCapabilities(),
                "qemu": qemu_version(found),
                "libvirt": found.getLibVersion(),
            }

        reported = self._ask(verb)
        self._capabilities = reported["capabilities"]
        active = load_libvirt().VIR_CONNECT_LIST_NETWORKS_ACTIVE
        listings: dict[str, Callable[[Any], Iterable[Any]]] = {
            "networks": lambda found: found.listAllNetworks(active),
            "filters": lambda found: found.listAllNWFilters(),
        }
        drivers = {}
        for subject, listing in listings.items():
            try:
                names, detail = self._ask(functools.partial(_names, listing))
            except WorldError as error:
                drivers[subject] = str(error)
                continue
            reported[subject] = names
            if detail:
                drivers[subject] = detail
        with contextlib.suppress(WorldError):
            reported["secrets"] = self._ask(_secrets)
        return {**reported, "drivers": drivers}

    def guests(
        self, matters: Callable[[str, str, Mapping[str, Any]], bool] | None = None
    ) -> list[dict[str, Any]]:
        """Return the daemon's facts of every guest: three round trips, and four per active guest.

        Of an inactive guest name, UUID, state, size, disks and autostart; of an active one also
        its definition, the persistent one if it has that, and its job.

        matters
            Whether the definition and job of an active guest are needed, by its name, its UUID,
            and libvirt's statistics, which then list all layers of its disks. None for all guests.
        """
        libvirt = load_libvirt()
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
        # Neither active nor defined; see libvirt_domains.observe.
        left = (
            libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE | libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT
        )
        starting, leftovers, reported = self._ask(
            lambda found: (
                _uuids(found.listAllDomains(own)),
                _uuids(found.listAllDomains(left)),
                found.getAllDomainStats(groups, how),
            )
        )

        def is_close(domain: Any, stats: Mapping[str, Any]) -> bool:
            return matters is None or matters(domain.name(), domain.UUIDString(), stats)

        guests = [
            self._guest(domain, stats, starting, is_close(domain, stats))
            for domain, stats in reported
            if not (domain.UUIDString() in leftovers and _is_off(stats))
        ]
        return [guest for guest in guests if guest]

    def _guest(
        self, domain: Any, stats: Mapping[str, Any], starting: Collection[str], close: bool
    ) -> dict[str, Any] | None:
        """Return the facts of one guest, None if it has disappeared in the meantime."""
        state, reason = stats.get("state.state", 0), stats.get("state.reason", 0)
        sighting = sighting_of(state, reason)
        if sighting is Sighting.PAUSED_BY_USER:
            sighting = self._waiting(domain)
        observation = Observation(sighting, domain.name(), domain.UUIDString(), persistent=True)
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
            "reason": "handover"
            if observation.sighting is Sighting.WAITING
            else reason_text(state, reason),
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

    def _waiting(self, domain: Any) -> Sighting:
        """Return the sighting of a guest that looks as if its user had paused it."""
        try:
            return self._ask(lambda found: marked(domain, Sighting.PAUSED_BY_USER)[0])
        except WorldError:
            return Sighting.PAUSED_OTHERWISE

    def _closer(
        self, domain: Any, observation: Observation, state: int, reason: int
    ) -> tuple[Observation, int, int, dict[str, Any]]:
        """Observe an active guest in detail; one that hangs does not hide the others.

        observation, state, reason
            What is known of it without its response.
        """
        uuid = observation.uuid

        def verb(found: Any) -> tuple[Observation, int, int, dict[str, Any]]:
            # A guest that hangs may block the others on the same connection.
            there = domain if domain.connect() is found else found.lookupByUUIDString(uuid)
            observed, state, reason, more = observe_active(there)
            if self.uri == LOCAL and observed.sighting is Sighting.PAUSED_BY_USER:
                more = {**more, **_run(there)}
            return observed, state, reason, more

        try:
            return self._ask(verb)
        except WorldError as error:
            self._ask(lambda found: found.getLibVersion())
            known = replace(observation, persistent=False, job=verdicts.ENDLESS)
            return known, state, reason, {"error": str(error)}


def run_of(domain: Any) -> Run:
    """Return what is known of the run of a paused guest's QEMU on this host.

    Only QEMU knows whether a guest has run since it arrived: until then it has no permission to
    write to its disks, or to read those that it only reads (block.c, bdrv_inactivate_recurse).
    """
    if not leaving.has_arrived(leaving.process_of(domain.name(), domain.UUIDString())):
        return Run()
    version = ask_qemu(domain, "query-version")["qemu"]
    edges = ask_qemu(domain, "x-debug-query-block-graph")["edges"]
    stands = any(edge["name"] == "root" and not edge["perm"] for edge in edges)
    return Run(stands, version["major"] * 1_000_000 + version["minor"] * 1000 + version["micro"])


def _run(domain: Any) -> dict[str, Any]:
    """Return the run of a paused guest as plain data; nothing if its QEMU does not tell."""
    try:
        found = run_of(domain)
    except (WorldError, load_libvirt().libvirtError):
        return {}
    return {"run": {"stands": found.stands_since_arrival, "qemu": found.qemu}}


def _names(listing: Callable[[Any], Iterable[Any]], connection: Any) -> tuple[list[str], str]:
    """Return the names of what a driver lists, and libvirt's message if it has no such driver."""
    libvirt = load_libvirt()
    try:
        return [item.name() for item in listing(connection)], ""
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return [], error_text(error)


def _is_off(stats: Mapping[str, Any]) -> bool:
    state, reason = stats.get("state.state", 0), stats.get("state.reason", 0)
    return sighting_of(state, reason) is Sighting.SHUT_OFF


def _uuids(domains: Iterable[Any]) -> set[str]:
    return {domain.UUIDString() for domain in domains}


def _secrets(connection: Any) -> list[dict[str, Any]]:
    """Return the secrets of a daemon: what a list of them holds, so never a value."""
    fleeting = load_libvirt().VIR_CONNECT_LIST_SECRETS_EPHEMERAL
    found = connection.listAllSecrets()
    lost = {secret.UUIDString() for secret in connection.listAllSecrets(fleeting)} if found else ()
    return [
        {
            "uuid": secret.UUIDString(),
            "kind": _USAGES[secret.usageType()] if secret.usageType() < len(_USAGES) else "",
            "usage": secret.usageID() or "",
            "ephemeral": secret.UUIDString() in lost,
        }
        for secret in found
    ]


def qemu_version(connection: Any) -> int:
    """Return the version of a daemon's QEMU as a number, 0 if it has none."""
    try:
        return int(connection.getVersion())
    except load_libvirt().libvirtError:
        return 0
