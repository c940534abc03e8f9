"""How nodes log in to each other: what the pillar says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import networks
from saltext_kvmcluster.core.pillar.names import host_pattern
from saltext_kvmcluster.core.pillar.paths import key_path
from saltext_kvmcluster.core.pillar.schema import described, keys_of
from saltext_kvmcluster.core.validate import FLAG, LIST, one_of

KEY_TYPES = {"rsa": "ssh-rsa", "ed25519": "ssh-ed25519"}
ACCOUNT = "a Unix account's name"
MOST_DAYS = 36500
AGE = validate.whole(1, MOST_DAYS, "days")
UNSIGNED = ("accept", "refuse")
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")


@dataclass(frozen=True)
class Ssh:
    """How nodes log in to each other (pillar ``kvmcluster:ssh``)."""

    login: str = field(
        default="root",
        metadata=described(
            ACCOUNT,
            "The account to which peers log in. libvirt's daemon connects as root and logs in as"
            " this account.",
        ),
    )
    sudo: bool = field(
        default=False,
        metadata=described(
            FLAG,
            "true: with a login that is not root, what peers run over ssh is run by sudo, without a"
            " password. false: whatever on a peer needs root fails, and is named.",
        ),
    )
    key: str | None = field(
        default=None,
        metadata=described(
            "an absolute path",
            "The cluster key. It must not be the login's everyday key.",
            "~login/.ssh/id_rsa_cluster, or id_ed25519_cluster with key_type ed25519",
        ),
    )
    key_type: str = field(
        default="rsa", metadata=described(one_of(tuple(KEY_TYPES)), "rsa (4096 bits) or ed25519.")
    )
    host_patterns: tuple[str, ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Further ssh_config patterns for the Host block. Only needed to reach nodes by names"
            " that are not listed above; host keys are not pinned for such names.",
        ),
    )
    from_: tuple[str, ...] = field(
        default=(),
        metadata=described(
            LIST,
            "Addresses and networks, as 192.0.2.11 and 192.0.2.0/24, from which peers log in: the"
            " cluster's keys let nobody in from anywhere else. It has to cover every address that a"
            " name of a node has. Where addresses change, first give the old and the new ones.",
            "none, from anywhere",
        ),
    )
    exclusive: bool = field(
        default=False,
        metadata=described(
            FLAG, "true: authorized_keys2 contains the cluster's keys and nothing else."
        ),
    )
    manage_sshd: bool = field(
        default=False,
        metadata=described(
            FLAG,
            "true: if sshd does not read authorized_keys2 (RHEL, Fedora) or refuses the login, a"
            " drop-in in /etc/ssh/sshd_config.d changes that. false: the state fails and says what"
            " to do. The drop-in stays when this is set to false again; remove it by hand.",
        ),
    )
    unsigned: str = field(
        default="refuse",
        metadata=described(
            one_of(UNSIGNED),
            "accept: new keys of a node are taken over without the proof that it holds the private"
            " ones, for as long as it has an older release of this, or an OpenSSH before 8.1."
            " refuse: they are not; what is in place stays, and the state fails.",
        ),
    )
    key_age: int | None = field(
        default=None,
        metadata=described(
            AGE,
            "How old a cluster key may be until kvmcluster.status notes that it is to be replaced."
            " Its age is that of its file: since it was made, copied, or last changed.",
            "none, keys do not age",
        ),
    )

    @property
    def is_root(self) -> bool:
        """Whether what peers run over ssh is run as root."""
        return self.login == "root" or self.sudo

    @property
    def lacks_root(self) -> str:
        """Why nothing can be done that takes root on the peers; empty if it can."""
        if self.is_root:
            return ""
        return (
            f"it takes root on the peers, and their login is {self.login}: set kvmcluster:ssh:sudo"
            f" to true, once {self.login} may use sudo there (docs/login.md)"
        )

    @property
    def becomes_root(self) -> tuple[str, ...]:
        """The words ahead of what is run on a peer; as libvirt, sudo never asks for a password."""
        return ("sudo", "-n") if self.sudo else ()


def parse(raw: object, path: str) -> Ssh:
    """Return what the pillar says; ``raw`` is the value of the key at ``path``."""
    fields = validate.section(raw, path, keys_of(Ssh), may_be_empty=True)
    default = Ssh()
    key = fields.get("key")
    login = validate.matching(fields, "login", path, _LOGIN, ACCOUNT, default.login)
    sudo = validate.flag(fields, "sudo", path, default.sudo)
    if sudo and login == "root":
        raise InputError(
            f"{path}:sudo: the login is root, which needs no sudo; remove the key, or name another"
            f" login in {path}:login"
        )
    return Ssh(
        login=login,
        sudo=sudo,
        key=None if key is None else key_path(key, f"{path}:key"),
        key_type=validate.choice(fields, "key_type", path, tuple(KEY_TYPES), default.key_type),
        host_patterns=tuple(
            host_pattern(item, f"{path}:host_patterns")
            for item in validate.items(fields, "host_patterns", path)
        ),
        from_=networks.parse(validate.items(fields, "from", path), f"{path}:from"),
        exclusive=validate.flag(fields, "exclusive", path, default.exclusive),
        manage_sshd=validate.flag(fields, "manage_sshd", path, default.manage_sshd),
        key_age=None
        if fields.get("key_age") is None
        else validate.number(fields, "key_age", path, (1, MOST_DAYS), 0, "days"),
        unsigned=validate.choice(fields, "unsigned", path, UNSIGNED, default.unsigned),
    )
