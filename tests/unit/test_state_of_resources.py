"""What Pacemaker says of its resources: which of them do not run, though they have to."""

from saltext_kvmcluster.core.ha import state_of_resources

MONITOR = """<pacemaker-result>
<summary><current_dc present="true" with_quorum="{quorum}"/></summary>
<nodes><node name="node1" online="true"/><node name="node2" online="false"/></nodes>
<resources><resource id="a" role="Started" resource_agent="ocf:kvmcluster:VirtualDomain">
<node name="node1"/></resource>
<resource id="b" role="Stopped"/><resource id="s" role="Stopped" target_role="Stopped"/>
<resource id="h" role="Stopped" managed="false"/>
<resource id="c" role="Stopped" resource_agent="stonith:fence_x"/>
<resource id="f" role="Started" resource_agent="stonith:fence_x"><node name="node1"/></resource>
</resources>
<failures><failure op_key="c_monitor_60000" node="node1" exitstatus="error" task="monitor"/>
<failure op_key="f_monitor_60000" node="node1" exitstatus="error" task="monitor"/>
</failures></pacemaker-result>"""


def test_what_does_not_run_is_named_with_why():
    found = state_of_resources.parse(MONITOR.format(quorum="true"))
    assert found.decides and found.online == ("node1",)
    assert list(found.unsettled(["a", "b", "c", "d", "f", "s", "h"])) == [
        "b: its role is Stopped",
        "c: monitor failed on node1 (error); the log there says why: journalctl -u pacemaker",
        "d: its role is not known",
    ]
    assert not state_of_resources.parse(MONITOR.format(quorum="false")).decides


def test_what_somebody_keeps_off_or_holds_need_not_run():
    kept = '<resource id="{}" role="Stopped" {}/>'
    more = "".join(
        kept.format(name, given)
        for name, given in (
            ("off", 'managed="true" target_role="Stopped"'),
            ("held", 'managed="false" blocked="false"'),
            ("stuck", 'managed="false" blocked="true"'),
            ("old", 'orphaned="true"'),
            ("older", 'removed="true"'),
        )
    )
    text = MONITOR.format(quorum="true").replace("<resources>", f"<resources>{more}")
    found = state_of_resources.parse(text)
    assert list(found.unsettled(["off", "held", "stuck"])) == ["stuck: its role is Stopped"]
    assert found.orphans == ("old", "older")
