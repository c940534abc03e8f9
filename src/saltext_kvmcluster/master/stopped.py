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
        """Return what is kept of a node; WorldError if that cannot be read: it is not nothing."""
        found = self._use("fetch", node)
        if isinstance(found, dict):
            return found
        raise self._error("no mapping", node)

    def _use(self, verb: str, node: str, *arguments: Any) -> Any:
        try:
            return getattr(self._cache, verb)(self._bank, node, *arguments)
        except (OSError, SaltException) as error:
            raise self._error(str(error), node) from None

    def _error(self, detail: str, node: str) -> WorldError:
        return WorldError(
            f"the master's cache of the guests of {node} that are shut down fails: {detail}; is its"
            " disk full? If it is damaged: salt-run kvmcluster.status shows what runs nowhere; then"
            f" salt-run cache.flush {self._bank} {node}"
        )
