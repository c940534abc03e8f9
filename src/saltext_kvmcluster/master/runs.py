"""What the runs of this master are at, in Salt's cache: other processes show it to who watches.

It is for people, and that it cannot be written stops no run. By it alone a balance by schedule
leaves guests where they are.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import salt.cache
from salt.exceptions import SaltException

from saltext_kvmcluster.core.drain import runs
from saltext_kvmcluster.core.drain.progress import BatchProgress
from saltext_kvmcluster.core.drain.runs import Run
from saltext_kvmcluster.host import bootid

BANK = "kvmcluster/runs"
OFTEN, SELDOM = 1.0, 10.0
"""Seconds between writes of progress: at least where it changes, at most where it does not."""

log = logging.getLogger(__name__)


class Publisher:
    """Publishes a run for as long as it is not closed.

    opts
        The master's options.
    command, node
        What it does, and to which node; empty for all.
    """

    def __init__(self, opts: Mapping[str, Any], cluster: str, command: str, node: str = "") -> None:
        self._cache, self._bank, now = salt.cache.factory(opts), f"{BANK}/{cluster}", time.time()
        self._run = Run(command, node, bootid.process(os.getpid()), now, now)
        self._fails = False
        for run in published(opts, cluster):
            if run.is_same(self._run) and not bootid.is_alive(run.process):
                self._use("flush", run.pid)
        self._publish(self._run)

    def show(self, line: str) -> None:
        """Publish what the run shows on its terminal."""
        if line != self._run.line:
            self._publish(replace(self._run, line=line))

    def progress(self, progress: BatchProgress) -> None:
        """Publish how far its moves are."""
        last, age = self._run.progress, time.time() - self._run.at
        is_same = (
            last and not self._run.line and replace(last, elapsed=progress.elapsed) == progress
        )
        if not 0 <= age < (SELDOM if is_same else OFTEN) or last is None:
            self._publish(replace(self._run, line="", progress=progress))

    def close(self) -> None:
        """Take it back."""
        self._use("flush", self._run.pid)

    def _publish(self, run: Run) -> None:
        self._run = replace(run, at=time.time())
        self._use("store", self._run.pid, self._run.to_dict())

    def _use(self, verb: str, *arguments: Any) -> None:
        try:
            getattr(self._cache, verb)(self._bank, *arguments)
        except (OSError, SaltException) as error:
            if not self._fails:
                log.warning("kvmcluster: how far this is cannot be shown to others: %s", error)
            self._fails = True


def published(opts: Mapping[str, Any], cluster: str) -> list[Run]:
    """Return the runs of a cluster as ``read``, for people; none if they cannot be read."""
    try:
        return read(opts, cluster)
    except (OSError, SaltException) as error:
        log.warning("kvmcluster: how far other runs are cannot be read: %s", error)
        return []


def read(opts: Mapping[str, Any], cluster: str) -> list[Run]:
    """Return the runs of a cluster that have not taken themselves back, the oldest first.

    Whether one still goes on shows its process alone.
    """
    cache, bank = salt.cache.factory(opts), f"{BANK}/{cluster}"
    found = [runs.parse(cache.fetch(bank, key)) for key in cache.list(bank)]
    return sorted((run for run in found if run), key=lambda run: run.began)
