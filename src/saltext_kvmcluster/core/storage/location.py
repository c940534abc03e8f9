"""Where a disk is, as one node sees it: the result of the rules on shared storage."""

from __future__ import annotations

from dataclasses import dataclass

from saltext_kvmcluster.core.text import printable

NOT_LISTED = "not on the list of shared storage"
MOVE_IT = "move it to a shared file system (GFS2, OCFS2, NFS, CephFS, GlusterFS) or a shared device"


@dataclass(frozen=True)
class Location:
    """Where a disk is, as one node sees it.

    ``kind`` names the storage (gfs2, nfs, lv, lun, drbd, rbd, ext4, …). ``fit`` says whether it is
    fit for live migration, None if that is not known, and ``why`` the reason. ``identity`` is equal
    on two nodes only if both see the same storage, empty where nothing proves it. ``folder`` is the
    mount point that a token proves, empty outside file systems. ``ends`` are the established
    connections of a DRBD volume, None for other storage: its name alone may mean another volume on
    another pair of nodes. ``peers`` are the host names of a DRBD volume's peers, where known.
    """

    kind: str
    fit: bool | None
    why: str
    identity: str = ""
    folder: str = ""
    ends: frozenset[tuple[str, str]] | None = None
    peers: frozenset[str] = frozenset()


def not_known(kind: str, path: str, why: str) -> Location:
    return Location(kind, None, f"the storage of {quoted(path)} is not known: {quoted(why)}")


def quoted(text: str) -> str:
    return printable(text[:200])
