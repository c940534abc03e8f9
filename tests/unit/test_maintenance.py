"""When a node is rebooted, what it is waited for, and where a rolling run goes on."""

from dataclasses import replace

import pacemakers
import pytest
import worlds
from worlds import IMAGE, NODES, WEB, guest, node

from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.drain import maintenance, rolling
from saltext_kvmcluster.core.drain.maintenance import Boot
from saltext_kvmcluster.core.drain.rolling import Rolling
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import Inspection, silent
from saltext_kvmcluster.core.findings import BLOCK
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.guest.needed_files import File
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.pacemaker import standby
from saltext_kvmcluster.core.pacemaker.model import Member, Pacemaker
from saltext_kvmcluster.core.readiness import examination
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.verdicts import Observation, Sighting

CLUSTER = worlds.cluster(NODES)
NOW = 1_000_000.0
MINE = Cordon("2026-11-23T12:00:00+00:00", "kvmcluster.orch.rolling updates")
ANNS = Cordon("2026-11-23T12:00:00+00:00", "new memory, ask Ann")


def three(**changes):
    """web1 runs on node1; ``changes`` are of nodes by name."""
    nodes = {
        name: replace(
            node(name, NODES, guests=(guest(),) if name == "node1" else ()),
            **changes.get(name, {}),
        )
        for name in NODES
    }
    return World(CLUSTER, nodes)


def unready(world, *nodes):
    found = examination.examine(world)
    return sorted({reported.id for reported in maintenance.unready(found, nodes)})


@pytest.mark.parametrize(
    ("when", "needed", "due"),
    [
        ("needed", (), False),
        ("needed", ("a kernel",), True),
        ("always", (), True),
        ("never", ("a kernel",), False),
    ],
)
def test_when_a_node_is_rebooted(when, needed, due):
    assert Boot("1", needed).is_due(maintenance.when(when)) is due


def test_when_is_one_of_three_words():
    with pytest.raises(InputError, match=r"reboot: want needed or always or never.*mean always"):
        maintenance.when("allways")


def test_what_a_node_tells_of_its_boot_is_read_whatever_it_is():
    assert maintenance.boot({"boot": "7:1:9", "needed": ["x\x1b[2J"]}) == Boot("7:1:9", ("x�[2J",))
    assert maintenance.boot({"boot": "7:1:9", "needed": "no list"}) == Boot("7:1:9")
    for nonsense in (None, "ERROR: no", {"boot": 7}, {"needed": []}, []):
        assert maintenance.boot(nonsense) is None


def test_the_names_of_sls_files():
    assert maintenance.slses(None) == ()
    assert maintenance.slses("base.updates, kernel") == ("base.updates", "kernel")
    assert maintenance.slses(["updates"]) == ("updates",)
    assert maintenance.slses(["a", "a"]) == ("a",)
    for wrong in ("", [], "a b", "a,,b", [7], {"sls": 1}, 3, "a\x1b"):
        with pytest.raises(InputError, match="sls: want the name of an SLS"):
            maintenance.slses(wrong)


def test_only_a_closed_and_empty_node_is_rebooted():
    empty = node(cordoned=(MINE,))
    maintenance.may_reboot(empty)
    for found, detail in (
        (node(), "node1 is not cordoned"),
        (replace(empty, cordoned=None), "node1 is not cordoned"),
        (replace(empty, guests=(guest(),)), "node1 still has active guests: web1"),
        (replace(empty, pacemaker=pacemakers.view()), "crm_attribute -N node1 -n standby -v on"),
        (replace(empty, pacemaker=None), "whether Pacemaker runs on node1 is not known"),
        (
            replace(empty, guests=None, daemon_detail="refused"),
            "does not report its guests: refused",
        ),
    ):
        with pytest.raises(InputError, match=detail):
            maintenance.may_reboot(found)


def test_pacemaker_leaves_a_node_empty_on_standby_or_without_guests_of_its_own():
    for name in ("unmanaged", "maintenance"):
        assert standby.obstacle("node1", pacemakers.view(name)) == ""
    assert standby.obstacle("node3", pacemakers.view("standby", "node3")) == ""
    assert "crm_attribute -N node1" in standby.obstacle("n", pacemakers.view("standby", "node1"))
    assert standby.obstacle("node1", pacemakers.without_guests()) == ""
    assert standby.obstacle("node1", Pacemaker()) == ""
    assert "crm_attribute -N pcmk1 " in standby.obstacle("n", pacemakers.view("running", "pcmk1"))
    assert "systemctl disable pacemaker" in standby.obstacle("node1", pacemakers.at_rest())
    assert "no answer" in standby.obstacle("node1", Pacemaker(runs=True, error="no answer"))


def beside(**views):
    nodes = [node(name, NODES, pacemaker=views.get(name, pacemakers.view())) for name in NODES]
    found = World(CLUSTER, {one.node: one for one in nodes})
    return maintenance.preflight(found, examination.examine(found), list(NODES))


def test_maintenance_beside_pacemaker_is_begun_if_each_node_can_be_put_on_standby():
    assert beside().managed == ()
    (one,) = beside(node1=Pacemaker(runs=True, error="no answer")).managed
    assert "Pacemaker on node1 cannot be read" in one
    alone = replace(
        pacemakers.view(),
        status=replace(pacemakers.view().status, members={"node1": Member("node1", online=True)}),
    )
    (one,) = beside(node1=alone).managed
    assert "no other node of Pacemaker's takes guests" in one


def test_a_node_that_an_earlier_run_left_on_standby_is_taken_back_before_the_next_one():
    view = pacemakers.view()
    members = {name: Member(name, online=True, standby=name == "node1") for name in NODES}
    configuration = replace(view.configuration, standbys={"node1": "ours"})
    left = replace(view, status=replace(view.status, members=members), configuration=configuration)
    two = [name for name in NODES if name in ("node1", "node2")]
    for reason, managed in (("kvmcluster.orch.rolling", False), ("new memory", True)):
        cordoned = {"node1": (Cordon("", reason),)}
        nodes = {
            name: node(
                name,
                two,
                pacemaker=replace(left, name=name, status=_of(left.status, two)),
                cordoned=cordoned.get(name, ()),
            )
            for name in two
        }
        found = World(worlds.cluster(two), nodes)
        done = maintenance.preflight(found, examination.examine(found), ["node2"])
        assert bool(done.managed) is managed, reason


def _of(status, names):
    return replace(status, members={name: status.members[name] for name in names})


def test_what_of_a_reboot_has_not_been_seen():
    before = Boot("1")
    assert maintenance.not_back("node1", before, Boot("2"), None) == ""
    gone = maintenance.not_back("node1", before, None, {"detail": "going down"})
    assert gone == "no response from the minion of node1"
    still = maintenance.not_back("node1", before, before, "ERROR: node1 is not cordoned\nnow")
    assert still == "node1 has not rebooted yet; its response: ERROR: node1 is not cordoned now"
    slow = maintenance.not_back("node1", before, before, {"detail": ""})
    assert slow == "node1 has not rebooted yet"


def test_a_node_is_ready_though_it_is_closed_and_full():
    assert unready(three(node3={"cordoned": (MINE,), "free_kib": 1}), "node3") == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"daemon": None, "guests": None, "daemon_detail": "refused"}, "node.daemon"),
        ({"bridges": {}}, "network.present"),
        ({"storage": replace(node().storage, mounts=())}, "storage.kind"),
        ({"resolves": ("127.0.0.1",)}, "node.name"),
        ({"peers": {}}, "ssh.reach"),
    ],
)
def test_a_node_that_lacks_what_it_needs_is_not_ready(change, what):
    assert what in unready(three(node3=change), "node3")


def test_a_silent_node_is_not_ready():
    world = three()
    world = World(CLUSTER, {**world.nodes, "node3": silent("node3", "no answer")})
    assert "node.daemon" in unready(world, "node3")


def test_the_trouble_of_other_nodes_and_of_guests_is_not_its_own():
    assert unready(three(node2={"bridges": {}}), "node3") == []
    everywhere = three(node1={"guests": (guest(disks=("/elsewhere",), of=None),)})
    found = examination.examine(everywhere)
    assert any(reported.severity == BLOCK for reported in found.findings)
    assert maintenance.unready(found, ["node3"]) == []


def test_a_file_that_a_guest_has_on_its_own_node_alone_makes_no_other_node_unready():
    iso = "/root/cd.iso"
    cdrom = Disk("hdc", Source("file", iso, "raw"), device="cdrom", readonly=True)
    running = guest(of=replace(WEB, disks=(*WEB.disks, cdrom)))
    here = {iso: Inspection("file"), IMAGE: Inspection("file")}
    gone, there = {iso: Inspection("nothing")}, {iso: Inspection("file")}
    for node2, found in ((gone, []), (there, ["storage.visible"])):
        world = three(
            node1={"guests": (running,), "observed": here},
            node2={"observed": node2},
            node3={"observed": gone},
        )
        assert unready(world, "node3") == found


def test_a_file_that_one_node_alone_lacks_makes_it_unready_whoever_needs_it():
    """Guests on every other node need it: each has another place to go, or none but that node."""
    path = "/usr/share/loader.fd"
    needs = replace(WEB, files=(File(path, "loader"),))
    other = replace(needs, name="db1", uuid=worlds.OTHER)
    there = {path: Inspection("file"), IMAGE: Inspection("file")}
    second = Observation(Sighting.RUNNING, name="db1", uuid=worlds.OTHER)
    changes = {
        "node1": {"guests": (guest(of=needs),), "observed": there},
        "node2": {"guests": (guest("node2", second, other),), "observed": there},
        "node3": {"observed": {path: Inspection("nothing")}},
    }
    assert "storage.visible" in unready(three(**changes), "node3")
    two = World(
        worlds.cluster(NODES[:2]),
        {
            "node1": replace(node("node1"), **changes["node1"]),
            "node2": replace(node("node2"), observed={path: Inspection("nothing")}),
        },
    )
    assert "storage.visible" in unready(two, "node2")


def test_who_has_to_be_well_before_it_begins():
    assert maintenance.peers_of(CLUSTER, ["node1"]) == ["node2", "node3"]
    assert maintenance.peers_of(CLUSTER, ["node1", "node2"]) == ["node1", "node2", "node3"]
    assert maintenance.peers_of(CLUSTER, []) == []


def test_who_was_closed_by_somebody_else():
    world = three(node2={"cordoned": (ANNS,)}, node3={"cordoned": (MINE,)})
    (detail,) = maintenance.cordoned_by_others(world, NODES)
    assert detail.startswith("node2 is cordoned since") and "ask Ann" in detail
    assert detail.endswith("salt-run kvmcluster.undrain node2")
    assert maintenance.cordoned_by_others(world, ["node3"]) == []
    assert maintenance.cordoned_by_others(world, ["node3"], MINE.reason) == []
    (other,) = maintenance.cordoned_by_others(world, ["node3"], "kvmcluster.orch.maintenance x")
    assert "kvmcluster.orch.rolling updates; when no longer needed: salt-run" in other


def run(sls="updates", done=(), at=NOW, reboot="needed"):
    return Rolling((sls,), reboot, dict.fromkeys(done, "then"), at, "7:7")


@pytest.mark.parametrize(
    ("last", "anew", "todo"),
    [
        (None, False, ["node1", "node2", "node3"]),
        (run(done=["node1"], at=NOW - 86400), False, ["node2", "node3"]),
        (run(done=["node1"], at=NOW - 86401), False, ["node1", "node2", "node3"]),
        (run(done=["node1"], at=NOW + 10), False, ["node1", "node2", "node3"]),
        (run(done=["node1"]), True, ["node1", "node2", "node3"]),
        (run(done=["node1"], sls="kernel"), False, ["node1", "node2", "node3"]),
        (run(done=["node1"], reboot="always"), False, ["node1", "node2", "node3"]),
        (run(done=["node1", "former"]), False, ["node2", "node3"]),
    ],
)
def test_where_a_run_goes_on(last, anew, todo):
    found = rolling.continued(run(), last, anew, NODES)
    data = rolling.course(CLUSTER, found).to_dict()
    assert (data["todo"], found.at, found.process) == (todo, NOW, "7:7")
    goes_on = "continues with" in tables.render(data)
    assert goes_on is (todo != ["node1", "node2", "node3"])


def test_a_run_whose_last_nodes_have_left_the_pillar_is_over():
    last = rolling.with_done(rolling.with_done(run(), "node1", NOW - 9), "node2", NOW - 9)
    assert rolling.continued(run(), last, False, ["node1", "node2", "node3"]).done == last.done
    assert rolling.continued(run(), last, False, ["node1", "node2"]).done == {}


def test_nodes_are_at_least_one_and_each_once():
    assert maintenance.to_work_on(CLUSTER, None) == [*NODES]
    assert maintenance.to_work_on(CLUSTER, ["node2", "node1", "node2"]) == ["node2", "node1"]
    assert maintenance.to_work_on(CLUSTER, "node1") == ["node1"]
    for wrong in ([], "", [["node1"]], [None], {}, "node1,node2", "x\x1b[2J" * 1000):
        with pytest.raises(InputError) as caught:
            maintenance.to_work_on(CLUSTER, wrong)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 700
    assert maintenance.some_slses("a,b") == ("a", "b")
    with pytest.raises(InputError, match="sls: want the name of an SLS, or a list of them"):
        maintenance.some_slses(None)


def test_a_run_that_an_earlier_version_began_is_not_forgotten():
    """It would begin with the nodes that are done, and beside a process that is at work."""
    run = Rolling(("updates",), "always", {"node1": "2026-11-30T10:00:00+00:00"}, 5.0, "1:2:3")
    older = {key: one for key, one in run.to_dict().items() if key not in ("began", "counted")}
    assert rolling.parse(older) == run


def test_what_is_written_down_is_read_again():
    done = rolling.with_done(run(), "node1", NOW + 60)
    assert rolling.parse(done.to_dict()) == done
    assert done.done == {"node1": "1970-01-12T13:47:40+00:00"} and done.at == NOW + 60
    for nonsense in (None, {}, [], {**done.to_dict(), "at": "soon"}, {**done.to_dict(), "done": 1}):
        assert rolling.parse(nonsense) is None


def test_how_fast_a_rolling_run_is_counts_what_this_process_has_done():
    wanted = replace(run(at=NOW), began=NOW)
    found = rolling.continued(wanted, run(done=["node1"], at=NOW - 9000), False, NODES)
    assert rolling.course(CLUSTER, found).figures() == "1/3 nodes done, time left unknown"
    course = rolling.course(CLUSTER, rolling.with_done(found, "node2", NOW + 240))
    assert course.figures() == "2/3 nodes done, 15.0 nodes/h, about 4 min left"
    assert course.to_dict()["left"] == 240
    set_back = rolling.with_done(found, "node2", NOW - 1)
    assert rolling.course(CLUSTER, set_back).rate is None


def test_a_second_run_is_refused_while_the_first_is_in_progress():
    with pytest.raises(InputError, match="in progress on this master, in process 7; wait"):
        rolling.refuse_second(CLUSTER, "8:8", run(), True)
    for own, last, is_alive in (("8:8", run(), False), ("7:7", run(), True), ("8:8", None, False)):
        rolling.refuse_second(CLUSTER, own, last, is_alive)


def test_what_came_of_a_reboot_is_data():
    before, now = maintenance.Boot("1", ("a kernel",)), maintenance.Boot("2")
    done = maintenance.Reboot("lab", "node1", "needed", before, True, now=now, elapsed=61.2)
    assert done.to_dict() == DONE
    unseen = replace(done, now=None, missing="no answer").to_dict()
    assert (unseen["ok"], unseen["rebooted"], unseen["missing"]) == (False, None, "no answer")
    would = replace(done, now=None, test=True).to_dict()
    assert (would["ok"], would["rebooted"], "elapsed" in would) == (True, True, False)
    unwanted = replace(done, when="never", due=False, now=before).to_dict()
    assert (unwanted["ok"], unwanted["rebooted"], unwanted["still"]) == (True, False, ["a kernel"])


DONE = {
    "kind": "reboot",
    "cluster": "lab",
    "node": "node1",
    "ok": True,
    "when": "needed",
    "rebooted": True,
    "needed": ["a kernel"],
    "still": [],
    "missing": "",
    "findings": [],
    "elapsed": 61.2,
}
STAYS = "; its cordon is unchanged; to uncordon it: salt-run kvmcluster.undrain node1"
UNREADY = {"id": "ssh.reach", "severity": "BLOCK", "outcome": "PROBLEM", "sentence": "refused"}
UNREADY |= {"remedy": "ssh", "guests": [], "nodes": ["node2"], "destinations": ["node1"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "OK: node1 was rebooted (a kernel), and is ready after 61 s"),
        ({"rebooted": False, "needed": []}, "OK: node1 was not rebooted, and is ready after 61 s"),
        (
            {"still": ["a kernel"]},
            "WARN     a reboot is still needed: a kernel\n"
            "OK: node1 was rebooted (a kernel), and is ready after 61 s",
        ),
        (
            {"ok": False, "rebooted": None, "missing": "no answer"},
            f"PROBLEM: no answer, 61 s after the reboot was requested (a kernel){STAYS}",
        ),
        (
            {"ok": False, "findings": [{**UNREADY, "everywhere": False}]},
            "PROBLEM  ssh.reach  node2 -> node1: refused\n         ssh\n"
            f"PROBLEM: node1 was rebooted (a kernel), and is not ready after 61 s{STAYS}",
        ),
    ],
)
def test_a_reboot_in_words(change, words):
    assert tables.render({**DONE, **change}) == words


def test_a_reboot_that_would_be_in_words():
    would = {key: value for key, value in DONE.items() if key != "elapsed"}
    assert tables.render(would) == "node1 would be rebooted (a kernel)"
    none = tables.render({**would, "rebooted": False})
    assert none == "node1 would not be rebooted, unless an earlier step makes that necessary"


def test_whether_it_may_begin_in_words():
    good = {
        "kind": "preflight",
        "cluster": "lab",
        "ok": True,
        "nodes": ["node2", "node3"],
        "updates": [],
        "cordoned": [],
        "begun": [],
        "managed": [],
        "stuck": {},
        "hindered": [],
        "others": [],
        "findings": [],
    }
    assert tables.render(good) == ("OK: maintenance can start in cluster lab; ready: node2, node3")
    bad = {**good, "ok": False, "cordoned": ["node1 is cordoned"], "updates": ["no SLS x"]}
    bad["findings"] = [{**UNREADY, "everywhere": False}]
    assert tables.render(bad) == (
        "PROBLEM  no SLS x\n"
        "PROBLEM  node1 is cordoned\n"
        "PROBLEM  ssh.reach  node2 -> node1: refused\n         ssh\n"
        "PROBLEM: maintenance cannot start in cluster lab"
    )
    busy = {**good, "ok": False, "others": ["node3 is in maintenance by another run"]}
    assert tables.render(busy).startswith("PROBLEM  node3 is in maintenance by another run\n")


def test_guests_that_cannot_be_moved_are_named_by_preflight():
    stuck = {"node1": {"web1": "no eligible node: storage.kind"}}
    data = {"kind": "preflight", "cluster": "lab", "ok": True, "nodes": [], "updates": []}
    data |= {"cordoned": [], "begun": [], "managed": [], "findings": []}
    data |= {"stuck": stuck, "hindered": [], "others": []}
    assert tables.render(data) == (
        "STUCK  web1 on node1: no eligible node: storage.kind\n"
        "OK: maintenance can start in cluster lab"
    )
    bad = {**data, "ok": False, "hindered": ["web1 on node1 cannot be moved"]}
    assert tables.render(bad) == (
        "PROBLEM  web1 on node1 cannot be moved\nPROBLEM: maintenance cannot start in cluster lab"
    )


def test_a_rolling_run_in_words():
    data = {"kind": "rolling", "cluster": "lab", "ok": True, "todo": ["node1", "node2"], "done": {}}
    assert tables.render(data) == "nodes to do, in this order: node1, node2"
    data = {**data, "todo": ["node2"], "done": {"node1": "then"}}
    assert tables.render(data).startswith("continues with node2; already done:")
    data["figures"] = "1/2 nodes done, time left unknown"
    done = "node1 is done; 1/2 nodes done, time left unknown; remaining: node2"
    assert tables.render({**data, "just": "node1"}) == done
    over = {**data, "todo": [], "just": "node2"}
    assert tables.render(over) == "all nodes are done: node1 at then"
