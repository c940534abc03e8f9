"""A shell that stays, asked again and again, and the tickets that it holds in a queue."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from odd import ODD, discard
from sandbox import until

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration import queues
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.queues import Queue
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.engine.queue import slots
from saltext_kvmcluster.host import commands, this_node, tickets
from saltext_kvmcluster.host.ssh import Session
from saltext_kvmcluster.host.tickets import Tickets

MUCH = 300_000


@pytest.fixture
def session():
    found = Session()
    yield found
    found.close()


def test_each_answer_is_what_was_printed_until_its_end():
    with commands.held(["sh"]) as held:
        assert held.answer("printf 'one END two END'\n", "END", 5) == "one "
        assert held.answer("", "END", 5) == " two "
        script = f"head -c {MUCH} /dev/zero; echo; echo END\n"
        assert held.answer(script, "END", 5) == "\0" * MUCH + "\n"
        reported = "x" * MUCH
        assert (
            held.answer(f"cat <<'OVER'\n{reported}\nOVER\necho END\n", "END", 5).strip() == reported
        )


def test_no_answer_is_one_that_is_late_cut_or_too_long():
    with commands.held(["sh"]) as held:
        assert held.answer("sleep 60\n", "END", 0.2) is None
    with commands.held(["sh"]) as held:
        assert held.answer("echo half; echo why >&2; exit 3\n", "END", 5) is None
        assert held.outcome() == commands.Outcome(3, "half\n", "why\n")
    with commands.held(["sh"], limit=4096) as held:
        assert held.answer("yes\n", "END", 5) is None
        assert held.outcome().overflowed
    with commands.held(["true"]) as held:
        time.sleep(0.2)
        assert held.answer("x" * MUCH, "END", 5) is None


def test_a_session_runs_what_it_is_told_like_any_other_way(session):
    wanted = {
        "out": ("printf", "a\\0b\\n"),
        "err": ("ls", "/no such folder"),
        "none": ("no-such-program",),
        "words": ("printf", "%s.", "a b", "it's", "$HOME", "\n"),
        "input": ("cat",),
    }
    assert session.run_all({}) == {} and not session.is_open
    for _ in range(2):
        done = session.run_all(wanted)
        assert [done[key].code for key in wanted] == [0, 2, 127, 0, 0]
        assert done["out"].stdout == "a\0b\n" and "/no such folder" in done["err"].stderr
        assert done["words"].stdout == "a b.it's.$HOME.\n." and done["input"].stdout == ""


def test_what_a_session_opens_it_keeps(session, tmp_path):
    path = tmp_path / "lock"
    assert session.run(f"exec 9<>{path} && flock -n 9 && echo mine").stdout == "mine\n"
    assert session.run("[ 1 = 2 ]").code == 1
    assert subprocess.run(["flock", "-n", path, "true"]).returncode == 1
    session.close()
    until(lambda: subprocess.run(["flock", "-n", path, "true"]).returncode == 0, "still held", 5)


def test_a_session_that_hangs_is_ended_and_the_next_question_has_a_new_one(session):
    done = session.run_all({"slow": ("sleep", "60"), "late": ("true",)}, timeout=0.3)
    assert [outcome.code for outcome in done.values()] == [None, None]
    assert not session.is_open
    assert session.run_all({"now": ("echo", "here")})["now"].stdout == "here\n"
    with pytest.raises(WorldError, match=r"no response from .* within 0\.3 s"):
        session.run("sleep 60", timeout=0.3)
    with pytest.raises(WorldError, match="no response"):
        session.run("exit 3")
    assert session.run("echo here").stdout == "here\n"


def test_a_login_that_fails_has_its_cause_and_is_tried_once_more_when_asked():
    away = Session("no-such-host.invalid", timeout=2)
    for _ in range(2):
        assert away.login().code == 255
        with pytest.raises(WorldError, match=r"no-such-host\.invalid is unreachable over ssh: no"):
            away.run_all({"x": ("true",)})
    assert not away.is_open


class Waiter:
    """A migration that stands in a queue."""

    def __init__(self, queue, name):
        self.queue, self.move = queue, Move(name, f"uuid of {name}", "node1", "node2")
        self.session = Session()
        self.tickets = Tickets(self.session)
        self.has_ticket = False

    def place(self, jobs=()):
        if self.has_ticket:
            output = self.tickets.observe(self.queue)
        else:
            output = self.tickets.take(self.queue, self.move)
        self.has_ticket = True
        return queues.standing(self.queue, self.move, output, dict(jobs)).slot

    def release(self):
        self.tickets.release(self.queue)


@pytest.fixture
def queue(tmp_path):
    return Queue("node1", queues.OUTGOING, 2, str(tmp_path / "not there yet" / "it's a queue"))


@pytest.fixture
def waiters(queue):
    found = [Waiter(queue, f"g\\c\\n{number}'\x1b") for number in range(6)]
    yield found
    for one in found:
        one.release()
        one.session.close()


def uptime():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def places(waiters):
    return [waiter.place() for waiter in waiters]


def test_who_comes_later_stands_further_back(waiters):
    assert places(waiters) == [0, 0, 1, 2, 3, 4]
    assert places(waiters) == [0, 0, 1, 2, 3, 4]
    waiters[1].release()
    assert places(waiters[2:]) == [0, 1, 2, 3]
    first, *_, last = waiters
    assert last.place({"other": "by hand"}.items()) == 4
    first.release()
    assert places(waiters[2:]) == [0, 0, 1, 2]


def test_whoever_is_killed_is_gone_at_once_wherever_it_stood(waiters):
    places(waiters)
    for killed in (waiters[0], waiters[2], waiters[3]):
        killed.session.close()
    assert places([waiters[5], waiters[4], waiters[1]]) == [1, 0, 0]


def names_of(queue):
    return sorted(name for name in os.listdir(queue.folder) if name != "lock")


def test_a_killed_process_leaves_no_ticket_though_a_child_keeps_its_shell(queue, waiters):
    code = (
        "import os, time; from saltext_kvmcluster.host.ssh import Session\n"
        "from saltext_kvmcluster.host.tickets import Tickets\n"
        "from saltext_kvmcluster.core.migration.queues import Queue\n"
        "from saltext_kvmcluster.core.migration.migration import Move\n"
        f"queue = Queue('node1', 'outgoing', 1, {queue.folder!r})\n"
        "Tickets(Session()).take(queue, Move('killed', 'its uuid', 'node1', 'node2'))\n"
        "child = os.fork()\n"
        "if child: print(child, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        first = waiters[0]
        one = replace(queue, limit=1)
        first.queue = one
        assert first.place() == 1
        process.kill()
        process.wait()
        assert first.place() == 0 and len(names_of(queue)) == 1
        os.kill(child, signal.SIGKILL)


def test_a_number_that_another_process_has_now_or_another_boot_is_no_ticket(queue, waiters):
    places(waiters)
    first, second, *_ = names_of(queue)
    number, pid, began, *rest = first.split("-")
    others = "-".join([number, pid, str(int(began) + 1), *rest])
    os.rename(f"{queue.folder}/{first}", f"{queue.folder}/{others}")
    before = second.rpartition("-")[0] + "-00000000"
    os.rename(f"{queue.folder}/{second}", f"{queue.folder}/{before}")
    assert places(waiters[2:]) == [0, 0, 1, 2]
    assert len(names_of(queue)) == 4
    for lost in waiters[:2]:
        with pytest.raises(WorldError, match="was not migrated"):
            lost.place()


@pytest.mark.parametrize("make", [ODD[kind] for kind in ("folder", "fifo", "dangling", "giant")])
@pytest.mark.parametrize(
    "name", ["100000001", "1abcdefgh", "lock", "a b", "100000001-1-1-1-1-x", "199999999-x"]
)
def test_what_is_no_ticket_stops_nobody_and_is_named(queue, waiters, make, name):
    path = pathlib.Path(queue.folder) / name
    path.parent.mkdir(parents=True)
    make(path)
    began = time.monotonic()
    assert places(waiters[:4]) == places(waiters[:4]) == [0, 0, 1, 2]
    assert time.monotonic() - began < 10
    at = queues.standing(queue, waiters[3].move, waiters[3].tickets.observe(queue), {})
    is_ticket = name.count("-") == 5 or name == "lock"
    if not is_ticket or path.is_symlink() or (path.exists() and not path.is_file()):
        assert f"not a ticket, to be moved away: {path}" in str(at)
        discard(path)


def test_thousands_of_abandoned_tickets_hold_nobody_up(queue, waiters):
    folder = pathlib.Path(queue.folder)
    folder.mkdir(parents=True)
    for number in range(2000):
        (folder / f"{100000001 + number}-99999999-5-99999999-5-00000000").write_text("[]")
    assert waiters[0].place() == 0 and len(names_of(queue)) == 1


def test_a_ticket_that_nobody_shows_to_be_his_is_nobodys(queue, waiters):
    """As it is when a node has lost its power: its login stays for hours."""
    places(waiters)
    names = names_of(queue)
    old = uptime() - 100
    os.utime(os.path.join(queue.folder, names[0]), (old, old))
    assert waiters[2].place() == 0
    with pytest.raises(WorldError, match="was not migrated"):
        waiters[0].place()
    os.utime(os.path.join(queue.folder, names[1]), (old, old))
    waiters[1].tickets._tried(tickets._script(queue, tickets._BEAT))
    assert places(waiters[1:4]) == [0, 0, 1]


def test_no_clock_that_somebody_sets_takes_a_ticket_away(queue, waiters):
    places(waiters)
    names = [name for name in os.listdir(queue.folder) if name != "lock"]
    times = [os.stat(os.path.join(queue.folder, name)).st_mtime for name in names]
    assert len(times) == len(waiters) and all(uptime() - 60 < at <= uptime() for at in times)


def test_many_at_one_moment_get_each_a_number_of_their_own(queue):
    crowd = [Waiter(queue, f"guest{number}") for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        pool.map(lambda one: one.place(), crowd)
    assert sorted(places(crowd)) == [0, 0, *range(1, 11)]
    for one in crowd:
        one.session.close()


def test_a_queue_that_cannot_be_made_lets_nobody_go():
    nowhere = Waiter(Queue("node1", queues.OUTGOING, 2, "/proc/nowhere"), "guest")
    with pytest.raises(WorldError, match=r"/proc/nowhere.*No such file"):
        nowhere.place()
    nowhere.session.close()


class Told(list):
    """What was told of migrations, by its word."""

    def __call__(self, kind, data):
        self.append((data["what"], data["guest"], data.get("slot")))


@pytest.fixture
def reported():
    return Told()


@pytest.fixture
def places_of(reported):
    """Make the places of one call, on a node that is its own peer; libvirt has nothing to say."""
    shells = []

    def make(within=60.0, cancelled=lambda uuid: "", limit=1):
        limits = {"max_outgoing": limit, "max_incoming": limit}
        nodes = {"node1": None, "node2": None}
        pillar = {"name": "lab", "nodes": nodes, "migration": limits}
        own = {node: Session() for node in nodes}
        shells.extend(own.values())
        env = SimpleNamespace(
            cluster=from_pillar({"kvmcluster": pillar}),
            here="node1",
            clock=this_node.Clock(),
            tickets={node: Tickets(shell) for node, shell in own.items()}.get,
            libvirt=lambda node: SimpleNamespace(moving=lambda job: {}),
            journal=lambda node: SimpleNamespace(asked_to_cancel=cancelled),
            notify=reported,
        )
        return lambda move: slots(env, move, within, lambda: False)

    yield make
    for shell in shells:
        shell.close()


FIRST, SECOND = (Move(name, f"uuid of {name}", "node1", "node2") for name in ("first", "second"))


def test_a_place_is_let_go_at_its_end(places_of, reported):
    for move in (FIRST, SECOND, FIRST):
        with places_of(within=0.0)(move) as waited:
            assert not waited
    assert reported == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"within": 0.0}, "no slot is free, and waiting was not requested"),
        ({"within": 0.6}, r"no slot was free within 0\.6 s"),
        ({"cancelled": lambda uuid: "by Ann"}, "cancelled: by Ann"),
    ],
)
def test_who_waits_no_longer_says_why_and_has_no_ticket_any_more(places_of, reported, more, words):
    with places_of()(FIRST):
        refused = rf"second was not migrated.*{words}.*max_outgoing.*first \(node1 to node2\)"
        with pytest.raises(WorldError, match=refused), places_of(**more)(SECOND):
            raise AssertionError("it has a place")
        assert reported == [
            ("queued", "second", 1),
        ]
    with places_of(within=0.0)(SECOND) as waited:
        assert not waited


def test_whoever_waited_knows_it(places_of, reported):
    order = []

    def wait(move):
        with places_of()(move) as waited:
            order.append((move.guest, waited))

    with ThreadPoolExecutor() as pool:
        with places_of()(FIRST):
            waiting = pool.submit(wait, SECOND)
            until(lambda: reported, "nobody is told that it waits", 5)
            order.append(("first", False))
        waiting.result()
    assert order == [("first", False), ("second", True)]


def test_a_place_stays_ones_own_for_as_long_as_it_is_needed(places_of, monkeypatch):
    monkeypatch.setattr(tickets, "BEAT", 0.05)
    folder = "/run/kvmcluster-outgoing"
    with places_of()(FIRST):
        (ticket,) = [entry.path for entry in os.scandir(folder) if entry.name != "lock"]
        long_ago = uptime() - 100
        os.utime(ticket, (long_ago, long_ago))
        until(lambda: os.stat(ticket).st_mtime > long_ago + 50, "nobody keeps the ticket", 5)
    assert os.listdir(folder) == ["lock"]  # Where the ticket was.
