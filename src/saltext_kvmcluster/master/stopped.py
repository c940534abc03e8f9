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
        return [str(guest) for guest in self._of(node)]

    def add(self, node: str, guest: str) -> None:
        """Keep that a guest is about to be shut down."""
        known, now = self._of(node), datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._use("store", node, {**known, guest: known.get(guest, now)})

    def remove(self, node: str, guest: str) -> None:
        """Forget a guest that runs again."""
        left = {key: at for key, at in self._of(node).items() if key != guest}
        if left:
            self._use("store", node, left)
        else:
            self._use("flush", node)

    def _of(self, node: str) -> dict[str, Any]:
        found = self._use("fetch", node)
        if not isinstance(found, dict):
            raise WorldError(
                f"which guests of {node} are shut down cannot be read in the master's cache; to see"
                f" which run nowhere: salt-run kvmcluster.status; to begin anew: salt-run"
                f" cache.flush {self._bank} {node}"
            )
        return found

    def _use(self, verb: str, *arguments: Any) -> Any:
        try:
            return getattr(self._cache, verb)(self._bank, *arguments)
        except (OSError, SaltException) as error:
            raise WorldError(
                f"which guests are shut down cannot be kept in the master's cache: {error}; is its"
                " disk full?"
            ) from None
