"""A page that was written, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltext_kvmcluster.core.text import counted, listed


def report(data: Mapping[str, Any]) -> str:
    """Return where the page is, and what is on it that must not be overlooked."""
    silent = f"; silent: {listed(data['silent'])}" if data["silent"] else ""
    return (
        f"WRITTEN  {data['path']}, {data['bytes'] / 1024:.0f} KiB: cluster {data['cluster']} at"
        f" {data['observed']}, {counted(data['problems'], 'problem')}{silent}"
    )
