"""The cluster key of this host: read, or created."""

from __future__ import annotations

import contextlib
import os
import stat

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.paths import EVERYDAY_KEYS
from saltext_kvmcluster.core.trust import keyfile, sshd
from saltext_kvmcluster.core.trust.keyfile import RSA_BITS, KeyFile
from saltext_kvmcluster.host import accounts, commands, descriptors, files


def cluster_key(cluster: Cluster) -> tuple[str, sshd.Account]:
    """Return the path of the cluster key, and the account that it is for."""
    account = accounts.account(cluster.ssh.login)
    return keyfile.key_path(cluster, account.home), account


def key_file(path: str, account: sshd.Account) -> KeyFile:
    """Return the state of the private key at ``path``."""
    beside = files.read(f"{path}.pub", account.login).text
    try:
        found = os.stat(path)
    except FileNotFoundError:
        link = os.readlink(path) if os.path.islink(path) else None
        return KeyFile(path, exists=False, public_file=beside, link=link)
    except OSError as error:
        raise WorldError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise WorldError(f"{path} is not a regular file; move it away")
    public, detail = public_half(path)
    return KeyFile(
        path,
        exists=True,
        mode=found.st_mode & 0o7777,
        owner=descriptors.owner_name(found.st_uid),
        public=public,
        public_file=beside,
        encrypted=public is None and "passphrase" in detail,
        error=detail,
        everyday=_everyday(path, public or beside, account),
        link=os.path.realpath(path) if os.path.islink(path) else None,
    )


def make_key(path: str, key_type: str, comment: str, login: str) -> None:
    """Create a key pair without a passphrase for a login; an existing file is never replaced.

    The pair is created in a folder of root's, and moved to its path when complete.
    """
    files.ensure_folder(os.path.dirname(path), login)
    with files.workshop() as workshop:
        made = os.path.join(workshop, "key")
        size = ["-b", str(RSA_BITS)] if key_type == "rsa" else []
        commands.checked(
            ["ssh-keygen", "-q", "-t", key_type, *size, "-N", "", "-C", comment, "-f", made], 120
        )
        for source, target, mode in ((made, path, 0o600), (f"{made}.pub", f"{path}.pub", 0o644)):
            text = files.read(source).text or ""
            files.create(FilePlan(target, text, mode, login, {}))


def public_half(path: str) -> tuple[str | None, str]:
    """Return the public half of a private key without a passphrase, or None and the error."""
    outcome = commands.run(["ssh-keygen", "-y", "-P", "", "-f", path])
    public = outcome.stdout.strip() if outcome.code == 0 else None
    return public, outcome.stderr.strip().rpartition("\n")[2]


def _everyday(path: str, public: str | None, account: sshd.Account) -> str | None:
    """Return the everyday key that is the same file or has the same public half."""
    for name in EVERYDAY_KEYS:
        everyday = os.path.join(account.home, ".ssh", name)
        if not os.path.isfile(everyday):
            continue
        if os.path.samefile(everyday, path):
            return everyday
        theirs = None
        with contextlib.suppress(WorldError):
            theirs = files.read(f"{everyday}.pub", account.login).text
        theirs = theirs or public_half(everyday)[0]
        if public and theirs and theirs.split()[:2] == public.split()[:2]:
            return everyday
    return None
