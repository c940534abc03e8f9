"""Salt's jobs on nodes, played in virtual time: what runs, waits, is stopped, lost or killed.

As Salt does it: a job that reaches a stopped minion begins when that goes on; a job is seen in the
folder ``proc`` some time after it began, and no longer while its return is on its way; a state that
begins beside another one does nothing, and says so; one that waits begins when nothing else runs.
"""

import heapq
import itertools

from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.engine.fleet import Fleet

WELL = {"a": {"__id__": "a", "result": True, "changes": {"x": 1}, "comment": "done"}}
SEEN, ASKED, SILENT = 2.0, 0.5, 15.0  # until a job is in proc; an answer; none, as Salt waits


class Node:
    """A minion. ``runs``: by job the time from which it is seen, and whether it is ours."""

    def __init__(self):
        self.runs, self.waits, self.kept = {}, [], {}
        self.is_stopped, self.is_down, self.held = False, False, []


class Play:
    """The clock, the nodes, the master's job cache and its memory."""

    def __init__(self, *names):
        self.now, self.count, self.order = 1000.0, 0, itertools.count()
        self.nodes = {name: Node() for name in names}
        self.returns, self.memory, self.later = {}, {}, []
        self.begun, self.together, self.shown, self.stop = [], [], [], False
        self.lasts, self.is_lost, self.is_killed = 5.0, False, False

    # The clock of a fleet

    def monotonic(self):
        return self.now

    def wait(self, call, seconds):
        self.advance(seconds)

    def at(self, seconds, deed):
        """Do something so many seconds from now."""
        heapq.heappush(self.later, (self.now + seconds, next(self.order), deed))

    def advance(self, seconds):
        end = self.now + seconds
        while self.later and self.later[0][0] <= end:
            self.now, _, deed = heapq.heappop(self.later)
            deed()
        self.now = end

    # What happens on nodes

    def jid(self):
        self.count += 1
        return f"2030{self.count:016d}"

    def reach(self, name, deed):
        """Have a minion do something, at once or when it goes on; one that is down never does."""
        node = self.nodes[name]
        if node.is_stopped:
            node.held.append(deed)
        elif not node.is_down:
            deed()

    def stopped(self, name, seconds):
        """Stop a minion for so long; the jobs on it go on."""
        node = self.nodes[name]
        node.is_stopped = True

        def go_on():
            node.is_stopped, held, node.held = False, node.held, []
            for deed in held:
                deed()

        self.at(seconds, go_on)

    def begin(self, name, jid, lasts, ours):
        """Begin a job of states on a node, unless another one runs there."""
        node = self.nodes[name]
        if ours:
            self.begun.append((name, jid, self.now))
        others = [one for one, (_, is_ours) in node.runs.items() if ours or is_ours]
        if ours and others:
            self.answer(name, jid, [conflict(others[0])])
            return
        if others:
            self.together.append((name, jid))
            return
        node.runs[jid] = (self.now + SEEN, ours)
        self.at(max(lasts, SEEN), lambda: self.end(name, jid))
        if ours and self.is_killed:
            self.at(SEEN + 1, lambda: self.kill(name, jid))

    def kill(self, name, jid):
        self.nodes[name].runs.pop(jid, None)
        self.pop(name)

    def end(self, name, jid):
        """End a job: its return reaches the master later, if it does, and is kept on the node."""
        node = self.nodes[name]
        if jid not in node.runs:
            return
        _, ours = node.runs.pop(jid)
        if ours:
            self.answer(name, jid, WELL)
        self.pop(name)

    def answer(self, name, jid, returned):
        if not self.is_lost:
            arrive = lambda: self.returns.setdefault(jid, {}).update({name: returned})  # noqa: E731
            self.at(3, lambda: self.reach(name, arrive))
        self.at(5, lambda: self.nodes[name].kept.update({jid: returned}))

    def pop(self, name):
        """Begin what waits in the queue, if nothing runs."""
        node = self.nodes[name]
        if node.waits and not node.runs:
            self.begin(name, node.waits.pop(0), 5.0, False)

    def jobs(self, name, asked):
        node = self.nodes[name]
        seen = [jid for jid, (when, _) in node.runs.items() if when <= self.now]
        return {
            "running": [{"jid": jid, "what": "state.apply slow", "path": ""} for jid in seen],
            "waiting": [
                {"jid": jid, "what": "state.apply later", "path": f"/queue/{jid}"}
                for jid in node.waits
            ],
            "returned": {jid: node.kept[jid] for jid in asked if jid in node.kept},
        }


def conflict(jid):
    return (
        f'The function "state.apply" is running as PID 5 and was started at 2030, x with jid {jid}'
    )


class PlayedFleet(Fleet):
    """The nodes as an orchestration's process asks them; the play outlives it."""

    def __init__(self, play):
        nodes = {name: {} for name in play.nodes}
        cluster = parser.from_pillar({"kvmcluster": {"name": "lab", "nodes": nodes}})
        super().__init__(cluster, play)
        self.play = play

    def ask(self, nodes, function, *arguments, within=120.0, **named):
        assert function == "kvmcluster.state_jobs"
        found = {}
        for name in nodes:
            ask = lambda name=name: found.update({name: self.play.jobs(name, *arguments)})  # noqa: E731
            self.play.reach(name, ask)
        self.play.advance(ASKED if len(found) == len(nodes) else SILENT)
        return found

    def new_job(self):
        return self.play.jid()

    def begin_states(self, job, nodes, sls, test):
        for name in nodes:
            assert self.play.memory[name].jid == job, "begun before it was remembered"
            begin = lambda name=name: self.play.begin(name, job, self.play.lasts, True)  # noqa: E731
            self.play.reach(name, begin)

    def begun_states(self):
        return dict(self.play.memory)

    def remember_states(self, node, begun):
        self.play.memory[node] = begun

    def forget_states(self, node, begun):
        assert self.play.memory.pop(node) == begun

    def returns(self, job):
        return self.play.returns.get(job, {})

    def dispatch(self, source, moves, while_cordoned):
        raise AssertionError(f"no guest is moved where SLS are applied, and it sent {moves}")

    def hints(self):
        return []

    def begin(self, node, function, *arguments, **named):
        raise AssertionError(f"no guest is acted on where SLS are applied, and it sent {function}")

    # A console

    def interrupted(self):
        return self.play.stop

    def show(self, line):
        self.play.shown.append(line)
