"""A cluster's nodes, as the master asks them: by Salt's jobs, and never for ever."""

import contextlib
import logging
import time

import salt.client
from salt.exceptions import SaltClientError, SaltException

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.drain import maintenance
from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.migration import jobs, migration, records
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.readiness import examination, follow_up
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.trust import logins

# Seconds for the answers to a question, and to what does something that may take long. A minion
# says that a job still runs for as long as it does, and where storage hangs that is for ever.
QUESTION, DEED = 120.0, 900.0
# Seconds until nodes are asked again, where what they said may be over soon.
ASK_AGAIN = 3.0
# Seconds between looks for an answer, as in Salt itself.
PAUSE = 0.01

log = logging.getLogger(__name__)


class SaltNodes:
    """The nodes of a cluster.

    opts
        The master's options.
    cluster
        The cluster, as the pillar has it.
    """

    def __init__(self, opts, cluster):
        self.opts, self.cluster = opts, cluster
        self.all = list(cluster.nodes)

    def ask(self, nodes, function, *arguments, within=QUESTION, **named):
        """Run a function on some nodes, as one job, and return what each one answered.

        within
            Seconds to wait while a node says that it still runs. One that has not answered then is
            as silent as one that is down; its job goes on.
        """
        if not nodes:
            return {}
        how = {"kwarg": named, "tgt_type": "list", "timeout": self.opts["timeout"]}
        try:
            with self.client() as client:
                job = client.run_job(nodes, function, arguments, listen=True, **how)
                return self._answers(client, job, function, within) if job else {}
        except SaltException as error:
            # A master that was started anew has another key: it knows us the next time.
            log.warning("kvmcluster: nobody could be asked for %s: %s", function, error)
            return {}

    def client(self):
        """Return a client of Salt's, to be closed by whoever asked for it."""
        return salt.client.get_local_client(self.opts["conf_file"])

    def _answers(self, client, job, function, within):
        """Return what nodes answer to a job within so many seconds.

        Whatever ends the waiting, what was answered is returned, and what reached the master
        without being heard, while it was started anew.
        """
        reported = {}
        try:
            self._hear(client, job, function, within, reported)
        except Exception as error:
            # Salt does not check what minions say when it asks whether the job still runs.
            log.warning("kvmcluster: not all answers to %s could be heard: %r", function, error)
        missing = set(job["minions"]) - set(reported)
        return {**reported, **_returned(_filed(client, job), missing)} if missing else reported

    def _hear(self, client, job, function, within, reported):
        """Note what nodes answer to a job, until all have, or nobody does any more."""
        end, minions = time.monotonic() + within, job["minions"]
        waiting = {"timeout": self.opts["timeout"], "tgt": minions, "tgt_type": "list"}
        answers = client.get_iter_returns(job["jid"], minions, block=False, **waiting)
        with contextlib.closing(answers):
            for answer in answers:
                reported.update(_returned(answer or {}, minions))
                if time.monotonic() >= end:
                    log.warning(
                        "kvmcluster: no answer to %s from %s within %g seconds;"
                        " salt-run jobs.lookup_jid %s shows it when it ends",
                        function,
                        validate.listed(sorted(set(minions) - set(reported))),
                        within,
                        job["jid"],
                    )
                    return
                if not answer:
                    time.sleep(PAUSE)

    def rows(self, function, key, *arguments):
        """Ask every node for rows by one job; return them, and why a node gave none."""
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

    def facts(self, nodes=None, **named):
        """Ask every node, or some, for their facts, by one job."""
        nodes = list(nodes or self.all)
        asked = time.time()
        sent = self.ask(nodes, "kvmcluster.facts", **named)
        answered = time.time()
        return {node: node_report.parse(node, sent.get(node), asked, answered) for node in nodes}

    def placeable(self, guest=None, source=None, destination=None):
        """Return what ``examined`` does, for a plan: logins are tried as its moves make them."""
        targets = logins.as_moves(self.cluster, source, destination)
        return self.examined(guest, source, destination, targets)

    def examined(self, guest=None, source=None, destination=None, targets=True):
        """Return the facts of all nodes, and what they mean for the moves in question.

        Two jobs: all nodes tell their facts, then look at what the guests need.
        """
        world = World(self.cluster, self.facts(targets=targets))
        questions = follow_up.questions(world, guest, source, destination)
        answers = self.ask(list(questions), "kvmcluster.inspect", questions)
        world = follow_up.answered(world, answers)
        return world, examination.examine(world, guest, source, destination)

    def sightings(self, guest):
        """Return what every node says of a guest."""
        answers = self.ask(self.all, "kvmcluster.sighting", guest)
        return locations.parse(answers, tuple(self.all))

    def move(self, guest, destination):
        """Return the move that is asked for; an error in words where it cannot be right.

        Its destination is empty where none is given.
        """
        target = ""
        if destination is not None:
            target = migration.target(self.cluster, None, destination).id
        reported = self.sightings(guest)
        source = locations.source(guest, reported, target)
        return Move(guest, reported[source].observation.uuid, source, target)

    def settled(self, move):
        """Return what came of a migration by what the nodes that answer find."""
        try:
            return locations.settled(move, self.recovered(move.guest))
        except KvmclusterError as error:
            return locations.lost(move, str(error))

    def recovered(self, guest):
        """Have the first node that answers settle a guest's last migration."""
        reported = self.sightings(guest)
        for node in locations.fit_to_ask(reported):
            answer = self.ask([node], "kvmcluster.recover", guest, within=DEED).get(node)
            if locations.is_ending(answer):
                return answer
            reported[node] = locations.silent(answer)
        raise locations.nobody(guest, reported)

    def under_way(self, node):
        """Return the migrations that a node tells of; none if it tells nothing."""
        reported = self.ask([node], "kvmcluster.job").get(node)
        rows = reported.get("jobs") if isinstance(reported, dict) else None
        return jobs.merged({node: rows}) if isinstance(rows, list) else []

    def remembered(self, node):
        """Return the migrations from a node that it remembers; none if it tells nothing."""
        reported = self.ask([node], "kvmcluster.history", None, records.MOST).get(node)
        rows = reported.get("history") if isinstance(reported, dict) else None
        return records.chosen(rows if isinstance(rows, list) else (), None, records.MOST)

    def boot(self, node):
        """Return which boot of a node it is, None if it does not tell."""
        return maintenance.boot(self.ask([node], "kvmcluster.boot").get(node))


def late(client, job, node):
    """Return the answer of a node that was given up, if it has come all the same."""
    return _returned(_filed(client, job), [node]).get(node) if job else None


def _filed(client, job):
    """Return the answers to a job that have reached the master."""
    try:
        return client.get_cache_returns(job["jid"])
    except (OSError, SaltClientError):
        return {}


def _returned(answer, asked):
    """Return by node what it returned; a node that Salt says failed to answer has nothing."""
    return {
        node: one["ret"]
        for node, one in answer.items()
        if node in asked and isinstance(one, dict) and "ret" in one
    }
