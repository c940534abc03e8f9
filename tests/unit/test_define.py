"""Where a definition may come to lie, and what is told when only half of it was done."""

import contextlib
import os
from types import SimpleNamespace

import pytest

from saltext_kvmcluster import engine, host
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.guest import domainxml, store
from saltext_kvmcluster.core.guest.domainxml import Frozen
from saltext_kvmcluster.core.ownership import startup
from saltext_kvmcluster.core.ownership.definitions import remarks
from saltext_kvmcluster.core.ownership.startup import Decision, May
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.host import definitions, lease_setup
from saltext_kvmcluster.states import kvmcluster as states

UUID = "11111111-1111-1111-1111-111111111111"
TEXT = f"""<domain type='kvm'><name>web1</name><uuid>{UUID}</uuid>
<memory unit='MiB'>160</memory><os><type>hvm</type></os></domain>"""
OLD = TEXT.replace("160", "99")
OFF = Observation(Sighting.SHUT_OFF, "web1", UUID, persistent=True, autostart=True)
GOES_ON = "web1 goes on as it is until its next start"
PLANNED = {"web1": {"replaced": ["memory"], "autostart": "on -> off"}}


def clustered(**guests):
    nodes = {"node1": None, "node2": None}
    return from_pillar({"kvmcluster": {"name": "a", "nodes": nodes, "guests": guests}})


class Libvirt:
    """A libvirt that fails at what it is told to fail at."""

    def __init__(self, fails=(), observation=OFF, kept=OLD):
        self.fails, self.observation, self.kept = fails, observation, kept

    def by_name(self, name):
        return self.observation

    def by_uuid(self, uuid):
        return self.observation

    def definition(self, name):
        return self.kept

    def define(self, text):
        self.do("define")
        self.kept = text

    def note(self, uuid, namespace, text):
        self.do("note")

    def autostart_off(self, uuid):
        self.do("autostart")
        self.observation = Observation(Sighting.SHUT_OFF, "web1", UUID, persistent=True)

    def do(self, verb):
        if verb in self.fails:
            raise WorldError(f"no {verb}")

    def close(self):
        pass


@pytest.fixture
def libvirt(monkeypatch):
    def be(**how):
        found = Libvirt(**how)
        monkeypatch.setattr(definitions, "Hypervisor", lambda: found)
        return found

    return be


@pytest.mark.parametrize(
    ("fails", "made", "detail"),
    [
        ((), PLANNED, ""),
        (("note",), PLANNED, "no note"),
        (("autostart",), {"web1": {"replaced": ["memory"]}}, "no autostart"),
    ],
)
def test_what_was_done_before_a_failure_is_told(libvirt, fails, made, detail):
    libvirt(fails=fails)
    frozen = Frozen("ask Ann", "2026-01-01")
    defining = definitions.Defining(domainxml.parse(TEXT), TEXT, PLANNED, frozen)
    assert definitions.define(defining) == (made, detail)


def test_a_definition_that_libvirt_refuses_changed_nothing(libvirt):
    libvirt(fails=("define",))
    with pytest.raises(WorldError, match="no define"):
        definitions.define(definitions.Defining(domainxml.parse(TEXT), TEXT, PLANNED))


# What a state imports when it runs, and from where.
IMPORTED = {"lifecycle": engine, "this_node": host, "definitions": host, "lease_setup": host}


def state(monkeypatch, test, **dunders):
    monkeypatch.setattr(states, "__opts__", {"id": "node1", "test": test}, raising=False)
    for name, value in dunders.items():
        monkeypatch.setattr(IMPORTED.get(name, states), name, value, raising=False)


def test_the_state_fails_with_the_changes_that_were_made(monkeypatch):
    defining = definitions.Defining(domainxml.parse(TEXT), TEXT, PLANNED)
    plans = SimpleNamespace(plan_defined=lambda *_: defining, define=lambda _: (PLANNED, "no note"))
    state(monkeypatch, False, definitions=plans, _rendered=lambda *_: TEXT)
    done = states._guest_placed(clustered(definitions="defined"), "web1", ())
    assert (done["result"], done["changes"]) == (False, PLANNED)
    assert done["comment"].startswith("no note")


@pytest.mark.parametrize(
    ("may", "result", "changes", "placed"),
    [
        (May.START, None, True, "web2"),
        (May.WAIT, None, False, "web1"),
        (May.RUNS, True, False, "web1"),
        (May.REFUSED, False, False, "web1"),
        (May.UNDEFINED, None, True, "web1"),
        (May.UNDEFINED, False, False, "web2"),
    ],
)
def test_what_may_end_by_itself_is_not_foretold_to_fail(monkeypatch, may, result, changes, placed):
    life = SimpleNamespace(runs=lambda *_: Decision(may, "it is so"))
    node = SimpleNamespace(environment=lambda *_: contextlib.nullcontext())
    state(monkeypatch, True, lifecycle=life, this_node=node)
    low = [{"state": "kvmcluster", "fun": "guest_placed", "name": placed}]
    monkeypatch.setattr(states, "__lowstate__", low, raising=False)
    done = states._guest_running(clustered(), "web1", "node1", 5)
    assert (done["result"], bool(done["changes"])) == (result, changes)
    assert changes is ("be started on node1" in done["comment"])


def test_a_link_does_not_lead_into_libvirts_own_folder(monkeypatch):
    leads = {"/srv/g/web1.xml": "/etc/libvirt/qemu/web1.xml"}
    monkeypatch.setattr(definitions, "_read", lambda *_: (domainxml.parse(TEXT), ()))
    monkeypatch.setattr(definitions.files, "exists", leads.__contains__)
    monkeypatch.setattr(os.path, "realpath", lambda path: leads.get(path, path))
    looked = []

    def check(folder):
        looked.append(folder)
        if store.misplaced(folder):
            raise InputError("libvirt's own folder")

    monkeypatch.setattr(definitions, "check_folder", check)
    with pytest.raises(InputError, match="libvirt's own folder"):
        definitions.plan_shared(clustered(path="/srv/g"), "node1", "web1", TEXT)
    assert looked == ["/srv/g", "/etc/libvirt/qemu"]


@pytest.mark.parametrize(
    ("observation", "kept", "remarked"),
    [
        (Observation(Sighting.RUNNING, "web1", UUID), OLD, ("web1 is running on node1", GOES_ON)),
        (
            Observation(Sighting.PAUSED_OTHERWISE, "web1", UUID),
            OLD,
            ("web1 is neither running nor paused by its user on node1", GOES_ON),
        ),
        (
            Observation(Sighting.SHUT_OFF, "web1", UUID),
            OLD,
            ("where web1 runs, if it does, it goes on as it is until its next start",),
        ),
        (Observation(Sighting.SHUT_OFF, "web1", UUID), TEXT, ()),
        (Observation(Sighting.ABSENT), "", ()),
    ],
)
def test_a_guest_that_runs_goes_on_as_it_is(monkeypatch, libvirt, observation, kept, remarked):
    libvirt(observation=observation, kept=kept)
    monkeypatch.setattr(definitions, "_read", lambda *_: (domainxml.parse(TEXT), ()))
    defining = definitions.plan_defined(clustered(definitions="defined"), "node1", "web1", TEXT)
    assert defining.remarks == remarked


def test_the_guest_is_named_in_whatever_is_said_of_nodes():
    request = startup.Request("web1", UUID, "node1", "shared")
    runs = startup.NodeAnswer(Observation(Sighting.RUNNING, "web1", UUID))
    silent = startup.NodeAnswer(detail="timed out")
    effects, warnings = remarks(request, {"node1": runs, "node2": runs}, ())
    assert effects[0].startswith("web1 RUNS TWICE, on node1 and on node2") and effects[1] == GOES_ON
    assert "nothing was changed" not in effects[0] and warnings == ()
    effects, warnings = remarks(request, {"node1": startup.NodeAnswer(), "node2": silent}, ("old",))
    assert (effects, warnings[0]) == ((), "old")
    assert warnings[1].startswith("no response from node2; if web1 runs there, it goes on as it is")


@pytest.mark.parametrize("test", [True, False])
def test_a_daemon_that_was_not_restarted_is_not_said_to_have_been(monkeypatch, test):
    planned = lease_setup.Planned(
        "/srv/leases", ("/srv/leases",), (), "libvirtd", "", remarks=("web1 is running on node1",)
    )
    carried = SimpleNamespace(plan=lambda *_: planned, carry_out=lambda found: (found.changes, []))
    state(monkeypatch, test, lease_setup=carried)
    done = states._disk_leases(clustered(path="/srv", leases=True))
    verbs = ("would be", "would be") if test else ("are", "was")
    assert done["comment"].split("\n") == [
        f"leases {verbs[0]} in /srv/leases",
        f"libvirtd {verbs[1]} restarted; guests keep running",
        "web1 is running on node1",
    ]
    assert done["changes"] == {
        "leases": {"added": ["/srv/leases"]},
        "libvirtd": {"restart": "to read its configuration"},
    }


def test_another_guest_of_that_name_is_not_replaced(monkeypatch, libvirt):
    libvirt(observation=Observation(Sighting.SHUT_OFF, "web1", UUID.replace("1", "2")))
    monkeypatch.setattr(definitions, "_read", lambda *_: (domainxml.parse(TEXT), ()))
    with pytest.raises(InputError, match="virsh undefine --keep-nvram web1"):
        definitions.plan_defined(clustered(definitions="defined"), "node1", "web1", TEXT)
