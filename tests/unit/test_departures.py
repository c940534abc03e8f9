"""The moves that a node carries out by itself: which is next, and what its word is worth."""

from dataclasses import replace

import pytest
from batches import cluster, move, result
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import departures
from saltext_kvmcluster.core.drain.departures import BEGUN, ENDED, WAITS, Departures, Hint, Wishes
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.events import events
from saltext_kvmcluster.core.migration.migration import CANCELLED, MOVED, NOT_MOVED

ID = "20301130094500123456"
NONE = Wishes()
CORDON = Cordon("2030-11-30T09:45:00.123+00:00", "a drain")


def leaving(*names):
    return Departures(cluster(), [move(name) for name in names])


def begun(made, wished=NONE, cordon=CORDON):
    return [one.guest for one in iter(lambda: made.next(wished, cordon), None)]


def moved(name, how=MOVED):
    return {**result(how, "why"), "guest": name, "uuid": f"uuid of {name}"}


def told(made, **flags):
    return {
        "kind": departures.KIND,
        "id": ID,
        "known": True,
        "open": True,
        **made.to_dict(),
        **flags,
    }


def states(made):
    return {row["guest"]: row["state"] for row in made.to_dict()["moves"]}


def test_as_many_begin_as_a_node_may_send_and_the_next_when_one_has_ended():
    made = leaving(*"abcd")
    assert begun(made) == ["a", "b"] and made.is_more
    made.end(move("b"), moved("b"))
    assert begun(made) == ["c"]
    assert states(made) == {"a": BEGUN, "b": ENDED, "c": BEGUN, "d": WAITS}


def test_a_drain_begins_nothing_on_a_node_that_is_not_cordoned_any_more():
    made = Departures(cluster(), [move(name) for name in "abcd"], while_cordoned=True)
    assert begun(made) == ["a", "b"]
    made.end(move("a"), moved("a"))
    assert begun(made, cordon=None) == [] and made.to_dict()["stopped"]
    assert begun(made) == [], "cordoned again, by another drain with a list of its own"
    assert begun(leaving("a"), cordon=None) == ["a"], "a balance does not need that"


@pytest.mark.parametrize(
    ("now", "wanted"),
    [(replace(CORDON, reason="more"), ["c"]), (replace(CORDON, since="2030-11-30T09:46:00Z"), [])],
)
def test_a_cordon_that_nobody_saw_replaced_ends_the_list_of_a_drain_too(now, wanted):
    made = Departures(cluster(), [move(name) for name in "abc"], while_cordoned=True)
    begun(made)
    made.end(move("a"), moved("a"))
    assert begun(made, cordon=now) == wanted


@pytest.mark.parametrize("how", [NOT_MOVED, "unknown"])
def test_after_a_failure_nothing_further_begins(how):
    made = leaving(*"abcd")
    begun(made)
    made.end(move("a"), moved("a", how))
    made.end(move("b"), moved("b"))
    assert begun(made) == [] and not made.is_more and made.to_dict()["stopped"]
    found = departures.parse(told(made), ID)
    assert [name for name in "abcd" if found.is_never_begun(name)] == ["c", "d"]


def test_who_is_stopped_begins_nothing_further():
    made = leaving(*"abc")
    assert begun(made, Wishes(stop=True)) == [] and made.to_dict()["stopped"]


def test_a_guest_that_is_cancelled_before_it_begins_ends_the_list():
    made = leaving(*"abc")
    begun(made)
    made.end(move("a"), moved("a"))
    assert begun(made, Wishes(cancelled={"uuid of c": "kvmcluster.cancel on node1"})) == []
    (row,) = [row for row in made.to_dict()["moves"] if row["guest"] == "c"]
    assert row["result"]["reason"].startswith(f"{CANCELLED}kvmcluster.cancel on node1")
    assert departures.parse(told(made), ID).results["c"]["result"] == NOT_MOVED


def test_while_the_job_is_there_what_waits_may_begin():
    made = leaving("a", "b")
    found = departures.parse(told(made), ID)
    assert not found.is_never_begun("a") and found.open
    assert departures.parse(told(made, open=False), ID).is_never_begun("a")
    assert not found.is_never_begun("another")


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "another"},
        {"kind": "job"},
        {"open": None},
        {"moves": None},
        {"moves": [{"guest": "a", "state": "gone"}]},
        {"moves": [{"guest": "a", "state": ENDED, "result": None}]},
        {"moves": [{"guest": "a", "state": ENDED, "result": {"result": MOVED}}]},
    ],
)
def test_an_odd_answer_tells_nothing(odd):
    assert departures.parse({**told(leaving("a")), **odd}, ID) is None


@given(st.recursive(st.none() | st.text() | st.integers(), lambda one: st.lists(one)))
def test_whatever_comes_is_no_report(data):
    assert departures.parse(data, ID) is None


def test_a_refusal_of_the_whole_is_an_error_and_a_lost_return_is_none():
    with pytest.raises(WorldError, match="no such cluster"):
        departures.returned("ERROR: no such cluster", ID)
    for lost in (None, "Traceback (most recent call last):\nKeyError", {}, []):
        assert departures.returned(lost, ID) is None


def test_what_waits_is_queued_in_its_order_unless_nothing_further_begins():
    made = leaving(*"abcd")
    begun(made)
    rows = departures.queued([made.to_dict(), None, {"moves": 3}])
    assert [(row["guest"], row["slot"], row["phase"]) for row in rows] == [
        ("c", 1, "queued"),
        ("d", 2, "queued"),
    ]
    made.stop()
    assert departures.queued([made.to_dict()]) == []


def rows(*names, destination="node2"):
    return [{"guest": one, "uuid": f"uuid of {one}", "destination": destination} for one in names]


def test_a_list_is_read():
    assert departures.moves_of(cluster(), "node1", rows("a", "b")) == [move("a"), move("b")]


@pytest.mark.parametrize(
    "given",
    [None, "a", rows("a", "a"), rows("a", destination="node1"), rows("a", destination="x"), [{}]],
)
def test_a_list_that_is_none_is_refused(given):
    with pytest.raises(InputError):
        departures.moves_of(cluster(), "node1", given)


@pytest.mark.parametrize("given", ["", "../x", "a.b", None, True, "1" * 41, "١"])
def test_an_id_is_the_name_of_a_file(given):
    with pytest.raises(InputError):
        departures.id_of(given)


def test_an_id_that_salt_reads_as_a_number_is_one():
    assert departures.id_of(int(ID)) == departures.id_of(ID) == ID


@pytest.mark.parametrize("given", [None, 3, {"stop": "yes", "cancelled": [1]}])
def test_odd_wishes_are_none(given):
    assert departures.wishes(given) == NONE


def test_wishes_are_read_again():
    wished = Wishes(True, {"u": "Ann"})
    assert departures.wishes(wished.to_dict()) == wished


def event(what, **data):
    return {"id": "node1", "data": {"guest": "a", "what": what, **data}}


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (event("ended", result=MOVED), Hint("node1", "a", has_moved=True)),
        (event("ended", result="unknown"), Hint("node1", "a", has_failed=True)),
        (event("refused"), Hint("node1", "a", has_failed=True)),
        (event("copying"), Hint("node1", "a")),
        ({**event("ended", result=MOVED), "id": "node2"}, None),
        (None, None),
        ({"id": "node1"}, None),
    ],
)
def test_an_event_is_a_hint_if_its_sender_is_the_node(data, wanted):
    tag = events.tag("lab", events.MIGRATION, "node1", "a")
    assert departures.hint("lab", tag, data) == wanted
    assert departures.hint("other", tag, data) is None
