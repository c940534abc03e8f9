"""What is done to a guest that is shut down or frozen, seen through a libvirt that is none."""

import contextlib
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import pacemakers
import pytest

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.migration.journal import Kept
from saltext_kvmcluster.core.migration.migration import Host
from saltext_kvmcluster.core.ownership.startup import May, NodeAnswer
from saltext_kvmcluster.core.pacemaker.fencing import FenceEvent, Fencing
from saltext_kvmcluster.core.pacemaker.model import Member, Pacemaker, Status
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.verdicts import OUTGOING, Observation, Sighting
from saltext_kvmcluster.engine import freezer, lifecycle, stopper
from saltext_kvmcluster.engine.environment import one_by_one

UUID = "11111111-1111-1111-1111-111111111111"
RUNNING = Observation(Sighting.RUNNING, "web1", UUID)
OFF = Observation(Sighting.SHUT_OFF, "web1", UUID)
ABSENT = Observation(Sighting.ABSENT)
SILENT = NodeAnswer(detail="no route")
LAB = {"name": "lab", "nodes": dict.fromkeys(("node1", "node2", "node3"))}
NONE = Pacemaker()


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


class Seconds:
    """A clock by which each wait lasts a second."""

    def __init__(self, passed=0.0):
        self.passed = passed

    def monotonic(self):
        return self.passed

    def now(self):
        return datetime(2026, 1, 1, tzinfo=timezone.utc)

    def wait(self, call, seconds):
        self.passed += 1.0


@pytest.fixture
def shut(monkeypatch):
    """Shut down a guest of three nodes, each pause lasting a second."""
    clock = Seconds()

    def run(
        guest,
        destroy=True,
        unsettled=(),
        full=False,
        listed=(),
        stays_off=True,
        pacemaker=NONE,
        **peers,
    ):
        def ask(name, uuid):
            last = guest.observations[-1]
            return {
                "node1": NodeAnswer(last, last),
                "node2": NodeAnswer(),
                "node3": NodeAnswer(),
                **peers,
            }

        found = from_pillar({"kvmcluster": {**LAB, "guests": {"list": dict.fromkeys(listed)}}})
        kept = Kept(unread=unsettled)
        noted = []

        def note(guest, time):
            noted.append(guest)
            if full:
                raise WorldError("no space left")

        journal = SimpleNamespace(entries=lambda: kept, note_shutdown=note)
        env = SimpleNamespace(
            cluster=found,
            here="node1",
            clock=clock,
            journal=lambda node: journal,
            pacemaker=lambda node: pacemaker,
            side_by_side=one_by_one,
            lock=lambda move: contextlib.nullcontext(),
        )
        nodes = SimpleNamespace(env=env, own=guest, here="node1", ask=ask)
        monkeypatch.setattr(stopper, "Peers", lambda *_: nodes)
        done = stopper.shutdown(
            env, "web1", timeout=5.0, destroy=destroy, stays_off=stays_off
        ).to_dict()
        return {**done, "after": clock.passed, "noted": noted}

    return run


def test_a_guest_that_obeys_is_not_destroyed(shut):
    guest = Guest(RUNNING, RUNNING, OFF)
    assert shut(guest)["result"] == "stopped" and guest.done == ["press"]


def test_that_a_guest_is_off_because_somebody_wanted_it_is_noted(shut):
    assert shut(Guest(RUNNING, RUNNING, OFF))["noted"] == ["web1"]
    assert shut(Guest(OFF, OFF))["noted"] == ["web1"]
    assert shut(Guest(RUNNING, RUNNING, OFF), stays_off=False)["noted"] == []
    assert shut(Guest(RUNNING, RUNNING), destroy=False)["noted"] == []
    assert shut(Guest(OFF, OFF), node2=SILENT)["noted"] == []
    done = shut(Guest(RUNNING, RUNNING, OFF), full=True)
    assert done["result"] == "stopped"
    assert done["reason"].endswith("this was wanted could not be noted: no space left")


def test_a_listed_guest_that_runs_nowhere_may_be_said_to_be_off(shut):
    done = shut(Guest(ABSENT, ABSENT), listed=["web1"])
    assert (done["result"], done["noted"]) == ("stopped", ["web1"])
    assert done["reason"] == "it was absent on node1; it runs nowhere"
    elsewhere = NodeAnswer(RUNNING, RUNNING)
    done = shut(Guest(ABSENT, ABSENT), listed=["web1"], node2=elsewhere)
    assert (done["result"], done["owner"], done["noted"]) == ("not_stopped", "node2", [])
    with pytest.raises(InputError, match="node1 has no guest web1; to list its guests"):
        shut(Guest(ABSENT, ABSENT))
    with pytest.raises(InputError, match="web1 is not on node1, it is running on node2; nothing"):
        shut(Guest(ABSENT, ABSENT), node2=elsewhere)


def test_it_is_destroyed_when_time_is_up_even_if_the_button_failed(shut):
    for fails in ((), ("press",)):
        guest = Guest(*[RUNNING] * 8, OFF, fails=fails)
        done = shut(guest)
        assert guest.done == ["press", "destroy"] and done["after"] >= 5.0
        assert done["result"] == "stopped" and "it was destroyed, as requested" in done["reason"]


def test_a_guest_that_could_not_be_destroyed_was_not(shut):
    done = shut(Guest(RUNNING, RUNNING, fails=("destroy",)))
    assert "libvirt: no destroy" in done["reason"] and "it was destroyed" not in done["reason"]
    assert done["result"] == "not_stopped"


@pytest.mark.parametrize(
    "late",
    [Observation(Sighting.RUNNING, job=OUTGOING), Observation(Sighting.PAUSED_FOR_MIGRATION)],
)
def test_a_guest_that_is_leaving_is_not_destroyed(shut, late):
    guest = Guest(*[RUNNING] * 7, late, OFF)
    done = shut(guest)
    assert guest.done == ["press"] and "it was not destroyed: " in done["reason"]


def test_what_a_silent_node_means_depends_on_where_it_was_seen(shut):
    leaving = Observation(Sighting.RUNNING, "web1", UUID, job=OUTGOING)
    for observations, result in (
        ((RUNNING, OFF), "stopped"),
        ((OFF, OFF), "unknown"),
        ((RUNNING, leaving, OFF), "unknown"),
    ):
        done = shut(Guest(*observations), node3=SILENT)
        assert done["result"] == result and "no response from node3" in done["reason"]
    left = (f"{UUID}.json is not a valid journal entry",)
    unsettled = shut(Guest(RUNNING, OFF), unsettled=left, node3=SILENT)
    assert unsettled["result"] == "unknown"
    assert shut(Guest(RUNNING, OFF), unsettled=left)["result"] == "stopped"


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


def unfrozen(own):
    found = from_pillar({"kvmcluster": LAB})
    env = SimpleNamespace(
        cluster=found,
        here="node1",
        clock=Seconds(),
        libvirt=lambda node: own,
        pacemaker=lambda node: NONE,
        side_by_side=one_by_one,
    )
    return freezer.freeze(env, "web1", None)


def test_a_guest_frozen_in_its_persistent_definition_alone_is_let_go():
    note = domainxml.frozen_xml("ask Ann", "2026-01-01")
    for live, kept in (("", note), (note, ""), (note, note)):
        own = Definitions(live, kept)
        done = unfrozen(own)
        assert (done["frozen"], done["changed"], done["reason"]) == (False, True, "ask Ann")
        again = unfrozen(own)
        assert again["changed"] is False and again["kind"] == "freeze"
    deaf = Definitions("", note, deaf=True)
    with pytest.raises(WorldError, match="did not keep the change: web1 is frozen"):
        unfrozen(deaf)


def test_a_node_whose_libvirt_alone_is_silent_is_probed_before_a_start():
    def dead():
        raise WorldError("no socket")

    alive = SimpleNamespace(
        host=lambda: Host("a", "node1"), by_name=lambda _: OFF, by_uuid=lambda _: OFF
    )
    env = SimpleNamespace(
        here="node1",
        cluster=from_pillar(
            {
                "kvmcluster": {
                    "name": "lab",
                    "nodes": {"node1": {}, "node2": {}},
                    "guests": {"definitions": "defined"},
                }
            }
        ),
        libvirt=lambda node: alive if node == "node1" else SimpleNamespace(host=dead),
        responds=lambda node: f"{node} accepts ssh logins",
        side_by_side=one_by_one,
        cordon=lambda: None,
        clock=Seconds(),
        pacemaker=lambda node: NONE,
    )
    assert "systemctl restart libvirtd" in lifecycle.runs(env, "web1").sentence
    with pytest.raises(WorldError, match="node2 is not off: node2 accepts ssh logins") as refused:
        lifecycle.start(env, "web1")
    assert "force_unreachable" not in str(refused.value)


def test_what_cannot_be_held_from_pacemaker_is_not_shut_down(shut):
    guest = Guest(RUNNING, RUNNING, OFF)
    with pytest.raises(WorldError, match="crm_resource -r web1 --meta -p target-role -v Stopped"):
        shut(guest, pacemaker=pacemakers.view("blocked"))
    assert guest.done == []


@pytest.mark.parametrize("case", ["unmanaged", "maintenance"])
def test_what_pacemaker_leaves_alone_is_shut_down(shut, case):
    guest = Guest(RUNNING, RUNNING, OFF)
    assert shut(guest, pacemaker=pacemakers.view(case))["result"] == "stopped"


def test_what_is_not_known_of_pacemaker_forbids_a_shutdown(shut):
    for view in (None, Pacemaker(runs=True, error="no answer"), pacemakers.at_rest()):
        guest = Guest(RUNNING, RUNNING, OFF)
        with pytest.raises(WorldError, match="not known whether Pacemaker manages it"):
            shut(guest, pacemaker=view)
        assert guest.done == []
    assert shut(Guest(RUNNING, RUNNING, OFF), pacemaker=pacemakers.others())["result"] == "stopped"


def starting(pacemaker, fencing=None):
    """Two nodes, the second of which is off; web1 is defined on the first and runs nowhere."""
    own = SimpleNamespace(
        host=lambda: Host("a", "node1"),
        by_name=lambda _: OFF,
        by_uuid=lambda _: OFF,
    )

    def dead():
        raise WorldError("no route")

    nodes = {name: {"names": [f"{name}.example"]} for name in ("node1", "node2")}
    pillar = {"name": "lab", "nodes": nodes, "guests": {"definitions": "defined"}}
    return SimpleNamespace(
        here="node1",
        cluster=from_pillar({"kvmcluster": pillar}),
        libvirt=lambda node: own if node == "node1" else SimpleNamespace(host=dead),
        responds=lambda node: "",
        side_by_side=one_by_one,
        cordon=lambda: None,
        clock=Seconds(),
        pacemaker=lambda node: pacemaker,
        fencing=lambda node: fencing,
        journal=lambda node: SimpleNamespace(entries=lambda: Kept(), contacts=list),
    )


def test_what_pacemaker_manages_is_started_by_hand_alone():
    for case, remedy in (("stopped", "-p target-role -v Started"), ("running", "--cleanup")):
        env = starting(pacemakers.view(case))
        with pytest.raises(WorldError, match=remedy):
            lifecycle.start(env, "web1", by_hand=False)
    with pytest.raises(WorldError, match="cannot be held meanwhile"):
        lifecycle.start(starting(pacemakers.view("blocked")), "web1")
    assert "force_unreachable=node2" in lifecycle.runs(starting(NONE), "web1").sentence


def test_a_start_asks_pacemaker_for_a_node_that_is_silent():
    fenced = Fencing(
        Status(True, {"node2": Member("node2", online=False)}),
        (FenceEvent("off", "node2", "success", "node1", Seconds().now()),),
        frozenset({"node2"}),
    )
    found = lifecycle.runs(starting(NONE, fenced), "web1")
    assert found.may is May.START and "node2 was fenced by Pacemaker (off" in found.sentence
    managed = lifecycle.runs(starting(pacemakers.view("running"), fenced), "web1")
    assert managed.may is May.REFUSED and "Pacemaker manages it" in managed.sentence
    env = starting(NONE, fenced)
    env.responds = lambda node: "node2 answers ping"
    assert lifecycle.runs(env, "web1").may is May.REFUSED


def test_a_guest_starts_on_no_node_that_its_only_does_not_name():
    env = starting(NONE)
    guests = {"definitions": "defined", "list": {"web1": {"only": ["node2"]}}}
    nodes = dict.fromkeys(("node1", "node2"))
    env.cluster = from_pillar({"kvmcluster": {"name": "lab", "nodes": nodes, "guests": guests}})
    why = "web1 may not run on node1: its only in the pillar names node2; start it there, or add"
    with pytest.raises(InputError, match=why):
        lifecycle.start(env, "web1")
    assert lifecycle.runs(env, "web1").may is May.REFUSED
    assert why in lifecycle.startable(active_only(env), "web1")


def active_only(env):
    """The same node, on which the guest runs all the same."""
    env.libvirt = lambda node: SimpleNamespace(
        host=lambda: Host("a", "node1"), by_name=lambda _: RUNNING, by_uuid=lambda _: RUNNING
    )
    return env


def active(definitions="defined", peer=ABSENT, text="", **changes):
    """web1 runs on node1 of two nodes; ``peer``: what the other one has of it."""
    there = replace(RUNNING, persistent=definitions == "defined", **changes)
    env = starting(NONE)
    own, other = env.libvirt("node1"), Host("b", "node2")
    own.by_name = own.by_uuid = lambda _: there
    second = SimpleNamespace(host=lambda: other, by_name=lambda _: peer, by_uuid=lambda _: peer)
    env.libvirt = lambda node: own if node == "node1" else second
    guests = {"definitions": definitions, **({"path": "/srv"} if definitions == "shared" else {})}
    nodes = dict.fromkeys(("node1", "node2"))
    env.cluster = from_pillar({"kvmcluster": {"name": "lab", "nodes": nodes, "guests": guests}})
    env.exists, env.read = (lambda path: path == "/srv/web1.xml"), lambda path: text
    return env


DEFINITION = f"<domain type='kvm'><name>web1</name><uuid>{UUID}</uuid></domain>"


def test_a_guest_is_startable_if_it_could_be_started_once_it_is_off():
    env = active()
    env.cordon = lambda: Cordon("2026-11-23T12:00:00+00:00", "kvmcluster.orch.rolling")
    assert lifecycle.startable(env, "web1") == "", "it is uncordoned before it is started"
    assert lifecycle.startable(active("shared", text=DEFINITION), "web1") == ""


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"persistent": False}, "it is transient, and node1 keeps no definition of it"),
        ({"peer": replace(OFF, autostart=True)}, "node2 would start it at its next boot"),
        ({"peer": replace(OFF, uuid="2")}, "node2 has another guest of that name"),
        ({"peer": replace(OFF, saved=True)}, "node2 keeps a saved state of it"),
        ({"peer": RUNNING}, "it is on node2, and runs"),
        (
            {"definitions": "shared", "text": DEFINITION, "persistent": True},
            "node1 has an old definition of it, shut off, that would outlive this one",
        ),
        ({"definitions": "shared", "text": DEFINITION.replace("1111", "2222")}, "another UUID"),
    ],
)
def test_what_would_forbid_its_start_is_told_before_it_is_shut_down(env, why):
    persistent = env.pop("persistent", None)
    found = active(**env)
    if persistent is not None:
        own = replace(RUNNING, persistent=persistent)
        found.libvirt("node1").by_name = found.libvirt("node1").by_uuid = lambda _: own
    assert why in lifecycle.startable(found, "web1")


def test_a_silent_node_forbids_to_shut_down_what_is_to_be_started_again():
    env = active()
    own = env.libvirt("node1")
    silent = starting(NONE).libvirt("node2")
    env.libvirt = lambda node: own if node == "node1" else silent
    assert "no response from node2, which may have it" in lifecycle.startable(env, "web1")


def test_what_is_not_there_is_not_startable():
    env = active()
    env.libvirt("node1").by_name = lambda _: ABSENT
    with pytest.raises(InputError, match="web1"):
        lifecycle.startable(env, "web1")
