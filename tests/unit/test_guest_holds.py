"""Holds of Pacemaker's guests: the mark, the edits, when one may be taken and given back."""

from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import pacemakers
import pytest
from lxml import etree

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.ha.holds import Hold
from saltext_kvmcluster.core.pacemaker import cib, managers, pacemaker_facts, standby
from saltext_kvmcluster.core.pacemaker.model import ResourceState
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.verdicts import INCOMING, Observation, Sighting
from saltext_kvmcluster.engine import holding
from saltext_kvmcluster.engine.environment import one_by_one
from saltext_kvmcluster.engine.holding import Held

HOLD = Hold("migrate", "node1", "2026-11-29T10:45:06.123+00:00")


def edited(text, change):
    """Carry an edit out as cibadmin does: what it finds is merged with, or deleted."""
    root = etree.fromstring(text)
    found = root.xpath(change.xpath)
    for one in found:
        if change.xml:
            merge(one, etree.fromstring(change.xml))
        else:
            one.getparent().remove(one)
    return len(found), etree.tostring(root, encoding="unicode")


def merge(element, other):
    element.attrib.update(other.attrib)
    for child in other:
        same = element.find(f"{child.tag}[@id='{child.get('id')}']")
        if same is None:
            element.append(child)
        else:
            merge(same, child)


def by_hand(text, value):
    """``crm_resource --meta``, or ``crm_attribute``, removes or sets the one that it finds."""
    root = etree.fromstring(text)
    (pair,) = root.xpath(
        "//meta_attributes[starts-with(@id, 'kvmcluster-')]/nvpair[@name='is-managed']"
        "|//instance_attributes[starts-with(@id, 'kvmcluster-')]/nvpair[@name='standby']"
    )
    if value is None:
        pair.getparent().remove(pair)
    else:
        pair.set("value", value)
    return etree.tostring(root, encoding="unicode")


def held_view(mark=HOLD.mark, **state):
    view = pacemakers.view("running")
    number, text = edited(pacemakers.printed("running", "cib"), holds.created("web1", HOLD))
    assert number == 1
    configuration = cib.parse(text.replace(HOLD.mark, mark))
    shown = replace(view.status.resources["web1"], **{"managed": False, **state})
    status = replace(view.status, resources={**view.status.resources, "web1": shown})
    return replace(view, configuration=configuration, status=status)


def test_the_mark_says_who_holds_it():
    assert holds.parse(HOLD.mark) == HOLD
    assert "migrate on node1" in str(HOLD)


@pytest.mark.parametrize(
    "mark", ["", "migrate node1", "eat node1 now", "migrate n1 \u202e", "a" * 999]
)
def test_a_mark_that_is_not_ours_is_no_hold_of_ours(mark):
    assert holds.parse(mark) is None
    assert "unknown" in holds.describe(mark)


def test_a_hold_is_created_once_and_ended_by_its_own_mark_alone():
    number, text = edited(pacemakers.printed("running", "cib"), holds.created("web1", HOLD))
    assert number == 1
    (found,) = cib.parse(text).guests
    assert (found.mark, found.managed, found.ruled) == (HOLD.mark, False, False)
    other = replace(HOLD, node="node2")
    assert edited(text, holds.created("web1", other))[0] == 0
    assert edited(text, holds.deleted("web1", other.mark))[0] == 0
    number, bare = edited(text, holds.deleted("web1", HOLD.mark))
    assert number == 1 and cib.parse(bare).guests[0].mark == ""


@pytest.mark.parametrize("value", [None, "true"])
def test_a_hold_that_somebody_ended_by_hand_is_none_and_in_nobodys_way(value):
    text = edited(pacemakers.printed("running", "cib"), holds.created("web1", HOLD))[1]
    ended = by_hand(text, value)
    (found,) = cib.parse(ended).guests
    assert (found.mark, found.managed) == ("", True)
    other = replace(HOLD, node="node2")
    number, text = edited(ended, holds.created("web1", other))
    (found,) = cib.parse(text).guests
    assert (number, found.mark, found.managed) == (1, other.mark, False)
    number, bare = edited(text, holds.deleted("web1", other.mark))
    assert number == 1 and "kvmcluster-hold" not in bare


def test_a_mark_with_quotes_is_text():
    assert edited("<cib/>", holds.deleted("web1", "it's 'x\""))[0] == 0


def test_standby_of_ours_is_told_from_that_of_others():
    text = pacemakers.printed("standby", "cib")
    assert cib.parse(text).standbys == {}
    (node, number), *_ = cib.parse(text).nodes.items()
    done, text = edited(text, holds.standby_on(node, number, "drained"))
    assert done == 1 and cib.parse(text).standbys == {node: "drained"}
    assert edited(text, holds.standby_on(node, number, "again"))[0] == 0
    done, bare = edited(text, holds.standby_off(node, number))
    assert done == 1 and cib.parse(bare).standbys == {}


@pytest.mark.parametrize("value", [None, "off"])
def test_a_node_that_somebody_took_back_can_be_put_on_standby_again(value):
    text = pacemakers.printed("standby", "cib")
    (node, number), *_ = cib.parse(text).nodes.items()
    taken = by_hand(edited(text, holds.standby_on(node, number, "drained"))[1], value)
    assert cib.parse(taken).standbys == {}
    done, text = edited(taken, holds.standby_on(node, number, "again"))
    assert done == 1 and cib.parse(text).standbys == {node: "again"}


def test_a_node_is_put_on_standby_though_all_guests_are_held():
    assert standby.is_wanted("node1", held_view())
    by_hand = held_view(mark="")
    assert not standby.is_wanted("node1", replace(by_hand, configuration=unmanaged(by_hand)))


def unmanaged(view):
    guests = tuple(replace(one, managed=False, mark="") for one in view.resources)
    return replace(view.configuration, guests=guests)


def of(view):
    return managers.of("web1", {"node1": view})


def forbids(view):
    return holds.forbids(of(view), "web1", holds.MIGRATE)


def test_a_guest_by_itself_may_be_held():
    assert forbids(pacemakers.view("running")) == ""
    assert forbids(pacemakers.others()) == ""


@pytest.mark.parametrize(
    "constraint",
    [
        '<rsc_colocation id="c" rsc="fence" with-rsc="web1" score="INFINITY"/>',
        '<rsc_order id="c" first="web1" then="fence"/>',
        '<rsc_order id="c" kind="Mandatory"><resource_set id="s"><resource_ref id="web1"/>'
        "</resource_set></rsc_order>",
    ],
)
def test_one_on_which_others_depend_is_not_held(constraint):
    found = pacemakers.edited("<constraints/>", f"<constraints>{constraint}</constraints>")
    assert "others depend on it by c" in forbids(found)


@pytest.mark.parametrize(
    "constraint",
    [
        '<rsc_colocation id="c" rsc="fence" with-rsc="web1" score="-INFINITY"/>',
        '<rsc_colocation id="c" rsc="fence" with-rsc="web1" score="100"/>',
        '<rsc_colocation id="c" rsc="web1" with-rsc="fence" score="INFINITY"/>',
        '<rsc_order id="c" first="web1" then="fence" kind="Optional"/>',
        '<rsc_order id="c" first="web1" then="fence" kind="Mandatory" symmetrical="false"/>',
        '<rsc_location id="c" rsc="web1" node="node1" score="INFINITY"/>',
    ],
)
def test_what_does_not_stop_others_is_no_obstacle(constraint):
    found = pacemakers.edited("<constraints/>", f"<constraints>{constraint}</constraints>")
    assert forbids(found) == ""


def test_what_cannot_be_held_stays_refused_with_what_to_type():
    found = forbids(pacemakers.view("blocked"))
    assert "first: salt-run kvmcluster.recover web1" in found
    assert "--cleanup" not in found and "once it is blocked no more: crm_resource --move" in found
    path = "/srv/guests/web2.xml"
    group = pacemakers.outputs("group", guests={path: pacemakers.definition("web1")})
    found = forbids(pacemaker_facts.parse(group))
    assert "it is part of grp" in found and "crm_resource --move -r grp" in found


def test_rules_are_not_outranked():
    rule = '<rule id="r" score="0"><date_expression id="d" operation="gt" start="2026"/></rule>'
    old = '<meta_attributes id="web1-meta">'
    found = pacemakers.edited(old, old + rule)
    assert "rules" in forbids(found)
    assert "rules" in forbids(pacemakers.edited(old, old[:-1] + ' score="INFINITY">'))


def test_one_that_is_held_says_by_whom_and_what_to_do():
    found = forbids(held_view())
    assert "migrate on node1" in found and "salt-run kvmcluster.recover web1" in found
    frozen = forbids(held_view(replace(HOLD, verb="freeze").mark))
    assert "salt node1 kvmcluster.unfreeze web1" in frozen


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (None, "cannot be read"),
        (pacemakers.view("running"), "not held"),
        (held_view("migrate node2 x"), "migrate on node2"),
        (held_view(managed=True), "as managed"),
        (held_view(busy=True), "under way"),
        (held_view(), ""),
    ],
)
def test_it_counts_as_held_once_pacemaker_leaves_it_alone(view, words):
    found = holds.not_seen(view, "web1", HOLD.mark)
    assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize(
    ("state", "names", "stays_off", "words"),
    [
        ({"nodes": ("node2",)}, ["node2", "n2"], False, ""),
        ({"nodes": ("n2",)}, ["node2", "n2"], False, ""),
        ({"nodes": ("node1",)}, ["node2", "n2"], False, "active on node1, not on node2"),
        ({"nodes": ("node1", "node2")}, ["node2"], False, "not on node2"),
        ({"nodes": ()}, ["node2"], False, "active on no node"),
        ({"nodes": ()}, [], False, ""),
        ({"nodes": ("node1",)}, [], False, "seen nowhere"),
        ({"nodes": ()}, [], True, "would start it"),
        ({"nodes": (), "target": "Stopped"}, [], True, ""),
        ({"nodes": ("node2",), "target": "Stopped"}, ["node2"], False, "would stop it"),
        ({"nodes": ("node2",), "busy": True}, ["node2"], False, "under way"),
    ],
)
def test_it_is_given_back_only_if_pacemaker_sees_what_was_seen(state, names, stays_off, words):
    found = holds.differs(held_view(**state), "web1", HOLD.mark, names, stays_off)
    assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize(
    ("view", "still", "then"),
    [
        (None, "cannot be read", "may still be held from Pacemaker: recover"),
        (
            replace(pacemakers.view("running"), error="odd"),
            "odd",
            "may still be held from Pacemaker: recover",
        ),
        (held_view(), "still has it", "it stays held from Pacemaker: recover"),
        (held_view("migrate node2 x"), "", "held no more"),
        (pacemakers.view("running"), "", "held no more"),
    ],
)
def test_whether_a_hold_has_ended_is_seen(view, still, then):
    found = holds.still_held(view, "web1", HOLD.mark)
    assert still in found and bool(still) == bool(found)
    assert then in holds.outlook(view, "web1", HOLD.mark, "recover")


def test_what_is_not_shown_is_not_given_back():
    view = held_view()
    bare = replace(view, status=replace(view.status, resources={}))
    assert holds.differs(bare, "web1", HOLD.mark, []) != ""
    assert ResourceState().busy is False


@pytest.mark.parametrize(
    ("elsewhere", "words"),
    [
        (Observation(Sighting.ABSENT), ""),
        (Observation(Sighting.UNREACHABLE, detail="fenced"), ""),
        (Observation(Sighting.WAITING), "on node2 it is now a copy that waits"),
        (Observation(Sighting.ABSENT, job=INCOMING), "an incoming migration of it is active"),
    ],
)
def test_one_that_was_seen_nowhere_is_given_back_only_if_no_node_has_it(elsewhere, words):
    done = []
    clock = SimpleNamespace(monotonic=lambda: 0.0, wait=lambda *_: None)
    env = SimpleNamespace(
        here="node1",
        cluster=from_pillar({"kvmcluster": {"name": "a", "nodes": {"node1": None, "node2": None}}}),
        clock=clock,
        control=lambda node: SimpleNamespace(
            refresh=lambda name: None, wait=lambda _: None, release=lambda *_: done.append("ended")
        ),
        pacemaker=lambda node: pacemakers.view("running") if done else held_view(nodes=()),
        libvirt=lambda node: SimpleNamespace(
            sight=lambda uuid: elsewhere if node == "node2" else Observation(Sighting.SHUT_OFF)
        ),
        side_by_side=one_by_one,
    )
    steps = Held(env, "web1", "web1", HOLD.mark, "node1").give_back("uuid", None)
    assert [words in one.detail for one in steps] == ([True] if words else [])
    assert done == ([] if words else ["ended"])


def moving_view(moving):
    """Pacemaker as it is while it moves another guest, or no more."""
    view = pacemakers.view("running")
    others = {"web9": ResourceState(nodes=("node1",), busy=moving, moving=moving)}
    status = replace(view.status, resources={**view.status.resources, **others})
    return replace(view, status=status)


@pytest.mark.parametrize("looks", [0, 3])
def test_a_guest_is_held_only_once_pacemaker_moves_no_other_one(looks):
    looked, held = [], []
    now = iter(range(10_000))

    def pacemaker(node):
        looked.append(node)
        if held:
            return held_view(mark=held[0][0])
        return moving_view(len(looked) <= looks)

    def hold(resource, one):
        held.append((one.mark, len(looked)))
        return True

    env = waiting_env(pacemaker, hold, now)
    assert holding.take(env, "web1", holds.MIGRATE, ["node1"], ["node1"]) is not None
    assert held[0][1] > looks


def test_a_guest_is_not_held_while_pacemaker_moves_another_one_all_the_time():
    held, now = [], iter(range(10_000))
    env = waiting_env(lambda node: moving_view(True), lambda *one: held.append(one), now)
    with pytest.raises(WorldError, match="still moves web9, and would leave it blocked"):
        holding.take(env, "web1", holds.MIGRATE, ["node1"], ["node1"])
    assert not held


def waiting_env(pacemaker, hold, now):
    clock = SimpleNamespace(
        monotonic=lambda: float(next(now)),
        wait=lambda *_: None,
        now=lambda: datetime(2026, 11, 29, tzinfo=timezone.utc),
    )
    return SimpleNamespace(
        here="node1",
        process="1",
        clock=clock,
        control=lambda node: SimpleNamespace(hold=hold, release=lambda *_: None),
        pacemaker=pacemaker,
        side_by_side=one_by_one,
    )
