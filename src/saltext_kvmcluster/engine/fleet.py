"""A cluster's nodes as the master asks them: by jobs, whose responses may be late, lost, or wrong.

What a node returns is untrusted until core has parsed it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from saltext_kvmcluster.core import silence
from saltext_kvmcluster.core.applying.course import Begun
from saltext_kvmcluster.core.drain import placement
from saltext_kvmcluster.core.drain.departures import Hint
from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.migration import jobs, migration, records
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import cancellation, locations
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.readiness import examination, follow_up, problems, subjects
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.report import Readiness
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.engine.environment import Clock

QUESTION = 120.0
"""Seconds to wait for the response to a question. A minion reports that a job still runs for as
long as it does, and where storage hangs that is forever."""
ACTION = 900.0
"""Seconds to wait for the response to something that may take long."""
ASKERS = 3
"""How many nodes look for one whose minion is silent: a cable may be cut between two."""
ASK_AGAIN = 3.0
"""Seconds until nodes are asked again, where what they reported may soon change."""


Meanwhile = Callable[[Sequence[str], Sequence[str]], None]


class PeerLook(NamedTuple):
    """What peers report of a node, by peer, and when they were asked and responded."""

    reported: Mapping[str, object]
    asked: float
    answered: float


class Fleet(ABC):
    """The nodes of a cluster; ``all`` are their minion ids.

    What is abstract is how a question reaches them, and an answer comes back: Salt, or the
    simulation.
    """

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.cluster, self.clock = cluster, clock
        self.all = list(cluster.nodes)

    @abstractmethod
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
        """Run a function on some nodes, as one job; return what each node returned, if it did.

        within
            Seconds to wait while a node reports that the job still runs.
        sent
            Called once the job was sent, for what can be done while the nodes are at work.
        meanwhile
            Called once while nodes without any sign of life are waited for: with these, and with
            those that have returned.
        """

    def ask_in_turn(
        self, node: str, questions: Mapping[str, Sequence[Any]], within: float = QUESTION
    ) -> dict[str, Any]:
        """Ask a node several questions, in this order; return the answers that came, by function.

        questions
            The arguments of each function.
        """
        found: dict[str, Any] = {}
        for function, arguments in questions.items():
            answers = self.ask([node], function, *arguments, within=within)
            found |= {function: answers[node]} if node in answers else {}
        return found

    @abstractmethod
    def dispatch(self, source: str, moves: Sequence[Move], while_cordoned: bool) -> str:
        """Have a node carry out moves away from it, by one job; return the job's id.

        Whether the node received the job is not known then.

        while_cordoned
            Whether none is to begin once the node is not cordoned any more.
        """

    @abstractmethod
    def begin(self, node: str, function: str, *arguments: Any, **named: Any) -> str:
        """Have a node run a function, as a job of its own; return the job's id, as ``dispatch``."""

    @abstractmethod
    def hints(self) -> list[Hint]:
        """Return what was heard of migrations since this was called last; any may be missing."""

    def departed(self, node: str, job: str, stop: bool = False) -> Any:
        """Return what a node tells of the moves that a job carries out there.

        stop
            Whether it is to begin none of them any more.
        """
        return self.ask([node], "kvmcluster.departed", job, stop).get(node)

    @abstractmethod
    def returns(self, job: str) -> Mapping[str, Any]:
        """Return by node what nodes have returned for a job."""

    def returned(self, job: str, node: str) -> Any:
        """Return what a node has returned for a job; None if nothing yet."""
        return self.returns(job).get(node)

    @abstractmethod
    def new_job(self) -> str:
        """Return an id for a job that is to be begun."""

    @abstractmethod
    def begin_states(self, job: str, nodes: Sequence[str], sls: Sequence[str], test: bool) -> None:
        """Have nodes apply SLS files as the job of that id, at once or not at all.

        Whether a node received the job is not known then.
        """

    @abstractmethod
    def begun_states(self) -> Mapping[str, Begun]:
        """Return by node the SLS files that were begun there and whose end was not observed."""

    @abstractmethod
    def remember_states(self, node: str, begun: Begun) -> None:
        """Remember, beyond this process, that SLS files are about to be begun on a node."""

    @abstractmethod
    def forget_states(self, node: str, begun: Begun) -> None:
        """Forget what was begun on a node, whose end was observed."""

    def has_job(self, node: str, job: str) -> bool | None:
        """Return whether a node runs a job; None if it does not respond."""
        found = self.ask([node], "saltutil.find_job", job).get(node)
        if isinstance(found, dict) and found.get("jid") == job:
            return True
        return False if found == {} else None

    def facts(self, nodes: Iterable[str] | None = None, **named: Any) -> dict[str, NodeFacts]:
        """Ask every node, or some, for their facts, by one job."""
        nodes = list(nodes or self.all)
        asked = self.clock.now().timestamp()
        sent = self.ask(nodes, "kvmcluster.facts", **named)
        answered = self.clock.now().timestamp()
        return {node: node_report.parse(node, sent.get(node), asked, answered) for node in nodes}

    def seen(self) -> dict[str, NodeFacts]:
        """Return the guests of every node, by peers where its minion gives no facts."""
        return self._with_peers(*self._first_look())[0]

    def steady_facts(
        self, sent: Callable[[], None] | None = None, **named: Any
    ) -> dict[str, NodeFacts]:
        """Return the guests of every node, asked for again where that may show less problems.

        A node whose minion gives no facts is asked by peers, while it is still waited for.

        sent
            As of ``ask``.
        """
        begun = self.clock.monotonic()
        first, looks = self._first_look(sent=sent, **named)
        waited = self.clock.monotonic() - begun - silence.DOUBT
        return self.steadied(first, looks, max(waited, 0.0), **named)

    def _first_look(self, **named: Any) -> tuple[dict[str, NodeFacts], dict[str, PeerLook]]:
        """Return what nodes report of themselves, and peers meanwhile of those without a sign."""
        looks: dict[str, PeerLook] = {}

        def look(unheard: Sequence[str], answered: Sequence[str]) -> None:
            looks.update(self._looks(unheard, answered))

        return self.facts(targets=False, trust=False, meanwhile=look, **named), looks

    def steadied(
        self,
        first: Mapping[str, NodeFacts],
        looks: Mapping[str, PeerLook] | None = None,
        waited: float = 0.0,
        **named: Any,
    ) -> dict[str, NodeFacts]:
        """Return facts as ``steady_facts``, of which there is a first look already.

        looks
            What peers report of nodes without facts.
        waited
            Seconds since the first look.
        """
        facts, looks = self._with_peers(first, looks or {})
        if problems.may_pass(self.cluster, facts):
            self.clock.wait(None, max(ASK_AGAIN - waited, 0.0))
            answering = [node for node, one in first.items() if not one.detail]
            named = {"targets": False, "trust": False, **named}
            again = self.facts(answering, **named) if answering else {}
            unreached = {node: one for node, one in looks.items() if facts[node].detail}
            facts, _ = self._with_peers({**first, **again}, unreached)
        return facts

    def _with_peers(
        self, facts: Mapping[str, NodeFacts], looks: Mapping[str, PeerLook]
    ) -> tuple[dict[str, NodeFacts], dict[str, PeerLook]]:
        """Return facts with those that peers collect of nodes without any, and all their looks."""
        silent = [node for node, one in facts.items() if one.detail]
        answered = [node for node, one in facts.items() if not one.detail]
        looks = {**self._looks([one for one in silent if one not in looks], answered), **looks}
        found = {
            node: node_report.by_peers(facts[node], *looks[node])
            for node in silent
            if node in looks
        }
        return {**facts, **found}, looks

    def _looks(self, silent: Sequence[str], answered: Sequence[str]) -> dict[str, PeerLook]:
        """Have some of the nodes that responded look after those that did not."""
        if not silent or not answered:
            return {}
        begun = self.clock.now().timestamp()
        answers = self.ask(answered[:ASKERS], "kvmcluster.peer_facts", list(silent))
        ended = self.clock.now().timestamp()
        return {node: PeerLook(node_report.of_node(answers, node), begun, ended) for node in silent}

    def placeable(
        self,
        guest: str | None = None,
        source: str | None = None,
        destination: str | None = None,
        **named: Any,
    ) -> tuple[World, Readiness]:
        """Return the facts of all nodes, and what they mean for the moves in question.

        Two jobs: all nodes report their facts, and log in as the moves would; then they inspect
        what the guests need.

        named
            Further arguments of ``kvmcluster.facts``.
        """
        targets = logins.as_moves(self.cluster, source, destination)
        facts = self.facts(targets=targets, **named)
        world = self._answered(facts, guest, source, destination)
        return world, examination.examine(world, guest, source, destination)

    def checked(self, guest: str, destination: str | None = None) -> Readiness:
        """Return whether one guest can move, wherever it is now.

        Its node and the destinations report all; the others, whether it is unique.
        """
        targets = logins.as_moves(self.cluster, None, destination)
        facts = self.facts(targets=targets, guest=guest, destination=destination)
        found = subjects.guests_in_question(World(self.cluster, facts), guest, None)
        if len(found) > 1:
            return self.placeable(guest, destination=destination)[1]
        world = self._answered(facts, guest, found[0].node, destination)
        return examination.examine(world, guest, found[0].node, destination)

    def startable(self) -> World:
        """Return what a start of any guest on any node depends on: the same two jobs, no logins."""
        return self._answered(self.facts(targets=False))

    def _answered(
        self,
        facts: Mapping[str, NodeFacts],
        guest: str | None = None,
        source: str | None = None,
        destination: str | None = None,
    ) -> World:
        world = World(self.cluster, facts)
        questions = follow_up.questions(world, guest, source, destination)
        answers = self.ask(list(questions), "kvmcluster.inspect", questions)
        return follow_up.answered(world, answers)

    def rows(
        self, function: str, key: str, *arguments: Any
    ) -> tuple[dict[str, list[Any]], dict[str, str]]:
        """Ask every node for rows by one job; return them, and why a node returned none."""
        answers = self.ask(self.all, function, *arguments)
        reported = {
            node: answers[node][key]
            for node in self.all
            if isinstance(answers.get(node), dict) and isinstance(answers[node].get(key), list)
        }
        silent = {
            node: locations.silent(answers.get(node)).observation.detail
            for node in self.all
            if node not in reported
        }
        return reported, silent

    def sightings(self, guest: str) -> dict[str, locations.Answer]:
        """Return what every node reports of a guest."""
        answers = self.ask(self.all, "kvmcluster.sighting", guest)
        return locations.parse(answers, tuple(self.all))

    def refuse_unknown(self, guest: str) -> None:
        """Raise InputError if no node has a guest, and the pillar does not list it."""
        locations.refuse_unknown(self.cluster, guest, self.sightings(guest))

    def move(self, guest: str, destination: str | None) -> tuple[Move, str, bool]:
        """Return the move that is asked for, and a warning; an error where it is not possible.

        Its destination is empty where none is named. The warning is why a destination's minion did
        not report the guest, empty if it did, and whether it answered at all.
        """
        target = ""
        if destination is not None:
            target = migration.target(self.cluster, None, destination).id
        reported = self.sightings(guest)
        source = locations.source(self.cluster, guest, reported, target)
        move = Move(guest, reported[source].observation.uuid, source, target)
        if not target:
            return move, "", True
        there = reported[target]
        return move, there.observation.detail, there.heard

    def best_move(self, guest: str) -> tuple[Move, str]:
        """Return the best move for a guest, chosen by all checks and the nodes' load, and why."""
        source = self.move(guest, None)[0].source
        step = placement.best(*self.placeable(guest, source), guest)
        return step.move, step.why

    def cancelled(self, guest: str) -> dict[str, Any]:
        """Have the node that sends a guest cancel its migration; ``ok`` if the guest stays there.

        If that node does not tell how it ended, the first node that responds settles it.
        """
        reported, silent = self.rows("kvmcluster.job", "jobs")
        try:
            node = jobs.sender(guest, reported, silent)
        except WorldError:
            self.refuse_unknown(guest)
            raise
        answers = self.ask([node], "kvmcluster.cancel", guest, within=ACTION)
        done = locations.ended(answers.get(node))
        if done is None:
            done = self.recovered(guest)
            done = {**done, "result": cancellation.after_cancel(done["owner"], node)}
        return {**done, "ok": done["owner"] == node}

    def settled(self, move: Move) -> dict[str, Any]:
        """Return the outcome of a migration as the nodes that respond find it."""
        try:
            return locations.settled(move, self.recovered(move.guest))
        except KvmclusterError as error:
            return locations.lost(move, str(error))

    def recovered(self, guest: str) -> dict[str, Any]:
        """Have the first node that responds settle a guest's last migration."""
        reported = self.sightings(guest)
        for node in locations.fit_to_ask(reported):
            answer = self.ask([node], "kvmcluster.recover", guest, within=ACTION).get(node)
            if isinstance(answer, dict) and locations.is_ending(answer):
                return answer
            reported[node] = locations.silent(answer)
        raise locations.nobody(guest, reported)

    def under_way(self, node: str) -> list[dict[str, Any]]:
        """Return the migrations that a node reports; none if it does not respond."""
        return jobs.of_node(node, self.ask([node], "kvmcluster.job").get(node))

    def look(self, node: str) -> tuple[list[dict[str, Any]], NodeFacts]:
        """Return the migrations that a node reports, and its facts after that."""
        asked = self.clock.now().timestamp()
        questions = {"kvmcluster.job": [], "kvmcluster.facts": [False, False]}
        sent = self.ask_in_turn(node, questions)
        answered = self.clock.now().timestamp()
        facts = node_report.parse(node, sent.get("kvmcluster.facts"), asked, answered)
        return jobs.of_node(node, sent.get("kvmcluster.job")), facts

    def remembered(self, node: str) -> list[dict[str, Any]] | None:
        """Return the migrations in a node's history; None if it does not respond."""
        reported = self.ask([node], "kvmcluster.history", None, records.MOST).get(node)
        return records.of_node(reported)
