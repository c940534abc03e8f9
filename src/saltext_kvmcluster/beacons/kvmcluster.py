"""Beacon: reports to the master what changes on this node, and only what changes.

.. code-block:: yaml

    beacons:
      kvmcluster:
        - interval: 5

It has no settings of its own. Its events are fired one by one, so that the master itself says
from which minion each came; what a beacon returns is sent as a list, whose content the master does
not check.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from saltext_kvmcluster import doors
from saltext_kvmcluster.core.errors import InputError, KvmclusterError
from saltext_kvmcluster.core.events import transitions
from saltext_kvmcluster.core.pillar import clusters
from saltext_kvmcluster.host import observer_client

log = logging.getLogger(__name__)

__virtualname__ = "kvmcluster"

# Set by Salt's loader.
__context__: dict[str, Any]
__opts__: dict[str, Any]
__pillar__: dict[str, Any]
__salt__: dict[str, Callable[..., Any]]


def __virtual__() -> str | tuple[bool, str]:
    return doors.virtual(__opts__)


def validate(config: object) -> tuple[bool, str]:
    """Return whether a configuration is valid, and a sentence: ``(valid, sentence)``."""
    try:
        transitions.check_settings(config)
    except InputError as error:
        return False, str(error)
    return True, "Valid beacon configuration"


def beacon(config: object) -> list[object]:
    """Observe once, and fire an event for each change; nothing is returned.

    An error is logged when it begins, and when it is over.
    """
    try:
        cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
        own = __pillar__[clusters.ROOT]
        observer_client.CLIENT.observe(cluster.name, __opts__["id"], own, __salt__["event.send"])
        error_text = ""
    except KvmclusterError as error:
        error_text = str(error)
    except Exception as error:  # An event loop of the minion's called us.
        error_text = f"{type(error).__name__}: {error}"
        log.debug("beacon kvmcluster", exc_info=True)
    if error_text and error_text != observer_client.CLIENT.error:
        log.error("beacon kvmcluster: %s", error_text)
    elif observer_client.CLIENT.error and not error_text:
        log.info("beacon kvmcluster: this node is observed again")
    observer_client.CLIENT.error = error_text
    return []
