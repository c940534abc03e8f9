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
MAX_SIGNATURE = 8192
SIGNATURE = "-----BEGIN SSH SIGNATURE-----"

_CURVES = {
    "ecdsa-sha2-nistp256": (b"nistp256", 65),
    "ecdsa-sha2-nistp384": (b"nistp384", 97),
    "ecdsa-sha2-nistp521": (b"nistp521", 133),
}
_KINDS = frozenset({"ssh-rsa", "ssh-ed25519", *_CURVES})
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
    """What one node published, validated.

    ``next_key`` is the key that is to replace the cluster key; ``signatures`` are those of its
    keys, in their order, none of a node that does not sign. They are not verified.
    """

    node: str
    cluster_key: PublicKey
    host_keys: tuple[PublicKey, ...]
    login: str
    time: str
    next_key: PublicKey | None = None
    signatures: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """The keys by which the node may log in: one, and two while it is replaced."""
        return (self.cluster_key, self.next_key) if self.next_key else (self.cluster_key,)

    def to_dict(self) -> dict[str, Any]:
        """Return the identity as plain data, as in the mine."""
        return {
            "node": self.node,
            "login": self.login,
            "cluster_key": str(self.cluster_key),
            "cluster_fingerprint": self.cluster_key.fingerprint,
            **({"next_key": str(self.next_key)} if self.next_key else {}),
            "host_keys": [
                {"key": str(key), "fingerprint": key.fingerprint} for key in self.host_keys
            ],
            "time": self.time,
            **({"signatures": list(self.signatures)} if self.signatures else {}),
        }


@dataclass(frozen=True)
class Identities:
    """What the mine holds of a cluster: accepted and refused identities, nodes without one."""

    accepted: Mapping[str, Identity]
    refused: Mapping[str, str]
    missing: tuple[str, ...]

    def only(self, node: str) -> Identities:
        """Return what is known of one node, as if nothing were of all others: theirs stays."""
        accepted = {name: one for name, one in self.accepted.items() if name == node}
        refused = {name: why for name, why in self.refused.items() if name == node}
        known = {*accepted, *refused}
        others = (*self.accepted, *self.refused, *self.missing)
        return Identities(accepted, refused, tuple(name for name in others if name not in known))


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
    key = parse_cluster_key(sent.at("cluster_key").text(most=MAX_KEY_TEXT))
    return Identity(
        node=node,
        cluster_key=key,
        host_keys=_host_keys(sent.at("host_keys")),
        login=published_login,
        time=_time(sent.at("time").text(most=MAX_FIELD)),
        next_key=_next_key(sent.at("next_key").text("", most=MAX_KEY_TEXT), key),
        signatures=_signatures(sent.at("signatures")),
    )


def parse_cluster_key(text: str) -> PublicKey:
    """Return the key of a line ``TYPE BASE64 [COMMENT]`` that may log in; InputError otherwise."""
    key, bits = _parsed(text)
    if key.type not in ("ssh-rsa", "ssh-ed25519"):
        raise InputError(f"cluster key: type {key.type} is not rsa or ed25519")
    if key.type == "ssh-rsa" and bits < LOGIN_RSA_BITS:
        raise InputError(
            f"cluster key: RSA with {bits} bits; at least {LOGIN_RSA_BITS} are required"
        )
    return key


def parse_host_key(text: str) -> PublicKey:
    """Return the host key of a line ``TYPE BASE64 [COMMENT]``; InputError if it is invalid.

    RSA host keys of 2048 bits are accepted (older installations have them); shorter ones are not.
    """
    key, bits = _parsed(text)
    if key.type == "ssh-rsa" and bits < HOST_RSA_BITS:
        raise InputError(f"host key: RSA with {bits} bits; at least {HOST_RSA_BITS} are required")
    return key


def parse_public_key(text: str) -> PublicKey:
    """Return the key of one line ``TYPE BASE64 [COMMENT]``: no options, known type, valid blob.

    The comment is dropped. Format: sshd(8), "AUTHORIZED_KEYS FILE FORMAT", and RFC 4253, 6.6.
    """
    return _parsed(text)[0]


def _parsed(text: str) -> tuple[PublicKey, int]:
    """Return the key of a line, and the bits of an RSA key's modulus, 0 for any other."""
    if len(text) > MAX_KEY_TEXT:
        raise InputError(f"key: {len(text)} characters, at most {MAX_KEY_TEXT}")
    if not (text.isascii() and text.isprintable()) and _CONTROL.search(text):
        raise InputError("key: it contains a line break or another control character")
    kind, _, rest = text.partition(" ")
    blob, _, comment = rest.partition(" ")
    if kind not in _KINDS:
        raise InputError(f"key: {kind[:40]!r} is not a known key type (options are not allowed)")
    if len(comment) > MAX_COMMENT:
        raise InputError(f"key: a comment of {len(comment)} characters, at most {MAX_COMMENT}")
    return PublicKey(kind, blob), _checked_bits(kind, _decoded(blob))


def _decoded(blob: str) -> bytes:
    try:
        raw = binascii.a2b_base64(blob)
        if binascii.b2a_base64(raw, newline=False).decode() == blob:
            return raw
        base64.b64decode(blob, validate=True)
    except ValueError:
        raise InputError("key: not valid base64") from None
    raise InputError("key: not in canonical base64")


def _checked_bits(kind: str, raw: bytes) -> int:
    """Return the bits of an RSA key, 0 of any other; InputError if the data is not valid."""
    fields = _fields(raw)
    if not fields or fields[0] != kind.encode():
        raise InputError(f"key: its data is not of type {kind}")
    bits = 0
    if kind == "ssh-rsa":
        bits = _rsa_bits(*fields[1:]) if len(fields) == 3 else 0
        is_valid = bits > 0
    elif kind == "ssh-ed25519":
        is_valid = len(fields) == 2 and len(fields[1]) == 32
    else:
        curve, size = _CURVES[kind]
        is_valid = len(fields) == 3 and fields[1] == curve and len(fields[2]) == size
        is_valid = is_valid and fields[2][:1] == b"\x04"
    if not is_valid:
        raise InputError(f"key: not a valid {kind} key")
    return bits


def _rsa_bits(exponent: bytes, modulus: bytes) -> int:
    """Return the bits of a key that OpenSSH can use, without leading zeros; 0 for any other.

    OpenSSH ignores leading zeros, so one key would have many blobs and pass for another.
    Its limits: 16384 bits, and of the exponent 64 bits (OpenSSL's, for large moduli).
    """
    if not (_is_shortest(exponent) and _is_shortest(modulus)):
        return 0
    e, bits = int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big").bit_length()
    odd = e % 2 == 1 and modulus[-1] % 2 == 1
    return bits if odd and 3 <= e < 1 << 64 and bits <= MAX_RSA_BITS else 0


def _is_shortest(number: bytes) -> bool:
    """Whether that is a positive number as RFC 4251, 5 has it: zeros only before a high bit."""
    if not number or number[0] >= 0x80:
        return False
    return number[0] > 0 or (len(number) > 1 and number[1] >= 0x80)


def _fields(raw: bytes) -> list[bytes]:
    """Split the wire format's length-prefixed strings; a wrong length is an error."""
    fields = []
    end, length = 0, len(raw)
    while end < length:
        begin = end + 4
        end = begin + int.from_bytes(raw[end:begin], "big")
        if begin > length or end > length:
            raise InputError("key: truncated")
        fields.append(raw[begin:end])
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


def _next_key(text: str, present: PublicKey) -> PublicKey | None:
    if not text:
        return None
    key = parse_cluster_key(text)
    if key == present:
        raise InputError("next_key: it is the cluster key itself")
    return key


def _signatures(sent: Reader) -> tuple[str, ...]:
    texts = [one.text(most=MAX_SIGNATURE) for one in sent.items(optional=True, most=2)]
    for text in texts:
        if not (text.startswith(SIGNATURE) and text.isascii()):
            raise InputError("signatures: want those that ssh-keygen makes")
    return tuple(texts)


def _time(text: str) -> str:
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise InputError(f"time: {text[:40]!r} is not an ISO 8601 time") from None
