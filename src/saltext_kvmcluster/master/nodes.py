"""A cluster's nodes over Salt: jobs, and their returns, none of which is waited for forever."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import salt.cache
import salt.client
import salt.utils.event
import salt.utils.jid
from salt.exceptions import SaltClientError, SaltException

from saltext_kvmcluster.core import silence
from saltext_kvmcluster.core.applying import course
from saltext_kvmcluster.core.applying.course import Begun
from saltext_kvmcluster.core.drain import departures, maintenance
from saltext_kvmcluster.core.drain.departures import Hint
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import one_line
from saltext_kvmcluster.engine.environment import Call
from saltext_kvmcluster.engine.fleet import ACTION, ASK_AGAIN, QUESTION, Fleet, Meanwhile
from saltext_kvmcluster.master.listener import Listener

# Seconds in which the master answers that it took a job; Salt asks it three times.
PROMPT = 3
# Seconds without an answer in which the job of a node is still followed.
STOPPED = 90.0
# Where the master remembers which SLS files it has begun; the returner on the nodes.
BANK, KEPT = "kvmcluster/applied", "kvmcluster"

log = logging.getLogger(__name__)


class MasterClock:
    """The master's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def wait(self, call: Call | Sequence[Call] | None, seconds: float) -> None:
        time.sleep(seconds)


class SaltNodes(Fleet):
    """The nodes of a cluster; a context, which closes what it holds of Salt's.

    opts
        The master's options.
    cluster
        The cluster, as the pillar has it.
    """

    def __init__(self, opts: Mapping[str, Any], cluster: Cluster) -> None:
        super().__init__(cluster, MasterClock())
        self.opts = opts
        self._open = contextlib.ExitStack()
        self._returns: Any = None
        self._cache: Any = None
        self._silences = silence.Memory()
        self._bus: Any = None

    def __enter__(self) -> SaltNodes:
        return self

    def __exit__(self, *error: object) -> None:
        self._returns = self._bus = None
        self._open.close()

    def ask(
        self,
        nodes: Iterable[str],
        function: str,
        *arguments: Any,
        within: float = QUESTION,
        sent: Callable[[], None] | None = None,
        meanwhile: Meanwhile | None = None,
        **named: Any,
    ) -> dict[str, Any]:
        """Run a function on some nodes, as one job, and return what each one returned.

        A node that was silent a moment ago is sent the job, too, and waited for but briefly, unless
        it gives a sign of life: silent nodes cost a command their time limit once.

        within
            Seconds to wait while a node reports that the job runs. One that has not returned by
            then counts as silent, like one that is down; its job goes on. If it is as much as an
            action may take, a minion that is stopped for a minute and a half is waited for, too.
        sent, meanwhile
            As ``Fleet.ask`` has them.
        """
        how = {"kwarg": named}
        return self._asked(list(nodes), function, arguments, within, sent, meanwhile, how)

    def ask_in_turn(
        self, node: str, questions: Mapping[str, Sequence[Any]], within: float = QUESTION
    ) -> dict[str, Any]:
        """Ask a node several questions, in this order, by one job; see ``Fleet.ask_in_turn``."""
        arguments = [list(given) for given in questions.values()]
        found = self._asked([node], list(questions), arguments, within).get(node)
        # The minion's option multifunc_ordered makes it a list.
        answers = dict(zip(questions, found, strict=False)) if isinstance(found, list) else found
        if not isinstance(answers, dict):
            return {}
        return {key: in_a_line(answers[key]) for key in questions if answers.get(key) is not None}

    def _asked(
        self,
        nodes: list[str],
        function: str | list[str],
        arguments: Sequence[Any],
        within: float,
        sent: Callable[[], None] | None = None,
        meanwhile: Meanwhile | None = None,
        how: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        end = self.clock.monotonic() + within
        if not nodes:
            return {}
        how = {**(how or {}), "tgt_type": "list", "timeout": self.opts["timeout"]}
        try:
            with self.client() as client:
                job = client.run_job(nodes, function, arguments, listen=True, **how)
                if sent:
                    sent()
                begun = {**job, "fun": function}
                found = self._answers(client, begun, within, meanwhile) if job else {}
            late = set(job.get("minions", ())) - set(found) if within >= ACTION else ()
            return {**found, **self._late(job["jid"], late, end)} if late else found
        except SaltException as error:
            # A master that was restarted has another key; the next client reads it.
            log.warning("kvmcluster: %s could not be sent to the nodes: %s", function, error)
            return {}

    def forget_silence(self) -> None:
        """Wait for every node in full again."""
        self._silences = silence.Memory()

    def dispatch(self, source: str, moves: Sequence[Move], while_cordoned: bool) -> str:
        """Have a node carry out moves, which the job's id is the name of there."""
        job = self.new_job()
        self._listen()
        rows = [asdict(move) for move in moves]
        self._begin(job, source, "kvmcluster.depart", rows, job, while_cordoned=while_cordoned)
        return job

    def begin(self, node: str, function: str, *arguments: Any, **named: Any) -> str:
        """Have a node run a function. The job has an id beforehand, to be asked about."""
        job = self.new_job()
        self._begin(job, node, function, *arguments, **named)
        return job

    def _begin(self, job: str, node: str, function: str, *arguments: Any, **named: Any) -> None:
        how = {"tgt_type": "list", "jid": job, "kwarg": named}
        # A new client each time: a master that was restarted has another key.
        with self.client() as client, contextlib.suppress(SaltException):
            # Whether it was sent is found out as for a node that does not respond.
            client.run_job([node], function, list(arguments), **how)

    def publish(
        self,
        job: str,
        nodes: Sequence[str],
        function: str,
        arguments: Sequence[Any],
        named: Mapping[str, Any],
    ) -> None:
        """Have nodes run a function as the job of that id; WorldError if the master refuses it."""
        how = {"tgt_type": "list", "kwarg": dict(named), "timeout": PROMPT}
        try:
            with self.client() as client:
                client.run_job(list(nodes), function, arguments, jid=job, **how)
        except SaltException as error:
            # What follows is Salt's advice for its own command lines.
            why = one_line(str(error)).partition(". ")[0]
            raise WorldError(f"the master does not take jobs: {why}") from None

    def hints(self) -> list[Hint]:
        """Return what events say of migrations; none where the bus cannot be listened to."""
        found = []
        try:
            while self._bus and (event := self._bus.get_event(full=True, no_block=True)):
                found.append(departures.hint(self.cluster.name, event["tag"], event["data"]))
        except Exception as error:
            self._is_deaf(error)
        return [hint for hint in found if hint]

    def _listen(self) -> None:
        """Begin to listen to events, unless that is done already."""
        try:
            if self._bus is None:
                bus = salt.utils.event.get_master_event(self.opts, self.opts["sock_dir"])
                self._bus = self._open.enter_context(bus)
        except Exception as error:
            self._is_deaf(error)

    def _is_deaf(self, error: Exception) -> None:
        """Go on without events, which a master that was restarted sends elsewhere."""
        log.info("kvmcluster: events cannot be read: %r", error)
        self._bus = None

    def returns(self, job: str) -> Mapping[str, Any]:
        """Return by node what the job cache holds of a job."""
        if self._returns is None:
            self._returns = self._open.enter_context(self.client())
        try:
            return _returned(self._returns.get_cache_returns(job), self.all)
        except (OSError, SaltException):
            return {}

    def new_job(self) -> str:
        """Return an id for a job, so that it can be asked about whatever becomes of its sending."""
        return str(salt.utils.jid.gen_jid(self.opts))

    def begin_states(self, job: str, nodes: Sequence[str], sls: Sequence[str], test: bool) -> None:
        """Have nodes apply SLS files. ``queue`` overrides the minion's option ``state_queue``.

        Salt's returner ``kvmcluster`` keeps the return on the node, where it can be asked for.
        """
        named = {"queue": False, "concurrent": False, **({"test": True} if test else {})}
        how = {"tgt_type": "list", "jid": job, "ret": KEPT, "kwarg": named}
        with self.client() as client, contextlib.suppress(SaltException):
            client.run_job(list(nodes), "state.sls", [",".join(sls)], **how)

    def begun_states(self) -> Mapping[str, Begun]:
        """Return by node the SLS files that were begun and whose end was not observed."""
        found = {node: course.begun(self._memory("fetch", node)) for node in self.all}
        return {node: one for node, one in found.items() if one}

    def remember_states(self, node: str, begun: Begun) -> None:
        """Keep in the master's cache what is about to be begun on a node."""
        self._memory("store", node, begun.to_dict())

    def forget_states(self, node: str, begun: Begun) -> None:
        """Remove it from the master's cache, unless another process began something else there."""
        if course.begun(self._memory("fetch", node)) == begun:
            self._memory("flush", node)

    def _memory(self, verb: str, *arguments: Any) -> Any:
        """Use the master's cache, a bank for each cluster; WorldError if it fails."""
        if self._cache is None:
            self._cache = salt.cache.factory(self.opts)
        try:
            return getattr(self._cache, verb)(f"{BANK}/{self.cluster.name}", *arguments)
        except (OSError, SaltException) as error:
            raise WorldError(
                f"the master's cache of what was begun fails: {error}; is its disk full? If it is"
                f" damaged: salt-run cache.flush {BANK}/{self.cluster.name}"
            ) from None

    def boot(self, node: str) -> maintenance.Boot | None:
        """Return which boot a node is in, None if it does not respond."""
        return maintenance.boot(self.ask([node], "kvmcluster.boot").get(node))

    def client(self) -> Any:
        """Return a client of Salt's, to be closed by the caller."""
        return salt.client.get_local_client(self.opts["conf_file"])

    def _late(self, job: str, nodes: Collection[str], end: float) -> dict[str, Any]:
        """Follow a job on nodes that Salt no longer waits for: it asks each of them but once."""
        found: dict[str, Any] = {}
        heard = dict.fromkeys(nodes, self.clock.monotonic())
        absent: set[str] = set()
        while heard and self.clock.monotonic() < end:
            present = {node: self.has_job(node, job) for node in heard}
            now, returns = self.clock.monotonic(), self.returns(job)
            for node, is_there in present.items():
                if node in returns or now - heard[node] > STOPPED or node in absent:
                    found |= {node: returns[node]} if node in returns else {}
                    del heard[node]
                elif is_there is not None:
                    heard[node] = now
                    absent |= set() if is_there else {node}
            self.clock.wait(None, ASK_AGAIN)
        return found

    def _answers(
        self, client: Any, job: Mapping[str, Any], within: float, meanwhile: Meanwhile | None
    ) -> dict[str, Any]:
        """Return what nodes return for a job within so many seconds.

        Whatever ends the waiting, what was returned counts, and so does what reached the master
        while it was restarted.
        """
        begun, asked = self.clock.monotonic(), job["minions"]
        limit = silence.limit(self.opts["timeout"], meanwhile is not None)
        wait = silence.Wait(asked, begun, limit, self._silences.silent(begun))
        listener = Listener(client, job, self.clock)
        try:
            listener.listen(wait, within, meanwhile)
        except Exception as error:
            # The master may have been restarted, and no event comes from it anymore.
            log.warning(
                "kvmcluster: not all returns of %s could be received: %r", job["fun"], error
            )
        found = listener.reported
        missing = set(asked) - set(found)
        found |= _returned(_filed(client, job), missing) if missing else {}
        now = self.clock.monotonic()
        self._silences.note(wait.silent(now), {*found, *listener.responded}, now)
        return found


def in_a_line(answer: Any) -> Any:
    """Return an answer to one of several questions; of an error, which is a traceback, its text."""
    if isinstance(answer, str) and answer.startswith("Traceback"):
        return f"ERROR: {(answer.strip().splitlines()[-1]).partition(': ')[2]}"
    return answer


def late(client: Any, job: Mapping[str, Any] | None, node: str) -> Any:
    """Return what a node that was no longer waited for has returned, None if it has not."""
    return _returned(_filed(client, job), [node]).get(node) if job else None


def _filed(client: Any, job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the returns of a job that have reached the master."""
    try:
        found: Mapping[str, Any] = client.get_cache_returns(job["jid"])
    except (OSError, SaltClientError):
        return {}
    return found


def _returned(answer: Mapping[str, Any], asked: Collection[str]) -> dict[str, Any]:
    """Return by node what it returned; a node that Salt reports as failed to return has nothing."""
    return {
        node: one["ret"]
        for node, one in answer.items()
        if node in asked and isinstance(one, dict) and "ret" in one
    }
