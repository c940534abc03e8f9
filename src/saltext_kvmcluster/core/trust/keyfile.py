"""Whether the file at the cluster key's path can be the cluster key."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster
from saltext_kvmcluster.core.pillar.ssh import KEY_TYPES
from saltext_kvmcluster.core.trust.identity import PublicKey, parse_cluster_key

PILLAR_PATH = f"{ROOT}:ssh:key"
RSA_BITS = 4096
"""The size of the RSA keys that are made."""


@dataclass(frozen=True)
class KeyFile:
    """A private key as it was found.

    ``public`` is derived from the private key itself, ``public_file`` is the text of the .pub file;
    ``error`` says why the first is None, ``everyday`` is the everyday key that is the same one,
    ``link`` the target of ``path`` if it is a symbolic link.
    """

    path: str
    exists: bool
    mode: int | None = None
    owner: str | None = None
    public: str | None = None
    public_file: str | None = None
    encrypted: bool = False
    error: str | None = None
    everyday: str | None = None
    link: str | None = None


def key_path(cluster: Cluster, home: str) -> str:
    """Return the cluster key's path: the pillar's or the default in the login's home."""
    return cluster.ssh.key or posixpath.join(home, ".ssh", f"id_{cluster.ssh.key_type}_cluster")


def creation_problem(found: KeyFile) -> str | None:
    """Return why a missing key cannot be created, and what to do, or None."""
    if found.link:
        return (
            f"{PILLAR_PATH}: {found.path} is a link to {found.link}, which does not exist;"
            f" {_away(found)}"
        )
    if found.public_file is not None:
        return (
            f"{PILLAR_PATH}: {found.path}.pub exists without its private key; restore the"
            f" private key, or let this state create a new pair: {_away(found)}"
        )
    return None


def key_problem(found: KeyFile, cluster: Cluster) -> str | None:
    """Return what is wrong with an existing key and what to do, or None if it is valid."""
    problem = (
        _another_key(found, cluster.ssh.login)
        or _no_key(found, cluster)
        or _access_problem(found, cluster.ssh.login)
        or _public_problem(found, cluster)
    )
    return f"{PILLAR_PATH}: {problem}" if problem else None


def parsed(found: KeyFile, cluster: Cluster) -> PublicKey:
    """Return the public key of a key that is valid; InputError if it is invalid or missing."""
    if not found.exists:
        raise InputError(
            f"{PILLAR_PATH}: {found.path} does not exist; apply the state kvmcluster.key_present"
        )
    problem = key_problem(found, cluster)
    if problem:
        raise InputError(problem)
    return parse_cluster_key(_stripped(found.public or ""))


def _another_key(found: KeyFile, login: str) -> str | None:
    if found.everyday:
        return (
            f"{found.path} is {login}'s everyday key ({found.everyday}); the cluster needs a key of"
            f" its own, which this state creates: {_away(found)}"
        )
    if found.link and found.owner != login and _is_key(found):
        return (
            f"{found.path} is a link to {found.link}, which belongs to {found.owner}; this state"
            f" creates a key that belongs to {login}: {_away(found)}"
        )
    return None


def _no_key(found: KeyFile, cluster: Cluster) -> str | None:
    """Return why a file is not, or may not be, a private key: then it is left unchanged.

    The default path is the cluster key's alone, so a damaged file there may be moved.
    """
    if _is_key(found):
        return None
    if _unread(found):
        return (
            f"{found.path} has mode {found.mode or 0:04o}, so ssh-keygen does not read it; if it is"
            f" not a private key, choose another path in {PILLAR_PATH}; if it is one, run:"
            f" chmod 600 {found.path}"
        )
    if cluster.ssh.key is None:
        return (
            f"{found.path} cannot be read as a private key ({found.error}); this state creates"
            f" a new one: {_away(found)}"
        )
    return f"{found.path} is not a private key; choose another path in {PILLAR_PATH}"


def _is_key(found: KeyFile) -> bool:
    """Whether a file was read as a private key, or one beside its public half was not read."""
    beside = found.public_file is not None and _unread(found)
    return found.public is not None or found.encrypted or beside


def _unread(found: KeyFile) -> bool:
    """Whether ssh-keygen refused the file for its mode, without reading it."""
    return found.public is None and "bad permissions" in (found.error or "")


def _access_problem(found: KeyFile, login: str) -> str | None:
    path = found.path
    if found.owner != login:
        return f"{path} belongs to {found.owner}; run: chown {login}: {path}"
    if found.mode is not None and found.mode & 0o077:
        return f"{path} has mode {found.mode:04o}, other accounts can use it; run: chmod 600 {path}"
    if found.encrypted:
        return (
            f"{path} has a passphrase; unattended logins would fail: remove it with"
            f" 'ssh-keygen -p -N \"\" -f {path}', or let this state create a new key:"
            f" {_away(found)}"
        )
    return None


def _public_problem(found: KeyFile, cluster: Cluster) -> str | None:
    try:
        key = parse_cluster_key(_stripped(found.public or ""))
    except InputError as error:
        return f"{found.path}: {error}; this state creates a valid key: {_away(found)}"
    if key.type != KEY_TYPES[cluster.ssh.key_type]:
        return (
            f"{found.path} is of type {key.type}, not {cluster.ssh.key_type} as in the pillar:"
            f" change kvmcluster:ssh:key_type, or let this state create a new key: {_away(found)}"
        )
    if found.public_file is not None and _stripped(found.public_file) != str(key):
        return (
            f"{found.path}.pub is not the public half of {found.path}, and ssh would offer the"
            f" wrong one; run: ssh-keygen -y -f {found.path} > {found.path}.pub"
        )
    return None


def _away(found: KeyFile) -> str:
    """Return the command that moves the present pair away, to keep it."""
    halves = [found.path] if found.exists or found.link else []
    halves += [f"{found.path}.pub"] if found.public_file is not None else []
    return "run: " + " && ".join(f"mv {half} {half}.old" for half in halves)


def _stripped(line: str) -> str:
    return " ".join(line.split(None, 2)[:2])
