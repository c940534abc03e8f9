"""The lines of an authorized_keys file, as sshd reads them (see sshd(8)), and which are ours."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.trust.blocks import TAG, owned_lines, split_lines
from saltext_kvmcluster.core.trust.identity import PublicKey, parse_public_key

_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+\Z")
_OPTIONS = re.compile(
    r"""((?:\\"|\\(?!")|[^ \t"\\]|"(?:\\"|\\(?!")|[^"\\])*")+)[ \t]+(.*)\Z""", re.DOTALL
)


@dataclass(frozen=True)
class Line:
    """One line of an authorized_keys file, as far as it can be parsed.

    ``key`` may be of any type, not only one that a node may have.
    """

    raw: str
    blank: bool = False
    key: PublicKey | None = None
    options: str = ""
    comment: str = ""
    inside: bool = False
    number: int = 0

    @property
    def node(self) -> str | None:
        """The node that our tag names."""
        match = TAG.match(self.comment)
        return match.group(1) if match else None

    @property
    def ours(self) -> bool:
        """Whether the line is in our block or has our tag."""
        return self.inside or self.node is not None


def parse(text: str) -> list[Line]:
    lines = split_lines(text)
    return [
        _parse_line(raw, inside, number)
        for number, (raw, inside) in enumerate(zip(lines, owned_lines(lines), strict=True), start=1)
    ]


def _parse_line(raw: str, inside: bool, number: int) -> Line:
    stripped = raw.strip(" \t\r\n")
    if not stripped or stripped.startswith("#"):
        return Line(raw, blank=True, inside=inside, number=number)
    options, rest = _without_options(stripped)
    kind, blob, comment = (*re.split(r"[ \t]+", rest, maxsplit=2), "", "", "")[:3]
    return Line(raw, False, _any_key(kind, blob), options, comment, inside, number)


def _without_options(line: str) -> tuple[str, str]:
    """Split a line into its options and the rest, as sshd does.

    Spaces inside quotes do not end the options, and a backslash escapes nothing but a quote.
    """
    if _KEY_TYPE.match(re.split(r"[ \t]", line, maxsplit=1)[0]):
        return "", line
    match = _OPTIONS.match(line)
    return (match.group(1), match.group(2)) if match else (line, "")


def _any_key(kind: str, blob: str) -> PublicKey | None:
    """Return the key of a line that a person wrote, of any type and size."""
    if not _KEY_TYPE.match(kind):
        return None
    try:
        raw = base64.b64decode(blob.encode("ascii"), validate=True)
    except ValueError:
        return None
    return PublicKey(kind, base64.b64encode(raw).decode())


def held_lines(lines: Iterable[Line]) -> dict[str, tuple[Line, ...]]:
    """Return our lines for each node, with their keys: those of the block, or else a stray one.

    A node has two while its key is replaced by another one.
    """
    held: dict[str, dict[PublicKey, Line]] = {}
    for line in sorted(lines, key=lambda line: not line.inside):
        if line.node and line.key and (line.inside or line.node not in held):
            with contextlib.suppress(InputError):
                key = parse_public_key(str(line.key))
                held.setdefault(line.node, {}).setdefault(key, replace(line, key=key))
    return {node: tuple(lines.values()) for node, lines in held.items()}


def held_keys(text: str) -> dict[str, tuple[PublicKey, ...]]:
    """Return the keys by which the lines of ours let each node in."""
    held = held_lines(parse(text))
    return {node: tuple(line.key for line in lines if line.key) for node, lines in held.items()}
