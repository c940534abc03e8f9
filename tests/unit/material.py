"""What the tests of this tier are made of: cases from files, keys as data, small clusters."""

import base64
import functools
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.trust import identity

CASES = Path(__file__).parent.parent / "cases"
KEYS = yaml.safe_load((CASES / "keys.yaml").read_text())
# For what goes wrong in long or rare sequences only; so many times as the profile asks for.
MORE_EXAMPLES = settings(max_examples=3 * settings.default.max_examples)
TIME = "2026-01-02T03:04:05+00:00"


def mpint(number):
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def line(kind, *fields):
    """Return a public key line whose blob holds the fields after the type's own name."""
    parts = [kind.encode(), *fields]
    raw = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"{kind} {base64.b64encode(raw).decode()}"


def rsa(bits=3072, exponent=65537, modulus=None):
    """Return an RSA line of that many bits; the modulus is odd, and nothing else is promised."""
    return line("ssh-rsa", mpint(exponent), mpint(modulus or (1 << (bits - 1)) | 1))


def ed25519(number):
    return line("ssh-ed25519", number.to_bytes(32, "big"))


def published(node, **changed):
    """Return good mine data of a node, with some fields changed; None drops a field."""
    data = {
        "node": node,
        "login": "root",
        "cluster_key": KEYS.get(node) or KEYS["other"],
        "host_keys": [{"key": KEYS.get(f"host{node[-1]}") or KEYS["host1"]}],
        "time": TIME,
        **changed,
    }
    return {key: value for key, value in data.items() if value is not None}


def cluster(*nodes, name="marathon", names=None, **ssh):
    """Return a cluster of nodes, each with its ``names`` besides its id."""
    bodies = {node: {"names": list((names or {}).get(node, ()))} for node in nodes}
    return parser.from_pillar({"kvmcluster": {"name": name, "nodes": bodies, "ssh": ssh}})


def read(found, **mine):
    """Return the identities of a mine in which a text stands for good data with that key."""
    filed = {
        node: published(node, cluster_key=data, login=found.ssh.login) if _is_line(data) else data
        for node, data in mine.items()
    }
    return identity.read_identities(found, filed)


def _is_line(data):
    return isinstance(data, str) and data.startswith("ssh-")


@functools.cache
def cases(kind):
    """Return the cases of a kind by name, each a mapping with its ``description``.

    What a case leaves out is as in ``defaults.yaml``. None at all is an error, since then nothing
    is tested.
    """
    defaults = load(CASES / "defaults.yaml").get(kind, {})
    found = {path.stem: load(path) for path in sorted((CASES / kind).glob("*.yaml"))}
    assert found, f"no cases in {CASES / kind}"
    assert all(case["description"].strip() for case in found.values())
    return {name: {**defaults, **case} for name, case in found.items()}


def parameters(kind, choose=lambda case: True):
    """Return those cases of a kind that are chosen as parameters of a test."""
    return [pytest.param(case, id=name) for name, case in cases(kind).items() if choose(case)]


def with_keys(value):
    """Return a value in whose texts ``{NAME}`` is that key of ``keys.yaml``."""
    if isinstance(value, str):
        return re.sub(r"\{([a-z][a-z0-9-]*)\}", lambda found: KEYS[found[1]], value)
    if isinstance(value, list):
        return [with_keys(item) for item in value]
    if isinstance(value, dict):
        return {key: with_keys(item) for key, item in value.items()}
    return value


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML with a few tags for data that is too large or too odd to be written out."""


def _tag(name):
    def register(function):
        def construct(loader, node):
            if isinstance(node, yaml.ScalarNode):
                return function(loader.construct_scalar(node))
            if isinstance(node, yaml.SequenceNode):
                return function(*loader.construct_sequence(node, deep=True))
            return function(**loader.construct_mapping(node, deep=True))

        _Loader.add_constructor(name, construct)
        return function

    return register


_tag("!rsa")(rsa)


@_tag("!real")
def _real(name):
    return KEYS[name]


@_tag("!join")
def _join(*parts):
    return "".join(parts)


@_tag("!cut")
def _cut(text, count):
    return text[:-count]


@_tag("!repeat")
def _repeat(item, count):
    return item * count if isinstance(item, str) else [item] * count


@_tag("!nested")
def _nested(depth):
    bomb = []
    for _ in range(int(depth)):
        bomb = [bomb]
    return bomb


@_tag("!huge")
def _huge(_):
    return 1 << 100_000


@_tag("!key_of_a_megabyte")
def _key_of_a_megabyte(letter):
    return {letter * 1_000_000: None}


@_tag("!wire")
def _wire(kind, *fields):
    """Return a line of a type and fields: text as it is, hex after 0x, numbers as mpints."""
    return line(kind, *[_field(field) for field in fields])


@_tag("!dressed")
def _dressed(kind, text):
    """Return a line that says one type outside and keeps another inside."""
    return f"{kind} {text.split()[1]}"


@_tag("!trailing")
def _trailing(text, hexadecimal):
    kind, blob = text.split()
    return (
        f"{kind} {base64.b64encode(base64.b64decode(blob) + bytes.fromhex(hexadecimal)).decode()}"
    )


@_tag("!truncated")
def _truncated(text, count):
    kind, blob = text.split()
    return f"{kind} {base64.b64encode(base64.b64decode(blob)[:-count]).decode()}"


def _field(field):
    if isinstance(field, int):
        return mpint(field)
    return bytes.fromhex(field[2:]) if field.startswith("0x") else field.encode()


@functools.cache
def load(path):
    return yaml.load(path.read_text(encoding="utf-8"), _Loader)
