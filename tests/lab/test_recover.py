"""kvmcluster.recover and cancel on real libvirt: what a migration left is settled, or left alone.

What is left is made by what leaves it, wherever libvirt still does: a killed job, a cut network, a
post-copy migration whose connection was reset. A paused copy at the destination, which this libvirt
tidies away itself, is made by hand, and libvirt then calls it what it is.
"""

import contextlib
import json
import time

import pytest
from labs import Call, until

from saltext_kvmcluster.core.migration import journal
from saltext_kvmcluster.core.migration.journal import BEGUN, Entry
from saltext_kvmcluster.core.migration.migration import Move

GUEST = "web"
HOME = "/var/lib/kvmcluster"
JOURNAL = f"{HOME}/journal"
OTHER = "11111111-1111-4111-8111-111111111111"
SLOW, FAST = 1, 10000  # MiB/s: it lasts about a minute, until it is let go
KILLED = 10  # seconds: a job that was killed gives no answer
# A strict one is completed by its keeper, before anybody can look; and it leaves less unknown.
BY_LIBVIRT = "handover=libvirt"
SETTLED = ("running", "paused", "nowhere")
DEFINITION = """<domain type='qemu'>
  <name>{}</name><uuid>{}</uuid><memory>9216</memory><os><type>hvm</type></os>
</domain>"""
TWIN, TWIN_UUID = "twin", "33333333-3333-4333-8333-333333333333"


@pytest.fixture(scope="module")
def guest(prepared_lab):
    prepared_lab.guest(GUEST, "node1")
    yield prepared_lab
    prepared_lab.stop_guest(GUEST)


@pytest.fixture
def lab(guest):
    """The lab with the guest; whatever a test did, it runs once at the end, and lost nothing."""
    yield guest
    assert len(running(guest)) == 1
    guest.assert_whole(GUEST)
    assert entries(guest) == {}
    for node in guest.nodes:
        assert not guest.exec(node, "sh", "-c", f"ls {JOURNAL}/*.cancel || true").split()


def running(lab, name=GUEST):
    """Return the nodes on which libvirt says that the guest runs."""
    return [
        node
        for node in lab.nodes
        if name in lab.exec(node, "virsh", "list", "--name", "--state-running").split()
    ]


def listed(lab, node, *options):
    return lab.exec(node, "virsh", "list", "--all", "--name", *options).split()


def state(lab, node, name=GUEST):
    return lab.exec(node, "virsh", "domstate", "--reason", name, check=False).strip()


def uuid(lab, name=GUEST):
    return lab.exec(running(lab, name)[0], "virsh", "domuuid", name).strip()


def entries(lab):
    """Return the files of all journals, by node."""
    found = {
        node: lab.exec(node, "sh", "-c", f"ls {JOURNAL} || true").split() for node in lab.nodes
    }
    return {node: files for node, files in found.items() if files}


def route(lab):
    """Return where the guest is, a node to send it to, and the third one."""
    (source,) = running(lab)
    return source, *(node for node in lab.nodes if node != source)


def recover(lab, node, name=GUEST):
    answer = answered(lab, node, "kvmcluster.recover", name)
    assert answer["guest"] == GUEST or name != GUEST
    assert set(answer["sightings"]) == set(lab.nodes)
    return answer


def recovered(lab, node, patience=90):
    """Recover again and again until it is settled, as an administrator would."""
    end = time.monotonic() + patience
    while (answer := recover(lab, node))["result"] not in SETTLED:
        assert time.monotonic() < end, answer
    return answer


def did(answer):
    """Return what was done, each as words; all of it went well."""
    assert all(one["ok"] for one in answer["actions"]), answer["actions"]
    return [f"{one['step']}: {one['node']}" for one in answer["actions"]]


def begun(lab, source, destination, persistent=False, definitions="shared"):
    """Leave a journal as a migration does that was killed after it had begun."""
    move = Move(GUEST, uuid(lab), source, destination)
    entry = Entry(move, "2024-01-01T00:00:00+00:00", BEGUN, persistent, definitions)
    lab.exec(source, "mkdir", "-p", JOURNAL)
    lab.write(source, f"{JOURNAL}/{move.uuid}.json", journal.text(entry))


def define(lab, node):
    """Define another machine by the guest's name and UUID."""
    known = DEFINITION.format(GUEST, uuid(lab))
    lab.exec(node, "virsh", "define", "/dev/stdin", stdin=known)


def leave_copy(lab, node, name=GUEST):
    """Make a copy of the guest that waits for the end of a migration that is over."""
    known = DEFINITION.format(name, uuid(lab, name))
    lab.exec(node, "virsh", "create", "--paused", "/dev/stdin", stdin=known)
    lab.ctl("kill", node, "libvirtd")
    was, then = "state='paused' reason='[^']*'", "state='paused' reason='migration'"
    lab.exec(node, "sed", "-i", f"s/{was}/{then}/", f"/run/libvirt/qemu/{name}.xml")
    lab.ctl("start", node, "libvirtd")
    assert state(lab, node, name) == "paused (migrating)"


def answered(lab, node, function, *arguments):
    """Return the data that a command returned; its words, if it failed, are shown."""
    answer = lab.salt(node, function, *arguments)
    assert isinstance(answer, dict), answer
    return answer


def refused(lab, node, function, *arguments):
    """Return the words in which a command was refused."""
    answer = lab.salt(node, function, *arguments)
    assert isinstance(answer, str), answer
    assert "Traceback" not in answer
    return answer


def let_go(lab):
    """Let the guest's memory go as fast as it can, now and later."""
    for node in running(lab):
        lab.exec(node, "virsh", "migrate-setspeed", GUEST, str(FAST), check=False)


@contextlib.contextmanager
def slow_migration(lab, source, destination, *more, patience=120):
    """Begin a migration, wait for its middle, and give the guest its speed back afterwards."""
    lab.exec(source, "virsh", "migrate-setspeed", GUEST, str(SLOW))
    words = ("kvmcluster.migrate", GUEST, destination, *more)
    call = Call(lab.salt, source, *words, patience=patience)
    try:
        until(
            lambda: lab.copying(source, GUEST),
            "a migration under way",
            pause=0.1,
            ended=call.ended,
        )
        yield call
    finally:
        let_go(lab)
        call.join(180)
        let_go(lab)


def becomes(lab, node, wanted, name=GUEST, ended=None):
    """Wait until libvirt says so of the guest."""
    until(
        lambda: state(lab, node, name) == wanted,
        lambda: f"{wanted}; it is {state(lab, node, name)}",
        pause=0.1,
        ended=ended,
    )


def has_its_working_memory(lab):
    """Wait until a guest in post-copy has what it needs to write on.

    Without that QEMU itself stands still at the first page that it misses once the link is gone,
    answers nobody, and is not to be resumed.
    """
    begun = lab.record(GUEST)["last"]
    until(lambda: lab.record(GUEST)["last"] >= begun + 30, "30 more numbers", pause=0.3)


def libvirt_has_ended(lab, *nodes):
    """Wait until no job is active on nodes."""

    def jobs():
        return [lab.exec(node, "virsh", "domjobinfo", GUEST, check=False) for node in nodes]

    def idle():
        return all("None" in job or not job.strip() for job in jobs())

    until(idle, lambda: f"no job: {jobs()}", pause=0.3)


def test_a_paused_copy_at_the_destination_is_destroyed_from_a_third_node(lab):
    source, destination, third = route(lab)
    leave_copy(lab, destination)
    begun(lab, source, destination)
    answer = recover(lab, third)
    assert (answer["result"], answer["owner"]) == ("running", source)
    assert did(answer) == [
        f"destroy the paused copy that the migration left: {destination}",
        f"clear the journal: {source}",
    ]
    assert answer["sightings"] == {source: "running", destination: "absent", third: "absent"}
    assert listed(lab, destination) == []
    again = recover(lab, destination)
    assert (again["owner"], again["actions"]) == (source, [])


def test_it_is_tidied_without_a_journal_but_not_while_a_node_is_silent(lab):
    source, destination, third = route(lab)
    leave_copy(lab, destination)
    lab.ctl("cut", third)
    try:
        answer = recover(lab, source)
        assert (answer["result"], answer["owner"], answer["actions"]) == ("unknown", None, [])
        assert any(third in need for need in answer["needs"])
        assert state(lab, destination) == "paused (migrating)"
    finally:
        lab.heal(third)
    assert recovered(lab, source)["owner"] == source
    assert listed(lab, destination) == []


def test_a_copy_that_its_user_paused_is_never_touched(lab):
    source, destination, third = route(lab)
    begun(lab, source, destination)
    lab.exec(
        destination,
        *("virsh", "create", "--paused", "/dev/stdin"),
        stdin=DEFINITION.format(GUEST, uuid(lab)),
    )
    answer = recover(lab, third)
    assert (answer["result"], answer["actions"]) == ("unknown", [])
    assert state(lab, destination).startswith("paused")
    assert f"on {destination}: virsh domstate --reason {GUEST}" in answer["commands"]
    lab.exec(destination, "virsh", "destroy", GUEST)
    assert recover(lab, third)["owner"] == source


def test_an_old_definition_that_made_a_transient_guest_persistent_is_undefined(lab):
    """It came there after the checks; what it said is kept, outside of libvirt."""
    source, destination, _ = route(lab)
    with slow_migration(lab, source, destination) as call:
        define(lab, destination)
        let_go(lab)
        answer = call.end()
    assert (answer["result"], answer["owner"]) == ("moved", destination)
    (step,) = answer["afterwards"]
    assert (step["step"], step["node"], step["ok"]) == ("undefine it", destination, True)
    assert listed(lab, destination, "--transient") == [GUEST]
    kept = lab.read(source, f"{HOME}/undefined/{uuid(lab)}-{destination}.xml")
    assert "<memory unit='KiB'>9216</memory>" in kept


def test_a_definition_that_no_migration_left_stays(lab):
    source, destination, third = route(lab)
    begun(lab, source, destination)
    define(lab, destination)
    answer = recover(lab, third)
    assert did(answer) == [f"clear the journal: {source}"]
    assert listed(lab, destination, "--persistent") == [GUEST]
    lab.exec(destination, "virsh", "undefine", GUEST)


def test_a_definition_that_was_left_goes_where_the_guest_is(lab):
    """A persistent guest moved without its definition; shared: nobody but its owner keeps one."""
    source, destination, third = route(lab)
    runs = lab.exec(source, "virsh", "dumpxml", "--inactive", GUEST)
    lab.exec(source, "virsh", "define", "/dev/stdin", stdin=runs)
    lab.exec(source, "virsh", "autostart", GUEST)
    begun(lab, source, destination, persistent=True)
    lab.move_by_hand(GUEST, source, destination)
    assert listed(lab, source, "--persistent") == [GUEST]
    assert listed(lab, destination, "--transient") == [GUEST]
    answer = recover(lab, third)
    assert did(answer) == [
        f"define it as it runs: {destination}",
        f"undefine it: {source}",
        f"clear the journal: {source}",
    ]
    assert listed(lab, source) == []
    assert listed(lab, destination, "--persistent") == [GUEST]
    kept = lab.exec(destination, "virsh", "dumpxml", "--inactive", GUEST)
    assert f"<name>{GUEST}</name>" in kept and "/dev/" not in kept.split("<disk")[0]
    lab.exec(destination, "virsh", "undefine", GUEST)


def test_no_second_autostart_remains_where_every_node_keeps_a_definition(lab):
    source, destination, third = route(lab)
    begun(lab, source, destination, persistent=True, definitions="defined")
    for node in (source, destination):
        define(lab, node)
    lab.exec(destination, "virsh", "autostart", GUEST)
    answer = recover(lab, third)
    assert did(answer) == [
        f"switch its autostart off: {destination}",
        f"clear the journal: {source}",
    ]
    assert listed(lab, destination, "--autostart") == []
    for node in (source, destination):
        assert listed(lab, node, "--persistent") == [GUEST]
        lab.exec(node, "virsh", "undefine", GUEST)


@pytest.mark.pair
def test_a_killed_job_is_gone_on_from_another_node(lab):
    source, destination, third = route(lab)
    with slow_migration(lab, source, destination, BY_LIBVIRT, patience=KILLED):
        lab.ctl("kill", source, "job")
        assert set(entries(lab)) == {source}
        busy = recover(lab, third)
        assert (busy["result"], busy["actions"]) == ("busy", [])
        assert "migration is active" in " ".join(busy["sightings"].values())
        let_go(lab)
        libvirt_has_ended(lab, source, destination)
        # Driven by the source's daemon, it went on; why it may fail, see labs.Lab.move_by_hand.
        (owner,) = running(lab)
        assert owner == destination or lab.released_late(destination)
        answer = recovered(lab, third)
    assert (answer["owner"], running(lab)) == (owner, [owner])
    assert did(answer) == [f"clear the journal: {source}"]


def test_the_next_migration_settles_the_last_one(lab):
    source, destination, _ = route(lab)
    begun(lab, source, destination)
    answer = answered(lab, source, "kvmcluster.migrate", GUEST, destination)
    assert answer["result"] == "moved"


def test_a_cut_destination_is_unknown_until_it_is_healed(lab):
    source, destination, third = route(lab)
    with slow_migration(lab, source, destination, BY_LIBVIRT, "patience=5") as call:
        lab.ctl("cut", destination)
        try:
            answer = call.end()
            assert answer["result"] == "unknown"
            assert set(entries(lab)) == {source}
            unknown = recover(lab, third)
            assert (unknown["result"], unknown["actions"]) == ("unknown", [])
            assert unknown["sightings"][destination].startswith("unreachable; ")
            detail = refused(lab, source, "kvmcluster.migrate", GUEST, third)
            assert "its last migration is not settled" in detail
        finally:
            lab.heal(destination)
    answer = recovered(lab, third)
    assert (answer["owner"], running(lab)) == (source, [source])


def test_post_copy_that_broke_is_resumed(lab):
    source, destination, third = route(lab)
    lab.exec(source, "virsh", "migrate-setspeed", "--postcopy", GUEST, str(SLOW))
    with slow_migration(lab, source, destination, "post_copy=True") as call:
        peer = lab.exec(source, "getent", "hosts", f"{destination}-mig").split()[0]
        lab.exec(source, "virsh", "migrate-postcopy", GUEST)
        becomes(lab, destination, "running (post-copy)")
        has_its_working_memory(lab)
        # As a firewall does that forgot the connection: both sides see it reset.
        lab.exec(source, "ss", "--kill", "-tn", "dst", peer, "dport", ">=", ":49152")
        becomes(lab, source, "paused (post-copy failed)")
        becomes(lab, destination, "running (post-copy failed)")
        detail = refused(lab, source, "kvmcluster.cancel", GUEST)
        assert "is in post-copy" in detail
        first = call.end()
        assert first["result"] == "unknown"
        lab.exec(source, "virsh", "migrate-setspeed", "--postcopy", GUEST, str(FAST))
        answer = recovered(lab, third)
    assert did(answer) == [
        f"resume the post-copy migration: {source}",
        f"clear the journal: {source}",
    ]
    assert (answer["owner"], running(lab)) == (destination, [destination])
    lab.exec(destination, "virsh", "migrate-setspeed", "--postcopy", GUEST, "0")


def test_a_guest_that_runs_twice_is_left_alone_and_named(lab):
    """Two of one UUID without a disk: nothing but us would tell."""
    known = DEFINITION.format(TWIN, TWIN_UUID)
    for node in ("node1", "node2"):
        lab.exec(node, "virsh", "create", "/dev/stdin", stdin=known)
    try:
        before = [lab.exec(node, "virsh", "domid", TWIN) for node in ("node1", "node2")]
        answer = answered(lab, "node3", "kvmcluster.recover", TWIN)
        assert (answer["result"], answer["owner"], answer["actions"]) == ("conflict", None, [])
        assert "RUNS TWICE, on node1 and on node2" in answer["reason"]
        assert any(f"virsh destroy {TWIN}" in command for command in answer["commands"])
        assert lab.salt_code("node3", "kvmcluster.recover", TWIN) != 0
        assert [lab.exec(node, "virsh", "domid", TWIN) for node in ("node1", "node2")] == before
        lab.exec("node2", "virsh", "destroy", TWIN)
        assert answered(lab, "node3", "kvmcluster.recover", TWIN)["owner"] == "node1"
    finally:
        for node in ("node1", "node2"):
            lab.exec(node, "virsh", "destroy", TWIN, check=False)


def test_a_guest_that_runs_nowhere_is_for_an_operator_to_start(lab):
    known = DEFINITION.format(TWIN, TWIN_UUID)
    lab.exec("node1", "virsh", "define", "/dev/stdin", stdin=known)
    try:
        answer = answered(lab, "node3", "kvmcluster.recover", TWIN)
        assert (answer["result"], answer["owner"], answer["actions"]) == ("nowhere", None, [])
        assert TWIN in listed(lab, "node1")
    finally:
        lab.exec("node1", "virsh", "undefine", TWIN)
    assert "no node has such a guest" in refused(lab, "node3", "kvmcluster.recover", TWIN)


class TestCancel:
    def test_in_the_middle(self, lab):
        source, destination, _ = route(lab)
        with slow_migration(lab, source, destination) as call:
            cancelled = answered(lab, source, "kvmcluster.cancel", GUEST)
            assert (cancelled["result"], cancelled["owner"]) == ("not_moved", source)
            answer = call.end()
        assert answer["result"] == "not_moved" and "cancel" in answer["reason"]
        assert running(lab) == [source] and listed(lab, destination) == []

    def test_after_the_job_was_killed(self, lab):
        source, destination, _ = route(lab)
        with slow_migration(lab, source, destination, BY_LIBVIRT, patience=KILLED):
            lab.ctl("kill", source, "job")
            cancelled = answered(lab, source, "kvmcluster.cancel", GUEST)
            assert (cancelled["result"], cancelled["owner"]) == ("not_moved", source)
            assert did(cancelled) == [f"clear the journal: {source}"]
        assert running(lab) == [source] and listed(lab, destination) == []

    def test_nothing(self, lab):
        source, destination, _ = route(lab)
        detail = refused(lab, source, "kvmcluster.cancel", GUEST)
        assert f"no migration of {GUEST} from {source} is under way" in detail
        detail = refused(lab, destination, "kvmcluster.cancel", GUEST)
        assert f"{destination} has no guest {GUEST}" in detail
        # No request is left that would end the next one.
        assert entries(lab) == {}
        moved = answered(lab, source, "kvmcluster.migrate", GUEST, destination)
        assert moved["result"] == "moved"

    def test_what_is_over_but_not_settled(self, lab):
        source, destination, _ = route(lab)
        begun(lab, source, destination)
        cancelled = answered(lab, source, "kvmcluster.cancel", GUEST)
        assert (cancelled["result"], cancelled["owner"]) == ("not_moved", source)


@contextlib.contextmanager
def own_disk(lab, node):
    """Give our folder on a node a small disk of its own."""
    lab.exec(node, "mkdir", "-p", HOME)
    lab.exec(node, "mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", HOME)
    try:
        yield
    finally:
        lab.exec(node, "umount", HOME)


class TestJournal:
    """Whatever the disk does, it is said in words, and decides nothing that was seen."""

    def test_a_garbled_entry(self, lab):
        source, destination, third = route(lab)
        path = f"{JOURNAL}/{uuid(lab)}.json"
        lab.exec(source, "mkdir", "-p", JOURNAL)
        for text in ("{", json.dumps({"version": 1, "move": {"uuid": "../../x"}})):
            lab.write(source, path, text)
            detail = refused(lab, source, "kvmcluster.migrate", GUEST, destination)
            assert f"{path} is not a valid journal entry" in detail
            answer = recover(lab, third)
            assert answer["owner"] == source and answer["actions"] == []
            assert any(path in need and source in need for need in answer["needs"])
            assert lab.read(source, path) == text
        lab.exec(source, "rm", path)

    def test_an_odd_entry_of_another_guest_stops_nobody_and_both_nodes_count(self, lab):
        source, destination, third = route(lab)
        other = f"{JOURNAL}/{OTHER}.json"
        for node in lab.nodes:
            lab.exec(node, "mkdir", "-p", JOURNAL)
            lab.exec(node, "mkfifo", other)
        answer = lab.salt(source, "kvmcluster.migrate", GUEST, destination)
        assert (answer["result"], answer["afterwards"]) == ("moved", []), answer
        answer = recover(lab, third)
        assert (answer["owner"], answer["needs"]) == (destination, []), answer
        for node in lab.nodes:
            unread = lab.salt(node, "kvmcluster.unsettled")["unread"]
            assert len(unread) == 1 and f"{other} is not a valid journal entry" in unread[0], unread
            lab.exec(node, "rm", other)
        assert lab.read(source, f"{HOME}/sequence") == lab.read(destination, f"{HOME}/sequence")

    def test_a_disk_that_fails_refuses_before_and_changes_no_result_afterwards(self, lab):
        source, destination, _ = route(lab)
        with own_disk(lab, source):
            lab.exec(source, "sh", "-c", f"cat /dev/zero >{HOME}/full", check=False)
            detail = refused(lab, source, "kvmcluster.migrate", GUEST, destination)
            assert "No space left on device" in detail
            assert running(lab) == [source]
            lab.exec(source, "rm", f"{HOME}/full")
            with slow_migration(lab, source, destination) as call:
                lab.exec(source, "mount", "-o", "remount,ro", HOME)
                let_go(lab)
                answer = call.end()
        assert (answer["result"], running(lab)) == ("moved", [destination]), answer
        assert [step["step"] for step in answer["afterwards"]] == [
            "clear the journal",
            "record it in the history",
        ]
        for step in answer["afterwards"]:
            assert not step["ok"] and "Read-only file system" in step["detail"]

    def test_a_disk_that_became_read_only(self, lab):
        source, destination, third = route(lab)
        begun(lab, source, destination)
        lab.exec(source, "mount", "--bind", HOME, HOME)
        lab.exec(source, "mount", "-o", "remount,bind,ro", HOME)
        try:
            for node in (source, third):
                answer = recover(lab, node)
                assert answer["owner"] == source
                (cleared,) = answer["actions"]
                assert not cleared["ok"] and "ead-only" in cleared["detail"], cleared
            detail = refused(lab, source, "kvmcluster.migrate", GUEST, destination)
            assert "not settled" in detail
        finally:
            lab.exec(source, "umount", HOME)
        assert did(recover(lab, third)) == [f"clear the journal: {source}"]
