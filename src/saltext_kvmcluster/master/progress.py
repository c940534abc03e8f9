"""One migration that the master has a node do, with its progress on the terminal."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import salt.utils.event
from salt.exceptions import SaltException

from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.findings import Finding
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.output.migrations import progress_line
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.engine.fleet import ASK_AGAIN
from saltext_kvmcluster.master.nodes import SaltNodes, late
from saltext_kvmcluster.master.terminal import Line, interrupts

log = logging.getLogger(__name__)

POLL = 0.2


def warn(findings: Iterable[Finding]) -> None:
    """Say before a migration what its result will say, too."""
    for finding in findings:
        log.warning("kvmcluster: %s: %s", finding.sentence, finding.remedy)


def watched(nodes: SaltNodes, move: Move, options: Mapping[str, Any]) -> dict[str, Any]:
    """Have a guest migrated by its node, show how far it is, and return what came of it.

    options
        The arguments of ``kvmcluster.migrate`` on the node; its ``patience`` holds here, too.
    """
    with interrupts() as interrupted, nodes.client() as client:
        job = _begun(client, move, options)
        done = locations.ended(_answer(nodes, client, job, move, interrupted)) if job else None
        end = time.monotonic() + options["patience"]
        while done is None and not interrupted.is_set():
            done = nodes.settled(move)
            if done["result"] != migration.MOVED and time.monotonic() < end:
                interrupted.wait(ASK_AGAIN)
                done = locations.ended(late(client, job, move.source))
    return done or locations.lost(move, "interrupted; the migration goes on")


def _begun(client: Any, move: Move, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Have a guest's node migrate it; return the job, None where it is not known if it was sent."""
    try:
        job: Mapping[str, Any] = client.run_job(
            [move.source],
            "kvmcluster.migrate",
            [move.guest, move.destination],
            tgt_type="list",
            kwarg=options,
            listen=True,
        )
    except SaltException:
        return None
    return job


def _answer(
    nodes: SaltNodes,
    client: Any,
    job: Mapping[str, Any],
    move: Move,
    interrupted: threading.Event,
) -> Any:
    """Return what a guest's node returns in the end; None if it stops responding, or we do."""
    try:
        return _followed(nodes, client, job, move, interrupted)
    except Exception as error:
        # Salt does not check what a minion returns when it asks whether the job still runs, and a
        # master may be restarted: then all nodes are asked where the guest is.
        log.warning("kvmcluster: responses of %s can no longer be read: %r", move.source, error)
        return None


def _followed(
    nodes: SaltNodes,
    client: Any,
    job: Mapping[str, Any],
    move: Move,
    interrupted: threading.Event,
) -> Any:
    """Show how far a migration is until its node returns; return that, or None."""
    tag = events.tag(nodes.cluster.name, events.MIGRATION, move.source, move.guest)
    reported: Mapping[str, Any] = {}
    begun, asked = time.monotonic(), [move.source]
    answers = client.get_iter_returns(job["jid"], asked, tgt=asked, tgt_type="list", block=False)
    with (
        salt.utils.event.get_master_event(nodes.opts, nodes.opts["sock_dir"]) as bus,
        contextlib.closing(Line(nodes.opts)) as line,
        contextlib.closing(answers),
    ):
        for answer in answers:
            if answer and move.source in answer:
                return answer[move.source].get("ret")
            if interrupted.is_set():
                break
            # Any event ends the waiting: one of them is the return.
            event = bus.get_event(wait=POLL, full=True)
            if event and event["tag"] == tag:
                reported = event["data"].get("data", {})
            line.show(progress_line(move, reported, time.monotonic() - begun))
    return None
