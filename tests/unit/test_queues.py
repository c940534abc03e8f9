"""Who may go, and at which place the others are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import queues
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.queues import Queue
from saltext_kvmcluster.core.pillar.parser import from_pillar

MOVE = Move("web9", "uuid9", "node1", "node2")
QUEUE = Queue("node1", queues.OUTGOING, 2, "/run/kvmcluster-outgoing")


def detail(*guests, own="here is 100000009"):
    """Return what the shell says when the tickets of these guests are before ours."""
    tickets = [
        f"before 10000000{place} {json.dumps([f'uuid of {guest}', guest, 'node1', 'node3'])}"
        for place, guest in enumerate(guests)
    ]
    return "\n".join([*tickets, own, ""])


def place(*guests, jobs=(), limit=2):
    queue = Queue("node1", queues.OUTGOING, limit, "/run/q")
    found = {f"uuid of {guest}": guest for guest in jobs}
    return queues.standing(queue, MOVE, detail(*guests), found).slot


@pytest.mark.parametrize(
    ("limit", "before", "jobs", "expected"),
    [
        (1, [], [], 0),
        (1, ["a"], [], 1),
        (2, ["a"], [], 0),
        (2, ["a", "b"], [], 1),
        (2, ["a", "b", "c", "d"], [], 3),
        # What libvirt shows counts, with a ticket or without, but once.
        (1, [], ["a"], 1),
        (2, ["a", "b"], ["a", "b"], 1),
        (2, ["a"], ["b"], 1),
        (2, ["a", "b"], ["c", "d"], 3),
    ],
)
def test_as_many_go_at_once_as_there_are_places(limit, before, jobs, expected):
    assert place(*before, jobs=jobs, limit=limit) == expected


@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 5))
def test_whoever_is_let_go_brings_the_others_nearer(limit, before, jobs):
    """Going is allowed to as many as there are places, and to nobody else; all get there."""
    names = [f"guest{number}" for number in range(before)]
    others = [f"job{number}" for number in range(jobs)]
    at = place(*names, jobs=others, limit=limit)
    assert (at == 0) == (before + jobs < limit)
    if names:
        assert max(0, at - 1) == place(*names[1:], jobs=others, limit=limit)


def test_our_own_job_is_not_before_us():
    assert queues.standing(QUEUE, MOVE, detail("a"), {MOVE.uuid: MOVE.guest}).slot == 0


def test_a_ticket_that_says_nothing_counts_all_the_same():
    torn = "before 100000001 \nbefore 100000002 [1]\nbefore 100000003 {}\nhere is 100000009\n"
    at = queues.standing(QUEUE, MOVE, torn, {})
    assert (at.slot, at.before) == (2, ("an unknown migration",) * 3)


def test_who_is_before_is_said_so_that_a_person_understands():
    at = queues.standing(QUEUE, MOVE, detail("db\x1b1", "db2"), {"x": "by\thand"})
    with pytest.raises(WorldError) as refused:
        queues.refuse_to_wait(MOVE, at, "by Ann", within=60.0, is_over=False)
    assert str(refused.value) == (
        "web9 was not migrated to node2: cancelled: by Ann; node1 sends 2 at once"
        " (kvmcluster:migration:max_outgoing); ahead of it: by�hand (by libvirt),"
        " db�1 (node1 to node3), db2 (node1 to node3)"
    )


def test_what_is_no_ticket_is_named_and_counts_for_nothing():
    output = f"odd /run/q/a\x1b\n{detail('a')}odd /run/q/b\n"
    at = queues.standing(QUEUE, MOVE, output, {})
    assert (at.slot, len(at.before)) == (0, 1)
    assert str(at).endswith("; not a ticket, to be moved away: /run/q/a\ufffd, /run/q/b")


def test_who_waits_is_refused_only_with_a_reason():
    at = queues.standing(QUEUE, MOVE, detail("db1", "db2"), {})
    queues.refuse_to_wait(MOVE, at, "", within=60.0, is_over=False)
    with pytest.raises(WorldError, match="no slot is free, and waiting was not requested"):
        queues.refuse_to_wait(MOVE, at, "", within=0.0, is_over=True)
    with pytest.raises(WorldError, match="no slot was free within 60 s"):
        queues.refuse_to_wait(MOVE, at, "", within=60.0, is_over=True)


@pytest.mark.parametrize("words", ["", "before 100000001 []\n", "mkdir: No space left on device\n"])
def test_without_a_ticket_nobody_goes(words):
    with pytest.raises(WorldError, match=r"web9 was not migrated.*outgoing migrations of node1"):
        queues.standing(QUEUE, MOVE, words, {})


def test_a_migration_is_sent_from_one_queue_and_received_from_another():
    nodes = {"node1": None, "node2": None}
    limits = {"max_outgoing": 3, "max_incoming": 1}
    pillar = {"name": "lab", "nodes": nodes, "migration": limits}
    sent, received = queues.queues(from_pillar({"kvmcluster": pillar}), MOVE)
    assert (sent.node, sent.limit, sent.job) == ("node1", 3, verdicts.OUTGOING)
    assert (received.node, received.limit, received.job) == ("node2", 1, verdicts.INCOMING)
    assert sent.folder.startswith("/run/") and received.folder.startswith("/run/")
    other = from_pillar({"kvmcluster": {**pillar, "ssh": {"login": "mover"}}})
    assert queues.queues(other, MOVE)[1].folder == ".ssh/kvmcluster-incoming-node2"
