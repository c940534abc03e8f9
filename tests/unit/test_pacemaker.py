"""Which resource of Pacemaker manages a guest, by what its tools printed on a real cluster."""

from dataclasses import replace

import pacemakers
import pytest
from lxml import etree
from pacemakers import CONFIGURATION, KEPT, NAME, NO_CIB, PROCESS, RESTS, STARTS, STATUS, UNREAD

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.ha import holds, state_of_resources
from saltext_kvmcluster.core.pacemaker import (
    cib,
    crm_mon,
    discretion,
    managers,
    pacemaker_facts,
    pacemaker_tools,
    standby,
)
from saltext_kvmcluster.core.pacemaker.fence_agents import FenceDevice
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.host import pacemaker_view
from saltext_kvmcluster.host.commands import Outcome

WEB1 = "/srv/guests/web1.xml"
GONE = (127, "", "timeout: failed to run command 'crm_mon': No such file or directory")


def parsed(case="running", **changes):
    return pacemaker_facts.parse(pacemakers.outputs(case, **changes))


def of(guest, *views, where=()):
    return managers.of(guest, {f"node{at}": view for at, view in enumerate(views, 1)}, where)


def configured(resources, more=""):
    return cib.parse(
        f"<cib><configuration><crm_config/><nodes/><resources>{resources}</resources>"
        f"<constraints/>{more}</configuration><status/></cib>"
    )


def domain(name, config="/srv/a.xml", inside=""):
    return (
        f"<primitive id='{name}' class='ocf' provider='heartbeat' type='VirtualDomain'>"
        f"<instance_attributes id='{name}-i'><nvpair id='{name}-c' name='config'"
        f" value='{config}'/></instance_attributes>{inside}</primitive>"
    )


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        ("running", "pacemaker: web1"),
        ("moved", "pacemaker: web1"),
        ("stopped", "pacemaker: web1"),
        ("blocked", "pacemaker: web1"),
        ("unmanaged", "pacemaker: web1, unmanaged"),
        ("unmanaged-moved", "pacemaker: web1, unmanaged"),
        ("maintenance", "pacemaker: web1, unmanaged"),
        ("node-maintenance", "pacemaker: web1"),
    ],
)
def test_who_manages_a_guest(case, wanted):
    assert str(of("web1", pacemakers.view(case))) == wanted
    assert str(of("web2", pacemakers.view(case))) == ""


def test_the_definition_names_the_guest_and_the_id_does_not():
    found = parsed(
        "group",
        guests={
            WEB1: pacemakers.definition("web1"),
            "/srv/guests/web2.xml": pacemakers.definition("web2"),
        },
    )
    assert str(of("web2", found)) == "pacemaker: vm-second"
    assert of("vm-second", found) == managers.Management()
    assert "crm_resource --move -r grp " in of("web2", found).managed.moved
    renamed = parsed(guests={WEB1: pacemakers.definition("other")})
    assert str(of("other", renamed)) == "pacemaker: web1"
    assert of("web1", renamed) == managers.Management()


def test_a_name_that_is_part_of_another_is_no_match():
    found = parsed(guests={WEB1: pacemakers.definition("web1")})
    for name in ("web", "web1-old", "WEB1", "eb1", "web11"):
        assert of(name, found) == managers.Management()


@pytest.mark.parametrize(
    "text",
    [
        UNREAD,
        (0, "", ""),
        (0, "<domain><name>web1</name>", ""),
        (0, "<domain type='kvm'/>", ""),
        (0, "<network><name>web1</name></network>", ""),
        (0, "<!DOCTYPE d [<!ENTITY a 'web1'>]><domain><name>&a;</name></domain>", ""),
        (124, "", ""),
        (None, "", "killed"),
    ],
)
def test_a_definition_that_cannot_be_read_leaves_every_guest_in_doubt(text):
    found = parsed(guests={WEB1: text})
    for guest in ("web1", "web2"):
        assert str(of(guest, found)) == "?"
        (doubt,) = of(guest, found).doubts
        assert WEB1 in doubt.sentence and "web1" in doubt.remedy


def test_another_node_may_know_what_one_cannot_read():
    unread = parsed(guests={WEB1: UNREAD})
    assert str(of("web1", unread, pacemakers.view())) == "pacemaker: web1"
    assert of("web2", unread, pacemakers.view()) == managers.Management()


def test_our_own_agent_names_its_guest_where_no_definition_can_be_read():
    unread = pacemakers.of_our_agent(guests={WEB1: UNREAD}, guest="web1")
    assert str(of("web1", unread)) == "pacemaker: web1"
    assert of("web2", unread) == managers.Management()


def test_a_resource_that_is_active_elsewhere_is_another_guest():
    unread = parsed(node="node2", guests={WEB1: UNREAD})
    assert of("web2", pacemakers.view("moved"), unread, where=["node1"]).managers == ()
    elsewhere = {"node2": unread, "node1": parsed(guests={WEB1: UNREAD})}
    assert managers.of("web2", elsewhere, ["node2"]).doubts == ()
    assert managers.of("web2", elsewhere, ["node1"]).doubts
    assert managers.of("web2", elsewhere).doubts


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({STATUS: (102, pacemakers.printed("not-running", "crm_mon"), "")}, "Could not connect"),
        ({STATUS: (124, "", "")}, "no answer within 5 s"),
        ({STATUS: (0, "Cluster Summary:", "")}, "not XML"),
        ({STATUS: (0, "<pacemaker-result/>", "")}, "shows no cluster"),
        ({STATUS: GONE}, "failed to run"),
        ({CONFIGURATION: (102, "", "Could not connect to the CIB: ...")}, "connect to the CIB"),
        ({CONFIGURATION: (0, "<status/>", "")}, "no <configuration>"),
        ({CONFIGURATION: (None, "", "killed")}, "cibadmin: killed"),
    ],
)
def test_what_runs_and_cannot_be_read_is_in_doubt(changes, why):
    found = parsed(**changes)
    assert found.runs and why in found.error
    assert str(of("web9", found)) == "?"
    assert str(of("web9", pacemakers.view(), found)) == "?"


def test_where_it_is_not_installed_there_is_none():
    gone = dict.fromkeys((NAME, STATUS, CONFIGURATION), GONE)
    for process in (RESTS, (127, "", "no pgrep")):
        found = parsed(**gone, **{PROCESS: process, STARTS: (0, "", ""), KEPT: NO_CIB})
        assert found == Pacemaker()
        assert of("web1", found) == managers.Management()


def test_whether_it_runs_may_not_be_known():
    assert parsed(**{PROCESS: (None, "", "killed")}) is None
    assert pacemaker_facts.parse({STATUS: (0, "", "")}) is None
    assert str(of("web1", None)) == "?"


def test_one_that_is_disabled_or_was_never_in_a_cluster_manages_nothing():
    assert pacemakers.at_rest(**{STARTS: (0, "", "")}) == Pacemaker()
    assert pacemakers.at_rest(**{KEPT: NO_CIB}) == Pacemaker()


def test_one_that_starts_with_its_node_is_in_doubt_until_it_runs():
    (doubt,) = of("web1", pacemakers.at_rest()).doubts
    assert "starts with the node" in doubt.sentence and "systemctl disable" in doubt.remedy
    assert of("web9", pacemakers.at_rest()) == managers.Management()
    for kept in (UNREAD, (0, "<cib>", ""), (None, "", "killed")):
        assert "cannot be read" in pacemakers.at_rest(**{KEPT: kept}).error


def test_only_agents_of_guests_count():
    found = configured(
        domain("vm")
        + "<primitive id='x' class='ocf' provider='heartbeat' type='Xen'/>"
        + "<primitive id='l' class='lsb' type='VirtualDomain'/>"
        + "<primitive id='u' class='systemd' type='libvirtd'/>"
        + "<primitive id='own' class='ocf' provider='ours' type='VirtualDomain-ng'/>"
        + "<primitive id='s' class='stonith' type='fence_ipmilan'/>"
    )
    assert [one.id for one in found.guests] == ["vm", "own"]
    assert found.fencing == (FenceDevice("s", "fence_ipmilan"),)


def test_an_agent_that_is_given_a_definition_has_a_guest():
    """Other agents than VirtualDomain, by whatever name and parameter."""
    changes = {'type="VirtualDomain"': "type='kvm'", 'name="config"': "name='file'"}

    def of_kvm(text):
        found = pacemakers.outputs(guests={WEB1: text})
        for old, new in changes.items():
            found = {key: (code, out.replace(old, new), e) for key, (code, out, e) in found.items()}
        assert pacemaker_facts.config_paths(found) == (WEB1,)
        return pacemaker_facts.parse(found)

    assert str(of("web1", of_kvm(pacemakers.definition("web1")))) == "pacemaker: web1"
    for text in (UNREAD, (0, "<Server port='8005'/>", "")):
        assert of("web1", of_kvm(text)) == managers.Management() and not of_kvm(text).resources


def test_a_resource_that_was_deleted_while_it_ran_leaves_doubt():
    for word in ("orphaned", "removed"):
        text = pacemakers.printed("running", "crm_mon")
        shown = f'<resource id="old" resource_agent="ocf:heartbeat:VirtualDomain" {word}="true">'
        text = text.replace(
            "<resources>", f'<resources>{shown}<node name="node2" id="2"/></resource>'
        )
        found = parsed(**{STATUS: (0, text, "")})
        (doubt,) = of("web9", found, where=[]).doubts
        assert "its resource old" in doubt.sentence
        assert of("web9", found, where=["node1"]).doubts == ()
        assert str(of("web1", found)) == "pacemaker: web1"


def test_a_primitive_takes_from_its_template_its_parents_and_the_defaults():
    template = (
        "<template id='t' class='ocf' provider='heartbeat' type='VirtualDomain'>"
        "<meta_attributes id='tm'><nvpair id='t1' name='allow-migrate' value='Yes'/>"
        "</meta_attributes><operations><op id='to' name='migrate_to' interval='0'"
        " on-fail='block'/></operations></template>"
    )
    child = (
        "<primitive id='vm' template='t'><instance_attributes id='i'><nvpair id='n' name='config'"
        " value='/a.xml'/></instance_attributes></primitive>"
    )
    defaults = (
        "<rsc_defaults><meta_attributes id='d'><nvpair id='d1' name='resource-stickiness'"
        " value='100'/><nvpair id='d2' name='allow-migrate' value='false'/></meta_attributes>"
        "</rsc_defaults>"
    )
    clone = f"<clone id='c'><group id='g'>{child}</group></clone>"
    (vm,) = configured(template + clone, defaults).guests
    assert (vm.id, vm.moved, vm.configs) == ("vm", "c", ("/a.xml",))
    assert vm.allow_migrate and vm.on_fail == "block" and vm.stickiness == "100"


def test_what_rules_choose_among_is_all_possible():
    one = (
        "<primitive id='vm' class='ocf' provider='heartbeat' type='VirtualDomain'>"
        "<instance_attributes id='a' score='1'><nvpair id='a1' name='config' value='/low.xml'/>"
        "</instance_attributes><instance_attributes id='b' score='INFINITY'><rule id='r'"
        " score='0'/><nvpair id='b1' name='config' value='/high.xml'/></instance_attributes>"
        "</primitive>"
    )
    (vm,) = configured(one).guests
    assert vm.configs == ("/high.xml", "/low.xml")


def a_set(name, value, score="", inside=""):
    score = f" score='{score}'" if score else ""
    return (
        f"<instance_attributes id='{name}'{score}>{inside}<nvpair id='{name}-c' name='config'"
        f" value='{value}'/></instance_attributes>"
    )


def vm(inside, more="class='ocf' provider='heartbeat' type='VirtualDomain'"):
    return f"<primitive id='vm' {more}>{inside}</primitive>"


TEMPLATE = "<template id='t' class='ocf' provider='heartbeat' type='VirtualDomain'>"


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        (vm(a_set("a", "/1.xml") + a_set("b", "/2.xml")), ("/2.xml", "/1.xml")),
        (vm(a_set("a", "/1.xml", 1) + a_set("b", "/2.xml", 5)), ("/2.xml",)),
        (vm(a_set("a", "/1.xml", "-INFINITY") + a_set("b", "/2.xml", "-5")), ("/2.xml",)),
        (
            f"{TEMPLATE}{a_set('a', '/1.xml')}</template>"
            + vm(a_set("b", "/2.xml"), "template='t'"),
            ("/2.xml", "/1.xml"),
        ),
        (
            f"{TEMPLATE}{a_set('a', '/1.xml', 9)}</template>"
            + vm(a_set("b", "/2.xml"), "template='t'"),
            ("/1.xml",),
        ),
        (f"<group id='g'>{a_set('a', '/1.xml')}{vm('')}</group>", ("/1.xml",)),
        (f"<clone id='g'>{a_set('a', '/1.xml')}{vm(a_set('b', '/2.xml'))}</clone>", ("/2.xml",)),
        (
            f"<group id='g'>{a_set('a', '/1.xml')}"
            + vm(a_set("b", "/2.xml", inside="<rule id='r' score='0'/>"))
            + "</group>",
            ("/2.xml", "/1.xml"),
        ),
    ],
)
def test_the_definition_is_the_one_that_pacemaker_gives_its_agent(resources, wanted):
    """As crm_resource --get-parameter of Pacemaker 2.1.5 answers: the first, if no rule speaks."""
    (found,) = configured(resources).guests
    assert found.configs == wanted


def test_each_definition_that_may_be_a_guest_s_has_to_be_known():
    rules = a_set("a", WEB1) + a_set("b", "/other.xml", 5, "<rule id='r' score='0'/>")
    text = f"<cib><configuration><resources>{vm(rules)}</resources></configuration></cib>"
    found = parsed(**{CONFIGURATION: (0, text, "")})
    assert str(of("web1", found)) == "pacemaker: vm"
    (doubt,) = of("web2", found).doubts
    assert "/other.xml" in doubt.sentence


def test_resources_of_one_id_in_two_clusters_are_two():
    """What one cluster's definition says is no word about the other's."""
    text = pacemakers.printed("running", "cib").replace(WEB1, "/elsewhere.xml")
    other = parsed(node="node2", **{CONFIGURATION: (0, text, "")})
    (doubt,) = of("web2", pacemakers.view(), other).doubts
    assert "/elsewhere.xml" in doubt.sentence


def test_what_an_id_ref_names_is_read_there():
    first = domain(
        "one",
        "/one.xml",
        "<meta_attributes id='m'><nvpair id='x' name='allow-migrate'"
        " value='true'/></meta_attributes>",
    )
    second = domain("two", "/two.xml", "<meta_attributes id-ref='m'/>")
    assert [one.allow_migrate for one in configured(first + second).guests] == [True, True]


@pytest.mark.parametrize("text", ["", "<a/>", "<cib/>", "<!DOCTYPE a []><cib/>", "x" * 11_000_000])
def test_what_is_no_cib_is_refused(text):
    with pytest.raises(InputError):
        cib.parse(text)
    with pytest.raises(InputError):
        crm_mon.parse(text)


@pytest.mark.parametrize(
    ("process", "starts", "wanted"),
    [
        ((1, "", ""), "", set()),
        ((1, "", ""), pacemakers.WANTED, {KEPT}),
        ((0, "812\n", ""), "", {NAME, STATUS, CONFIGURATION}),
        (GONE, "", {NAME, STATUS, CONFIGURATION}),
        (GONE, pacemakers.WANTED, {KEPT, NAME, STATUS, CONFIGURATION}),
    ],
)
def test_its_tools_are_run_only_where_they_have_something_to_tell(process, starts, wanted):
    outputs = {PROCESS: process, STARTS: (0, starts, "")}
    assert set(pacemaker_facts.further_commands(outputs)) == wanted


def test_only_absolute_paths_that_print_are_read():
    found = configured(domain("a", "relative.xml") + domain("b", "/srv/\x7f.xml") + domain("c"))
    outputs = pacemakers.outputs(guests={})
    assert pacemaker_facts.config_paths(outputs) == (WEB1,)
    paths = [path for one in found.guests for path in one.configs]
    assert [*pacemaker_tools.config_commands(paths)] == ["pcmk_config /srv/a.xml"]


def test_why_a_guest_must_not_be_touched():
    def sentence(case, asked):
        return managers.refusal(of("web1", pacemakers.view(case)), "would start it again", asked)

    assert "--meta -p target-role -v Stopped" in sentence("running", "stopped")
    assert "--meta -p target-role -v Started" in sentence("stopped", "started")
    assert "crm_resource --cleanup -r web1" in sentence("running", "started")
    assert sentence("unmanaged", "moved") == sentence("maintenance", "moved") == ""
    doubt = managers.refusal(of("web1", None), "would", "moved")
    assert "not known whether Pacemaker manages it" in doubt
    # It may be active on two nodes by Pacemaker's view: then a cleanup stops both.
    assert "cleanup" not in sentence("blocked", "moved")


def test_without_quorum_or_a_dc_there_is_no_quorum():
    assert pacemakers.view().status.quorum
    assert not pacemakers.view("just-started").status.quorum
    text = pacemakers.printed("running", "crm_mon").replace('with_quorum="true"', 'with_quorum="0"')
    assert not crm_mon.parse(text).quorum


def test_a_role_counts_however_it_is_written():
    text = pacemakers.printed("running", "crm_mon").replace(
        '<resource id="web1" ', '<resource id="web1" target_role="stopped" '
    )
    assert crm_mon.parse(text).resources["web1"].target == holds.STOPPED


def test_of_views_that_differ_one_by_which_pacemaker_acts_counts():
    for views in (("running", "unmanaged"), ("unmanaged", "running")):
        found = of("web1", *(pacemakers.view(case) for case in views))
        assert str(found) == "pacemaker: web1" and len(found.managers) == 1


def test_the_maintenance_of_a_node_ends_with_its_restart():
    """Pacemaker 2.1.5 and 3.0: what is active on no node in maintenance is managed."""
    found = of("web1", pacemakers.view("node-maintenance"))
    for asked in ("moved", "started", "stopped"):
        why = managers.refusal(found, "would start it again", asked)
        assert "first crm_resource -r web1 --meta -p is-managed -v false" in why
        assert "maintenance of node3" in why
    assert standby.obstacle("node3", pacemakers.view("node-maintenance", "node3"))
    text = '<meta_attributes id="web1-meta_attributes"'
    for name, value in (("is-managed", "false"), ("maintenance", "true")):
        pair = f'<nvpair id="w" name="{name}" value="{value}"/>'
        by_itself = pacemakers.edited(
            f"{text}/>", f"{text}>{pair}</meta_attributes>", "node-maintenance"
        )
        assert str(of("web1", by_itself)) == "pacemaker: web1, unmanaged"
        assert not standby.obstacle("node3", by_itself)
    whole = pacemakers.edited('mode="false"', 'mode="true"', "node-maintenance")
    assert str(of("web1", whole)) == "pacemaker: web1, unmanaged"


def ran(found):
    return {key: Outcome(code, out, error) for key, (code, out, error) in found.items()}


def test_passwords_of_pacemaker_do_not_leave_the_node():
    """Facts go to the master, which keeps them in its job cache."""
    secret = "hunter2"
    pair = f'<nvpair id="p" name="passwd" value="{secret}"/><!-- {secret} -->'
    cib_text = pacemakers.printed("running", "cib")
    cib_text = cib_text.replace('<nvpair id="fence-list"', f'{pair}<nvpair id="fence-list"')
    assert secret in cib_text
    graphics = f"<devices><graphics type='vnc' passwd='{secret}'/></devices>"
    text = f"<domain><name>web1</name>{graphics}</domain>"
    printed = pacemakers.outputs(guests={WEB1: (0, text, "")})
    printed |= dict.fromkeys((CONFIGURATION, KEPT), (0, cib_text, ""))
    for process in (pacemakers.RUNS, RESTS):
        present = ran({PROCESS: process, STARTS: printed[STARTS]})
        outcomes = pacemaker_view.further(
            lambda asked: {key: one for key, one in ran(printed).items() if key in asked}, present
        )
        assert outcomes and secret not in str(outcomes)
        plain = {
            key: (one.code, one.stdout, one.stderr) for key, one in {**present, **outcomes}.items()
        }
        found = pacemaker_facts.parse(plain)
        assert found.guests == {WEB1: "web1"} and not found.error


@pytest.mark.parametrize("text", ["passwd=hunter2", "<domain passwd='hunter2'", ""])
def test_what_is_no_xml_does_not_leave_the_node_either(text):
    for key in (CONFIGURATION, KEPT, pacemaker_tools.config_key(WEB1)):
        code, out, detail = discretion.without_secrets(key, (0, text, ""))
        assert (code, out) == (65, "") and "it is not XML" in detail and "hunter2" not in detail
        assert discretion.without_secrets(key, (1, text, "why")) == (1, "", "why")
    assert discretion.without_secrets(STATUS, (0, text, "")) == (0, text, "")
    found = parsed(guests={WEB1: discretion.without_secrets(key, (0, text, ""))})
    assert found.unread[WEB1].startswith("it is not XML")


@pytest.mark.parametrize("case", ["running", "group", "unmanaged", "node-maintenance", "banned"])
def test_what_is_left_out_changes_nothing(case):
    text = pacemakers.printed(case, "cib")
    _, left, _ = discretion.without_secrets(CONFIGURATION, (0, text, ""))
    before, after = cib.parse(text), cib.parse(left)
    assert after.guests and [one.configs for one in after.guests] == [
        one.configs for one in before.guests
    ]
    bare = [replace(one, parameters={}) for one in after.guests]
    assert bare == [replace(one, parameters={}) for one in before.guests]
    assert replace(after, guests=()) == replace(before, guests=())


@pytest.mark.parametrize("key", ["role", "pending"])
def test_a_move_of_pacemakers_own_is_seen(key):
    root = etree.fromstring(pacemakers.printed("running", "crm_mon"))
    root.find("resources//resource[@id='web1']").set(key, "Migrating")
    text = etree.tostring(root, encoding="unicode")
    assert crm_mon.parse(text).resources["web1"].moving
    assert state_of_resources.parse(text).moving == ("web1",)
    assert not state_of_resources.parse(pacemakers.printed("running", "crm_mon")).moving
