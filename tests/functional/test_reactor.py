"""Reactors on the real master: what minions fire, what is done then, and what is not.

Events are fired as ``event.send`` does it, over one channel of alpha's or beta's minion, so that a
burst is one, and so that a minion can be made to send what its own code never would.
"""

import json
import os
import pathlib
import re
import shutil
import threading
import time

import pytest
import salt.channel.client
import salt.config
import salt.utils.event
from sandbox import NODES, NOTED, SSH, put_key, until

from saltext_kvmcluster.master import pending, pillars

KEYS = SSH / "authorized_keys2"
JOURNAL = pathlib.Path("/var/lib/kvmcluster/journal")
UUID = "11111111-1111-4111-8111-111111111111"
DRIFTED, ENDED = {"what": "drifted"}, {"what": "ended", "result": "unknown"}
PAIR = {"kvmcluster": {"name": "test", "nodes": NODES}}
ALONE = {"kvmcluster": {"name": "test", "nodes": {"alpha": NODES["alpha"]}}}
HUGE = "x" * 300000


class Reactor:
    """The master's log, spool and orchestrations since a test began, and a way to fire events."""

    def __init__(self, salt):
        self.salt = salt
        config = salt.master.config
        self.spool = pathlib.Path(config["cachedir"]) / "kvmcluster"
        self.log = pathlib.Path(config["log_file"])
        self.begin = self.log.stat().st_size
        self.orchestrated = []
        self._bus = salt_bus(config)
        self._over = threading.Event()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self):
        while not self._over.is_set():
            event = self._bus.get_event(wait=0.5, tag="salt/run/", full=True)
            reported = event["data"] if event and event["tag"].endswith("/new") else {}
            if reported.get("fun") == "runner.state.orchestrate":
                named = reported["fun_args"][0]
                self.orchestrated.append(named["mods"] if isinstance(named, dict) else named)

    def close(self):
        until(lambda: not self.waiting(), f"{self.waiting()} is not answered", 200)
        self._over.set()
        self._listener.join()
        for path in self.spool.glob("*.result"):
            path.unlink()

    def waiting(self):
        """Return the marks of reactions that are pending or running."""
        marks = (".pending", ".running")
        return [path.name for path in self.spool.glob("*") if path.suffix in marks]

    def detail(self, words=""):
        """Return the lines of the master's log that are ours."""
        text = self.log.read_bytes()[self.begin :].decode()
        assert not re.search(r"Traceback[^\[]*kvmcluster", text), text
        ours = [line for line in text.split("\n") if "kvmcluster.master" in line[:90]]
        return [line for line in ours if words in line]

    def fire(self, *events, node="alpha"):
        """Fire events, each as what is added to a minion's load."""
        opts = salt.config.minion_config(self.salt.minions[node].config_file)
        opts["master_uri"] = f"tcp://127.0.0.1:{opts['master_port']}"
        with salt.channel.client.ReqChannel.factory(opts) as channel:
            token = channel.auth.gen_token(b"salt")
            for event in events:
                channel.send({"cmd": "_minion_event", "id": node, "tok": token, **event})

    def answered(self, key, before=0.0):
        """Wait until a reaction was completed that began after a moment."""
        reported = self.spool / f"{key}.result"
        until(
            lambda: not self.waiting() and reported.exists() and reported.stat().st_mtime > before,
            f"{key} was not answered: {self.waiting()}",
            200,
        )
        return json.loads(reported.read_text())[1]

    def rested(self, key):
        """Make the last answer as old as it has to be before the next one."""
        path = self.spool / f"{key}.result"
        at, detail = json.loads(path.read_text())
        path.write_text(json.dumps([at - pending.DISTANCE, detail]))


def salt_bus(config):
    return salt.utils.event.get_event("master", opts=dict(config), listen=True)


def event(tag, data):
    return {"tag": tag, "data": data}


class Readers:
    """What pillar the master and its minions have read, and what trust made of it."""

    def __init__(self):
        self.pillar, self.trust = None, None

    def give(self, salt, pillar):
        """Make them read a pillar, unless it is the one they have; return when that was written."""
        salt.pillar(raw=pillar)
        if pillar != self.pillar:
            self.pillar, self.trust = pillar, None
            for node in NODES:
                salt.run(node, "saltutil.refresh_pillar", wait=True)
            return time.monotonic()
        return 0.0


def forget(written):
    """Wait until the master has forgotten the pillar before the one that was written then."""
    time.sleep(max(0.0, written + pillars.MEMBERSHIPS_AGE + 0.5 - time.monotonic()))


@pytest.fixture(scope="module")
def readers():
    return Readers()


@pytest.fixture
def at_rest(kvm):
    """The reactor of a cluster, to which nothing was told."""
    assert kvm.master.config["reactor"], "a master that reacts is for this file alone: run it alone"
    reactor = Reactor(kvm)
    yield reactor
    reactor.close()


@pytest.fixture
def reactor(at_rest, readers):
    """The reactor of a cluster of alpha and beta, at rest."""
    forget(readers.give(at_rest.salt, PAIR))
    return at_rest


@pytest.fixture
def whole(request, at_rest, readers, salt_run, keys, tmp_path_factory):
    """The reactor of a cluster of alpha alone, prepared, and beta a minion that is no member."""
    written = readers.give(at_rest.salt, ALONE)
    if readers.trust is None:
        request.getfixturevalue("filed")
        put_key(keys / "alpha")
        done = salt_run("--log-level=quiet", "state.orchestrate", "kvmcluster.orch.prepare")
        assert done.returncode == 0, done.stdout
        readers.trust = tmp_path_factory.mktemp("trust")
        shutil.copytree(SSH, readers.trust / "ssh")
        shutil.copy2(NOTED, readers.trust)
    else:
        shutil.copytree(readers.trust / "ssh", SSH)
        shutil.copy2(readers.trust / NOTED.name, NOTED)
    forget(written)
    at_rest.orchestrated.clear()
    return at_rest


def forged():
    tag = "kvmcluster/test/trust/alpha"
    listed = {"cmd": "_minion_event", "tag": tag, "data": DRIFTED}
    return {
        "about a peer": event("kvmcluster/test/trust/beta", DRIFTED),
        "a peer's start": event("salt/minion/beta/start", "Minion beta started"),
        "a peer's migration": event("kvmcluster/test/migration/beta/web", ENDED),
        "another cluster": event("kvmcluster/other/trust/alpha", DRIFTED),
        "a path": event("kvmcluster/..%2F..%2Fetc/trust/alpha", DRIFTED),
        "no node": event("kvmcluster/test/trust", DRIFTED),
        "a part too many": event(f"{tag}/web", DRIFTED),
        "an unknown kind": event("kvmcluster/test/destroy/alpha", DRIFTED),
        "an unknown what": event("kvmcluster/test/daemon/alpha", {"what": "rm -rf /"}),
        "no what": event("kvmcluster/test/readiness/alpha", {"a": 1}),
        "text for data": event("kvmcluster/test/identity/alpha", "text"),
        "a list for data": event("kvmcluster/test/guest/alpha/l", [1, 2]),
        "bytes": event("kvmcluster/test/guest/alpha/b", {"what": b"\xff\xfe"}),
        "a result that is none": event("kvmcluster/test/migration/alpha/r", {"what": "ended"}),
        "a path for a guest": event("kvmcluster/test/migration/alpha/..%2Fetc", ENDED),
        "Jinja in the tag": event("kvmcluster/{{ 7 * 7 }}/trust/alpha", DRIFTED),
        "Jinja in the data": event("kvmcluster/test/guest/alpha/j", {"what": "{{ 7 * 7 }}"}),
        "YAML": event("kvmcluster/test/guest/alpha/y", {"what": "!!python/object:os.system x"}),
        "newlines": event("kvmcluster/test/guest/alpha/n", {"what": 'a"\n\ninjected:\n  - x'}),
        "quotation marks": event("kvmcluster/test/trust/alpha\"'", DRIFTED),
        "a terminal's sequence": event("kvmcluster/\x1b[2J/trust/alpha", DRIFTED),
        "a huge text": event("kvmcluster/test/guest/alpha/h", {"what": HUGE}),
        "a huge key": event("kvmcluster/test/guest/alpha/k", {HUGE: "x"}),
        "deep": event("kvmcluster/test/guest/alpha/d", deep(200)),
        "a list without a sender": {"events": [event(f"{tag}%41", DRIFTED)]},
        "a list with a peer": {
            "events": [event("kvmcluster/test/trust/beta%41", {**listed, "id": "beta"})]
        },
        "a peer in the data": event(
            "kvmcluster/test/identity/beta", {"what": "changed", "id": "beta"}
        ),
    }


def deep(depth):
    value = {"what": "x"}
    for _ in range(depth):
        value = {"what": value}
    return value


def test_what_is_forged_or_malformed_does_nothing_and_is_logged_once(reactor):
    events = forged()
    assert len(events) >= 20
    reactor.fire(*events.values())
    reactor.fire(*events.values())
    reactor.fire({"id": "beta", **event("kvmcluster/test/trust/beta", {"what": "mended"})})
    until(lambda: len(reactor.detail()) >= len(events), f"{reactor.detail()}", 60)
    time.sleep(5)
    detail = reactor.detail()
    assert len(detail) == len(set(detail)) == len(events), "\n".join(detail)
    assert all(" ignored: " in line and line.isprintable() for line in detail)
    assert all(len(line) < 500 for line in detail)
    assert not reactor.waiting() and not list(reactor.spool.glob("*.result"))
    assert not reactor.orchestrated and not KEYS.exists()


def test_whoever_is_no_member_does_nothing(whole):
    before = KEYS.read_bytes()
    KEYS.write_text("")
    whole.fire(event("kvmcluster/test/trust/beta", DRIFTED), node="beta")
    whole.fire(event("salt/minion/beta/start", "Minion beta started"), node="beta")
    until(lambda: whole.detail(), "nothing was logged")
    time.sleep(5)
    assert len(whole.detail("'beta' ignored: not a node of cluster 'test'")) == 1
    assert not whole.waiting() and not whole.orchestrated and KEYS.read_text() == "" != before


def test_one_event_has_drift_mended_and_a_second_one_finds_nothing(whole, record_property):
    before = KEYS.read_bytes()
    KEYS.write_text("")
    begun = time.time()
    whole.salt.run("alpha", "event.send", "kvmcluster/test/trust/alpha", DRIFTED)
    until(lambda: KEYS.read_bytes() == before, "it was not mended", 120)
    record_property("seconds_to_mended", round(time.time() - begun, 1))
    print(f"mended {time.time() - begun:.1f} s after the event")
    assert whole.answered("test.trust", begun) == ""
    assert whole.orchestrated == ["kvmcluster.orch.prepare"]
    assert whole.detail("its trust is repaired: alpha: the states would change authorized_keys2")
    assert whole.detail("its trust is complete again")
    whole.rested("test.trust")
    begun = time.time()
    whole.fire(event("salt/minion/alpha/start", "Minion alpha started"))
    assert whole.answered("test.trust", begun) == ""
    assert whole.orchestrated == ["kvmcluster.orch.prepare"]


def test_a_sender_that_was_made_up_makes_the_master_look_and_no_more(whole):
    before = {path: path.read_bytes() for path in SSH.iterdir()}
    tag, begun = "kvmcluster/test/trust/alpha", time.time()
    made_up = {"id": "alpha", "cmd": "_minion_event", "tag": tag, "data": DRIFTED}
    whole.fire({"events": [event(tag, made_up)]}, node="beta")
    assert whole.answered("test.trust", begun) == ""
    assert not whole.orchestrated and not whole.detail()
    assert {path: path.read_bytes() for path in SSH.iterdir()} == before


def test_a_thousand_events_in_a_burst_are_answered_by_five_orchestrations_at_most(whole):
    before = KEYS.read_bytes()
    KEYS.write_text("")
    begun = time.time()
    whole.fire(*[event("kvmcluster/test/trust/alpha", DRIFTED)] * 1000)
    fired = time.time() - begun
    until(lambda: KEYS.read_bytes() == before, "it was not mended", 120)
    mended = time.time() - begun
    assert whole.answered("test.trust", begun + fired) == ""
    print(f"fired {fired:.1f} s, mended {mended:.1f} s, at rest {time.time() - begun:.1f} s")
    print(f"{len(whole.orchestrated)} orchestrations")
    assert 1 <= len(whole.orchestrated) <= 5


@pytest.mark.nightly
def test_a_thousand_guests_in_a_burst_are_answered_together_and_failure_does_not_loop(whole):
    begin = {
        "version": 1, "began": "2026-01-01T00:00:00+00:00", "stage": "begun", "persistent": False,
        "definitions": "shared", "flags": [],
        "move": {"guest": "web", "uuid": UUID, "source": "alpha", "destination": "alpha"},
    }  # fmt: skip
    JOURNAL.mkdir(parents=True, exist_ok=True)
    entry = JOURNAL / f"{UUID}.json"
    entry.write_text(json.dumps(begin))
    begun = time.time()
    tags = [f"kvmcluster/test/migration/alpha/web{number}" for number in range(1000)]
    try:
        whole.fire(*[event(tag, ENDED) for tag in tags])
        fired = time.time()
        needed = whole.answered("test.recover", fired)
        rounds = len(whole.orchestrated)
        print(f"fired {fired - begun:.1f} s, at rest {time.time() - begun:.1f} s, {rounds} rounds")
        time.sleep(35)
        assert len(whole.orchestrated) == rounds
    finally:
        entry.unlink()
    assert 1 <= rounds <= 5
    assert set(whole.orchestrated) == {"kvmcluster.orch.recover"}
    assert "not settled: recover web: " in needed and "salt-run kvmcluster.recover" in needed
    assert "web1" not in needed and len(whole.detail("not settled: ")) == 1
    assert sorted(os.listdir(JOURNAL)) == []


def test_what_a_killed_master_left_is_answered(whole, salt_run):
    before = KEYS.read_bytes()
    KEYS.write_text("")
    (whole.spool / "test.trust.running").touch()
    assert salt_run("--log-level=quiet", "kvmcluster.react").returncode == 0
    assert KEYS.read_bytes() == before and not whole.waiting()
    assert whole.orchestrated == ["kvmcluster.orch.prepare"]
