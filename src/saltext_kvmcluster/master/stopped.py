"""Guests that were shut down for maintenance: kept in the master's cache until they run again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import salt.cache
from salt.exceptions import SaltException

from saltext_kvmcluster.core.errors import WorldError

BANK = "kvmcluster/stopped"


class StoppedGuests:
    """Those of one cluster, by node; what was begun is kept before it is done."""

    def __init__(self, opts: Mapping[str, Any], cluster: str) -> None:
        self._cache = salt.cache.factory(opts)
        self._bank = f"{BANK}/{cluster}"

    def stopped(self, node: str) -> list[str]:
        """Return the guests of a node, in the order in which they were shut down."""
        found = self._use("fetch", node)
        return [str(guest) for guest in found] if isinstance(found, dict) else []

    def add(self, node: str, guest: str) -> None:
        """Keep that a guest is about to be shut down."""
        found = self._use("fetch", node)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        known = found if isinstance(found, dict) else {}
        self._use("store", node, {**known, guest: known.get(guest, now)})

    def remove(self, node: str, guest: str) -> None:
        """Forget a guest that runs again."""
        found = self._use("fetch", node)
        left = {key: at for key, at in found.items() if key != guest} if found else {}
        if left:
            self._use("store", node, left)
        else:
            self._use("flush", node)

    def _use(self, verb: str, *arguments: Any) -> Any:
        try:
            return getattr(self._cache, verb)(self._bank, *arguments)
        except (OSError, SaltException) as error:
            raise WorldError(
                f"which guests are shut down cannot be kept in the master's cache: {error}; is its"
                " disk full?"
            ) from None
