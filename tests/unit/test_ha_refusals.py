"""What high availability is refused for, over all nodes and guests, and what it is judged by."""

import ha_cases
import pacemakers
import pytest
from salt.exceptions import SaltRenderError
from worlds import guest, node, world

from saltext_kvmcluster.core.facts import highstate
from saltext_kvmcluster.core.facts.nodefacts import silent
from saltext_kvmcluster.core.findings import UNKNOWN
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.pacemaker import cib, corosync, pacemaker_facts, pacemaker_tools
from saltext_kvmcluster.core.pacemaker.corosync import CONFIGURED, QUORUM, Corosync
from saltext_kvmcluster.core.pacemaker.fence_agents import FenceLevel
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.readiness import ha_refusals

CONF = """totem {
    version: 2
    cluster_name: lab
    interface {
        name: astray
    }
}
nodelist {
    node {
        # name: none
        name: node1
        ring0_addr: 192.0.2.11
    }
    node {
        ring0_addr: 192.0.2.12
    }
}
quorum {
    provider: corosync_votequorum
    two_node: 1
}
"""
QUORUMTOOL = """Quorum information
------------------
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   2
Quorum:           1
Flags:            2Node Quorate WaitForAll
"""
MISSING = (2, "", "grep: /etc/corosync/corosync.conf: No such file or directory")


def parsed(conf, quorum=(1, "", "Cannot initialize CMAP service")):
    return corosync.parse({CONFIGURED: conf, QUORUM: quorum})


def test_corosync_is_known_by_its_configuration_and_by_what_is_in_force():
    found = parsed((0, CONF, ""), (2, QUORUMTOOL, ""))
    assert found == Corosync(
        ("node1", ""), True, True, False, frozenset({"2Node", "Quorate", "WaitForAll"}), quorum=1
    )
    assert parsed((0, CONF, "")).flags is None
    assert parsed(MISSING) == Corosync()
    assert parsed((2, "", "grep: /etc/corosync/corosync.conf: Permission denied")) is None
    assert corosync.parse({}) is None


@pytest.mark.parametrize(
    ("more", "wait_for_all", "device"),
    [
        ("", True, False),
        ("wait_for_all: 0\n", False, False),
        ("wait_for_all: 1\ndevice {\nmodel: net\n}\n", True, True),
        ("device {\nnet {\nmodel: none\n}\n}\n", True, False),
    ],
)
def test_what_two_node_implies_can_be_taken_back(more, wait_for_all, device):
    found = parsed((0, CONF.replace("two_node: 1\n", f"two_node: 1\n{more}"), ""))
    assert (found.two_node, found.wait_for_all, found.device) == (True, wait_for_all, device)


def test_a_hostile_configuration_of_corosync_stays_text():
    text = "}\n" * 5 + "nodelist {\nnode {\nname: \x1b[31m" + "x" * 10000 + "\n"
    (name,) = parsed((0, text, "")).names
    assert name.isprintable() and len(name) == 253


def test_what_of_corosyncs_configuration_leaves_a_node_holds_no_key():
    (pattern,) = (one for one in corosync.COMMANDS[CONFIGURED] if one.startswith("^"))
    assert "key" not in pattern


def test_whom_a_fencer_can_fence_is_known_where_it_tells():
    outputs = pacemakers.outputs(
        **{
            pacemaker_tools.fencers_key("node1"): pacemakers.fencers("fence", "pdu"),
            pacemaker_tools.fencers_key("node2"): pacemakers.fencers(),
            pacemaker_tools.fencers_key("node3"): (124, "", ""),
        }
    )
    found = pacemaker_facts.parse(outputs).fencers
    assert found == {"node1": frozenset({"fence", "pdu"}), "node2": frozenset()}


def test_a_node_with_a_name_that_does_not_print_is_not_asked_about():
    asked = pacemaker_tools.fencers_commands(["node1", "\x1b[31m", "a\ufffdb", "", "--help"])
    assert [command[3] for command in asked.values()] == ["--list=node1", "--list=--help"]
    assert {command[:3] for command in asked.values()} == {("timeout", "12", "stonith_admin")}


def test_levels_of_fencing_and_devices_that_are_disabled_are_read():
    text = pacemakers.printed("running", "cib")
    text = text.replace("<constraints/>", ha_cases.LEVEL.format(" fence , pdu"))
    text = text.replace(*ha_cases.STOPPED)
    found = cib.parse(text)
    assert found.levels == (FenceLevel("node1", ("fence", "pdu")),)
    assert [one.disabled for one in found.fencing] == [True]


@pytest.mark.parametrize(
    ("compiled", "wanted"),
    [
        ([], {"state_starts": []}),
        (
            [
                {"state": "kvmcluster", "fun": "guest_running", "name": "web1"},
                {"state": "virt", "fun": "running", "name": "web2"},
                {"state": "kvmcluster", "fun": "guest_placed", "name": "web3"},
            ],
            {"state_starts": ["web1", "web2"]},
        ),
        (["No matching sls found for 'x'"], {"state_detail": "No matching sls found for 'x'"}),
        (
            str(SaltRenderError("bad YAML", 2, "db:\n  password: s3cret: x\n")),
            {"state_detail": "bad YAML; line 2"},
        ),
    ],
)
def test_what_the_highstate_starts(compiled, wanted):
    assert highstate.started(compiled) == wanted


def test_a_cluster_in_order_is_not_refused():
    assert ha_refusals.refused(ha_cases.with_ha()) == ()


def test_a_guest_without_ha_is_no_reason():
    one = ha_cases.with_ha(of_list={"web1": {"home": "node1"}}, guests={"path": "/root"})
    assert ha_refusals.refused(one) == ()


@pytest.mark.parametrize(("only", "refused"), [("node1", False), ("node2", True)])
def test_a_guest_that_runs_outside_of_its_only_is_moved_before_pacemaker_does(only, refused):
    """Pacemaker would stop it where no node that only names is there to take it."""
    one = ha_cases.with_ha(of_list={"web1": {"ha": True, "only": [only]}})
    found = [each for each in ha_refusals.refused(one) if each.id == "guest.only"]
    assert bool(found) is refused
    for each in found:
        assert each.guests == ("web1",) and "it runs on node1" in each.issue.sentence
        assert "salt-run kvmcluster.balance" in each.issue.remedy


def test_a_node_that_does_not_respond_refuses():
    one = ha_cases.with_ha(ha_cases.placed("node1", guests=(guest(),)), silent("node2", "off"))
    found = ha_refusals.refused(one)
    assert (("node2",), UNKNOWN) in {(each.nodes, each.issue.outcome) for each in found}


def test_a_guest_that_runs_nowhere_is_judged_by_its_definition():
    text = ha_cases.TEXT.replace(
        "</uuid>",
        "</uuid><memory>1</memory><os><type>hvm</type></os><devices><disk type='block'"
        " device='disk'><source dev='/dev/sdz'/><target dev='vdb'/></disk></devices>",
    )
    nodes = [node(name, definitions={"web1": text}) for name in ("node1", "node2")]
    found = ha_refusals.refused(ha_cases.with_ha(*nodes))
    assert [each.id for each in found] == ["ha.disks"] * len(found) and found
    assert found[0].guests == ("web1",) and "vdb" in found[0].issue.sentence


def test_a_local_disk_has_to_move_and_no_lease_is_proposed_for_it():
    (found,) = ha_refusals.refused(ha_cases.LOCAL_DISK)
    assert found.id == "ha.disks" and "/root/web1.img is on /" in found.issue.sentence
    assert found.issue.remedy.startswith("move it to") and "leases" not in found.issue.remedy


def test_without_a_place_of_definitions_nothing_else_is_said_of_them():
    found = ha_refusals.refused(ha_cases.with_ha(guests={"path": None}))
    told = {each.issue.sentence for each in found if each.id == "ha.stored"}
    assert told == {"the pillar does not say where its definition is"}


def test_a_definition_is_not_known_where_the_pillar_was_not_refreshed():
    fresh = ha_cases.with_ha()
    stale = {**fresh.cluster.parts, "guests": "another"}
    nodes = [
        ha_cases.placed("node1", guests=(guest(),)),
        node("node2", pillar=stale),
    ]
    (found,) = ha_refusals.refused(ha_cases.with_ha(*nodes))
    assert found.issue.outcome == UNKNOWN and "on node2 is not known" in found.issue.sentence
    assert found.issue.remedy == "salt -L node2 saltutil.refresh_pillar"


def test_a_guest_without_a_definition_is_refused():
    nodes = [node(name, definitions={"web1": ""}) for name in ("node1", "node2")]
    found = {each.id for each in ha_refusals.refused(ha_cases.with_ha(*nodes))}
    assert found == {"ha.disks", "ha.stored"}


def test_a_stricter_word_for_a_move_is_none_for_what_is_refused():
    found = ha_refusals.refused(ha_cases.of_pacemaker(Pacemaker(), ha={}))
    assert [each.blocks for each in found] == [True]


def test_the_agent_counts_once_all_is_installed():
    one = ha_cases.of_pacemaker(pacemakers.ours(), agent=False, ha=ha_cases.OURS)
    assert "ha.agent" not in {each.id for each in ha_refusals.refused(one)}
    assert "ha.agent" in {each.id for each in ha_refusals.refused(one, installed=True)}


def test_one_node_alone_is_refused():
    for ha in ({"fencing": ha_cases.fencing_of("node1")}, ha_cases.THEIRS):
        told = [*map(ha_refusals.sentence, ha_refusals.refused(world(node(), ha=ha)))]
        assert any(one.startswith("ha.fencing: node1: it is the only node") for one in told), told


def test_each_reason_is_told_once_with_what_it_is_about():
    one = ha_cases.of_pacemaker(pacemakers.without_guests(), ha={})
    found = map(ha_refusals.sentence, ha_refusals.refused(one))
    (told,) = (each for each in found if "the pillar has no fence device" in each)
    assert told.startswith("ha.fencing: node1, node2, node3: ")
    assert "kvmcluster:ha:fencing:devices" in told


def test_the_refusal_as_text():
    one = ha_cases.of_pacemaker(Pacemaker(), ha={})
    data = {"kind": "ha_preflight", "cluster": "lab", "ok": False, "guests": ["web1"]}
    data["engine"] = "pacemaker"
    found = [finding.to_dict() for finding in ha_refusals.refused(one)]
    assert tables.render({**data, "findings": found}).splitlines() == [
        "PROBLEM  ha.fencing  node1, node2, node3: the pillar has no fence device for it",
        "         add it to the nodes of a kvmcluster:ha:fencing:devices",
        "PROBLEM: high availability by pacemaker is refused in cluster lab, where 1 guest of the"
        " pillar has ha",
    ]
    assert tables.render({**data, "ok": True, "guests": [], "findings": []}) == (
        "OK: high availability by pacemaker may be set up in cluster lab, where no guest of the"
        " pillar has ha"
    )


def test_without_ha_in_the_pillar_there_is_nothing_to_refuse():
    assert ha_refusals.refused(world()) == ()
