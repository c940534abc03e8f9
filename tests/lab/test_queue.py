"""Migrations wait for their places: never more at once than allowed, in order, seen by libvirt."""

import collections
import contextlib
import json
import re
import subprocess

import pytest
from labs import LOGIN, PROGRAM, Call, until
from limits import Watch, limits

GUESTS = {f"guest{number}": f"node{number % 3 + 1}" for number in range(6)}
SLOW = 32  # MiB/s: a migration lasts for some seconds, so that the others have to wait
HOLD = """
read -r boot </proc/sys/kernel/random/boot_id
read -r stat </proc/$$/stat
set -- "$1" "$2" ${stat##*) }
ticket=$1/100000001-$$-${22}-$$-${22}-${boot%%-*}
mkdir -p "$1" && echo "$2" >"$ticket" && touch -d '1 hour' "$ticket" && echo held && exec cat
"""


@pytest.fixture(scope="module")
def guests(prepared_lab):
    for name, node in GUESTS.items():
        prepared_lab.guest(name, node)
    yield prepared_lab
    for name in GUESTS:
        prepared_lab.stop_guest(name)


@pytest.fixture
def lab(guests):
    """The lab with all guests; none of them has lost anything at the end."""
    yield guests
    for name in GUESTS:
        guests.assert_whole(name)


def where(lab):
    """Return the one node on which libvirt says that each guest runs."""
    found = collections.defaultdict(list)
    for node in lab.nodes:
        for name, (running, _) in lab.guests(node).items():
            if running:
                found[name].append(node)
    assert {name: len(nodes) for name, nodes in found.items()} == dict.fromkeys(GUESTS, 1)
    return {name: nodes[0] for name, nodes in found.items()}


def migrate(lab, guest, source, destination):
    """Return what kvmcluster.migrate returned; of one that was killed, what was printed."""
    words = ("--out=json", "--timeout=900", source, "kvmcluster.migrate", guest, destination)
    done = lab.ctl("salt", "--", *words, check=False, timeout=900)
    try:
        return next(iter(json.loads(done.stdout).values()))
    except ValueError:
        return f"no answer: {done.stdout}{done.stderr}"


def queued(lab, node):
    """Return the places of the migrations that wait on a node, by guest."""
    jobs = lab.salt(node, "kvmcluster.job")["jobs"]
    return {job["guest"]: job["slot"] for job in jobs if job["phase"] == "queued"}


def await_place(lab, node, guest, place, call):
    """Wait until a guest has a place; its ticket first, since to ask Salt costs much more."""
    tickets = ("grep", "-rlw", guest, "/run/kvmcluster-outgoing")
    until(lambda: lab.exec(node, *tickets, check=False), f"a ticket of {guest}", ended=call.ended)
    until(lambda: queued(lab, node).get(guest) == place, f"{guest} queued", ended=call.ended)


def has_moved(answer):
    """Whether a call moved its guest; a refusal is words."""
    return isinstance(answer, dict) and answer["result"] == "moved"


@pytest.mark.parametrize("limit", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_never_more_at_once_than_allowed_and_all_get_there(lab, limit):
    """Each node sends two guests, and gets two, all at once."""
    at = where(lab)
    for name, node in at.items():
        lab.exec(node, "virsh", "migrate-setspeed", name, str(SLOW))
    nodes = [*lab.nodes, *lab.nodes]
    goals = {name: nodes[nodes.index(node) + 1] for name, node in at.items()}
    with limits(lab, limit, limit), Watch(lab) as watch:
        calls = [Call(migrate, lab, name, at[name], goal) for name, goal in goals.items()]
        answers = [call.end(900) for call in calls]
    assert all(map(has_moved, answers)), answers
    assert where(lab) == goals
    assert max(watch.most.values()) == limit, watch.most


@contextlib.contextmanager
def held(lab, node, folder):
    """Have the first place of a queue, as any migration has it, for as long as is wanted."""
    words = json.dumps(["another", "another", node, "elsewhere"])
    line = [*PROGRAM, "exec", node, "--", "sh", "-c", HOLD, "sh"]
    with subprocess.Popen(
        [*line, f"/run/kvmcluster-{folder}", words],
        env=lab.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield


def test_they_go_in_order_and_whoever_gives_up_holds_nobody_up(lab):
    source, destination, other = lab.nodes
    for name, node in where(lab).items():
        goal = other if name == "guest5" else source
        if node != goal:
            assert has_moved(lab.salt(node, "kvmcluster.migrate", name, goal))
    waiting = ("guest0", "guest1", "guest2", "guest3")
    with limits(lab, 1, 1):
        with held(lab, source, "outgoing"), held(lab, destination, f"incoming-{destination}"):
            calls = []
            for place, name in enumerate(waiting, 1):
                goal = (other, destination)[place % 2]
                calls.append(Call(migrate, lab, name, source, goal))
                await_place(lab, source, name, place, calls[-1])
            refused = lab.salt(other, "kvmcluster.migrate", "guest5", destination, "wait=False")
            assert "guest5 was not migrated" in refused and "max_incoming" in refused, refused
            assert f"another ({destination} to elsewhere)" in refused

            (killed,) = [
                job["jid"]
                for job in lab.salt(source, "saltutil.running")
                if job["fun"] == "kvmcluster.migrate" and "guest1" in job["arg"]
            ]
            lab.salt(source, "saltutil.kill_job", killed)
            until(
                lambda: queued(lab, source).get("guest3") == 3,
                "guest3 third",
                ended=calls[3].ended,
            )
            lab.salt(source, "kvmcluster.cancel", "guest3")
            assert re.search("guest3 was not migrated.*cancelled", calls[3].end(900))
            assert "guest3" not in queued(lab, source)
        done = [call.end(900) for call in (calls[0], calls[2])]
    assert all(map(has_moved, done)), done
    assert done[0]["started"] < done[1]["started"]
    at = where(lab)
    assert (at["guest1"], at["guest3"]) == (source, source)


def test_a_migration_that_somebody_began_by_hand_has_a_place(lab):
    at = where(lab)
    source, destination = at["guest0"], next(node for node in lab.nodes if node != at["guest0"])
    neighbour = next(name for name, node in at.items() if node not in (source, destination))
    lab.exec(source, "virsh", "migrate-setspeed", "guest0", "2")
    uri = f"qemu+ssh://{LOGIN}@{destination}-mig/system"
    line = f"virsh migrate --live --p2p guest0 {uri} tcp:{destination}-mig"
    with limits(lab, 1, 1):
        # Why it may fail, see labs.Lab.move_by_hand.
        by_hand = Call(lab.exec, source, "sh", "-c", line, check=False)
        until(lambda: lab.copying(source, "guest0"), "guest0 under way", ended=by_hand.ended)
        call = Call(migrate, lab, neighbour, at[neighbour], destination)
        await_place(lab, at[neighbour], neighbour, 1, call)
        lab.exec(source, "virsh", "migrate-setspeed", "guest0", "1000")
        answer = call.end(900)
        assert has_moved(answer), answer
        by_hand.end(60)
        assert where(lab)["guest0"] == destination or lab.released_late(destination)
