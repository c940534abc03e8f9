"""Which guests a node's highstate starts, by the states that Salt compiles there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.text import one_line

STARTING = (("kvmcluster", "guest_running"), ("virt", "running"))
"""The states that start a guest of their name: ours, and that of Salt itself."""


def started(compiled: object) -> dict[str, Any]:
    """Return the guests that a highstate starts, as a node reports it.

    compiled
        What ``state.show_lowstate`` returned: the states, or sentences.
    """
    rows = compiled if isinstance(compiled, list) else [compiled]
    states = [row for row in rows if isinstance(row, Mapping)]
    if len(states) < len(rows):
        # What follows the first line is the SLS around the error, as rendered: with its secrets.
        sentences = [str(row) for row in rows if not isinstance(row, Mapping)]
        wrong = "; ".join(sentence.partition("\n")[0] for sentence in sentences)
        return {"state_detail": one_line(wrong) or "it does not compile"}
    names = (
        str(state.get("name"))
        for state in states
        if (state.get("state"), state.get("fun")) in STARTING
    )
    return {"state_starts": sorted(set(names))}
