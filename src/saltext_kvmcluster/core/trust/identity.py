"""The identity that a node publishes in the mine, and its validation.

A minion writes its own mine entry, so every byte of it is untrusted until it is validated here. An
identity counts only for the minion id of its entry, and proves nothing but that node's keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.untrusted import Reader

MINE_FUNCTION = "kvmcluster.identity"

LOGIN_RSA_BITS = 3072
HOST_RSA_BITS = 2048
MAX_RSA_BITS = 16384
MAX_KEY_TEXT = 4096
MAX_COMMENT = 256
MAX_FIELD = 256
MAX_HOST_KEYS = 16

_CURVES = {
    "ecdsa-sha2-nistp256": (b"nistp256", 65),
    "ecdsa-sha2-nistp384": (b"nistp384", 97),
    "ecdsa-sha2-nistp521": (b"nistp521", 133),
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class PublicKey:
    """One OpenSSH public key: its type and its base64 blob, without options or comment."""

    type: str
    blob: str

    def __str__(self) -> str:
        return f"{self.type} {self.blob}"

    @property
    def fingerprint(self) -> str:
        """The SHA256 fingerprint as ``ssh-keygen -l`` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class Identity:
    """What one node published, validated."""

    node: str
    cluster_key: PublicKey
    host_keys: tuple[PublicKey, ...]
    login: str
    time: str

    def to_dict(self) -> dict[str, Any]:
        """Return the identity as plain data, as in the mine."""
        return {
            "node": self.node,
            "login": self.login,
            "cluster_key": str(self.cluster_key),
            "cluster_fingerprint": self.cluster_key.fingerprint,
            "host_keys": [
                {"key": str(key), "fingerprint": key.fingerprint} for key in self.host_keys
            ],
            "time": self.time,
        }


@dataclass(frozen=True)
class Identities:
    """What the mine holds of a cluster: accepted and refused identities, nodes without one."""

    accepted: Mapping[str, Identity]
    refused: Mapping[str, str]
    missing: tuple[str, ...]


def read_identities(cluster: Cluster, mine: object) -> Identities:
    """Sort the mine's answer into accepted, refused and missing identities of the members.

    mine
        What ``mine.get`` returned for ``kvmcluster.identity``: minion id -> data. Other
        minions are ignored, since membership comes from the pillar alone.
    """
    filed = mine if isinstance(mine, Mapping) else {}
    accepted = {}
    refused = {}
    for node in cluster.nodes:
        if filed.get(node) is None:
            continue
        try:
            accepted[node] = parse_identity(node, filed[node], cluster.ssh.login)
        except InputError as error:
            refused[node] = str(error)
    missing = tuple(node for node in cluster.nodes if filed.get(node) is None)
    return Identities(accepted, refused, missing)


def parse_identity(node: str, data: object, login: str) -> Identity:
    """Return the identity that ``node`` published; InputError if it is invalid."""
    sent = Reader(data)
    claimed = sent.at("node").text(most=MAX_FIELD)
    if claimed != node:
        raise InputError(f"it is for another node, {claimed[:60]!r}")
    published_login = sent.at("login").text(most=MAX_FIELD)
    if published_login != login:
        raise InputError(f"its key is for login {published_login[:40]!r}, not for {login}")
    return Identity(
        node=node,
        cluster_key=parse_cluster_key(sent.at("cluster_key").text(most=MAX_KEY_TEXT)),
        host_keys=_host_keys(sent.at("host_keys")),
        login=published_login,
        time=_time(sent.at("time").text(most=MAX_FIELD)),
    )


def parse_cluster_key(text: str) -> PublicKey:
    """Return the key of a line ``TYPE BASE64 [COMMENT]`` that may log in; InputError otherwise."""
    key = parse_public_key(text)
    if key.type not in ("ssh-rsa", "ssh-ed25519"):
        raise InputError(f"cluster key: type {key.type} is not rsa or ed25519")
    if key.type == "ssh-rsa" and rsa_bits(key) < LOGIN_RSA_BITS:
        raise InputError(
            f"cluster key: RSA with {rsa_bits(key)} bits; at least {LOGIN_RSA_BITS} are required"
        )
    return key


def parse_host_key(text: str) -> PublicKey:
    """Return the host key of a line ``TYPE BASE64 [COMMENT]``; InputError if it is invalid.

    RSA host keys of 2048 bits are accepted (older installations have them); shorter ones are not.
    """
    key = parse_public_key(text)
    if key.type == "ssh-rsa" and rsa_bits(key) < HOST_RSA_BITS:
        raise InputError(
            f"host key: RSA with {rsa_bits(key)} bits; at least {HOST_RSA_BITS} are required"
        )
    return key


def parse_public_key(text: str) -> PublicKey:
    """Return the key of one line ``TYPE BASE64 [COMMENT]``: no options, known type, valid blob.

    The comment is dropped. Format: sshd(8), "AUTHORIZED_KEYS FILE FORMAT", and RFC 4253, 6.6.
    """
    if len(text) > MAX_KEY_TEXT:
        raise InputError(f"key: {len(text)} characters, at most {MAX_KEY_TEXT}")
    if _CONTROL.search(text):
        raise InputError("key: it contains a line break or another control character")
    kind, _, rest = text.partition(" ")
    blob, _, comment = rest.partition(" ")
    if kind not in ("ssh-rsa", "ssh-ed25519", *_CURVES):
        raise InputError(f"key: {kind[:40]!r} is not a known key type (options are not allowed)")
    if len(comment) > MAX_COMMENT:
        raise InputError(f"key: a comment of {len(comment)} characters, at most {MAX_COMMENT}")
    _check_blob(kind, _decoded(blob))
    return PublicKey(kind, blob)


def rsa_bits(key: PublicKey) -> int:
    """Return the size of an RSA key's modulus in bits."""
    modulus = _fields(base64.b64decode(key.blob))[2]
    return int.from_bytes(modulus, "big").bit_length()


def _decoded(blob: str) -> bytes:
    try:
        raw = base64.b64decode(blob.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise InputError("key: not valid base64") from None
    if base64.b64encode(raw).decode() != blob:
        raise InputError("key: not in canonical base64")
    return raw


def _check_blob(kind: str, raw: bytes) -> None:
    fields = _fields(raw)
    if not fields or fields[0] != kind.encode():
        raise InputError(f"key: its data is not of type {kind}")
    if kind == "ssh-rsa":
        is_valid = len(fields) == 3 and _is_valid_rsa(*fields[1:])
    elif kind == "ssh-ed25519":
        is_valid = len(fields) == 2 and len(fields[1]) == 32
    else:
        curve, size = _CURVES[kind]
        is_valid = len(fields) == 3 and fields[1] == curve and len(fields[2]) == size
        is_valid = is_valid and fields[2][:1] == b"\x04"
    if not is_valid:
        raise InputError(f"key: not a valid {kind} key")


def _is_valid_rsa(exponent: bytes, modulus: bytes) -> bool:
    """Whether OpenSSH can use the key, and its numbers have no leading zeros.

    OpenSSH ignores leading zeros, so one key would have many blobs and pass for another.
    Its limits: 16384 bits, and of the exponent 64 bits (OpenSSL's, for large moduli).
    """
    e, n = int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
    shortest = exponent == _mpint(e) and modulus == _mpint(n)
    odd = e % 2 == 1 and n % 2 == 1
    return shortest and odd and 3 <= e < 1 << 64 and n.bit_length() <= MAX_RSA_BITS


def _mpint(number: int) -> bytes:
    """Return a positive number as RFC 4251, 5 writes it: a zero byte before a high first bit."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _fields(raw: bytes) -> list[bytes]:
    """Split the wire format's length-prefixed strings; a wrong length is an error."""
    fields = []
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        end = at + 4 + size
        if at + 4 > len(raw) or end > len(raw):
            raise InputError("key: truncated")
        fields.append(raw[at + 4 : end])
        at = end
    return fields


def _host_keys(sent: Reader) -> tuple[PublicKey, ...]:
    entries = sent.items(most=MAX_HOST_KEYS)
    if not entries:
        raise sent.error("a list of keys")
    keys = []
    for entry in entries:
        text = entry.at("key").text(most=MAX_KEY_TEXT)
        try:
            keys.append(parse_host_key(text))
        except InputError as error:
            raise InputError(f"host_keys: {error}") from None
    return tuple(dict.fromkeys(keys))


def _time(text: str) -> str:
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise InputError(f"time: {text[:40]!r} is not an ISO 8601 time") from None
