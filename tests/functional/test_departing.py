"""What a node keeps of its departures in /run: twice, too late, stopped, killed, on real files."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from saltext_kvmcluster.core.drain import departures
from saltext_kvmcluster.core.migration.migration import MOVED, Move
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.host import cordons, departing
from saltext_kvmcluster.host.departing import Departing

ID = "20301130094500123456"
NODES = {
    name: {"names": [f"{name}.example"], "migration": f"{name}-mig"} for name in ("node1", "node2")
}
CLUSTER = parser.from_pillar({"kvmcluster": {"name": "lab", "nodes": NODES}})
MOVES = [Move(f"web{number}", f"uuid {number}", "node1", "node2") for number in range(1, 5)]
FOLDER = pathlib.Path(departing.FOLDER)


@pytest.fixture(autouse=True)
def empty():
    shutil.rmtree(FOLDER, ignore_errors=True)
    yield
    shutil.rmtree(FOLDER, ignore_errors=True)


def begun():
    made = Departing(ID, CLUSTER, MOVES)
    assert made.begin()
    return made


def moved(move):
    return {"guest": move.guest, "uuid": move.uuid, "result": MOVED, "reason": "", "owner": "node2"}


def told(stop=False):
    return departures.parse(departing.told(ID, stop), ID)


def test_what_became_of_each_can_be_asked_for_while_it_goes_on_and_afterwards():
    made = begun()
    assert [made.next().guest, made.next().guest] == ["web1", "web2"] and made.next() is None
    made.end(MOVES[0], moved(MOVES[0]))
    found = told()
    assert (found.known, found.open, found.stopped) == (True, True, False)
    assert found.results["web1"]["owner"] == "node2" and found.states["web2"] == departures.BEGUN
    assert [row["guest"] for row in departing.queued()] == ["web3", "web4"]
    made.end(MOVES[1], moved(MOVES[1]))
    made.stop()
    answer = departures.parse(made.answer(), ID)
    assert not answer.open and [*answer.results] == ["web1", "web2"]
    assert told() == answer and departing.queued() == []


def test_a_list_that_arrives_twice_begins_once():
    begun()
    assert not Departing(ID, CLUSTER, MOVES).begin()
    assert told().open, "the first one goes on"


@pytest.mark.parametrize("stop", [True, False])
def test_a_list_that_is_asked_for_before_it_arrives_begins_nothing(stop):
    found = told(stop)
    assert not found.known and not found.open
    assert not Departing(ID, CLUSTER, MOVES).begin()


def test_after_a_stop_was_answered_nothing_further_begins():
    made = begun()
    made.next()
    found = told(stop=True)
    assert found.stopped and found.is_never_begun("web2") and not found.is_never_begun("web1")
    assert made.next() is None and not made.is_more() and departing.queued() == []


def test_a_list_for_a_cordoned_node_begins_nothing_on_another_one():
    assert cordons.current() is None
    made = Departing(ID, CLUSTER, MOVES, while_cordoned=True)
    assert made.begin() and made.next() is None
    assert told().stopped and told().is_never_begun("web1")


def test_a_guest_that_waits_can_be_withdrawn_and_one_that_was_begun_cannot():
    made = begun()
    made.next(), made.next()
    assert not departing.withdraw("uuid 1", "Ann") and departing.withdraw("uuid 3", "Ann")
    made.end(MOVES[0], moved(MOVES[0]))
    assert made.next() is None
    assert "cancelled: Ann" in told().results["web3"]["reason"] and told().stopped


CODE = f"""
import sys, time
sys.path[:] = {sys.path!r}
from test_departing import begun, departing
begun().next()
print("begun", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_had_begun_is_told_from_what_it_had_not():
    here = os.path.dirname(__file__)
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {here!r})\n{CODE}"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"begun\n" and told().open
    process.kill()
    process.wait()
    found = told()
    assert not found.open and found.known
    assert [name for name in found.states if not found.is_never_begun(name)] == ["web1"]
    assert departing.queued() == []


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"moves": 3})])
def test_a_damaged_file_is_known_to_be_one(text):
    begun()
    (FOLDER / f"{ID}.json").write_text(text)
    assert told() is None or not told().open
    assert departing.queued() == [] and not Departing(ID, CLUSTER, MOVES).begin()


def test_what_is_wished_of_a_list_that_goes_on_is_not_forgotten():
    """However old it is: the clock may have been set."""
    made = begun()
    assert told(stop=True).stopped
    long_ago = time.time() - 2 * departing.KEPT
    os.utime(FOLDER / f"{ID}.wishes", (long_ago, long_ago))
    assert Departing("1", CLUSTER, MOVES).begin()
    assert made.next() is None


def test_old_ones_are_forgotten():
    begun().answer()
    path, long_ago = FOLDER / f"{ID}.json", time.time() - 2 * departing.KEPT
    os.utime(path, (long_ago, long_ago))
    assert Departing("1", CLUSTER, MOVES).begin()
    assert not path.exists()
