"""Whether two nodes see the same storage."""

from __future__ import annotations

from collections.abc import Mapping

from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.storage.location import Location, quoted


def difference(here: Location, there: Location) -> Issue | None:
    """Return why two nodes are not known to see the same storage, None if they do.

    Of file systems, only a contradiction is found here; a fresh token proves them.
    """
    if here.kind == there.kind == "none":
        return None
    if here.kind != there.kind:
        return Issue(
            f"it is {here.kind} on the source and {there.kind} on the destination",
            "present the same storage to both, under the same path",
        )
    if here.identity and there.identity and here.identity != there.identity:
        return Issue(
            f"the source sees {quoted(here.identity)}, the destination {quoted(there.identity)}",
            "present the same storage to both; device names may differ from node to node: use one"
            " from /dev/disk/by-id",
        )
    if here.folder and there.folder:
        return None
    if not here.identity or not there.identity:
        return unknown(
            f"nothing proves that this {here.kind} is the same one on both nodes",
            _PROOFS.get(here.kind, "use storage that shows the same identity on every node"),
        )
    return _connected(here, there)


def _connected(here: Location, there: Location) -> Issue | None:
    if here.ends is None or there.ends is None:
        return None
    if any((other, own) in there.ends for own, other in here.ends):
        return None
    if here.ends and there.ends:
        return Issue(
            f"both nodes have {quoted(here.identity)}, but are not connected to each other",
            "check 'drbdadm status' on both; give different resources different names",
        )
    return unknown(
        f"not known which node {quoted(here.identity)} is connected to",
        "make sure that 'drbdsetup show' works on both nodes",
    )


_PROOFS: Mapping[str, str] = {
    "lun": "give the LUN a WWN on its target; check 'lsblk -o NAME,WWN'",
    "partition": "give the LUN a WWN and a partition table with UUIDs; check 'lsblk -o +PARTUUID'",
    "rbd": "name the monitors in the definition, or map the image with Ceph's udev rules installed",
    "drbd": "make sure that 'drbdsetup show' works on both nodes",
}
