"""A rolling run over four nodes, one of which has a guest with a CD-ROM of its own."""

import os

import pytest
from labs import Lab
from test_rolling import boots, cordoned, orchestrate, places

pytestmark = pytest.mark.nightly

STUCK, NODE = "cdrom1", "node3"
GUESTS = {"free1": "node1", "free2": "node2", STUCK: NODE}
FOLDER = "/srv/guests"
ISO = "/var/lib/libvirt/images/local.iso"
CDROM = (
    "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
    f"<source file='{ISO}'/><target dev='hdc' bus='ide'/><readonly/></disk></devices>"
)


@pytest.fixture(scope="module")
def lab():
    """Four nodes that trust each other, and find definitions on the shared volume."""
    name = os.environ.get("KVMCLUSTER_LAB", "test")[:7]
    found = Lab(f"{name}4")
    found.nodes = [*found.nodes, "node4"]
    found.ctl("down")
    found.ctl("up", "--nodes", "4", timeout=300)
    try:
        assert all(state["result"] for state in found.prepare().values())
        with found.pillar() as pillar:
            pillar.cluster["guests"] |= {"definitions": "shared", "path": FOLDER}
            pillar.save()
            found.refresh_pillar()
            for guest, node in GUESTS.items():
                found.guest(guest, node)
            give_cdrom(found)
            yield found
    finally:
        found.ctl("down")


def give_cdrom(lab):
    definition = f"{FOLDER}/{STUCK}.xml"
    lab.exec(NODE, "sed", "-i", f"s#</devices>#{CDROM}#", definition)
    lab.exec(NODE, "mkdir", "-p", os.path.dirname(ISO))
    lab.exec(NODE, "truncate", "-s", "1M", ISO)
    lab.exec(NODE, "virsh", "destroy", STUCK)
    lab.exec(NODE, "virsh", "create", definition)


def told(states):
    """The comments, one below the other."""
    return "\n".join(f"{name}: {state['comment']}" for name, state in states.items())


def test_it_is_named_before_anything_is_drained(lab):
    before = boots(lab), places(lab)
    code, states = orchestrate(lab, "rolling", sls="updates")
    assert code != 0 and list(states) == ["rolling", "preflight"]
    comment = states["preflight"]["comment"]
    assert f"{STUCK} on {NODE} cannot be moved: " in comment and "local.iso" in comment
    assert "stuck: shutdown" in comment
    assert cordoned(lab) == [] and (boots(lab), places(lab)) == before
    assert before[1] == GUESTS


def test_it_is_not_left_where_a_reboot_is_due(lab):
    code, states = orchestrate(lab, "rolling", sls="updates", stuck="leave", reboot="always")
    assert code != 0 and list(states)[-1] == "preflight"
    assert (
        f"{NODE} is to be rebooted, but {STUCK} cannot be moved" in (states["preflight"]["comment"])
    )
    assert cordoned(lab) == [] and places(lab) == GUESTS


def test_it_is_shut_down_and_started_again_and_all_four_are_done(lab):
    before, written = boots(lab), {guest: lab.record(guest)["written"] for guest in GUESTS}
    code, states = orchestrate(lab, "rolling", sls="updates", stuck="shutdown")
    assert code == 0 and all(state["result"] for state in states.values()), told(states)
    assert f"SHUT DOWN  {STUCK}" in states[f"{NODE} drained"]["comment"]
    assert f"STARTED  {STUCK}" in states[f"{NODE} restored"]["comment"]
    after = boots(lab)
    assert all(after[node] != before[node] for node in lab.nodes)
    report = states["report"]["comment"].splitlines()
    assert [line.split()[:2] for line in report] == [[node, "done"] for node in lab.nodes]
    assert f"shut down: {STUCK}; started again: {STUCK}" in report[lab.nodes.index(NODE)]
    assert cordoned(lab) == [] and places(lab)[STUCK] == NODE
    for guest in GUESTS:
        record = lab.record(guest)
        assert record["written"] > written[guest]
        assert not (record["lost"] or record["doubled"]), record


def test_a_second_run_has_nothing_to_do(lab):
    before = boots(lab), places(lab)
    code, states = orchestrate(lab, "rolling", sls="updates", stuck="shutdown")
    assert code == 0 and all(state["result"] for state in states.values()), told(states)
    report = states["report"]["comment"].splitlines()
    assert [line.split()[:2] for line in report] == [[node, "skipped"] for node in lab.nodes]
    assert (boots(lab), places(lab)) == before and cordoned(lab) == []


def test_a_node_that_needs_no_reboot_is_updated_with_its_guests_on_it(lab):
    before = boots(lab), places(lab)
    lab.exec(NODE, "rm", "/etc/updated")
    run = {"node": NODE, "sls": "updates", "drain": "reboot", "reboot": "never", "stuck": "leave"}
    code, states = orchestrate(lab, "maintenance", **run)
    assert code == 0, told(states)
    assert states[f"{NODE} drained"]["changes"] == {} and states[f"{NODE} updated"]["changes"]
    assert (boots(lab), places(lab)) == before and cordoned(lab) == []
    lab.exec(NODE, "rm", "-f", "/run/reboot-required")
