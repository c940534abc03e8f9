"""The fencing of a cluster.conf: it switches off the same nodes, or a remark says why not."""

import pytest
import yaml

from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.rgmanager import fates
from saltext_kvmcluster.core.rgmanager.clusterconf import parse

SHAPE = """
<cluster name="c">
 <clusternodes>
  <clusternode name="n1"><fence>{n1}</fence></clusternode>
  <clusternode name="n2"><fence>{n2}</fence></clusternode>
 </clusternodes>
 <fencedevices>{devices}</fencedevices>
 <rm><vm name="web1"/></rm>
</cluster>
"""
BMC = (
    '<fencedevice agent="fence_ipmilan" name="{0}" ipaddr="{0}.example.com" login="a"'
    ' passwd="s3cr3t"/>'
)
APC = '<fencedevice agent="fence_apc" name="apc" ipaddr="192.0.2.9"/>'


def method(*devices, name="1"):
    return f'<method name="{name}">{"".join(f"<device {it}/>" for it in devices)}</method>'


def fencing(devices, n1="", n2=""):
    """Return the fencing of the pillar that it makes, and the remarks."""
    found = parse(SHAPE.format(devices="".join(devices), n1=n1, n2=n2))
    parser.from_pillar(found.pillar)
    assert "s3cr3t" not in yaml.safe_dump(found.to_dict())
    return found.pillar["kvmcluster"]["ha"].get("fencing", {}), found.remarks


def unfenced(remarks):
    return [it.element for it in remarks if (it.became, it.why) == fates.UNFENCED]


def test_a_device_for_each_node_has_its_options_by_their_names_of_today():
    devices = [BMC.format("b1"), BMC.format("b2")]
    found, remarks = fencing(devices, method('name="b1"'), method('name="b2" action="reboot"'))
    assert found == {
        "devices": {
            name: {
                "agent": "fence_ipmilan",
                "nodes": [node],
                "options": {"ip": f"{name}.example.com", "username": "a"},
                "secrets": {"password": f"/etc/kvmcluster/{name}.password"},
            }
            for name, node in (("b1", "n1"), ("b2", "n2"))
        }
    }
    told = {(it.attribute, it.became) for it in remarks}
    assert told == {("passwd", fates.CHANGED), ("action", fates.SAME)}
    assert not unfenced(remarks)


def test_a_device_with_ports_has_those_of_all_nodes():
    found, _ = fencing([APC], method('name="apc" port="1"'), method('name="apc" port="7"'))
    assert found == {
        "devices": {
            "apc": {
                "agent": "fence_apc",
                "nodes": {"n1": "1", "n2": "7"},
                "options": {"ip": "192.0.2.9"},
            }
        }
    }


def test_methods_are_levels_and_what_acts_together_does():
    both = method(
        'name="p1" port="1" action="off"',
        'name="p2" port="1" action="off"',
        'name="p1" port="1" action="on"',
        'name="p2" port="1" action="on"',
    )
    pdus = [APC.replace('"apc"', f'"p{number}"') for number in (1, 2)]
    found, _ = fencing([BMC.format("b1"), *pdus], method('name="b1"') + both)
    assert [*found["devices"]] == ["b1", "p1", "p2"]
    assert found["levels"] == {"n1": ["b1", ["p1", "p2"]]}


def test_two_ports_of_one_device_are_switched_together():
    found, _ = fencing([APC], method('name="apc" port="1"', 'name="apc" port="5"'))
    assert found["devices"]["apc"]["nodes"] == {"n1": "1,5"}
    assert "levels" not in found


def test_what_a_node_adds_to_a_device_is_a_device_of_its_own():
    found, _ = fencing(
        [APC], method('name="apc" port="1" switch="2"'), method('name="apc" port="1"')
    )
    assert {name: (it["nodes"], it["options"]) for name, it in found["devices"].items()} == {
        "apc": ({"n1": "1"}, {"ip": "192.0.2.9", "switch": "2"}),
        "apc-n2": ({"n2": "1"}, {"ip": "192.0.2.9"}),
    }


def test_a_guest_as_a_node_is_a_port_by_its_domain():
    device = '<fencedevice agent="fence_xvm" name="x"/>'
    found, _ = fencing([device], method('name="x" domain="guest-a"'), method('name="x"'))
    assert found["devices"]["x"]["nodes"] == {"n1": "guest-a", "n2": "n2"}


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        ("fence_manual", "a person's word is no fencing"),
        ("fence_scsi", "does not switch a node off"),
        ("fence_brocade", "does not switch a node off"),
        ("fence_egenera", "maintained no more"),
        ("", "it has no agent"),
        ("fence apc", "want a fence agent's name"),
    ],
)
def test_a_device_that_can_have_no_counterpart_is_told_and_fences_nobody(agent, why):
    device = f'<fencedevice agent="{agent}" name="d"/>'
    found, remarks = fencing([device], method('name="d"'))
    assert found == {}
    assert any(why in it.why for it in remarks)
    assert unfenced(remarks) == [
        "cluster/clusternodes/clusternode[n1]",
        "cluster/clusternodes/clusternode[n2]",
    ]


def test_a_method_of_which_a_device_is_missing_would_switch_nothing_off_and_is_left_out():
    found, remarks = fencing(
        [APC, BMC.format("b1")],
        method('name="apc" port="1"', 'name="apc2" port="1"') + method('name="b1"', name="2"),
        method('name="apc2" port="2"'),
    )
    assert [*found["devices"]] == ["b1"]
    assert "levels" not in found
    assert unfenced(remarks) == ["cluster/clusternodes/clusternode[n2]"]
    told = {it.element: it.why for it in remarks}
    assert told["cluster/fencedevices/fencedevice[apc]"] == fates.UNUSED_DEVICE
    assert "'apc2'" in told["cluster/clusternodes/clusternode[n1]/fence/method[1]"]


def test_a_device_that_is_used_with_two_ports_by_two_methods_keeps_the_first():
    found, remarks = fencing(
        [APC], method('name="apc" port="1"') + method('name="apc" port="2"', name="2")
    )
    assert found["devices"]["apc"]["nodes"] == {"n1": "1"}
    assert any(it.why == "another method of the node uses apc with another port" for it in remarks)


@pytest.mark.parametrize("text", ["{{ x }}", "a\nb", "a\tb"])
def test_what_no_pillar_can_hold_is_left_out_by_name(text):
    device = APC.replace("192.0.2.9", text.replace("\n", "&#10;").replace("\t", "&#9;"))
    found, remarks = fencing([device], method('name="apc" port="1"'))
    assert found == {}
    assert unfenced(remarks)


def test_a_script_that_prints_a_password_is_an_option():
    device = APC.replace("/>", ' passwd_script="/bin/show"/>')
    found, _ = fencing([device], method('name="apc" port="1"'))
    assert found["devices"]["apc"]["options"]["password_script"] == "/bin/show"


@pytest.mark.parametrize(("token", "wanted"), [("20000", 20000), ("10", None), ("x", None)])
def test_the_token_is_that_of_totem_if_it_can_be(token, wanted):
    text = SHAPE.format(devices="", n1="", n2="")
    found = parse(text.replace("<rm>", f'<totem token="{token}" join="60"/><rm>'))
    assert found.pillar["kvmcluster"]["ha"].get("token") == wanted
    told = {it.attribute for it in found.remarks if it.element == "cluster/totem"}
    assert told == {"join", *(() if wanted else ("token",))}


def test_devices_without_a_name_are_left_out():
    nameless = '<fencedevice agent="fence_apc" name="" ipaddr="192.0.2.9"/>'
    found, remarks = fencing([nameless], "<method><device/></method>")
    assert found == {} and len(unfenced(remarks)) == 2


def test_a_key_of_a_board_is_no_open_option():
    board = BMC.format("b1").replace("/>", ' hexadecimal_kg="s3cr3t"/>')
    found, _ = fencing([board], method('name="b1"'))
    assert found["devices"]["b1"]["secrets"] == {
        option: f"/etc/kvmcluster/b1.{option}" for option in ("password", "hexadecimal_kg")
    }
