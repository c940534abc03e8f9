"""What is told of a migration while it lasts, and remembered afterwards, on real parts.

A link of 1 MiB/s makes a migration last until it has been met in its middle and is hurried up.
"""

import contextlib
import itertools
import json
import os
import pathlib
import pty
import signal
import subprocess
import threading

import pytest
from labs import PROGRAM, until

GUEST = "web"
SLOW, FAST = "1", "10000"
MIB = 2**20
TAG = "kvmcluster/lab/migration/{}/{}"
ROW = {
    "guest", "uuid", "source", "destination", "phase", "percentage", "rate", "dirty_rate",
    "remaining", "expected_end", "expected_downtime_ms", "downtime_ms", "iteration", "throttle",
    "stalled", "elapsed", "slot", "reason",
}  # fmt: skip


@pytest.fixture(scope="module")
def guest(prepared_lab):
    prepared_lab.guest(GUEST, "node1")
    yield prepared_lab
    prepared_lab.stop_guest(GUEST)


@pytest.fixture
def lab(guest):
    """The lab with its guest; whatever a test did, it runs once at its end, nothing lost."""
    yield guest
    settled(guest)
    assert len(running(guest)) == 1
    guest.assert_whole(GUEST)


def running(lab):
    """Return the nodes on which libvirt says that the guest runs."""
    return lab.running(GUEST)


def settled(lab):
    """Let a migration that is under way end, as fast as it can."""

    def nothing():
        rows = lab.run("kvmcluster.job")["jobs"]
        for row in rows:
            hurry(lab, row["source"])
        return not rows

    until(nothing, "the migration does not end")


def route(lab):
    """Return where the guest is, and another node."""
    (source,) = running(lab)
    return source, next(node for node in lab.nodes if node != source)


@contextlib.contextmanager
def slow(lab, source):
    """Let the guest leave a node slowly, and give it its speed back wherever it is then."""
    lab.exec(source, "virsh", "migrate-setspeed", GUEST, SLOW)
    try:
        yield
    finally:
        for node in running(lab):
            hurry(lab, node)


def hurry(lab, node):
    """Let the guest leave a node as fast as it can, from now on."""
    lab.exec(node, "virsh", "migrate-setspeed", GUEST, FAST, check=False)


class Program:
    """lab/ctl at work, its standard error on a terminal of its own, or on a pipe."""

    def __init__(self, lab, *words, terminal=False):
        self.printed, self.reported = b"", b""
        ours, theirs = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [*PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=lab.environment,
        )
        os.close(theirs)
        self._readers = [
            threading.Thread(target=self._read, args=(ours, "reported")),
            threading.Thread(target=self._read, args=(self.process.stdout.fileno(), "printed")),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, descriptor, name):
        with contextlib.suppress(OSError):  # A terminal that nobody has open any more is an error.
            while found := os.read(descriptor, 65536):
                setattr(self, name, getattr(self, name) + found)

    @property
    def inmost(self):
        """The process number of the program that lab/ctl runs."""
        number = self.process.pid
        while kids := pathlib.Path(f"/proc/{number}/task/{number}/children").read_text().split():
            number = int(kids[0])
        return number

    def end(self, seconds=180):
        """Wait for the end and return the exit code."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return code

    def ended(self):
        """Return how it ended, in words, and nothing while it is under way; for ``until``."""
        if self.process.poll() is None:
            return ""
        self.end()
        return f"exit code {self.process.returncode}: {self.printed + self.reported!r}"

    def kill(self):
        self.process.kill()
        self.end()


@contextlib.contextmanager
def listening(lab):
    """Yield a function that returns the events of ours that the master's bus has carried."""
    bus = Program(lab, "salt-run", "--", "state.event", "kvmcluster/*")
    try:
        until(
            lambda: lab.salt("node1", "event.send", "kvmcluster/lab/hello") and bus.printed,
            "the bus carries nothing",
        )

        def events():
            lines = [line.split("\t", 1) for line in bus.printed.decode().splitlines()]
            return [
                (line[0], json.loads(line[1]))
                for line in lines
                if line[0] != "kvmcluster/lab/hello"
            ]

        yield events
    finally:
        bus.kill()


def of(events, what):
    return [event["data"] for _, event in events if event["data"]["what"] == what]


def runner(lab, *words, terminal=False):
    return Program(lab, "salt-run", "--", *words, terminal=terminal)


def middle(lab, ended=None):
    """Wait until a migration has sent something, and return its row; ``ended`` as of until."""

    def found():
        rows = [row for row in lab.run("kvmcluster.job", GUEST)["jobs"] if row["percentage"]]
        return rows[0] if rows else None

    return until(found, "a migration under way", ended=ended)


def test_each_phase_is_told_and_how_far_it_is_every_few_seconds(lab):
    source, destination = route(lab)
    with listening(lab) as events, slow(lab, source):
        call = runner(lab, "kvmcluster.migrate", GUEST, destination)
        until(
            lambda: len(of(events(), "copying")) >= 3,
            "three events of how far it is",
            ended=call.ended,
        )
        hurry(lab, source)
        assert call.end() == 0
        until(lambda: of(events(), "ended"), "no end was told")
        reported = events()
    assert {tag for tag, _ in reported} == {TAG.format(source, GUEST)}
    data = [event["data"] for _, event in reported]
    phases = [one["what"] for one in data]
    assert list(dict.fromkeys(phases)) in (
        ["begun", "preparing", "copying", "ended"],
        ["begun", "copying", "ended"],
    )
    copying = of(reported, "copying")
    assert all(b["elapsed"] - a["elapsed"] > 2 for a, b in itertools.pairwise(copying))
    assert copying[0]["percentage"] < copying[-1]["percentage"] <= 100
    assert all(len(json.dumps(one)) < 1500 for one in data)
    assert (data[-1]["result"], data[-1]["owner"]) == ("moved", destination)
    assert {one["destination"] for one in data} == {destination}


def test_in_the_middle_a_job_tells_how_far_it_is_and_afterwards_history_has_it(lab):
    source, destination = route(lab)
    assert lab.salt(source, "kvmcluster.job")["jobs"] == []
    with slow(lab, source):
        call = runner(lab, "--out=json", "kvmcluster.migrate", GUEST, destination)
        row = middle(lab, call.ended)
        (arriving,) = lab.salt(destination, "kvmcluster.job")["jobs"]
        text = lab.ctl("salt", "--", source, "kvmcluster.job").stdout
        hurry(lab, source)
        assert call.end() == 0
    assert set(row) == ROW
    assert (row["source"], row["destination"], row["phase"]) == (source, destination, "copying")
    assert 0 < row["percentage"] < 100 and MIB / 2 < row["rate"] < 2 * MIB
    assert row["remaining"] > 0 and row["elapsed"] > 0 and row["stalled"] is not True
    assert (arriving["guest"], arriving["phase"]) == (GUEST, "arriving")
    assert f"1 migration under way on {source}" in text and "MiB/s" in text
    done = json.loads(call.printed)
    remembered = lab.run("kvmcluster.history", GUEST)
    assert remembered["ok"] and remembered["silent"] == {}
    last = remembered["history"][-1]
    assert last == {key: done[key] for key in last}
    assert lab.salt(source, "kvmcluster.history", GUEST)["history"][-1] == last
    assert lab.run("kvmcluster.job")["jobs"] == []


def test_a_line_on_a_terminal_says_how_far_it_is_and_leaves_nothing(lab):
    source, destination = route(lab)
    with slow(lab, source):
        call = runner(lab, "kvmcluster.migrate", GUEST, destination, terminal=True)
        until(lambda: b"copying" in call.reported, "a line of progress", ended=call.ended)
        hurry(lab, source)
        assert call.end() == 0
    shown = call.reported.decode().split("\r")
    assert any(f"{GUEST}, {source} -> {destination}" in line for line in shown)
    assert any("copying" in line and "MiB/s" in line for line in shown)
    ours = [line for line in shown if line.startswith(f"{GUEST}, ")]
    assert all(line.endswith("\x1b[K") and len(line) <= 79 + len("\x1b[K") for line in ours)
    after = shown[shown.index(ours[-1]) + 1]
    assert after.startswith("\x1b[K"), "the line is not cleared"
    text = call.printed.decode()
    assert text.startswith(f"MOVED  {GUEST}, {source} -> {destination}: ") and "\x1b" not in text


def test_json_has_no_line_around_it(lab):
    source, destination = route(lab)
    with slow(lab, source):
        call = runner(lab, "--out=json", "kvmcluster.migrate", GUEST, destination, terminal=True)
        middle(lab, call.ended)
        hurry(lab, source)
        assert call.end() == 0
    assert json.loads(call.printed)["result"] == "moved"
    assert b"\r\x1b" not in call.reported and b"copying" not in call.reported


def test_exit_codes_and_words_of_what_was_not_to_be(lab):
    source, destination = route(lab)
    with slow(lab, source):
        call = runner(lab, "--out=json", "kvmcluster.migrate", GUEST, destination, "timeout=2")
        assert call.end() == 1
    done = json.loads(call.printed)
    assert (done["result"], done["owner"]) == ("not_moved", source)
    assert running(lab) == [source]
    for words, detail in (
        ((GUEST, source), f"{GUEST} is on {source} already"),
        (("wep", destination), "no node that responded has a guest wep; to list the guests"),
        ((GUEST, "node9"), "its nodes are node1, node2, node3"),
    ):
        call = runner(lab, "kvmcluster.migrate", *words)
        assert call.end() == 1
        assert call.printed.decode().startswith("ERROR: ") and detail in call.printed.decode()
        assert b"Traceback" not in call.printed + call.reported


def test_an_interrupted_runner_leaves_the_migration_at_work(lab):
    source, destination = route(lab)
    with slow(lab, source):
        call = runner(lab, "kvmcluster.migrate", GUEST, destination)
        middle(lab, call.ended)
        os.kill(call.inmost, signal.SIGINT)
        assert call.end(60) == 1
        assert middle(lab)["destination"] == destination
        refused = runner(lab, "kvmcluster.migrate", GUEST, destination)
        assert refused.end() == 1
    detail = call.printed.decode()
    assert detail.startswith("UNKNOWN") and f"salt {source} kvmcluster.job {GUEST}" in detail
    assert f"salt-run kvmcluster.cancel {GUEST}" in detail
    assert f"it is already migrating from {source}" in refused.printed.decode()
    settled(lab)
    assert running(lab) == [destination]
    assert lab.run("kvmcluster.history", GUEST)["history"][-1]["result"] == "moved"


def test_it_is_cancelled_from_the_master(lab):
    source, destination = route(lab)
    with slow(lab, source):
        call = runner(lab, "--out=json", "kvmcluster.migrate", GUEST, destination)
        middle(lab, call.ended)
        done = lab.run("kvmcluster.cancel", GUEST)
        assert call.end() == 1
    assert (done["ok"], done["result"], done["owner"]) == (True, "not_moved", source), done
    answer = json.loads(call.printed)
    assert answer["result"] == "not_moved" and "cancelled: " in answer["reason"]
    assert running(lab) == [source]
    assert "has a migration of" in lab.run("kvmcluster.cancel", GUEST)["error"]


def test_a_minion_that_dies_meanwhile_does_not_hide_where_the_guest_went(lab):
    source, destination = route(lab)
    with slow(lab, source):
        call = runner(lab, "--out=json", "kvmcluster.migrate", GUEST, destination)
        middle(lab, call.ended)
        lab.ctl("kill", source, "minion")
        try:
            hurry(lab, source)
            assert call.end(300) == 0
        finally:
            lab.ctl("start", source, "minion")
    done = json.loads(call.printed)
    assert (done["result"], done["owner"]) == ("moved", destination), done
    assert f"{source} did not report how it ended" in done["reason"]
    assert running(lab) == [destination]


def test_one_that_waits_has_a_place(lab):
    source, destination = route(lab)
    other = next(node for node in lab.nodes if node not in (source, destination))
    lab.guest("web-1", source)
    try:
        with lab.pillar() as pillar:
            pillar.cluster["migration"] = {"max_outgoing": 1}
            pillar.save()
            lab.salt(source, "saltutil.refresh_pillar", "wait=true")
            waits(lab, source, destination, other)
    finally:
        lab.salt(source, "saltutil.refresh_pillar", "wait=true")
        lab.stop_guest("web-1")


def waits(lab, source, destination, other):
    """Have one guest wait for another, and see its place."""
    with slow(lab, source):
        first = runner(lab, "--out=json", "kvmcluster.migrate", GUEST, destination)
        middle(lab, first.ended)
        refused = lab.salt(source, "kvmcluster.migrate", "web-1", other, "wait=false")
        second = runner(lab, "kvmcluster.migrate", "web-1", other, terminal=True)
        (row,) = until(
            lambda: [row for row in lab.run("kvmcluster.job")["jobs"] if row["slot"]],
            "a migration that waits",
            ended=second.ended,
        )
        hurry(lab, source)
        assert (first.end(), second.end()) == (0, 0)
    assert isinstance(refused, str) and "max_outgoing" in refused
    assert (row["guest"], row["phase"], row["slot"]) == ("web-1", "queued", 1)
    assert b"queued, slot 1" in second.reported
