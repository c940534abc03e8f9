"""Reactions to events: check the whole cluster, and repair what is wrong there."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import salt.runner
from salt.exceptions import SaltException

from saltext_kvmcluster import doors
from saltext_kvmcluster.core.applying import course, outcome
from saltext_kvmcluster.core.errors import InputError, KvmclusterError
from saltext_kvmcluster.core.events import events, reactions, split_brain, unasked
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.failover import restarts
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.readiness import problems
from saltext_kvmcluster.core.text import MAX_NAMES, listed
from saltext_kvmcluster.core.trust import publication
from saltext_kvmcluster.core.trust.identity import MINE_FUNCTION
from saltext_kvmcluster.engine import applier
from saltext_kvmcluster.engine.applier import Nobody
from saltext_kvmcluster.engine.fleet import ACTION, ASK_AGAIN
from saltext_kvmcluster.master import pillars
from saltext_kvmcluster.master.nodes import SaltNodes
from saltext_kvmcluster.master.pending import Pending
from saltext_kvmcluster.master.pillars import Functions

log = logging.getLogger(__name__)
_LOG_LIMITER = reactions.LogLimiter()
_PARSING = threading.Lock()


class Reactor:
    """The master's reactions to events.

    opts
        The master's options.
    functions, context
        What Salt gives a runner as ``__salt__`` and ``__context__``.
    """

    def __init__(
        self, opts: Mapping[str, Any], functions: Functions, context: dict[str, Any]
    ) -> None:
        self._opts, self._functions, self._context = opts, functions, context
        self._pending = Pending(opts["cachedir"])
        self._of = {
            reactions.TRUST: self._mend_trust,
            reactions.RECOVER: self._settle_migrations,
            reactions.ALARM: self._report_doubles,
            reactions.RESTART: self._restart_crashed,
        }

    def react(self, reaction: str | None, tag: object, data: object) -> list[str]:
        """React to an event, and return the reactions that were due; their results are logged.

        reaction
            Which reaction it calls for; None where only those that are left are to be done, and
            those that nothing has called for in a while: an event may be lost.
        """
        try:
            for key in self._unasked() if reaction is None else self._followed(reaction, tag, data):
                self._pending.leave(key)
            due = [key for key in self._pending.left() if reactions.parts(key)]
            for key in sorted(due, key=unasked.urgency):
                self._pending.answer(key, functools.partial(self._answered, key))
        except KvmclusterError as error:
            log.error("%s", reactions.line(str(error)))
            return []
        return due

    def _unasked(self) -> list[str]:
        """Return the keys of the reactions that are due without an event."""
        members = pillars.memberships(self._opts, self._functions, self._context)
        keys = []
        for reaction in unasked.configured(self._opts.get("reactor")):
            for name in members:
                key = reactions.key(name, reaction)
                if unasked.is_due(reaction, *self._pending.last(key)):
                    keys.append(key)
        return keys

    def _followed(self, reaction: str, tag: object, data: object) -> list[str]:
        """Return the keys of the reactions that an event calls for; an invalid one is logged."""
        with _PARSING:
            try:
                event = reactions.parse(tag, data)
                if reaction not in event.reactions:
                    return []
                members = pillars.memberships(self._opts, self._functions, self._context)
                names = reactions.clusters(event, members)
                return [reactions.key(name, reaction) for name in names]
            except InputError as error:
                detail = _LOG_LIMITER.new(str(error), time.monotonic())
                if detail:
                    log.warning("%s", detail)
                return []

    def _answered(self, key: str, before: str) -> str:
        """Check, act, and log the result; return what a person has to do, empty if nothing.

        before
            What was returned last, which is not logged again.
        """
        name, _, reaction = key.rpartition(".")
        try:
            nodes = SaltNodes(self._opts, pillars.cluster(name, self._opts, self._functions))
            needed = self._of[reaction](nodes, before)
        except (KvmclusterError, SaltException) as error:
            needed = reactions.line(f"{key}: nothing could be done: {error}")
        except Exception as error:
            # Nobody reads what a runner returns to a reactor.
            log.exception("%s: nothing could be done", key)
            needed = reactions.line(f"{key}: nothing could be done: {error!r}")
        if needed and needed != before:
            log.error("%s", needed)
        return needed

    def _mend_trust(self, nodes: SaltNodes, before: str) -> str:
        found = nodes.cluster
        answers = nodes.ask(nodes.all, MINE_FUNCTION)
        reported, _ = publication.reported_identities(found, answers)
        filed = doors.mine_identities(found, self._functions["mine.get"], self._context).accepted
        tried = applier.apply(nodes, [*answers], ["kvmcluster"], True, Nobody(), course.SOON)
        observed = reactions.trust(found, reported, filed, outcome.returns(tried))
        if not observed.wrong and not observed.stuck:
            silent = [*observed.silent]
            log.info("cluster %s: its trust is complete; silent: %s", found.name, silent)
            return ""
        needed = "; ".join(f"{node}: {why}" for node, why in observed.stuck.items())
        if observed.wrong:
            why = "; ".join(f"{node}: {why}" for node, why in observed.wrong.items())
            log.warning("cluster %s: its trust is repaired: %s", found.name, reactions.line(why))
            pillar = {"cluster": found.name, "nodes": [*answers]}
            needed = self._orchestrate("kvmcluster.orch.prepare", pillar)
        if not needed:
            log.warning("cluster %s: its trust is complete again", found.name)
            return ""
        return reactions.line(
            f"cluster {found.name}: its trust is incomplete: {needed}; when that is fixed:"
            " salt-run state.orchestrate kvmcluster.orch.prepare"
            f' pillar=\'{{"cluster": "{found.name}"}}\''
        )

    def _settle_migrations(self, nodes: SaltNodes, before: str) -> str:
        found = nodes.cluster
        left = reactions.left(found, _asked(nodes, "kvmcluster.unsettled"))
        if left.watched:
            self._pending.leave(reactions.key(found.name, reactions.RECOVER))
        if not left.guests and not left.unread:
            silent = [*left.silent]
            log.info(
                "cluster %s: no migration is left to be settled; silent: %s", found.name, silent
            )
            return ""
        needed = "; ".join(left.unread)
        if left.guests:
            names = listed(left.guests, MAX_NAMES)
            log.warning("cluster %s: migrations are settled: %s", found.name, names)
            pillar = {"cluster": found.name, "guests": list(left.guests)}
            failed = self._orchestrate("kvmcluster.orch.recover", pillar)
            needed = "; ".join(filter(None, [needed, failed]))
        if not needed:
            log.warning("cluster %s: migrations were settled: %s", found.name, names)
            return ""
        return reactions.line(
            f"cluster {found.name}: not settled: {needed}; for each guest: salt-run"
            f" kvmcluster.recover GUEST cluster={found.name}"
        )

    def _report_doubles(self, nodes: SaltNodes, before: str) -> str:
        found = nodes.cluster
        seen = _doubles(nodes)
        if not seen.alarms and not seen.standing:
            silent = [*seen.silent]
            log.info("cluster %s: no guest is seen to run twice; silent: %s", found.name, silent)
            return ""
        needed = "; ".join(filter(None, [_twice(found.name, seen), _stands(found.name, seen)]))
        if seen.alarms and needed != before:
            stamp = seen.now.strftime("%Y%m%dT%H%M%S")
            text = json.dumps(seen.alarms, indent=1) + "\n"
            path = self._pending.keep(f"alarm.{found.name}", stamp, text)
            log.error("cluster %s: a guest runs twice, the evidence is in %s", found.name, path)
            for one in seen.alarms:
                tag = events.tag(found.name, events.ALARM, one["nodes"][0], one["guest"])
                self._functions["event.send"](tag, events.small(split_brain.small(one)))
        return needed

    def _restart_crashed(self, nodes: SaltNodes, before: str) -> str:
        found = nodes.cluster
        if not restarts.wanted(found):
            return ""
        answers = nodes.ask(nodes.all, "kvmcluster.restart_crashed", within=ACTION)
        rows, failed = restarts.answered(found, answers)
        wrong = "; ".join(filter(None, [*failed, restarts.summary(rows)]))
        needed = reactions.line(f"cluster {found.name}: {wrong}") if wrong else ""
        for row in rows:
            if row["result"] == startup.STARTED or needed != before:
                told = f"{row['guest']} on {row['node']}: {row['result']}: {row['reason']}"
                log.warning("cluster %s: %s", found.name, reactions.line(told))
                tag = events.tag(found.name, events.RESTART, row["node"], row["guest"])
                self._functions["event.send"](tag, events.small({"what": row["result"], **row}))
        return needed

    def _orchestrate(self, sls: str, pillar: Mapping[str, Any]) -> str:
        """Run an orchestration as a job of its own; return why it failed, empty if it did not."""
        client = salt.runner.RunnerClient({**self._opts})
        try:
            done = client.cmd(
                "state.orchestrate",
                kwarg={"mods": sls, "pillar": pillar},
                print_event=False,
                full_return=True,
            )
        finally:
            # Salt 3006 has nothing to close there.
            getattr(client, "destroy", bool)()
        returned = done.get("return")
        data = returned.get("data") if isinstance(returned, dict) else None
        return reactions.failures(next(iter(data.values()), None) if data else returned)


def _asked(nodes: SaltNodes, function: str, **named: Any) -> dict[str, Any]:
    """Ask all nodes, and those that did not respond once more.

    On a busy machine Salt gives up a minion that is only late, and nothing would be seen of what
    the event was about.
    """
    answers = nodes.ask(nodes.all, function, **named)
    silent = [node for node in nodes.all if node not in answers]
    nodes.forget_silence()
    return {**answers, **nodes.ask(silent, function, **named)} if silent else answers


@dataclasses.dataclass(frozen=True)
class _Seen:
    """The evidence for each guest that runs twice, which guests stand, and the silent nodes."""

    alarms: list[dict[str, Any]]
    standing: list[str]
    silent: tuple[str, ...]
    now: datetime


def _doubles(nodes: SaltNodes) -> _Seen:
    """Return which guests run twice, and which stand.

    Nodes respond one after the other, so both may report a guest that moves meanwhile, and its copy
    may be about to be resumed: it takes two observations that agree.
    """
    alarms, read, now = _doubled(nodes)
    standing = problems.standing(read)
    if alarms or standing:
        time.sleep(ASK_AGAIN)
        again, read, now = _doubled(nodes)
        alarms = split_brain.steady(alarms, again)
        standing = [sentence for sentence in problems.standing(read) if sentence in standing]
    silent = tuple(node for node, one in read.items() if one.guests is None)
    return _Seen(alarms, standing, silent, now)


def _twice(cluster: str, seen: _Seen) -> str:
    if not seen.alarms:
        return ""
    sentences = "; ".join(one["sentence"] for one in seen.alarms)
    return reactions.line(
        f"cluster {cluster}: {split_brain.summary(seen.alarms)}; nothing was touched; to see it:"
        f" salt-run kvmcluster.status cluster={cluster}: {sentences}"
    )


def _stands(cluster: str, seen: _Seen) -> str:
    if not seen.standing:
        return ""
    silent = f"; silent: {', '.join(seen.silent)}" if seen.silent else ""
    return reactions.line(f"cluster {cluster}: {'; '.join(seen.standing)}{silent}")


def _doubled(
    nodes: SaltNodes,
) -> tuple[list[dict[str, Any]], dict[str, NodeFacts], datetime]:
    sent = _asked(nodes, "kvmcluster.facts", targets=False, trust=False)
    now = datetime.now(timezone.utc)
    read = {
        node: node_report.parse(node, sent.get(node), now.timestamp(), now.timestamp())
        for node in nodes.all
    }
    return split_brain.alarms(nodes.cluster, read, sent, now), read, now
