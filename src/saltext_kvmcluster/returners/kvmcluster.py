"""Returner: keeps what a job returned on this node, besides sending it.

For SLS files that an orchestration applies: a return that the master does not receive, while it is
down or restarted, is asked for later by ``kvmcluster.state_jobs``. The last ten are kept, in
/var/lib/kvmcluster/returns, readable by root alone.
"""

from __future__ import annotations

import logging
from typing import Any

import salt.utils.json

from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.host import kept_returns

log = logging.getLogger(__name__)

__virtualname__ = "kvmcluster"


def __virtual__() -> str:
    return __virtualname__


def returner(ret: dict[str, Any]) -> None:
    """Keep what a job returned; a failure is logged, and the job's return is sent all the same."""
    try:
        text = salt.utils.json.dumps(ret.get("return"), default=str)
        kept_returns.keep(ret.get("jid"), text)
    except (KvmclusterError, TypeError, ValueError) as error:
        log.error("kvmcluster: the return of job %s is not kept: %s", ret.get("jid"), error)
