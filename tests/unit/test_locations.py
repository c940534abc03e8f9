"""Which node has to be told to move a guest, by what every node says of it."""

import re

import pytest

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.ownership import locations
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.verdicts import Observation, Sighting

NODES = ("node1", "node2", "node3")
UUID = "11111111-1111-1111-1111-111111111111"
MOVE = Move("web1", UUID, "node1", "node2")
NODES_OF = {"name": "lab", "nodes": dict.fromkeys(NODES)}
CLUSTER = from_pillar({"kvmcluster": NODES_OF})
LISTING = from_pillar({"kvmcluster": {**NODES_OF, "guests": {"list": {"web1": {"home": "node2"}}}}})


def observed(sighting, job=""):
    return locations.as_data("web1", Observation(sighting, "web1", UUID, job=job))


def lacks():
    return locations.as_data("web1", Observation(Sighting.ABSENT))


def reported(*answers):
    return locations.parse(dict(zip(NODES, answers, strict=False)), NODES)


def refused(*answers, destination="node2", among=None):
    with pytest.raises((InputError, WorldError)) as caught:
        locations.source(among or CLUSTER, "web1", reported(*answers), destination)
    return str(caught.value)


@pytest.mark.parametrize("sighting", [Sighting.RUNNING, Sighting.PAUSED_BY_USER])
def test_the_one_node_that_has_it_is_its_source(sighting):
    assert (
        locations.source(CLUSTER, "web1", reported(observed(sighting), lacks(), lacks()), "node2")
        == "node1"
    )


def test_a_silent_node_does_not_hide_one_that_has_it():
    assert (
        locations.source(CLUSTER, "web1", reported(observed(Sighting.RUNNING)), "node2") == "node1"
    )


def test_a_definition_elsewhere_is_no_second_place():
    answers = reported(observed(Sighting.SHUT_OFF), observed(Sighting.RUNNING), lacks())
    assert locations.source(CLUSTER, "web1", answers, "node3") == "node2"


def test_where_it_is_already_nothing_is_done():
    assert "is on node2 already" in refused(lacks(), observed(Sighting.RUNNING), lacks())


def test_in_two_places_it_is_left_alone():
    detail = refused(observed(Sighting.RUNNING), lacks(), observed(Sighting.RUNNING))
    assert "running on node1, running on node3" in detail
    assert detail.endswith("salt-run kvmcluster.recover web1")


@pytest.mark.parametrize(
    "answers",
    [
        (
            observed(Sighting.RUNNING, verdicts.OUTGOING),
            observed(Sighting.PAUSED_FOR_MIGRATION, verdicts.INCOMING),
        ),
        (observed(Sighting.RUNNING, verdicts.OUTGOING), "it hangs"),
    ],
)
def test_on_its_way_it_is_watched_and_not_sent_again(answers):
    detail = refused(*answers)
    assert "already migrating from node1" in detail and "salt node1 kvmcluster.job web1" in detail


def test_a_half_that_arrives_is_no_guest_that_is_there_already():
    detail = refused("", observed(Sighting.PAUSED_FOR_MIGRATION, verdicts.INCOMING), lacks())
    assert (
        "already" not in detail and "paused for migration on node2" in detail and "node1" in detail
    )


def test_nowhere_names_who_is_silent_and_no_other_guest():
    assert refused(lacks(), lacks(), "no libvirt") == (
        "no node that responded has a guest web1; no information from node3 (no libvirt); to list"
        " the guests: salt-run kvmcluster.status"
    )


def test_an_unknown_guest_is_said_to_be_unknown_unless_nobody_answers():
    among = from_pillar({"kvmcluster": {**NODES_OF, "guests": {"list": {"web1": {}}}}})

    def unknown(guest, *answers):
        locations.refuse_unknown(among, guest, reported(*answers))

    for known in (
        ("web1", lacks(), lacks(), lacks()),
        ("web9", lacks(), observed(Sighting.SHUT_OFF)),
        ("web9",),
    ):
        unknown(*known)
    with pytest.raises(InputError, match=r"has a guest web9; no information from node3 \(no resp"):
        unknown("web9", lacks(), lacks())


def test_a_listed_guest_that_no_node_has_is_to_be_started():
    assert refused(lacks(), lacks(), lacks(), among=LISTING) == (
        "web1 runs nowhere: no node has it; to start it: salt node2 kvmcluster.start web1"
    )
    assert "no node that responded has" in refused(lacks(), lacks(), "no libvirt", among=LISTING)


def test_if_nobody_answers_nothing_is_known():
    assert refused(None, "a", "b") == (
        "no node reported on web1; nothing was done; no information from node1 (no response),"
        " node2 (a), node3 (b)"
    )
    same = refused("no libvirt", "no libvirt", "no libvirt")
    assert same == "no libvirt (reported by node1, node2, node3)"


def test_shut_off_says_how_to_start_it():
    detail = refused(lacks(), observed(Sighting.SHUT_OFF), lacks())
    assert "shut off on node2" in detail and "salt node2 kvmcluster.start web1" in detail


def test_a_name_with_blanks_can_be_typed_again():
    answers = {"node1": {**observed(Sighting.SHUT_OFF), "guest": "web 1"}}
    with pytest.raises(WorldError, match=r"kvmcluster.start 'web 1'"):
        locations.source(CLUSTER, "web 1", locations.parse(answers, NODES), "node2")


@pytest.mark.parametrize(
    "answer",
    [
        *(None, False, [], {}, {"state": "flying"}),
        {**observed(Sighting.RUNNING), "state": ["running"]},
        {**observed(Sighting.RUNNING), "job": 3},
        "Traceback (most recent call last):\n x\nKeyError: 1",
    ],
)
def test_whatever_else_a_node_answers_makes_it_silent(answer):
    assert reported(answer)["node1"].observation.sighting is Sighting.UNREACHABLE
    assert "\n" not in reported(answer)["node1"].observation.detail


def test_those_that_have_it_are_asked_first_and_silent_ones_never():
    assert locations.fit_to_ask(reported(None, lacks(), observed(Sighting.RUNNING))) == [
        "node3",
        "node2",
    ]


def test_a_result_is_taken_and_a_refusal_is_an_error_with_its_words():
    done = {"guest": "web1", "uuid": "u", "result": "moved", "owner": "node2", "reason": "seen"}
    assert locations.ended(done) == done
    for wrong in ({"owner": []}, {"result": 1}, {"actions": [1]}, {"needs": 1}, {"reason": None}):
        assert locations.ended({**done, **wrong}) is None
    for key in ("guest", "uuid", "owner", "result", "reason"):
        assert locations.ended({name: one for name, one in done.items() if name != key}) is None
    for by_salt in ("ERROR executing 'kvmcluster.migrate': ", "ERROR: ", ""):
        with pytest.raises(WorldError, match=r"^web1 was not migrated$"):
            locations.ended(f"{by_salt}web1 was not migrated")


SILENCE = "Minion did not return. [No response]\nThe minions may not have all finished running"


def test_what_salt_says_of_silence_is_silence():
    assert reported(SILENCE)["node1"].observation.detail == "no response"


@pytest.mark.parametrize(
    "answer", [None, {}, 1, "Traceback (most recent call last):\nKeyError", SILENCE]
)
def test_what_does_not_tell_the_end_is_no_end(answer):
    assert locations.ended(answer) is None


def test_a_guest_that_the_others_find_at_its_destination_has_moved():
    done = locations.settled(MOVE, {"owner": "node2", "reason": "it runs there"})
    assert (done["owner"], done["result"]) == ("node2", "moved")
    assert re.search(r"node1 did not report how it ended.*it runs there$", done["reason"])


@pytest.mark.parametrize("owner", ["node1", "node3", None])
def test_one_that_they_find_elsewhere_may_be_moved_yet(owner):
    done = locations.settled(MOVE, {"owner": owner, "reason": "it runs there"})
    assert (done["owner"], done["result"]) == (owner, "unknown")
    assert ("may not have begun it yet" in done["reason"]) == (owner == "node1")
    assert "salt-run kvmcluster.recover web1" in done["reason"]


@pytest.mark.parametrize(
    ("changes", "settled"),
    [
        ({}, True),
        ({"result": "nowhere"}, True),
        ({"result": "busy"}, False),
        ({"result": "unknown"}, False),
        ({"needs": ["an answer of node2"]}, False),
        ({"actions": [{"ok": True}, {"ok": False}]}, False),
    ],
)
def test_what_is_left_open_is_not_settled(changes, settled):
    found = {"result": "running", "needs": [], "actions": [{"ok": True}], **changes}
    assert locations.is_settled(found) is settled


def test_an_unseen_end_says_how_to_find_out():
    detail = locations.lost(MOVE, "watched no longer")["reason"]
    assert (
        "salt node1 kvmcluster.job web1" in detail and "salt-run kvmcluster.cancel web1" in detail
    )
    assert "salt-run kvmcluster.recover web1" in detail
