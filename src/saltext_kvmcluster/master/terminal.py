"""What whoever sits at the master's terminal sees of migrations, and ends with Ctrl-C."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time

import salt.utils.event
from salt.exceptions import SaltException

from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.master.nodes import ASK_AGAIN, late

log = logging.getLogger(__name__)

POLL = 0.2
OUTPUTTER = "kvmcluster"
# Of a terminal that does not say.
COLUMNS = 80


class Line:
    """A line on a terminal that is written over until it is closed; nowhere else is it shown."""

    def __init__(self, opts):
        self._shown = sys.stderr.isatty() and opts.get("output") in (None, OUTPUTTER)
        self._text = ""

    def show(self, text):
        """Write it over with this."""
        if self._shown and text != self._text:
            self._text = text
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS
            print(f"\r{text[: columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def say(self, text):
        """Print something that stays."""
        if self._shown:
            self.close()
            print(text, file=sys.stderr, flush=True)

    def close(self):
        """Remove it."""
        if self._text:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._text = ""


@contextlib.contextmanager
def interrupts():
    """Yield an event that the first Ctrl-C sets, the next one does what it always does.

    An exception would not do: Salt's event bus takes KeyboardInterrupt for an event.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def note(number, frame):
        signal.signal(signal.SIGINT, before)
        interrupted.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def watched(nodes, move, options):
    """Have a guest moved by its node, show how far it is, and return what came of it.

    options
        What ``kvmcluster.migrate`` on the node is given; its ``patience`` holds here, too.
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
    return done or locations.lost(move, "watched no longer; the migration goes on")


def _begun(client, move, options):
    """Tell a guest's node to move it; return the job, None where nobody knows whether it was."""
    try:
        return client.run_job(
            [move.source],
            "kvmcluster.migrate",
            [move.guest, move.destination],
            tgt_type="list",
            kwarg=options,
            listen=True,
        )
    except SaltException:
        return None


def _answer(nodes, client, job, move, interrupted):
    """Return what a guest's node answers in the end; None if it stops answering, or we do."""
    try:
        return _heard(nodes, client, job, move, interrupted)
    except Exception as error:
        # Salt does not check what a minion says when it asks whether the job still runs, and a
        # master may be started anew: then all nodes are asked where the guest is.
        log.warning("kvmcluster: %s is no longer heard: %r", move.source, error)
        return None


def _heard(nodes, client, job, move, interrupted):
    """Show how far a migration is until its node answers; return the answer, or None."""
    tag = events.tag(nodes.cluster.name, events.MIGRATION, move.source, move.guest)
    reported, begun = {}, time.monotonic()
    asked = [move.source]
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
            # Any event ends the waiting: one of them is the answer.
            event = bus.get_event(wait=POLL, full=True)
            if event and event["tag"] == tag:
                reported = event["data"].get("data", {})
            line.show(tables.progress_line(move, reported, time.monotonic() - begun))
    return None
