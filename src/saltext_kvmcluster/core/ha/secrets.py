"""Secrets of fence devices: a file of each node in place of a parameter in Pacemaker.

As ``cibsecret(8)`` keeps them: the parameter's value in the CIB is ``lrm://``, and the fencer
reads the value from a file below a folder of the resource's name, with its MD5 sum beside it.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import FileState
from saltext_kvmcluster.core.ha import content
from saltext_kvmcluster.core.pillar.clusters import ROOT
from saltext_kvmcluster.core.pillar.ha import Ha, Secret

FOLDER = "/var/lib/pacemaker/lrm/secrets"
OWNER = "hacluster"
SUM = ".sign"
"""What the name of the file with a secret's MD5 sum ends with."""
FEATURE = "cibsecrets"
LONGEST = 4096


@dataclass(frozen=True)
class Kept:
    """A secret that a node is to keep: from where, and the file it goes to."""

    device: str
    option: str
    secret: Secret

    @property
    def folder(self) -> str:
        return f"{FOLDER}/{content.device(self.device)}"

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.option}"

    @property
    def key(self) -> str:
        """The key of the pillar that names it."""
        return f"{ROOT}:ha:fencing:devices:{self.device}:secrets:{self.option}"


def kept(ha: Ha) -> tuple[Kept, ...]:
    """Return the secrets of all fence devices."""
    return tuple(
        Kept(device.name, option, secret)
        for device in ha.fencing.devices.values()
        for option, secret in device.secrets.items()
    )


def of_file(one: Kept, found: FileState) -> str:
    """Return a secret that is in a file of the node; InputError, without it, if it is none.

    A file that others than its owner may read is refused: it keeps nothing secret.
    """
    path = one.secret.file
    if found.text is None:
        raise InputError(f"{one.key}: this node has no file {path}")
    if (found.mode or 0) & 0o077:
        raise InputError(
            f"{one.key}: others may read {path} (mode {found.mode:04o}): chmod 600 {path}, and"
            " change the secret if somebody may have read it"
        )
    return valid(one, found.text)


def left_over(found: Iterable[str], ha: Ha) -> list[str]:
    """Return which files with secrets are of no fence device of the pillar any more.

    found
        The paths of the files below the folders that are ours.
    """
    wanted = {path for one in kept(ha) for path in (one.path, one.path + SUM)}
    return [path for path in found if path not in wanted]


def is_ours(folder: str) -> bool:
    """Whether a folder below FOLDER is of a resource of ours, by its name."""
    return posixpath.basename(folder).startswith(content.device(""))


def in_use(paths: Iterable[str], cib: str) -> list[str]:
    """Return the files with secrets that Pacemaker still reads for one of its resources."""
    pairs = xmltext.parse_xml(cib).iterfind(f".//resources//nvpair[@value='{content.SECRET}']")
    read = {(_resource(pair), pair.get("name")) for pair in pairs}
    return [path for path in paths if _parts(path) in read]


def _parts(path: str) -> tuple[str, str]:
    """Return the resource and the parameter that a file is for."""
    folder, name = posixpath.split(path)
    return posixpath.basename(folder), name.removesuffix(SUM)


def _resource(pair: etree._Element) -> str:
    above = next(pair.iterancestors("primitive", "template"), None)
    return "" if above is None else above.get("id", "")


def of_pillar(one: Kept, pillar: Mapping[str, Any]) -> str:
    """Return a secret that is in the pillar; InputError, without it, if it is none."""
    found: Any = pillar
    for word in one.secret.pillar.split(":"):
        if not isinstance(found, Mapping) or word not in found:
            raise InputError(f"{one.key}: the pillar of this node has no key {one.secret.pillar}")
        found = found[word]
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise InputError(
            f"{one.key}: under {one.secret.pillar} the pillar has {type(found).__name__},"
            " not a text; put it in quotes"
        )
    return valid(one, str(found))


def valid(one: Kept, text: str) -> str:
    """Return a secret without the end of its line; InputError, without it, if it is none."""
    found = text.rstrip("\r\n")
    if not found or len(found) > LONGEST or not found.isprintable():
        raise InputError(
            f"{one.key}: what is in {one.secret.file or one.secret.pillar} is no secret: want one"
            f" line of text, of at most {LONGEST} characters"
        )
    return found


def files(one: Kept, secret: str) -> dict[str, str]:
    """Return the files that the fencer reads, with their text."""
    total = hashlib.md5(secret.encode(), usedforsecurity=False).hexdigest()
    return {one.path: secret, one.path + SUM: f"{total}\n"}
