"""Moving guests at the doors: what is refused before libvirt is asked, what is told and kept."""

import json
import os
import pathlib
import shutil
import subprocess
import threading

import pytest
from odd import ODD, discard
from salt.exceptions import CommandExecutionError, SaltInvocationError
from sandbox import sentence, until

from saltext_kvmcluster.host import bootid, notifier

HISTORY = pathlib.Path("/var/lib/kvmcluster/history")
UUID = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"
TOLD = {"what": "copying", "guest": "web 1/x", "uuid": UUID, "stalled": False}
RECORD = {
    "guest": "web1", "uuid": UUID, "source": "alpha", "destination": "beta", "owner": "beta",
    "result": "moved", "reason": "it runs on beta", "started": "2026-11-23T12:00:00.000+00:00",
    "elapsed": 1.5, "downtime_ms": 100, "memory_bytes": 1000, "iterations": 3, "findings": [],
}  # fmt: skip
JUNK = ["", "{", "[]", "3", '"x"', "\udcff\x1b[2J", '{"guest": {}}', json.dumps({"guest": "web1"})]


def refused(kvm, function, *arguments, **named):
    with pytest.raises((SaltInvocationError, CommandExecutionError)) as caught:
        kvm.call(f"kvmcluster.{function}", *arguments, **named)
    return sentence(str(caught.value))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"bandwidth": -1}, "bandwidth: want a whole number"),
        ({"bandwidth": "50"}, "bandwidth: want a whole number"),
        ({"downtime": 0}, "downtime: want a whole number"),
        ({"timeout": True}, "timeout: want seconds"),
        ({"live": "yes"}, "live: want true or false, got 'yes'"),
        ({"compression": "xbzrl"}, "did you mean xbzrle"),
        ({"wait": 1}, "wait: want true or false"),
        ({"patience": 0}, "patience: want seconds"),
        ({"destination": "alpha"}, "alpha is this node itself"),
        ({"destination": "betta"}, "its nodes are"),
        ({"destination": "Beta.example.com"}, "give the node's minion id, beta"),
        ({"destination": None}, "destination: want a name"),
        ({"guest": 7}, "guest: want a name"),
        ({"guest": "web\n1"}, "unprintable"),
    ],
)
def test_a_migration_that_cannot_be_right_is_refused_by_the_argument(kvm, named, words):
    assert words in refused(kvm, "migrate", **{"guest": "web1", "destination": "beta", **named})


def test_an_argument_that_nobody_knows_is_named(kvm):
    detail = kvm.run("alpha", "kvmcluster.migrate", "web1", "beta", banwidth=5)
    assert "banwidth" in sentence(detail)


@pytest.mark.parametrize("function", ["job", "cancel", "recover", "history", "sighting"])
@pytest.mark.parametrize("guest", [7, "a/b", "", "-x", ["web1"]])
def test_what_is_no_name_is_refused_everywhere(kvm, function, guest):
    assert "want a guest's name" in refused(kvm, function, guest)


@pytest.mark.parametrize("function", ["job", "cancel web1", "sighting web1"])
def test_without_a_daemon_there_is_one_sentence(kvm, function):
    assert "qemu:///system" in refused(kvm, *function.split())


@pytest.fixture
def history(kvm):
    """A function that writes lines into the history, which is gone afterwards."""

    def write(*lines):
        HISTORY.parent.mkdir(exist_ok=True)
        HISTORY.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))

    yield write
    HISTORY.unlink(missing_ok=True)


def test_nothing_moved_yet(kvm, history):
    assert kvm.call("kvmcluster.history")["history"] == []
    assert kvm.call("kvmcluster.history", "web1", 1)["ok"] is True


def test_of_a_garbled_history_what_is_whole_is_told(kvm, history):
    history(*JUNK, json.dumps(RECORD), *JUNK)
    (reported,) = kvm.call("kvmcluster.history")["history"]
    assert (reported["guest"], reported["downtime_ms"]) == ("web1", 100)
    assert kvm.call("kvmcluster.history", "web2")["history"] == []
    assert "limit" in refused(kvm, "history", limit=0)


@pytest.fixture
def fired():
    return []


def notify(fire):
    return notifier.event_sender("test", "alpha", fire)


def test_a_notification_becomes_an_event_and_a_status_until_the_end(fired):
    with notify(lambda tag, data: fired.append((tag, data))) as say:
        say("migration", TOLD)
        until(lambda: notifier.statuses() == [TOLD], "no status file was written")
    assert fired == [("kvmcluster/test/migration/alpha/web%201%2Fx", TOLD)]
    assert notifier.statuses() == []


def test_what_came_after_the_end_of_a_migration_is_left_alone(fired):
    """A list of moves goes on, while the guest of one of them is moved again by others."""
    path = pathlib.Path(f"{notifier.FOLDER}/{UUID}.json")
    with notify(lambda tag, data: fired.append(tag)) as say:
        say("migration", TOLD)
        say("migration", {**TOLD, "what": "ended"})
        until(lambda: len(fired) == 2 and not path.exists(), "its status was not removed")
        path.write_text(json.dumps({**TOLD, "process": bootid.process(os.getpid())}))
    assert notifier.statuses() == [TOLD]
    path.unlink()


def test_the_status_of_a_killed_process_is_ignored_and_no_clock_decides(fired):
    path = pathlib.Path(f"{notifier.FOLDER}/{UUID}.json")
    with notify(lambda tag, data: fired.append(tag)) as say:
        say("migration", TOLD)
        until(lambda: fired, "nothing was fired")
        for at in (0, 1 << 33):
            os.utime(path, (at, at))
            assert notifier.statuses() == [TOLD]
        with subprocess.Popen(["sleep", "60"]) as other:
            known = bootid.process(other.pid)
            path.write_text(json.dumps({**TOLD, "process": known}))
            assert notifier.statuses() == [TOLD]
            # A process that has its number now is another one.
            path.write_text(json.dumps({**TOLD, "process": f"{known}0"}))
            assert notifier.statuses() == []
            path.write_text(json.dumps({**TOLD, "process": known}))
            other.kill()
        assert notifier.statuses() == []


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_an_odd_status_is_ignored_and_hides_no_other(fired, make):
    folder = pathlib.Path(notifier.FOLDER)
    with notify(lambda tag, data: fired.append(tag)) as say:
        say("migration", TOLD)
        until(lambda: fired, "nothing was fired")
        odd = folder / f"{OTHER}.json"
        make(odd)
        assert notifier.statuses() == [TOLD]
        discard(odd)
        shutil.copy(folder / f"{UUID}.json", odd)
        assert notifier.statuses() == [TOLD], "the status of another guest"
        odd.unlink()


def test_an_event_that_cannot_be_fired_is_lost_and_nothing_else():
    def fire(tag, data):
        raise OSError("no bus")

    with notify(fire) as say:
        say("migration", TOLD)
        until(lambda: notifier.statuses() == [TOLD], "no status file was written")


def test_a_bus_that_hangs_holds_nothing_up(fired):
    free = threading.Event()
    with notify(lambda tag, data: (free.wait(), fired.append(tag))) as say:
        for _ in range(3 * notifier.WAITING):
            say("migration", TOLD)
    assert not fired
    free.set()
