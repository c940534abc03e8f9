"""What changes on a node is told to the master: in time, once, and by the node that saw it."""

import json
import subprocess
import time
from datetime import datetime

import pytest
from labs import HOME, PROGRAM, until

INTERVAL = 3
# Seconds after which something has been told, unless the machine is busy.
MOST = INTERVAL + 2
# Seconds in which a minion answers or tells, on however busy a machine, that waits for no daemon.
HELD_UP = 30
GUEST = "watched"
KEYS = f"{HOME}/.ssh/authorized_keys2"
OBSERVER = "^[^ ]*python[^ ]* -c # kvmcluster's observer"


class Heard:
    """What comes to the master's event bus."""

    def __init__(self, lab, path):
        self._lab = lab
        self._path = path
        with path.open("wb") as output:
            self._listener = subprocess.Popen(
                [*PROGRAM, "salt-run", "--", "state.event", "kvmcluster/*"],
                stdout=output,
                stderr=subprocess.DEVNULL,
                env=lab.environment,
            )
        self._from = 0

    def close(self):
        self._listener.terminate()
        self._listener.wait(20)

    def settle(self):
        """Wait until what a test left has been reported, and forget it."""
        time.sleep(MOST)
        self.forget()

    def silent(self):
        """Make sure that nothing is told any more."""
        time.sleep(INTERVAL + 1)
        assert self.reported() == [], self.all()

    def forget(self):
        self._from = len(self._lines())

    def _lines(self):
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if "\t" in line and line.endswith("}")]

    def all(self):
        """Return (kind, node, what) of what was heard since it was forgotten, and the events."""
        return self._read(self._lines())

    def _read(self, lines):
        found = []
        for line in lines[self._from :]:
            tag, _, text = line.partition("\t")
            _, _, kind, node, *_ = tag.split("/")
            event = json.loads(text)
            assert event["id"] == node, line
            if kind != "migration":
                found.append(((kind, node, event["data"]["what"]), event))
        return found

    def reported(self):
        return [words for words, _ in self.all()]

    def of(self, kind):
        return [words for words in self.reported() if words[0] == kind]

    def expect(self, *expected):
        """Make sure that this is told, each once, and nothing else; print how long it took.

        What is told beyond it, later, is met by the next ``expect``, or by ``silent``.
        """
        begun = time.time()
        while len(self.reported()) < len(expected) and time.time() < begun + HELD_UP:
            time.sleep(0.1)
        lines = self._lines()
        found = self._read(lines)
        assert sorted(words for words, _ in found) == sorted(expected), found
        print(
            "; ".join(f"{' '.join(words)} {stamp(event) - begun:.1f} s" for words, event in found)
        )
        self._from = len(lines)
        return [event["data"] for _, event in found]


def stamp(event):
    return datetime.fromisoformat(event["_stamp"]).timestamp()


@pytest.fixture(scope="module")
def cluster(prepared_lab, tmp_path_factory):
    """The lab, its nodes watched, and a guest's definition on the shared storage."""
    lab = prepared_lab
    with lab.pillar() as pillar:
        pillar.data["beacons"] = {"kvmcluster": [{"interval": INTERVAL}]}
        pillar.save()
        # Salt 3006 runs its beacons by the pillar of the refresh before.
        lab.refresh_pillar()
        lab.refresh_pillar()
        heard = Heard(lab, tmp_path_factory.mktemp("heard") / "events")
        lab.guest(GUEST, "node1")
        end = time.monotonic() + 60
        while ("guest", "node1", "started") not in heard.reported() or not all(
            lab.exec(node, "pgrep", "-f", OBSERVER, check=False) for node in lab.nodes
        ):
            assert time.monotonic() < end, f"no event said that {GUEST} started"
            if not heard.reported():
                restart(lab)
            time.sleep(MOST)
        yield lab, heard
        heard.close()
    lab.refresh_pillar()
    lab.stop_guest(GUEST)


@pytest.fixture
def lab(cluster):
    return cluster[0]


@pytest.fixture
def heard(cluster):
    cluster[1].forget()
    return cluster[1]


def restart(lab, node="node1"):
    """End the guest wherever it is, as if its plug was pulled, and start it again."""
    line = f"virsh destroy {GUEST}; virsh create /srv/guests/{GUEST}.xml"
    lab.exec(node, "sh", "-c", line, check=False)


@pytest.mark.pair
def test_a_guest_that_crashes_starts_and_is_stopped_is_told_so(lab, heard):
    lab.ctl("kill", "node1", f"qemu:{GUEST}")
    (data,) = heard.expect(("guest", "node1", "crashed"))
    assert (data["guest"], data["how"]) == (GUEST, "failed")
    lab.exec("node1", "virsh", "create", f"/srv/guests/{GUEST}.xml")
    heard.expect(("guest", "node1", "started"))
    lab.exec("node1", "virsh", "destroy", GUEST)
    heard.expect(("guest", "node1", "stopped"))
    lab.exec("node1", "virsh", "create", f"/srv/guests/{GUEST}.xml")
    heard.expect(("guest", "node1", "started"))
    heard.silent()


def test_two_changes_between_two_looks_are_two_events_in_their_order(lab, heard):
    restart(lab)
    heard.expect(("guest", "node1", "stopped"), ("guest", "node1", "started"))
    heard.silent()


def test_who_migrates_neither_stops_nor_starts(lab, heard):
    for source, destination in (("node1", "node2"), ("node2", "node1")):
        done = lab.salt(source, "kvmcluster.migrate", GUEST, destination)
        assert done["result"] == "moved", done
        heard.expect(("guest", source, "left"), ("guest", destination, "arrived"))
    heard.silent()


def test_one_that_its_user_paused_has_arrived_when_its_handover_is_over(lab, heard):
    lab.exec("node1", "virsh", "suspend", GUEST)
    done = lab.salt("node1", "kvmcluster.migrate", GUEST, "node2")
    assert done["result"] == "moved", done
    heard.expect(("guest", "node1", "left"), ("guest", "node2", "arrived"))
    lab.exec("node2", "virsh", "resume", GUEST)
    assert lab.salt("node2", "kvmcluster.migrate", GUEST, "node1")["result"] == "moved"
    heard.expect(("guest", "node2", "left"), ("guest", "node1", "arrived"))
    heard.silent()


MARK = "<handover xmlns='urn:saltext-kvmcluster:handover' of='node2 2024-01-01T00:00:00+00:00'/>"


@pytest.mark.nightly
def test_a_copy_that_waits_for_its_handover_stands(lab, heard):
    key = ["--uri", "urn:saltext-kvmcluster:handover", "--key", "kvmcluster"]
    lab.exec("node1", "virsh", "metadata", GUEST, *key, "--set", MARK, "--live")
    lab.exec("node1", "virsh", "suspend", GUEST)
    time.sleep(50)
    assert heard.reported() == []
    (data,) = heard.expect(("guest", "node1", "stands"))
    assert (data["guest"], data["how"]) == (GUEST, "handover") and data["seconds"] >= 60
    lab.exec("node1", "virsh", "metadata", GUEST, *key, "--remove", "--live")
    lab.exec("node1", "virsh", "resume", GUEST)
    heard.silent()


def test_a_guest_that_cannot_write_is_paused_and_goes_on(lab, heard):
    lab.guest("starved", "node1", "--disk", "local")
    heard.expect(("guest", "node1", "started"))
    lab.ctl("spoil", "node1", "disk")
    try:
        (data,) = heard.expect(("guest", "node1", "paused"))
        assert (data["guest"], data["how"]) == ("starved", "I/O error")
    finally:
        lab.ctl("mend", "node1", "disk")
    lab.exec("node1", "virsh", "resume", "starved")
    heard.expect(("guest", "node1", "resumed"))
    heard.silent()
    lab.stop_guest("starved")
    heard.settle()


def test_the_daemon_is_gone_and_back_and_its_guests_are_as_they_were(lab, heard):
    lab.ctl("kill", "node1", "libvirtd")
    heard.expect(("daemon", "node1", "gone"), ("readiness", "node1", "lost"))
    lab.ctl("start", "node1", "libvirtd")
    heard.expect(("daemon", "node1", "back"), ("readiness", "node1", "regained"))
    heard.silent()


def test_of_a_guest_that_ended_while_the_daemon_was_gone_only_that_is_told(lab, heard):
    lab.ctl("kill", "node1", "libvirtd")
    lab.ctl("kill", "node1", f"qemu:{GUEST}")
    heard.expect(("daemon", "node1", "gone"), ("readiness", "node1", "lost"))
    lab.ctl("start", "node1", "libvirtd")
    until(lambda: heard.of("guest"), "nothing is told of the guest", seconds=HELD_UP)
    whats = {what for _, _, what in heard.of("guest")}
    assert len(whats) == 1 and whats <= {"gone", "crashed"}, heard.all()
    heard.expect(
        ("daemon", "node1", "back"), ("readiness", "node1", "regained"),
        ("guest", "node1", *whats),
    )  # fmt: skip
    heard.silent()
    lab.exec("node1", "virsh", "create", f"/srv/guests/{GUEST}.xml")
    heard.settle()


def test_a_daemon_that_hangs_is_gone_and_the_minion_does_not_hang(lab, heard):
    lab.ctl("stop", "node1", "libvirtd")
    try:
        end = time.monotonic() + 20 + MOST + HELD_UP
        while not heard.reported():
            begun = time.monotonic()
            assert lab.salt("node1", "test.ping") is True
            assert time.monotonic() - begun < HELD_UP and begun < end
        assert ("daemon", "node1", "gone") in heard.reported()
    finally:
        lab.ctl("cont", "node1", "libvirtd")
    until(lambda: len(heard.reported()) >= 4, "it is not told that it is back", seconds=HELD_UP)
    reported = [words[2] for words in heard.reported()]
    assert reported == ["gone", "lost", "back", "regained"], heard.all()


def test_trust_that_drifts_and_is_mended_by_its_state(lab, heard):
    lab.exec("node2", "sh", "-c", f": > {KEYS}")
    (data,) = heard.expect(("trust", "node2", "drifted"))
    assert data["files"] == [KEYS]
    states = lab.apply("node2", "kvmcluster.trust")
    assert states["kvmcluster-authorized-keys"]["changes"], states
    heard.expect(("trust", "node2", "mended"))
    heard.silent()


def test_another_host_key_is_another_identity(lab, heard):
    line = "rm {0}*; ssh-keygen -q -t ed25519 -N '' -f {0}".format("/etc/ssh/ssh_host_ed25519_key")
    lab.exec("node2", "sh", "-ec", line)
    (data,) = heard.expect(("identity", "node2", "changed"))
    assert data["changed"] == ["host_keys"] and all(
        key.startswith("SHA256:") for key in data["host_keys"]
    )
    lab.ctl("kill", "node2", "sshd")
    heard.expect(("readiness", "node2", "lost"))
    lab.ctl("start", "node2", "sshd")
    heard.expect(("readiness", "node2", "regained"))
    heard.silent()
    assert all(state["result"] for state in lab.prepare().values())
    heard.settle()


def test_a_new_minion_tells_nothing_of_what_is_well(lab, heard):
    lab.ctl("kill", "node1", "minion")
    time.sleep(1)
    assert not lab.exec("node1", "pgrep", "-f", OBSERVER, check=False), "the observer stayed"
    lab.ctl("start", "node1", "minion")
    end = time.monotonic() + 60
    while not lab.exec("node1", "pgrep", "-f", OBSERVER, check=False):
        assert time.monotonic() < end
    time.sleep(MOST)
    assert heard.reported() == [], heard.all()
