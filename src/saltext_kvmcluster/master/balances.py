"""A balance by schedule: what it remembers, in Salt's cache; who else is at work; its events."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import salt.cache
from salt.exceptions import SaltException

from saltext_kvmcluster.core.drain import rolling, scheduled
from saltext_kvmcluster.core.drain.scheduled import Memory
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.engine import balancer
from saltext_kvmcluster.host import bootid
from saltext_kvmcluster.master import holds, rollings, runs, terminal
from saltext_kvmcluster.master.nodes import SaltNodes
from saltext_kvmcluster.master.pillars import Functions

BANK = "kvmcluster/balance"

log = logging.getLogger(__name__)


def refuse_arguments(**given: object) -> None:
    """Raise InputError for an argument of a balance that is none by schedule: it would not count.

    Above all ``test``, by which nothing would be said to move.
    """
    for key, value in given.items():
        if value is not None:
            raise InputError(
                f"{key}: with scheduled=True the pillar decides, by kvmcluster:balance; leave it"
                " out. What would be moved now: salt-run kvmcluster.balance"
            )


def balance(opts: Mapping[str, Any], functions: Functions, nodes: SaltNodes) -> dict[str, Any]:
    """Do what the pillar wants of a balance by schedule; log and fire what it came to."""
    with nodes:
        name = nodes.cluster.name
        with terminal.publishing(opts, name, "balance") as console:
            # Of two that begin at once, each finds the other one.
            held = at_work(opts, nodes.cluster)
            memories = BalanceMemories(opts, name)
            found = balancer.scheduled_balance(nodes, console, memories, held).to_dict()
    log.info("cluster %s: balance: %s", name, found["scheduled"]["why"])
    moved = {row["guest"] for row in found.get("moved", ())}
    for step in found["plan"]:
        what = "proposed" if found["test"] else "moved" if step["guest"] in moved else "not moved"
        log.warning(
            "cluster %s: balance: %s, %s -> %s: %s: %s",
            *(name, step["guest"], step["source"], step["destination"], what, step["why"]),
        )
        tag = events.tag(name, events.BALANCE, step["source"], step["guest"])
        functions["event.send"](tag, events.small({"what": what, **step}))
    return found


class BalanceMemories:
    """Of one cluster."""

    def __init__(self, opts: Mapping[str, Any], cluster: str) -> None:
        self._cache, self._name = salt.cache.factory(opts), cluster

    def load(self) -> Memory:
        """Return what is remembered; WorldError if that cannot be read: it is not nothing."""
        try:
            return scheduled.memory_of(self._use("fetch"))
        except InputError as error:
            raise self._error(str(error)) from None

    def save(self, memory: Memory) -> None:
        """Remember it instead."""
        self._use("store", memory.to_dict())

    def _use(self, verb: str, *arguments: Any) -> Any:
        try:
            return getattr(self._cache, verb)(BANK, self._name, *arguments)
        except (OSError, SaltException) as error:
            raise self._error(str(error)) from None

    def _error(self, detail: str) -> WorldError:
        return WorldError(
            "nothing was moved: the master's cache fails, so that moves cannot be counted:"
            f" {detail}; is its disk full? If it is damaged: salt-run cache.flush {BANK}"
            f" {self._name}"
        )


def at_work(opts: Mapping[str, Any], cluster: Cluster) -> str:
    """Return which other run is at work on this master; empty if none is.

    WorldError if that cannot be read: it is not none.
    """
    try:
        return _at_work(opts, cluster)
    except (OSError, SaltException) as error:
        raise WorldError(
            "nothing was moved: the master's cache fails, so that it is not known whether another"
            f" run is at work: {one_line(str(error))}"
        ) from None


def _at_work(opts: Mapping[str, Any], cluster: Cluster) -> str:
    own = os.getpid()
    for run in runs.read(opts, cluster.name):
        if run.pid != str(own) and bootid.is_alive(run.process):
            return f"another run is at work on this master: {run.name}"
    held = salt.cache.factory(opts)
    for node in cluster.nodes:
        holder = str(held.fetch(f"{holds.BANK}/{cluster.name}", node) or "")
        if bootid.is_alive(holder):
            return f"{node} is in maintenance on this master"
    last = rolling.parse(held.fetch(rollings.BANK, cluster.name))
    if last and bootid.is_alive(last.process):
        return "a rolling run is at work on this master"
    return ""
