"""The matrix is tried again while sshd refuses logins for a time, and no longer than is said."""

from types import SimpleNamespace

import pytest
from material import cluster

from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.engine.applier import Nobody
from saltext_kvmcluster.master import matrix

FOUND = cluster("node1", "node2")
GOOD = logins.LoginProbe(0, "", "", 0.1)
REFUSED = logins.LoginProbe(255, "", "Not allowed at this time", 0.1)
DENIED = logins.LoginProbe(255, "", "Permission denied (publickey)", 0.1)
LOGIN = 1.0


class Clock:
    def __init__(self):
        self.time = 0.0

    def monotonic(self):
        return self.time

    def wait(self, call, seconds):
        self.time += seconds


def tried(probe_at, wait):
    """Return the matrix, and when each was tried; ``probe_at``: node1's login at a time."""
    clock, begun = Clock(), []

    def ask(nodes, function, **named):
        begun.append(clock.time)
        probes = {"node1": probe_at(clock.time), "node2": GOOD}
        clock.time += LOGIN
        return {
            node: logins.row("marathon", node, [logins.cell(peer.id, peer.id, probe, False)])
            for node, probe in probes.items()
            for peer in FOUND.peers(node)
        }

    nodes = SimpleNamespace(cluster=FOUND, clock=clock, all=list(FOUND.nodes), ask=ask)
    return matrix.observed(nodes, Nobody(), 10.0, 120.0, wait), begun


@pytest.mark.parametrize(
    ("over", "begun"), [(0, [0]), (4, [0, 6]), (15, [0, 6, 17]), (60, [0, 6, 17, 38, 69])]
)
def test_a_penalty_is_waited_out(over, begun):
    found, times = tried(lambda now: GOOD if now >= over else REFUSED, 660.0)
    assert found["ok"] and times == begun
    assert found["waited"] == (begun[-1] + LOGIN if over else 0.0)


def test_it_is_waited_for_no_longer_than_is_said():
    found, times = tried(lambda now: REFUSED, 20.0)
    assert not found["ok"] and times == [0, 6, 17, 20]
    assert found["rows"]["node1"]["cells"][0]["cause"] == "refused for now"


def test_without_a_limit_there_is_no_wait():
    assert tried(lambda now: REFUSED, 0.0)[1] == [0]


def test_what_else_is_wrong_ends_it():
    assert tried(lambda now: DENIED, 660.0)[1] == [0]
    found, times = tried(lambda now: REFUSED if now < 4 else DENIED, 660.0)
    assert times == [0, 6]
    assert found["rows"]["node1"]["cells"][0]["cause"] == "key not accepted"
