"""How a migration is to be done, in our own words: defaults of the pillar, or of one call."""

from __future__ import annotations

from dataclasses import dataclass

COMPRESSIONS = ("none", "xbzrle", "zlib", "zstd")


@dataclass(frozen=True)
class Options:
    """How to migrate a guest.

    ``live``: it runs on while its memory is copied; otherwise it is paused for all of the copying.
    ``bandwidth``: MiB/s, 0 for no limit. ``downtime``: the milliseconds that it may stand still at
    the switch. ``timeout``: the seconds after which the migration is ended one way or the other.
    ``parallel``: connections for its memory, 0 for the usual single one. ``compression``: one of
    COMPRESSIONS. ``auto_converge``: QEMU may throttle its CPUs. ``post_copy``: it may be switched
    over before all of its memory is there. ``tls``: its memory is encrypted. ``tunnelled``: its
    memory goes through the ssh connection.
    """

    live: bool = True
    bandwidth: int = 0
    downtime: int = 500
    timeout: float = 3600.0
    parallel: int = 0
    compression: str = "none"
    auto_converge: bool = True
    post_copy: bool = False
    tls: bool = False
    tunnelled: bool = False
