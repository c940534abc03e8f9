"""What Pacemaker is told of the pillar, by what its configuration differs, and what stays in it."""

import pytest
from lxml import etree

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import FileState
from saltext_kvmcluster.core.ha import content, difference, secrets
from saltext_kvmcluster.core.pillar.parser import from_pillar

BOARD = {"agent": "fence_x", "nodes": ["node1", "node2", "node3"]}
PATHS = {name: f"/srv/guests/{name}.xml" for name in ("web1", "web2", "db")}
FOREIGN = """<cib admin_epoch="0" epoch="7" num_updates="3" validate-with="pacemaker-3.0">
 <configuration>
  <crm_config><cluster_property_set id="cib-bootstrap-options">
   <nvpair id="cib-bootstrap-options-cluster-name" name="cluster-name" value="lab"/>
  </cluster_property_set></crm_config>
  <nodes><node id="1" uname="node1"/></nodes>
  <resources>
   <primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2">
     <instance_attributes id="ip-a"><nvpair id="ip-a-ip" name="ip" value="192.0.2.9"/>
     </instance_attributes></primitive>
  </resources>
  <constraints><rsc_location id="ip-here" rsc="ip" node="node1" score="5"/></constraints>
  <rsc_defaults><meta_attributes id="rsc-options"/></rsc_defaults>
 </configuration>
 <status/>
</cib>"""


def of_list(wanted):
    """A guest of the list; ``prefer`` and ``only`` are its own, the rest its ha's."""
    known = dict(wanted) if isinstance(wanted, dict) else {}
    places = {key: known.pop(key) for key in ("prefer", "only") if key in known}
    return {**places, "ha": known or True}


def cluster(guests, nodes=("node1", "node2", "node3"), apart=(), together=(), migration=None, **ha):
    return from_pillar(
        {
            "kvmcluster": {
                "name": "lab",
                "nodes": {node: {"migration": f"{node}-mig"} for node in nodes},
                "guests": {
                    "path": "/srv/guests",
                    "list": {name: of_list(wanted) for name, wanted in guests.items()},
                    "apart": [list(group) for group in apart],
                    "with": [*together],
                },
                "migration": migration or {},
                "ha": ha or {"fencing": {"devices": {"board": BOARD}}},
            }
        }
    )


def pieces(found):
    return {piece.id: etree.fromstring(piece.xml) for piece in found}


def guests(wanted, **more):
    return pieces(content.guests(cluster(wanted, **more), PATHS))


def values(element, tag):
    return {one.get("name"): one.get("value") for one in element.iterfind(f"{tag}/nvpair")}


def operations(element):
    return {one.get("name"): one for one in element.iterfind("operations/op")}


def constraints(found):
    return {name: dict(one.attrib) for name, one in found.items() if one.tag != "primitive"}


def test_a_guest_is_a_resource_of_our_agent():
    found = guests({"web1": True})
    assert list(found) == ["kvmcluster-web1"]
    web1 = found["kvmcluster-web1"]
    assert (web1.get("class"), web1.get("provider"), web1.get("type")) == (
        "ocf",
        "kvmcluster",
        "VirtualDomain",
    )
    assert values(web1, "instance_attributes") == {
        "guest": "web1",
        "config": "/srv/guests/web1.xml",
        "migration_hosts": "node1=node1-mig node2=node2-mig node3=node3-mig",
    }
    assert values(web1, "meta_attributes")["multiple-active"] == "block"
    assert operations(web1)["migrate_to"].get("on-fail") == "block"
    assert operations(web1)["monitor"].get("timeout") == "90s"


def test_how_to_migrate_is_told_as_well():
    given = {"tls": True, "bandwidth": 8, "auto_converge": True, "timeout": 7200}
    web1 = guests({"web1": True}, migration=given)["kvmcluster-web1"]
    options = values(web1, "instance_attributes")["migrate_options"]
    assert options == "--tls --auto-converge --bandwidth 8"
    assert operations(web1)["migrate_to"].get("timeout") == "7200s"


@pytest.mark.parametrize(
    ("wanted", "threshold", "timeout", "on_fail"),
    [
        ({}, "10", "60s", "restart"),
        ({"restarts": 3, "within": 3600}, "3", "3600s", "restart"),
        ({"on_failure": "relocate"}, "1", "60s", "restart"),
        # A failure that was forgotten would start it again.
        ({"on_failure": "disable"}, "10", "0s", "stop"),
    ],
)
def test_what_follows_a_failure(wanted, threshold, timeout, on_fail):
    web1 = guests({"web1": wanted})["kvmcluster-web1"]
    meta = values(web1, "meta_attributes")
    assert (meta["migration-threshold"], meta["failure-timeout"]) == (threshold, timeout)
    assert operations(web1)["monitor"].get("on-fail") == on_fail


def test_nodes_are_preferred_in_order_and_others_excluded():
    wanted = {"prefer": ["node2", ["node1"]], "only": ["node1", "node2"]}
    found = constraints(guests({"web1": wanted}))
    assert {(one["node"], one["score"]) for one in found.values()} == {
        ("node2", "2000"),
        ("node1", "1000"),
        ("node3", "-INFINITY"),
    }


@pytest.mark.parametrize("prefer", [[], ["node2"], ["node2", "node1", "node3"]])
@pytest.mark.parametrize("failback", [False, True])
def test_a_guest_moves_back_if_it_is_to(prefer, failback):
    found = guests({"web1": {"prefer": prefer, "failback": failback}})
    stays = int(values(found["kvmcluster-web1"], "meta_attributes")["resource-stickiness"])
    best = max((int(one["score"]) for one in constraints(found).values()), default=0)
    assert stays > 0
    assert (best > stays) is (failback and bool(prefer))


def test_guests_are_apart_and_the_one_of_higher_priority_is_placed_first():
    wanted = {"web1": {"apart": ["web2"]}, "web2": {"priority": 5}, "db": True}
    found = constraints(guests(wanted, apart=[("db", "web2", "unguarded")]))
    assert {(one["rsc"], one["with-rsc"], one["score"]) for one in found.values()} == {
        ("kvmcluster-web1", "kvmcluster-web2", "-INFINITY"),
        ("kvmcluster-db", "kvmcluster-web2", "-INFINITY"),
    }


def test_of_one_priority_the_one_that_is_to_be_apart_is_placed_last():
    found = constraints(guests({"web1": {"apart": ["web2"]}, "web2": True}))
    assert [(one["rsc"], one["with-rsc"]) for one in found.values()] == [
        ("kvmcluster-web1", "kvmcluster-web2")
    ]


def test_a_guest_starts_after_another_one_and_is_not_stopped_with_it():
    (order,) = constraints(guests({"web1": {"after": ["db"]}, "db": True})).values()
    assert (order["first"], order["then"]) == ("kvmcluster-db", "kvmcluster-web1")
    assert (order["kind"], order["symmetrical"]) == ("Mandatory", "false")


def test_a_guest_is_with_another_one():
    found = constraints(guests({"web1": {"with": ["db"]}, "db": True}))
    assert [(one["rsc"], one["with-rsc"], one["score"]) for one in found.values()] == [
        ("kvmcluster-web1", "kvmcluster-db", "INFINITY")
    ]


def test_ids_that_would_be_one_are_refused():
    wanted = {"web1": {"with": ["db"]}, "db": True, "web1-with-db": True}
    with pytest.raises(InputError, match="kvmcluster-web1-with-db"):
        content.guests(cluster(wanted), {**PATHS, "web1-with-db": "/srv/guests/x"})


# ---- fencing


def test_a_fence_device_has_its_nodes_and_no_secret():
    device = {
        "agent": "fence_y",
        "nodes": {"node1": 3, "node2": "4"},
        "options": {"ip": "192.0.2.1"},
        "secrets": {"passwd": {"pillar": "a:b"}},
    }
    devices = {"pdu": device, "board": BOARD}
    fencing = {"devices": devices, "levels": {"node1": ["board", ["pdu", "board"]]}}
    found = pieces(content.fencing(cluster({}, fencing=fencing)))
    assert values(found["kvmcluster-fence-pdu"], "instance_attributes") == {
        "pcmk_host_check": "static-list",
        "pcmk_host_list": "node1 node2",
        "pcmk_host_map": "node1:3;node2:4",
        "ip": "192.0.2.1",
        "passwd": "lrm://",
    }
    assert [
        (one.get("index"), one.get("target"), one.get("devices"))
        for one in found.values()
        if one.tag == "fencing-level"
    ] == [
        ("1", "node1", "kvmcluster-fence-board"),
        ("2", "node1", "kvmcluster-fence-pdu,kvmcluster-fence-board"),
    ]


@pytest.mark.parametrize(
    ("nodes", "more", "delay"),
    [
        (("node1", "node2"), {}, "node1:5s"),
        (("node1", "node2"), {"quorum_device": {"host": "q"}}, None),
        (("node1", "node2", "node3"), {}, None),
    ],
)
def test_two_nodes_do_not_fence_each_other_at_once(nodes, more, delay):
    fencing = {"devices": {"board": {**BOARD, "nodes": list(nodes)}}}
    found = pieces(content.fencing(cluster({}, nodes=nodes, fencing=fencing, **more)))
    parameters = values(found["kvmcluster-fence-board"], "instance_attributes")
    assert parameters.get("pcmk_delay_base") == delay


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660])
def test_a_secret_that_others_may_read_is_refused_without_being_shown(mode):
    ha = cluster({}, fencing={"devices": {"b": {**BOARD, "secrets": {"passwd": "/etc/pw"}}}}).ha
    (one,) = secrets.kept(ha)
    with pytest.raises(InputError, match=r"others may read /etc/pw .*: chmod 600 /etc/pw") as told:
        secrets.of_file(one, FileState("x1y2\n", mode, "root"))
    assert "x1y2" not in str(told.value)
    assert secrets.of_file(one, FileState("x1y2\n", 0o600, "root")) == "x1y2"
    with pytest.raises(InputError, match="this node has no file /etc/pw"):
        secrets.of_file(one, FileState())


def test_a_secret_is_one_line_and_is_in_no_error():
    ha = cluster(
        {}, fencing={"devices": {"b": {**BOARD, "secrets": {"passwd": {"pillar": "a:b"}}}}}
    ).ha
    (one,) = secrets.kept(ha)
    assert one.path == "/var/lib/pacemaker/lrm/secrets/kvmcluster-fence-b/passwd"
    assert secrets.of_pillar(one, {"a": {"b": "x1y2\n"}}) == "x1y2"
    sign = secrets.files(one, "x1y2")[f"{one.path}.sign"]
    assert sign == "f250f2fff22c6e18bde3e1181bc3693b\n"
    for wrong in ({}, {"a": {"b": ["x1y2"]}}, {"a": {"b": "x1y2\nz"}}, {"a": {"b": ""}}):
        with pytest.raises(InputError) as caught:
            secrets.of_pillar(one, wrong)
        assert "passwd" in str(caught.value) and "x1y2" not in str(caught.value)


def test_secrets_are_left_over_once_neither_pillar_nor_pacemaker_has_them():
    ha = cluster(
        {}, fencing={"devices": {"b": {**BOARD, "secrets": {"passwd": {"pillar": "a:b"}}}}}
    ).ha
    folder = f"{secrets.FOLDER}/kvmcluster-fence-"
    assert secrets.is_ours(f"{folder}old") and not secrets.is_ours(f"{secrets.FOLDER}/theirs")
    now = [f"{folder}b/passwd", f"{folder}b/passwd.sign"]
    old = [f"{folder}b/pin", f"{folder}old/passwd", f"{folder}old/passwd.sign"]
    assert secrets.left_over([*now, *old], ha) == old
    read = '<nvpair id="x" name="passwd" value="lrm://"/>'
    old_device = f'<instance_attributes id="i">{read}</instance_attributes>'
    cib = FOREIGN.replace(
        "<resources>",
        f'<resources><primitive id="kvmcluster-fence-old" class="stonith">{old_device}</primitive>',
    )
    assert secrets.in_use(old, cib) == old[1:]
    assert secrets.in_use(old, cib.replace("lrm://", "")) == secrets.in_use(old, FOREIGN) == []


# ---- the difference


def of_guests(present, wanted, **more):
    found = content.guests(cluster(wanted, **more), PATHS)
    return difference.of_pieces(present, content.GUESTS, found)


def of_fencing(present, **more):
    return difference.of_pieces(present, content.FENCING, content.fencing(cluster({}, **more)))


def element(text, name):
    return etree.fromstring(text).find(f".//*[@id='{name}']")


def test_what_is_missing_is_put_in_and_a_second_time_nothing_is():
    first = of_guests(FOREIGN, {"web1": {"prefer": ["node2"]}})
    assert set(first.changes) == {"kvmcluster-web1", "kvmcluster-web1-prefers-node2"}
    assert etree.fromstring(first.after).get("epoch") == "8"
    again = of_guests(first.after, {"web1": {"prefer": ["node2"]}})
    assert not again.changes
    assert etree.fromstring(again.after).get("epoch") == "8"


def test_what_is_not_ours_stays():
    after = of_fencing(of_guests(FOREIGN, {"web1": True}).after).after
    for name in ("ip", "ip-here", "rsc-options", "cib-bootstrap-options"):
        before = etree.tostring(element(difference.of_pieces(FOREIGN, "x", ()).before, name))
        assert etree.tostring(element(after, name)) == before, name


def test_the_whole_is_in_the_order_of_the_schema():
    levels = {"node1": ["board"]}
    after = of_fencing(
        of_guests(FOREIGN, {"web1": True}).after,
        fencing={"devices": {"board": BOARD}, "levels": levels},
    ).after
    assert [one.tag for one in etree.fromstring(after).find("configuration")] == [
        *("crm_config", "nodes", "resources", "constraints", "fencing-topology", "rsc_defaults")
    ]


def test_a_part_leaves_the_other_one_alone():
    both = of_fencing(of_guests(FOREIGN, {"web1": True}).after).after
    assert not of_fencing(both).changes
    assert not of_guests(both, {"web1": True}).changes


def test_what_is_no_longer_wanted_goes_and_a_guest_is_let_go():
    both = of_guests(FOREIGN, {"web1": {"prefer": ["node2"]}}).after
    found = of_guests(both, {})
    assert set(found.changes) == {"kvmcluster-web1", "kvmcluster-web1-prefers-node2"}
    assert element(found.after, "kvmcluster-web1") is None
    orphans = element(found.after, "kvmcluster-letting-go")
    assert (orphans.get("name"), orphans.get("value")) == ("stop-orphan-resources", "false")
    assert difference.is_letting_go(found.after) and not difference.is_letting_go(both)
    ended = difference.of_letting_go(found.after)
    assert set(ended.changes) == {"kvmcluster-letting-go"}
    assert not difference.of_letting_go(ended.after).changes
    assert not of_guests(ended.after, {}).changes


def test_a_password_that_somebody_set_in_a_fence_device_is_not_shown():
    secret = {**BOARD, "secrets": {"password": "/etc/pw"}, "options": {"ip": "192.0.2.1"}}
    board = {"fencing": {"devices": {"board": secret}}}
    present = of_fencing(FOREIGN, **board).after
    assert "s3cret" not in present and 'value="lrm://"' in present
    by_hand = present.replace('value="lrm://"', 'value="s3cret"').replace("192.0.2.1", "192.0.2.7")
    (mended,) = of_fencing(by_hand, **board).changes.values()
    assert "192.0.2.7" in mended["old"] and "192.0.2.1" in mended["new"]
    others = of_fencing(by_hand, fencing={"devices": {"other": BOARD}}).changes
    gone = others["kvmcluster-fence-board"]
    for change in (mended, gone):
        assert "s3cret" not in str(change) and "(not shown)" in str(change)


def test_a_guest_does_not_take_the_place_of_a_fence_device():
    fenced = of_fencing(FOREIGN).after
    assert element(fenced, "kvmcluster-fence-board") is not None
    named = content.guests(cluster({"fence-board": True}), {"fence-board": "/srv/x.xml"})
    with pytest.raises(InputError, match="both be kvmcluster-fence-board"):
        difference.of_pieces(fenced, content.GUESTS, named)


def test_a_guest_that_would_be_stopped_is_not_let_go():
    both = of_guests(FOREIGN, {"web1": True}).after
    theirs = difference.of_properties(both, {"stop-orphan-resources": "true"}).after
    with pytest.raises(InputError, match="stop-orphan-resources is set"):
        of_guests(theirs, {})
    false = difference.of_properties(both, {"stop-orphan-resources": "false"}).after
    assert set(of_guests(false, {}).changes) == {"kvmcluster-web1"}
    assert not difference.is_letting_go(false)


def test_what_others_set_in_a_guests_resource_stays():
    present = etree.fromstring(of_guests(FOREIGN, {"web1": True}).after)
    web1 = present.find(".//primitive[@id='kvmcluster-web1']")
    hold = etree.SubElement(web1, "meta_attributes", id="kvmcluster-hold-web1", score="INFINITY")
    etree.SubElement(hold, "nvpair", id="h", name="is-managed", value="false")
    role = {"id": "r", "name": "target-role", "value": "Stopped"}
    etree.SubElement(web1.find("meta_attributes"), "nvpair", role)
    text = etree.tostring(present, encoding="unicode")
    assert not of_guests(text, {"web1": True}).changes
    found = of_guests(text, {"web1": {"restarts": 3}})
    assert set(found.changes) == {"kvmcluster-web1"}
    assert element(found.after, "kvmcluster-hold-web1") is not None
    assert element(found.after, "r").get("value") == "Stopped"
    assert element(found.after, "kvmcluster-web1-meta-migration-threshold").get("value") == "3"


def test_an_id_of_ours_that_something_else_has_is_refused():
    taken = FOREIGN.replace('id="ip-a-ip"', 'id="kvmcluster-web1"')
    with pytest.raises(InputError, match="something else by the id kvmcluster-web1"):
        of_guests(taken, {"web1": True})


def test_properties_go_into_the_set_that_pacemaker_reads():
    found = difference.of_properties(FOREIGN, content.PROPERTIES)
    assert set(found.changes) == set(content.PROPERTIES)
    group = element(found.after, "cib-bootstrap-options")
    assert {one.get("name") for one in group} == {"cluster-name", *content.PROPERTIES}
    assert not difference.of_properties(found.after, content.PROPERTIES).changes


def test_a_property_that_somebody_has_set_otherwise_is_named():
    theirs = difference.of_properties(FOREIGN, {"stonith-enabled": "false"}).after
    found = difference.of_properties(theirs, content.PROPERTIES)
    assert found.differing == (
        "Pacemaker's property stonith-enabled is false, and has to be true: crm_attribute -t"
        " crm_config -n stonith-enabled -v true",
    )
    assert "stonith-enabled" not in found.changes


def test_a_pacemaker_that_was_never_configured_gets_all_of_it():
    found = difference.of_properties(difference.EMPTY, content.PROPERTIES)
    assert element(found.after, "cib-bootstrap-options") is not None
    assert set(of_fencing(found.after).changes) == {"kvmcluster-fence-board"}


@pytest.mark.parametrize(
    "text",
    [
        *("", "<cib/>", "<a><configuration/></a>", "nothing"),
        '<cib epoch="x"><configuration/></cib>',
    ],
)
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(InputError):
        difference.of_properties(text, content.PROPERTIES)


def test_a_group_of_the_pillar_is_started_together_and_never_stopped_or_moved_for_it():
    wanted = {"web1": {"prefer": ["node1"]}, "web2": {"failback": True}}
    found = guests(wanted, together=[["web1", "web2", "mail"]])
    near = found["kvmcluster-web2-near-web1"]
    assert near.get("rsc") == "kvmcluster-web2" and near.get("with-rsc") == "kvmcluster-web1"
    for name in wanted:
        stays = values(found[f"kvmcluster-{name}"], "meta_attributes")["resource-stickiness"]
        assert 0 < int(near.get("score")) < int(stays)
    assert not any("mail" in one for one in found)
