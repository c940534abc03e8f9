"""What is done to a guest that is shut down or frozen, seen through a libvirt that is none."""

from types import SimpleNamespace

import pytest
from material import cluster

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.ownership.startup import May, NodeAnswer, Request
from saltext_kvmcluster.core.verdicts import OUTGOING, Observation, Sighting
from saltext_kvmcluster.engine import lifecycle

UUID = "1" * 32
RUNNING = Observation(Sighting.RUNNING, "web1", UUID)
OFF = Observation(Sighting.SHUT_OFF, "web1", UUID)
SILENT = NodeAnswer(detail="no route")


class Guest:
    """A guest of node1 that is looked at step by step, with what was done to it."""

    def __init__(self, *observations, fails=()):
        self.observations, self.fails, self.done = list(observations), fails, []

    def by_name(self, name):
        return self.observations.pop(0)

    def sight(self, uuid):
        return self.observations.pop(0) if len(self.observations) > 1 else self.observations[0]

    def press_power(self, uuid):
        self.do("press")

    def destroy(self, uuid):
        self.do("destroy")

    def do(self, verb):
        self.done.append(verb)
        if verb in self.fails:
            raise WorldError(f"no {verb}")


@pytest.fixture
def shut(monkeypatch):
    """Shut down a guest of three nodes, each pause lasting a second."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now

    def sleep(seconds):
        clock.now += 1.0

    clock.sleep = sleep
    monkeypatch.setattr(lifecycle, "time", clock)

    def run(guest, destroy=True, **peers):
        def ask(name, uuid):
            last = guest.observations[-1]
            return {
                "node1": NodeAnswer(last, last),
                "node2": NodeAnswer(),
                "node3": NodeAnswer(),
                **peers,
            }

        nodes = SimpleNamespace(own=guest, here="node1", ask=ask, close=lambda: None)
        monkeypatch.setattr(lifecycle, "Peers", lambda *_: nodes)
        found = cluster("node1", "node2", "node3")
        done = lifecycle.shutdown(found, "node1", "web1", timeout=5.0, destroy=destroy)
        return {**done, "after": clock.now}

    return run


def test_a_guest_that_obeys_keeps_its_plug(shut):
    guest = Guest(RUNNING, RUNNING, OFF)
    assert shut(guest)["result"] == "stopped" and guest.done == ["press"]


def test_the_plug_is_pulled_when_time_is_up_even_if_the_button_failed(shut):
    for fails in ((), ("press",)):
        guest = Guest(*[RUNNING] * 8, OFF, fails=fails)
        done = shut(guest)
        assert guest.done == ["press", "destroy"] and done["after"] >= 5.0
        assert done["result"] == "stopped" and "its plug was pulled" in done["reason"]


def test_a_plug_that_could_not_be_pulled_was_not(shut):
    done = shut(Guest(RUNNING, RUNNING, fails=("destroy",)))
    assert "libvirt said: no destroy" in done["reason"] and "pulled" not in done["reason"]
    assert done["result"] == "not_stopped"


@pytest.mark.parametrize(
    "late",
    [Observation(Sighting.RUNNING, job=OUTGOING), Observation(Sighting.PAUSED_FOR_MIGRATION)],
)
def test_a_guest_that_is_leaving_keeps_its_plug(shut, late):
    guest = Guest(*[RUNNING] * 7, late, OFF)
    done = shut(guest)
    assert guest.done == ["press"] and "its plug was not pulled: " in done["reason"]


def test_what_a_silent_node_means_depends_on_where_it_was_seen(shut):
    leaving = Observation(Sighting.RUNNING, "web1", UUID, job=OUTGOING)
    for observations, result in (
        ((RUNNING, OFF), "stopped"),
        ((OFF, OFF), "unknown"),
        ((RUNNING, leaving, OFF), "unknown"),
    ):
        done = shut(Guest(*observations), node3=SILENT)
        assert done["result"] == result and "node3 does not answer" in done["reason"]


class Definitions:
    """A guest's two definitions, the one that runs and the persistent one, with frozen notes."""

    def __init__(self, live, kept, deaf=False):
        self.texts, self.deaf = {"live": live, "kept": kept}, deaf

    def by_name(self, name):
        return RUNNING

    def described(self, uuid):
        return self._text("live")

    def definition(self, name):
        return self._text("kept")

    def note(self, uuid, namespace, text):
        if not self.deaf:
            self.texts = dict.fromkeys(self.texts, text or "")

    def close(self):
        pass

    def _text(self, kind):
        note = self.texts[kind].replace("<guest>", f"<guest xmlns='{domainxml.METADATA}'>")
        metadata = f"<metadata>{note}</metadata>"
        return f"<domain type='kvm'><name>web1</name><uuid>{UUID}</uuid>{metadata}</domain>"


def test_a_guest_frozen_in_its_persistent_definition_alone_is_let_go(monkeypatch):
    note = domainxml.frozen_xml("ask Ann", "2026-01-01")
    for live, kept in (("", note), (note, ""), (note, note)):
        own = Definitions(live, kept)
        monkeypatch.setattr(lifecycle, "Hypervisor", lambda own=own: own)
        done = lifecycle.freeze("node1", "web1", None)
        assert (done["frozen"], done["changed"], done["reason"]) == (False, True, "ask Ann")
        assert lifecycle.freeze("node1", "web1", None)["changed"] is False
    monkeypatch.setattr(lifecycle, "Hypervisor", lambda: Definitions("", note, deaf=True))
    with pytest.raises(WorldError, match="did not keep it"):
        lifecycle.freeze("node1", "web1", None)


def test_no_start_is_begun_when_time_is_up(monkeypatch):
    nodes = SimpleNamespace(ask=lambda *_: {"node1": NodeAnswer()})
    request = Request("web1", UUID, "node1", "shared")
    monkeypatch.setattr(lifecycle, "time", SimpleNamespace(monotonic=lambda: 10.0))
    assert lifecycle._last_observation(nodes, request, {}, end=11.0).may is May.START
    late = lifecycle._last_observation(nodes, request, {}, end=10.0)
    assert late.may is May.REFUSED and "time was up" in late.sentence
