"""What became of a guest that was to start or to be shut down, as values that travel."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StartResult:
    """What became of a guest that was to start on ``node``.

    ``owner``: the node that has it, None if none has or that is not certain. ``started``: when it
    was begun. ``elapsed``: seconds until the last look.
    """

    guest: str
    uuid: str
    node: str
    result: str
    owner: str | None
    reason: str
    started: str = ""
    elapsed: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {"kind": "start", **asdict(self)}


@dataclass(frozen=True)
class ShutdownResult:
    """What became of a guest that was to be shut down on ``node``; ``owner`` as in StartResult."""

    guest: str
    uuid: str
    node: str
    result: str
    owner: str | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {"kind": "shutdown", **asdict(self)}
