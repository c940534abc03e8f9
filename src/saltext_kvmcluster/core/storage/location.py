"""Where a disk lies, as one node sees it, and what every rule on it shares."""

from __future__ import annotations

from dataclasses import dataclass

from saltext_kvmcluster.core.text import printable

NOT_LISTED = (
    'it is not on the list of shared storage: "If it is not in the above list, DO NOT USE IT"'
)
MOVE_IT = "move it to a shared file system (GFS2, OCFS2, NFS, CephFS, GlusterFS) or a shared device"


@dataclass(frozen=True)
class Location:
    """Where a disk lies, as one node sees it.

    ``kind`` names it (gfs2, nfs, lv, lun, drbd, rbd, ext4, …). ``fit`` is True, False, or None
    where it is not known; ``why`` is the sentence. ``identity`` is equal on two nodes only if
    both see the same storage, empty where nothing proves it. ``folder`` is the mount point that
    a token proves, empty for what is not in a file system. ``ends`` are the connections of a
    DRBD volume that are up, None for what is none: its name alone may mean another volume on
    another pair of nodes. ``peers`` are the host names of a DRBD volume's peers, where it tells.
    """

    kind: str
    fit: bool | None
    why: str
    identity: str = ""
    folder: str = ""
    ends: frozenset[tuple[str, str]] | None = None
    peers: frozenset[str] = frozenset()


def not_known(kind: str, path: str, why: str) -> Location:
    return Location(kind, None, f"where {quoted(path)} lies is not known: {quoted(why)}")


def quoted(text: str) -> str:
    return printable(text[:200])
