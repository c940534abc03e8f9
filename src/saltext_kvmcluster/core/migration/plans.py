"""How libvirt is to do a migration: its flags, its connection and its parameters."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.pillar.options import (
    NO_COMPRESSION,
    PARALLEL_COMPRESSIONS,
    Options,
)


@dataclass(frozen=True)
class Plan:
    """How libvirt is to do it.

    ``flags`` and ``parameters``: by libvirt's names, less VIR_MIGRATE_ and VIR_MIGRATE_PARAM_.
    """

    flags: tuple[str, ...]
    connection: str
    parameters: Mapping[str, str | int | float]


def plan(
    cluster: Cluster,
    destination: Node,
    options: Options,
    persistent: bool,
    address: str,
    copy: str = "",
) -> Plan:
    """Return how libvirt is to migrate a guest.

    persistent
        Whether the source keeps a definition of it.
    address
        The address of the destination's migration name on the source. The destination listens
        only there: by default it would listen on all its networks.
    copy
        The definition of a copy that is to wait for a strict handover; empty for none.
    """
    return Plan(
        flags=(
            "PEER2PEER",
            *_option_flags(options),
            *(("PAUSED",) if copy else ()),
            *_definition_flags(persistent, cluster.guests.definitions),
        ),
        connection=connection_uri(cluster.ssh.login, destination),
        parameters={
            **_address(options, destination, address),
            **_parameters(options),
            **({"DEST_XML": copy} if copy else {}),
        },
    )


def least_libvirt(options: Options) -> int:
    """Return the version of libvirt, on both nodes, that the options take; 0 for any.

    9.4.0 has zlib and zstd (its NEWS.rst); an older destination refuses them once it is asked.
    """
    return 9_004_000 if options.compression in PARALLEL_COMPRESSIONS else 0


def dies_of_resumption(libvirt: int) -> bool:
    """Whether a destination's daemon of this version dies when a post-copy migration is resumed.

    A regression of libvirt 11.2.0, mended in 11.4.0 (NEWS.rst of 11.4.0).
    """
    return 11_002_000 <= libvirt < 11_004_000


def connection_uri(login: str, node: Node, name: str = "") -> str:
    """Return the URI of a peer's libvirt; ``no_tty``: ssh must not ask for a password.

    name
        The name by which to reach it; its migration name if empty.
    """
    return f"qemu+ssh://{login}@{_in_uri(name or node.migration)}/system?no_tty=1"


def _option_flags(options: Options) -> tuple[str, ...]:
    wanted = {
        "LIVE": options.live,
        "TUNNELLED": options.tunnelled,
        "PARALLEL": options.parallel,
        "COMPRESSED": options.compression != NO_COMPRESSION,
        # A paused guest needs no throttle.
        "AUTO_CONVERGE": options.auto_converge and options.live,
        "POSTCOPY": options.post_copy,
        "TLS": options.tls,
    }
    return tuple(flag for flag, is_wanted in wanted.items() if is_wanted)


def _address(options: Options, destination: Node, address: str) -> dict[str, str]:
    """Return where memory is sent; a tunnelled migration uses the connection."""
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
    # A definition left behind is a second one, which could be started.
    return ("PERSIST_DEST", "UNDEFINE_SOURCE")


def _in_uri(name: str) -> str:
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return name
    return f"[{name}]"
