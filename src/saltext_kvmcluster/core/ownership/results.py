"""What became of a guest that was started, shut down or settled, as values that travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from saltext_kvmcluster.core.migration.results import Step


@dataclass(frozen=True)
class StartResult:
    """What became of a guest that was to start on ``node``.

    ``owner``: the node that has it, None if none has or that is not certain. ``started``: when it
    was begun. ``elapsed``: seconds until the last observation. ``warnings``: what may start it once
    more.
    """

    guest: str
    uuid: str
    node: str
    result: str
    owner: str | None
    reason: str
    started: str = ""
    elapsed: float = 0.0
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {"kind": "start", **asdict(self), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class ShutdownResult:
    """What became of a guest that was to be shut down on ``node``; ``owner`` as in StartResult.

    ``warnings``: why Pacemaker was not given it back.
    """

    guest: str
    uuid: str
    node: str
    result: str
    owner: str | None
    reason: str
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {"kind": "shutdown", **asdict(self), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Recovery:
    """What became of a guest whose last migration was to be settled, or cancelled.

    ``sightings``: the last observation of each node. ``actions``: what was done. ``needs``: the
    missing information; ``commands``: the manual steps for an operator who has it.
    """

    guest: str
    uuid: str
    owner: str | None
    result: str
    reason: str
    sightings: Mapping[str, str]
    actions: tuple[Step, ...]
    needs: tuple[str, ...]
    commands: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as data."""
        return {
            "kind": "recovery",
            **vars(self),
            "sightings": dict(self.sightings),
            "actions": [asdict(action) for action in self.actions],
            "needs": list(self.needs),
            "commands": list(self.commands),
        }
