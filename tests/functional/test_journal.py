"""A node's journal with odd files in it, locks that are held for long, counts, on real files.

What ``PeersJournal`` runs on a peer runs here in a shell of this host.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from odd import ODD, discard
from sandbox import sh

from saltext_kvmcluster.core.errors import AtWork, WorldError
from saltext_kvmcluster.core.facts import node_report, parsers
from saltext_kvmcluster.core.facts.parsers import CommandOutput
from saltext_kvmcluster.core.failover.restarts import Traces
from saltext_kvmcluster.core.migration import journal
from saltext_kvmcluster.core.migration.handover import LastRun
from saltext_kvmcluster.core.migration.journal import BEGUN, Entry
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.host import (
    claims,
    collector,
    commands,
    cordons,
    leaving,
    locks,
    this_node,
)
from saltext_kvmcluster.host import journal as host_journal
from saltext_kvmcluster.host.journal import Journal, PeersJournal, lock_name
from saltext_kvmcluster.host.ssh import Session

FOLDER = pathlib.Path(journal.FOLDER)
UUID, OTHER = "c6a03beb-295e-499a-b50f-94bfb088f6f2", "11111111-1111-4111-8111-111111111111"
ENTRY = Entry(Move("web1", UUID, "node1", "node2"), "2030-01-01", BEGUN, True, "defined")
LOCK = f"/run/{lock_name(UUID)}.lock"


@pytest.fixture
def own():
    shutil.rmtree(FOLDER.parent, ignore_errors=True)
    found = Journal()
    found.write(ENTRY)
    yield found
    shutil.rmtree(FOLDER.parent, ignore_errors=True)


@pytest.fixture
def both(own):
    shell = Session()
    yield own, PeersJournal(shell)
    shell.close()


class AsNobody:
    """A login that is not root."""

    name = "node2"

    def run_all(self, wanted, timeout):
        as_nobody = ("runuser", "-u", "nobody", "--")
        return commands.run_all({key: [*as_nobody, *line] for key, line in wanted.items()})


def test_a_login_that_may_not_read_it_is_told_what_to_do(own):
    with pytest.raises(WorldError, match="Permission denied; set kvmcluster:ssh:sudo"):
        PeersJournal(AsNobody()).entries()
    # The folder above it is root's alone, so that the journal seems not to be there.
    with pytest.raises(WorldError, match=r"could not be cleared: .*Permission denied"):
        PeersJournal(AsNobody()).clear(UUID)
    assert (FOLDER / f"{UUID}.json").exists()


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_an_odd_entry_concerns_its_guest_alone_and_is_named(both, make):
    path = FOLDER / f"{OTHER}.json"
    make(path)
    for kept in (one.entries() for one in both):
        assert kept.entries == (ENTRY,) and not kept.doubts(UUID)
        assert kept.doubts(OTHER).startswith(f"{path}")
        assert "is not a valid journal entry" in kept.doubts(OTHER)
        assert kept.doubts(OTHER).endswith("if no migration is under way, remove it")
    discard(path)
    assert [one.entries().unread for one in both] == [(), ()]


def test_an_entry_of_another_guest_or_account_is_no_entry(both):
    path = FOLDER / f"{OTHER}.json"
    shutil.copy(FOLDER / f"{UUID}.json", path)
    for kept in (one.entries() for one in both):
        assert kept.entries == (ENTRY,) and kept.doubts(UUID) == kept.doubts(OTHER)
        assert f"it is that of web1, {UUID}" in kept.doubts(UUID)
    path.write_text(journal.text(replace(ENTRY, move=replace(ENTRY.move, uuid=OTHER))))
    assert [len(one.entries().entries) for one in both] == [2, 2]
    os.chown(path, 65534, 65534)
    for kept in (one.entries() for one in both):
        assert kept.entries == (ENTRY,) and "user 65534, not to root" in kept.doubts(OTHER)


@pytest.mark.parametrize("name", ["README", "a\nb.json", f"{UUID}.json~", "\udcff.json", "x" * 200])
@pytest.mark.parametrize("make", [ODD["folder"], ODD["fifo"], ODD["binary"]])
def test_what_does_not_belong_there_is_named_and_concerns_nobody(both, name, make):
    make(FOLDER / name)
    for kept in (one.entries() for one in both):
        assert kept.entries == (ENTRY,) and len(kept.unread) == 1 and kept.unread[0].isprintable()
        assert kept.unread[0].endswith("does not belong there; move it away")


def test_thousands_of_files_are_read_past(both):
    for number in range(1000):
        (FOLDER / f"x{number}.json").write_text("x")
    for kept in (one.entries() for one in both):
        assert kept.entries == (ENTRY,) and len(kept.unread) == 11


def test_the_facts_of_a_node_name_what_is_no_entry_and_hide_nothing(own):
    ODD["fifo"](FOLDER / "pipe")
    ODD["folder"](FOLDER / f"{OTHER}.json")
    here = ENTRY.move.source
    cluster = parser.from_pillar({"kvmcluster": {"name": "lab", "nodes": {here: {}}}})
    reported = {**collector.gather_host(here), **collector.own_state(cluster, here)}
    found = node_report.parse(here, reported, 0.0, 0.0)
    assert [sentence.split()[0] for sentence in found.journal] == [
        f"{FOLDER}/{OTHER}.json",
        f"{FOLDER}/pipe",
    ]
    assert "remove it" in found.journal[0] and "move it away" in found.journal[1]
    assert found.memory_kib and not found.detail


@pytest.mark.parametrize("kind", ["fifo", "link", "dangling", "empty"])
def test_a_journal_that_is_no_folder_is_never_taken_for_an_empty_one(both, kind):
    shutil.rmtree(FOLDER)
    assert [one.entries() for one in both] == [journal.Kept()] * 2
    ODD[kind](FOLDER)
    for one in both:
        with pytest.raises(WorldError, match=f"{FOLDER}.* not a folder; move it away"):
            one.entries()
    discard(FOLDER)


def test_cleared_is_what_is_gone(both):
    path = FOLDER / f"{UUID}.json"
    for one in both:
        one.clear(UUID)
        one.clear(UUID)
        assert not path.exists()
        path.mkdir()
        with pytest.raises(WorldError, match=r"Is a directory|it is a folder; move it away"):
            one.clear(UUID)
        path.rmdir()
        (FOLDER / f"{UUID}.cancel").mkdir()
        both[0].write(ENTRY)
        with pytest.raises(WorldError, match=rf"{UUID}\.cancel"):
            one.clear(UUID)
        (FOLDER / f"{UUID}.cancel").rmdir()
        both[0].write(ENTRY)
        sh("mount", "--bind", FOLDER, FOLDER)
        sh("mount", "-o", "remount,bind,ro", FOLDER)
        try:
            with pytest.raises(WorldError, match="Read-only file system"):
                one.clear(UUID)
        finally:
            sh("umount", FOLDER)
        assert path.exists()


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_an_odd_history_hides_no_record_and_is_named(own, make):
    path = FOLDER.parent / "history"
    make(path)
    if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20:
        own.remember({"guest": "web1"})
        assert {"guest": "web1"} in own.history()
    elif not path.exists() or not path.is_file() or path.stat().st_size > 1 << 20:
        with contextlib.suppress(FileNotFoundError), pytest.raises(WorldError, match=str(path)):
            own.remember({"guest": "web1"})
    discard(path)


def test_the_sums_over_the_history_go_on_when_it_drops_what_is_old(own, monkeypatch):
    monkeypatch.setattr(host_journal, "LONGEST_HISTORY", 3)
    moved = {"guest": "web1", "source": "node1", "destination": "node2", "result": "moved"}
    for number in range(1, 8):
        own.remember({**moved, "elapsed": 3.0, "memory_bytes": 100, "started": f"t{number}"})
        assert own.totals().results["moved"] == number
        assert own.totals().bytes == 100 * number
    assert [row["started"] for row in own.history()] == ["t5", "t6", "t7"]
    assert own.totals().seconds.sum == 21.0


def test_both_nodes_count_and_no_number_comes_twice(both):
    own, peer = both
    assert own.advance(0) > 1 << 30, "a count that was lost goes on above what it was"
    (FOLDER.parent / "sequence").write_text("41\n")
    assert [own.advance(0), peer.advance(0), own.advance(99), peer.advance(7)] == [42, 43, 100, 101]
    shells = [Session() for _ in range(4)]
    counters = [own.advance, *(PeersJournal(shell).advance for shell in shells)]
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda at: counters[at % 5](0), range(40)))
    assert sorted(numbers) == list(range(102, 142))
    for shell in shells:
        shell.close()


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_a_count_that_cannot_be_read_stops_nobody_and_is_no_count(both, make):
    path = FOLDER.parent / "sequence"
    make(path)
    for one in both:
        with pytest.raises(WorldError, match=str(path)):
            one.advance(0)
        assert one.entries().entries == (ENTRY,) and not one.entries().doubts(UUID)
    assert any(str(path) in why for why in both[0].entries().unread)
    discard(path)


@contextlib.contextmanager
def holder(*words):
    """A process that holds the guest's lock."""
    code = (
        "import sys, time; from saltext_kvmcluster.host import locks\n"
        f"with locks.lock({lock_name(UUID)!r}): print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def refusals():
    """Return what is said to a command here, and to one of node3."""
    shell = Session()
    for lock in (
        this_node._locked(ENTRY.move),
        this_node._locked_there(ENTRY.move, shell, "node3"),
    ):
        with pytest.raises(AtWork) as refused, lock:
            raise AssertionError("it is locked")
        assert refused.value.holder
        yield str(refused.value)
    shell.close()


def test_whoever_holds_a_guest_is_named_with_a_way_out():
    with holder("salt-minion") as process:
        named = f"on web1 on node1: process {process.pid} ({sys.executable} -c import sys"
        for detail in refusals():
            assert named in detail and "running, has held the lock for" in detail
            assert f"(wait for its end; if it hangs: on node1: kill {process.pid})" in detail
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.1)
        for detail in refusals():
            assert named in detail and "stopped, has held the lock for" in detail
            assert "lock for 0 s" not in detail
            assert f"to let it go on: on node1: kill -CONT {process.pid}" in detail
            assert f"to end it: kill -KILL {process.pid}" in detail
    with this_node._locked(ENTRY.move):
        pass
    assert pathlib.Path(LOCK).read_text() == ""


def test_a_command_of_a_peer_is_named_too():
    shell = Session()
    with this_node._locked_there(ENTRY.move, shell, "node3"):
        for detail in refusals():
            assert "(sh), for a command on node3, running" in detail
    with this_node._locked(ENTRY.move):
        pass
    shell.close()


@pytest.mark.parametrize("text", ["", "1", "x y z", "99999999 1 1\n", f"{os.getpid()} 1 1\n", "\0"])
def test_a_lock_that_does_not_name_its_holder_says_how_to_find_it(text):
    with open(LOCK, "w+") as file:
        sh("flock", "-n", str(file.fileno()), pass_fds=[file.fileno()])
        file.write(text)
        file.flush()
        for detail in refusals():
            assert f"its process is not known (to find it: on node1: fuser -v {LOCK})" in detail


@pytest.mark.parametrize("kind", ["folder", "socket", "link", "dangling", "loop", "fifo"])
def test_an_odd_lock_concerns_its_guest_alone(kind):
    path = pathlib.Path(LOCK)
    path.unlink(missing_ok=True)
    ODD[kind](path)
    for _ in range(2):
        if kind == "fifo":
            with this_node._locked(ENTRY.move):
                pass
        else:
            with pytest.raises(WorldError, match=f"{path}.*move it away"), locks.lock(path.stem):
                pass
    with locks.lock(lock_name(OTHER), timeout=0):
        discard(path)


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_whatever_lies_there_cordons_the_node(make):
    path = pathlib.Path(cordons.PATH)
    make(path)
    try:
        cordon = cordons.current()
        assert cordon is not None
        # What all nodes are shown of it.
        done = commands.run(parsers.COMMANDS["cordoned"], 5)
        shown = parsers.cordoned(CommandOutput(done.code, done.stdout, done.stderr))
        assert shown != ()
        if not path.is_file():
            assert str(path) in cordon.reason
            assert shown is None or "not a regular file; move it away" in shown[0].reason
    finally:
        discard(path)
    assert cordons.current() is None


@pytest.mark.parametrize("kind", ["fifo", "giant", "binary"])
def test_an_odd_claim_answers_at_once(kind, tmp_path):
    path = tmp_path / "claim"
    ODD[kind](path)
    with commands.held(claims.command(str(path), "node1", 60)) as first:
        assert first.echoes(5)
        began = time.monotonic()
        refused = commands.run(claims.command(str(path), "node2", 60), 10)
        assert refused.code == claims.CONFLICT and time.monotonic() - began < 5


def test_who_was_up_is_told_by_the_history_and_by_claims(both):
    own, peer = both
    path = pathlib.Path(claims.lock_path(True, "/root", "node1", UUID))
    record = {"guest": "web1", "uuid": UUID, "source": "node1", "destination": "node2"}
    try:
        assert own.contacts() == peer.contacts() == []
        own.remember({**record, "result": "moved", "started": "2026-11-29T09:33:00+00:00"})
        with commands.held(claims.command(str(path), "node3", 60)) as held:
            assert held.echoes(5)
        found = own.contacts()
        assert [one.node for one in found] == ["node1", "node2", "node3"]
        assert peer.contacts() == found and abs(found[2].moment.timestamp() - time.time()) < 60
        history = FOLDER.parent / "history"
        history.unlink()
        history.mkdir()
        for one in both:
            with pytest.raises(WorldError, match="the history of this node could not be read"):
                one.contacts()
    finally:
        path.unlink(missing_ok=True)


RUN = "2030-01-01 00:00:00.000+0000: starting up libvirt version: 9.0.0\n"
CRASH = "2030-01-01 00:10:00.000+0000: shutting down, reason=crashed\n"


def test_what_a_node_knows_of_a_guests_last_run_is_told_with_its_age(both):
    log = pathlib.Path(f"{leaving.LOGS}/web1.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        assert [one.traces("web1") for one in both] == [Traces(LastRun("", 0))] * 2
        log.write_text(RUN + CRASH)
        os.utime(log, (now := time.time(), now - 100))
        both[0].note_shutdown("web1", datetime.now(timezone.utc))
        for found in (one.traces("web1") for one in both):
            assert found.run.ended == "crashed"
            assert 100 <= found.logged < 160 and 0 <= found.shut_down < 60
        # logrotate empties it, by libvirt's own configuration.
        log.write_text("")
        assert [one.traces("web1").logged for one in both] == [None, None]
        log.unlink()
        log.symlink_to("web1.log")
        for one in both:
            with pytest.raises(
                WorldError, match=r"whether web1 ran on .* since is not known: .*Too"
            ):
                one.traces("web1")
    finally:
        log.unlink(missing_ok=True)
