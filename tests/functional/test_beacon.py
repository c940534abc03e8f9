"""The beacon on a real minion: its events on the master's bus, who sent them, and how often."""

import json
import os
import pathlib
import signal
import threading
import time

import pytest
import salt.loader
import salt.utils.event
from sandbox import ETC_SSH, NODES, SSH, sh, until

from saltext_kvmcluster.host import observer_client

KEYS = SSH / "authorized_keys2"
# This minion looks at its beacons every second, whatever their interval.
INTERVAL = 1
RULES = SSH / "kvmcluster_config"
RECORD = pathlib.Path("/var/lib/kvmcluster/trust.json")


class Bus:
    """What comes to the master, from the moment on at which it is made."""

    def __init__(self, config):
        self.heard = []
        self._end = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=[config], daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def of(self, kind):
        """Return the data of the events of a kind, after a check of who sent each."""
        found = [data for tag, data in self.heard if tag == f"kvmcluster/test/{kind}/alpha"]
        assert all(data["id"] == "alpha" for data in found)
        return [data["data"] for data in found]

    def whats(self, kind):
        return [data["what"] for data in self.of(kind)]

    def close(self):
        self._end.set()
        self._thread.join(10)

    def _listen(self, config):
        with salt.utils.event.get_master_event(dict(config), config["sock_dir"]) as events:
            events.connect_pub()
            self._ready.set()
            while not self._end.is_set():
                event = events.get_event(wait=0.2, full=True, auto_reconnect=True)
                if event and "kvmcluster" in event["tag"]:
                    self.heard.append((event["tag"], event["data"]))


def refreshed(salt_session, **beacons):
    """Give alpha a pillar with beacons, and return when its minion works with that."""
    raw = {"kvmcluster": {"name": "test", "nodes": NODES}, "beacons": beacons}
    salt_session.pillar("alpha", raw=raw)
    # Salt 3006 runs its beacons by the pillar of the refresh before.
    for _ in range(2):
        assert salt_session.run("alpha", "saltutil.refresh_pillar", wait=True)


@pytest.fixture
def bus(member):
    """The bus, while alpha is watched, its trust files all written."""
    for state in ("authorized_keys", "known_hosts", "ssh_config"):
        assert member.state(state)["result"] is True
    bus = Bus(member.master.config)
    refreshed(member, kvmcluster=[])
    try:
        # The minion is that of all tests, and remembers what it told in others.
        RULES.chmod(0o644)
        until(lambda: "drifted" in bus.whats("trust"), "nothing is watched", 30)
        RULES.chmod(0o600)
        until(lambda: bus.whats("trust")[-1] == "mended", "what is mended is not told")
        bus.heard.clear()
        yield bus
    finally:
        refreshed(member)
        bus.close()


def settle():
    """Wait for as long as anything that is told wrongly, or again, would take."""
    time.sleep(3 * INTERVAL + 2)


def test_the_loader_finds_the_beacon_and_its_validation(member):
    beacons = salt.loader.beacons({**member.functions.opts, "pillar": {}}, member.functions)
    assert {"kvmcluster.beacon", "kvmcluster.validate"} <= set(beacons)
    assert beacons["kvmcluster.validate"]([{"interval": 5}])[0] is True
    good, detail = beacons["kvmcluster.validate"]([{"intervall": 5}])
    assert good is False and "did you mean interval?" in detail


def test_a_minion_without_the_pillar_says_so_once_and_goes_on(kvm, caplog):
    beacons = salt.loader.beacons({**kvm.functions.opts, "pillar": {}}, kvm.functions, {})
    observations = [beacons["kvmcluster.beacon"]([{"interval": 5}]) for _ in range(3)]
    assert observations == [[], [], []]
    detail = [one.getMessage() for one in caplog.records if "beacon kvmcluster" in one.getMessage()]
    assert len(detail) == 1 and "no pillar 'kvmcluster'" in detail[0], detail


def test_a_first_look_tells_what_is_bad_once(member):
    for state in ("authorized_keys", "known_hosts", "ssh_config"):
        assert member.state(state)["result"] is True
    KEYS.write_text("")
    reported, pillar = [], {"name": "test", "nodes": NODES}
    watching = observer_client.ObserverClient()

    def fire(tag, data):
        reported.append((tag, data))
        return True

    try:
        until(
            lambda: watching.observe("test", "alpha", pillar, fire) or len(reported) == 3,
            f"not all is told: {reported}",
        )
        for _ in range(3):
            watching.observe("test", "alpha", pillar, fire)
    finally:
        watching.close()
    found = dict(reported)
    assert len(reported) == 3 and found["kvmcluster/test/daemon/alpha"]["what"] == "gone", reported
    assert found["kvmcluster/test/trust/alpha"] == {"what": "drifted", "files": [str(KEYS)]}
    assert "the libvirt daemon" in found["kvmcluster/test/readiness/alpha"]["reason"]


def test_what_cannot_be_fired_is_fired_later(member):
    reported, watching = [], observer_client.ObserverClient()
    pillar = {"name": "test", "nodes": NODES}

    def fire(tag, data):
        reported.append(tag)
        return len(reported) > 2

    try:
        until(
            lambda: watching.observe("test", "alpha", pillar, fire) or len(reported) >= 4,
            f"only {reported}",
        )
    finally:
        watching.close()
    assert (
        reported[0] == reported[1] == reported[2] and len(set(reported[2:])) == len(reported) - 2
    ), reported


def test_each_change_is_told_once_with_the_senders_name_from_the_master(member, bus):
    before = KEYS.read_text()
    KEYS.write_text("")
    until(lambda: bus.whats("trust"), "drift was not reported")
    settle()
    assert bus.of("trust") == [{"what": "drifted", "files": [str(KEYS)]}]
    KEYS.write_text(before)
    until(lambda: len(bus.of("trust")) == 2, "that it was mended was not reported")
    settle()
    assert bus.whats("trust") == ["drifted", "mended"]
    assert len(bus.heard) == 2
    assert not [tag for tag, _ in bus.heard if tag.startswith("salt/beacon")]


def test_what_a_state_writes_is_no_drift(member, bus, keys):
    (SSH / "kvmcluster_known_hosts").unlink()
    until(lambda: bus.whats("trust") == ["drifted"], "drift was not reported")
    assert member.state("known_hosts")["changes"]
    until(lambda: bus.whats("trust") == ["drifted", "mended"], "it was not seen to be mended")
    RECORD.unlink()
    KEYS.write_text("")
    settle()
    assert bus.whats("trust") == ["drifted", "mended"], "nothing is noted, so nothing is judged"


def test_a_refresh_of_the_pillar_forgets_and_repeats_nothing(member, bus):
    KEYS.write_text("")
    until(lambda: bus.whats("trust"), "drift was not reported")
    heard = len(bus.heard)
    refreshed(member, kvmcluster=[])
    settle()
    assert len(bus.heard) == heard, bus.heard[heard:]


def test_another_host_key_and_another_cluster_key_are_told(member, bus, keys):
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ETC_SSH / "new")
    for name in ("", ".pub"):
        os.replace(f"{ETC_SSH / 'new'}{name}", f"{ETC_SSH / 'ssh_host_ed25519_key'}{name}")
    until(lambda: bus.of("identity"), "the host key was not reported")
    (SSH / "id_rsa_cluster").unlink()
    settle()
    assert len(bus.of("identity")) == 1
    sh("ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", SSH / "id_rsa_cluster.new")
    for name in (".pub", ""):
        os.replace(f"{SSH / 'id_rsa_cluster.new'}{name}", f"{SSH / 'id_rsa_cluster'}{name}")
    until(lambda: len(bus.of("identity")) == 2, "the cluster key was not reported")
    settle()
    assert [data["changed"] for data in bus.of("identity")] == [["host_keys"], ["cluster_key"]]
    detail = json.dumps(bus.heard)
    assert "SHA256:" in detail and "PRIVATE" not in detail


def test_an_observer_that_is_killed_or_hangs_holds_nothing_up(member, bus):
    (pid,) = observers()
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    assert member.run("alpha", "test.ping") is True
    settle()
    assert member.run("alpha", "test.ping") is True and time.monotonic() - begun < 15
    os.kill(pid, signal.SIGCONT)
    KEYS.write_text("")
    until(lambda: bus.whats("trust") == ["drifted"], "what came after a halt was not reported")
    os.kill(pid, signal.SIGKILL)
    until(lambda: set(observers()) - {pid}, "no new observer was started", 45)
    settle()
    assert bus.whats("trust") == ["drifted"] and bus.whats("daemon") == []


def observers():
    """Return the processes that look out, of whatever minion."""
    detail = sh("pgrep", "-f", "^[^ ]*python[^ ]* -c # kvmcluster's observer", code=None)
    return [int(word) for word in detail.split()]
