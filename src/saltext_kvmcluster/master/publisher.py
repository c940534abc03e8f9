"""Has the nodes publish their identities, and waits until the mine holds them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from saltext_kvmcluster.core.trust import publication
from saltext_kvmcluster.core.trust.identity import MINE_FUNCTION, Identity
from saltext_kvmcluster.master.nodes import SaltNodes

POLL = 0.2


def published(
    nodes: SaltNodes,
    filed: Callable[[], Mapping[str, Identity]],
    timeout: float,
    test: bool,
    asked: Collection[str],
) -> dict[str, Any]:
    """Have nodes publish their identities, and return what came of it.

    filed
        Returns the identities that the mine holds now.
    timeout
        Seconds to wait for the mine.
    test
        Only say what would be published.
    asked
        The nodes.
    """
    nodes.ask(asked, "saltutil.refresh_pillar", wait=True)
    before = filed()
    answers = nodes.ask(asked, MINE_FUNCTION)
    reported, failed = publication.reported_identities(nodes.cluster, answers)
    failed = {node: why for node, why in failed.items() if node in asked}
    if test:
        after = {**before, **reported}
        return publication.report(nodes.cluster, reported, before, after, failed)
    nodes.ask(list(reported), "mine.send", MINE_FUNCTION)
    end = time.monotonic() + timeout
    after = dict(filed())
    while publication.pending(reported, after) and time.monotonic() < end:
        time.sleep(POLL)
        after = dict(filed())
    return publication.report(nodes.cluster, reported, before, after, failed)
