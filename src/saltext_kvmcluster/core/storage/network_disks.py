"""Which network disks are shared storage: those whose server every node reaches."""

from __future__ import annotations

import ipaddress
import re

from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.storage.inventory import (
    StorageFacts,
)
from saltext_kvmcluster.core.storage.location import MOVE_IT, NOT_LISTED, Location, quoted

_SHARED_PROTOCOLS = {
    "rbd": "rbd",
    "iscsi": "iscsi",
    "nbd": "nbd",
    "nfs": "nfs",
    "gluster": "glusterfs",
}
_READ_ONLY_PROTOCOLS = ("http", "https", "ftp", "ftps", "tftp")
_LOCAL_NAME = re.compile(
    r"(.*\.)?(localhost([46]?(\.localdomain[46]?)?)|ip6-localhost|ip6-loopback)"
)


def network_disk(source: Source, _: StorageFacts) -> Location:
    name = source.path.removeprefix(f"{source.protocol}:")
    shown = f"{quoted(name)} ({quoted(source.protocol)})"
    at = " ".join(sorted(source.hosts))
    own = [host for host in source.hosts if _is_loopback(host)]
    if source.protocol in _READ_ONLY_PROTOCOLS and not own:
        why = f"{shown} comes from a server and is read-only"
        return Location(source.protocol, True, why, f"{source.path} at {at}")
    kind = _SHARED_PROTOCOLS.get(source.protocol, "")
    if not kind:
        return Location(quoted(source.protocol), False, f"{shown} is {NOT_LISTED}; {MOVE_IT}")
    if own or (not source.hosts and kind != "rbd"):
        server = f"{quoted(own[0])}, which is each node itself" if own else "no server"
        why = f"{shown} names {server}; name its server by an address that every node reaches"
        return Location(kind, False, why)
    if not source.hosts:
        why = f"{shown} is served by the monitors of each node's own Ceph configuration"
        return Location(kind, True, why)
    return Location(kind, True, f"{shown} is served by {quoted(at)}", f"{source.path} at {at}")


def _is_loopback(host: str) -> bool:
    """Whether a server's name means this host itself: a loopback address or a local socket."""
    name = re.sub(r"\A\[([^\]]*)\](:\d*)?\Z|\A([^:]*):\d*\Z", r"\1\3", host).lower().rstrip(".")
    if name.startswith(("/", "unix")) or _LOCAL_NAME.fullmatch(name):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        # A C library takes 127.1, 2130706433 and 0x7f.1 for addresses, too.
        return not name or bool(re.fullmatch(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+))*", name))
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
