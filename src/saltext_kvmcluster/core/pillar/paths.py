"""Paths in the pillar: where definitions and the cluster key may be."""

from __future__ import annotations

import fnmatch
import posixpath
import re

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.validate import shown

EVERYDAY_KEYS = ("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk")
TAKEN_NAMES = (
    *("authorized_keys", "authorized_keys2", "known_hosts", "config", "environment", "rc"),
    *("kvmcluster_known_hosts", "kvmcluster_config", "ssh_host_*", "*.pub"),
)
TAKEN_FOLDERS = (
    *("/boot", "/dev", "/etc/ssh", "/proc", "/run", "/sys", "/tmp"),
    *("/var/lock", "/var/run", "/var/tmp"),
)
SYSTEM_FOLDERS = ("/boot", "/dev", "/proc", "/run", "/sys")
_PATH = re.compile(r"/[A-Za-z0-9_./@+-]+\Z")


def definition_path(value: object, path: str) -> str:
    """Return an absolute path for definitions; libvirt's own folder must never be shared."""
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise InputError(f"{path}: want an absolute path, got {shown(value)}{_home(value)}")
    _no_detour(value, path)
    wanted = posixpath.normpath(value)
    wanted = wanted[1:] if wanted.startswith("//") else wanted
    for folder in ("/etc/libvirt", *SYSTEM_FOLDERS):
        if f"{wanted}/".startswith(f"{folder}/"):
            raise InputError(
                f"{path}: {shown(wanted)} is in {folder}, which belongs to one host alone; choose"
                " a folder on storage that every node mounts"
            )
    return wanted


def lease_path(value: object, path: str) -> str:
    """Return the folder of leases; libvirt's configuration takes no quotation mark in it."""
    wanted = definition_path(value, path)
    if not _PATH.match(wanted) or posixpath.dirname(wanted) == "/":
        raise InputError(
            f"{path}: want a folder below a mount point, of letters, digits and './_@+-',"
            f" got {shown(value)}"
        )
    return wanted


def key_path(value: object, path: str) -> str:
    if not isinstance(value, str) or not _PATH.match(value):
        raise InputError(
            f"{path}: want an absolute path of letters, digits and './_@+-', got {shown(value)}"
            f"{_home(value)}"
        )
    _no_detour(value, path)
    if "//" in value or value.endswith("/"):
        raise InputError(
            f"{path}: want the path of a file, without '//' and without '/' at its end,"
            f" got {shown(value)}"
        )
    _not_taken(value, path)
    return value


def _no_detour(value: str, path: str) -> None:
    """Raise InputError for '.' and '..': over a link, they lead elsewhere than they read."""
    if {".", ".."} & set(value.split("/")):
        raise InputError(f"{path}: want a path without '.' and '..', got {shown(value)}")


def _home(value: object) -> str:
    return "; write the home out, as /root" if str(value)[:1] == "~" else ""


def _not_taken(wanted: str, path: str) -> None:
    """Raise InputError if that path belongs to another key or to another program."""
    folder, name = posixpath.split(wanted)
    if name in EVERYDAY_KEYS:
        raise InputError(
            f"{path}: {wanted} is a login's everyday key; the cluster needs a key of its own,"
            f" such as {posixpath.join(folder, 'id_rsa_cluster')}"
        )
    for taken in TAKEN_FOLDERS:
        if f"{wanted}/".startswith(f"{taken}/"):
            raise InputError(
                f"{path}: {shown(wanted)} is in {taken}, which is the system's or does not last;"
                " choose a place in the login's home, such as ~/.ssh/id_rsa_cluster, written out"
            )
    if any(fnmatch.fnmatchcase(name, taken) for taken in TAKEN_NAMES):
        raise InputError(
            f"{path}: {shown(wanted)} has the name of a file that ssh or this project keeps;"
            " choose another name, such as id_rsa_cluster"
        )
