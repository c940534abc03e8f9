"""cluster.conf: what it says is in the pillar or in a remark, whatever it says, and never lost."""

import re

import jinja2
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from lxml import etree
from material import CASES

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.output import tables
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.rgmanager import clusterconf, fates
from saltext_kvmcluster.core.rgmanager.clusterconf import parse
from saltext_kvmcluster.core.rgmanager.pillar_text import as_text

JINJA = jinja2.Environment()
FOLDER = CASES / "clusterconf"
FILES = sorted(FOLDER.glob("*.xml"))
VM = (
    *("name", "domain", "autostart", "exclusive", "recovery", "migration_mapping", "use_virsh"),
    *("xmlfile", "migrate", "migrate_options", "tunnelled", "path", "snapshot", "depend"),
    *("depend_mode", "max_restarts", "restart_expire_time", "status_program", "hypervisor"),
    *("hypervisor_uri", "migration_uri", "no_kill"),
)
SHAPE = """
<cluster name="c">
 <clusternodes><clusternode name="n1"/><clusternode name="an1"/></clusternodes>
 <rm><failoverdomains>{domains}</failoverdomains>{vms}</rm>
</cluster>
"""
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20).filter(
    lambda text: not set(text) & {"\ufffe", "\uffff"}
)
HOSTILE = st.one_of(
    TEXTS,
    st.sampled_from(
        [
            *("", " ", "1", "0", "yes", "xen", "pause", "live", "null", "~", "1e3", "0777", "1_0"),
            *("/a:/b", "/etc/libvirt/qemu", "a/b", "/a/{{b}}", "{%x", "{#", "#x", "- a", "a: b"),
            *("n1:m1,an1:m2", "n1:an1", "n1", ":", ",,", "n1:::1", "x:y", "n1:n1.mig", "d1", "&a"),
            *("/a\u2028b", "'", '"', "%a", "!!python/object:x", "2001-01-01", "=", "<<", "\ufeff"),
        ]
    ),
)


def dump(pillar):
    return yaml.safe_dump(pillar, allow_unicode=True, default_flow_style=False, sort_keys=False)


def text_of(found, source="/etc/cluster/cluster.conf"):
    return as_text(found, source, dump(found.pillar))


def guests(*vms, domains=""):
    """Return what a small cluster.conf with those <vm> makes."""
    return parse(SHAPE.format(domains=domains, vms="".join(vms)))


def vm(**attributes):
    element = etree.Element("vm")
    for name, value in attributes.items():
        element.set(name, value)
    return etree.tostring(element, encoding="unicode")


def body(found):
    return found.pillar["kvmcluster"]


def fates_of(found, attribute):
    """Return what became of an attribute, wherever it stands."""
    return [(it.became, it.why) for it in found.remarks if it.attribute == attribute]


def check_text(found):
    """See that the text is the data, for YAML alone and after Salt's Jinja."""
    text = text_of(found)
    assert yaml.safe_load(text) == found.pillar
    assert [kind for _, kind, _ in JINJA.lex(text)] == ["data"]
    parser.from_pillar(found.pillar)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_file_becomes_the_text_beside_it(file):
    found = parse(file.read_bytes())
    check_text(found)
    assert text_of(found, f"/etc/cluster/{file.name}") == file.with_suffix(".yaml").read_text()


def test_there_are_files_to_compare_and_each_says_whence_it_is():
    assert len(FILES) >= 10
    for file in FILES:
        assert re.search(
            "<!-- (Put together after|After|What|Guests with)", file.read_text("latin-1")
        )


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_no_password_of_a_file_is_told(file):
    passwords = re.findall(r'(?:passwd|community)="([^"]+)"', file.read_text("latin-1"))
    text = text_of(parse(file.read_bytes()))
    assert [word for word in passwords if f'"{word}"' in text] == []


# What of a taken attribute does not stand in the pillar by its own letters.
MEANT = {
    *("domain", "ordered", "restricted", "nofailback", "priority", "exclusive", "max_restarts"),
    *("restart_expire_time", "tunnelled", "migrate", "name", "path", "depend"),
}


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_every_attribute_of_a_file_is_in_the_pillar_or_remarked_on(file):
    found = parse(file.read_bytes())
    pillar = dump(found.pillar)
    reported = {(it.line, it.attribute) for it in found.remarks}
    for element in etree.fromstring(file.read_bytes()).iter("*"):
        for attribute, value in element.attrib.items():
            if (element.sourceline, attribute) in reported:
                continue
            pieces = value.replace(",", " ").replace(":", " ").split()
            assert attribute in MEANT or all(piece in pillar for piece in pieces), (
                element.tag,
                attribute,
                value,
            )


@given(st.data())
def test_whatever_else_stands_in_a_file_is_remarked_on(data):
    root = etree.fromstring(data.draw(st.sampled_from(FILES)).read_bytes())
    places = list(root.iter("*"))
    value = data.draw(TEXTS)
    word = "x" + data.draw(st.text("abcdefgh", min_size=1, max_size=8))
    one, other = data.draw(st.sampled_from(places)), data.draw(st.sampled_from(places))
    one.set(word, value)
    etree.SubElement(other, word).set("why", value)
    first = parse(etree.tostring(root))
    assert [it.value for it in first.remarks if it.attribute == word] == [
        clusterconf.printable(value)
    ]
    added = [it for it in first.remarks if it.element.endswith("/" + word)]
    assert [it.attribute for it in added] == [None, "why"]
    assert all(it.why and it.became in fates.BECAME for it in first.remarks)


@given(st.lists(st.dictionaries(st.sampled_from(VM), HOSTILE, min_size=1), max_size=4))
def test_whatever_a_guest_says_makes_a_pillar_that_loads(vms):
    domains = (
        '<failoverdomain name="d1" ordered="1"><failoverdomainnode name="n1" priority="1"/>'
        "</failoverdomain>"
    )
    found = guests(*(vm(**attributes) for attributes in vms), domains=domains)
    check_text(found)
    listed = body(found).get("guests", {}).get("list", {})
    for attributes in vms:
        name = attributes.get("name", "")
        lost = [it for it in found.remarks if it.attribute == "name" and "/vm" in it.element]
        assert name in listed or lost or not name.strip()


@given(st.binary(max_size=200) | TEXTS)
def test_what_is_no_cluster_conf_is_refused_in_a_sentence(text):
    with pytest.raises(InputError, match=r"^it is "):
        parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<cib/>", "its first element is cib, not cluster"),
        ("<cluster name='c'/>", "no node in it can be imported"),
        (
            "<cluster><clusternodes><clusternode name='::1'/></clusternodes></cluster>",
            "loopback address",
        ),
        ("<cluster><clusternode name='n1'/></cluster>", "no node"),
        ("<!DOCTYPE cluster [<!ENTITY x SYSTEM 'file:///etc/shadow'>]><cluster/>", "a DTD"),
        ("<cluster name='&x;'/>", "not XML"),
        ("<cluster>" + " " * clusterconf.MAX_SIZE, "longer than 1024 KiB"),
        ("<a>" * 5000, "not XML"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_by_name(text, says):
    for form in (text, text.encode()):
        with pytest.raises(InputError) as caught:
            parse(form)
        assert says in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("value", [None, 1, "", "a\0b", ["x"]])
def test_what_is_no_path_is_refused(value):
    with pytest.raises(InputError, match=r"^file: want the path"):
        clusterconf.path(value)


@pytest.mark.parametrize("attribute", VM)
def test_every_attribute_of_vm_sh_is_known(attribute):
    value = {"name": "web1", "path": "/a", "xmlfile": "/a/b", "migration_mapping": "n1:m1"}
    found = guests(vm(**{"name": "web1", attribute: value.get(attribute, "7")}))
    assert fates.UNKNOWN not in fates_of(found, attribute)
    assert list(body(found)["guests"]["list"]) == ["web1"]


def test_a_mapping_is_read_node_by_node_not_by_substring():
    found = guests(vm(name="web1", migration_mapping="an1:an1-mig, n1:n1-mig"))
    assert body(found)["nodes"] == {"n1": {"migration": "n1-mig"}, "an1": {"migration": "an1-mig"}}


def test_of_two_mappings_the_first_is_taken_and_the_other_told():
    found = guests(
        vm(name="web1", migration_mapping="n1:m1"),
        vm(name="web2", migration_mapping="n1:m2,an1:m3"),
    )
    assert body(found)["nodes"] == {"n1": {"migration": "m1"}, "an1": {"migration": "m3"}}
    (remark,) = [it for it in found.remarks if it.attribute == "migration_mapping"]
    assert (remark.element, remark.value) == ("cluster/rm/vm[web2]", "n1:m2")
    assert remark.why.endswith("the first one for n1 is used, m1")


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("n1", "want NODE:NAME"),
        ("n1:", "want NODE:NAME"),
        ("n7:m7", "'n7' is not an imported node"),
        ("n1:an1", "the name an1 already belongs to an1"),
        ("n1:127.0.0.1", "loopback"),
        ("n1:a b", "want a host name"),
    ],
)
def test_a_mapping_that_cannot_be_is_left_out(mapping, says):
    found = guests(vm(name="web1", migration_mapping=mapping))
    assert body(found)["nodes"] == {"n1": {}, "an1": {}}
    ((became, why),) = fates_of(found, "migration_mapping")
    assert became == fates.LEFT and says in why


ORDERED = {"ordered": "1"}


@pytest.mark.parametrize(
    ("flags", "members", "wanted"),
    [
        (ORDERED, {"n1": "2", "an1": "1"}, {"prefer": ["an1", "n1"], "failback": True}),
        ({"ordered": "2"}, {"an1": "7", "n1": "8"}, {"prefer": ["an1", "n1"], "failback": True}),
        (ORDERED, {"an1": "1", "n1": "1"}, {"prefer": [["an1", "n1"]], "failback": True}),
        (ORDERED, {"N1": "10", "an1": "9"}, {"prefer": ["an1", "n1"], "failback": True}),
        (ORDERED, {"n9": "1", "n1": "2"}, {"prefer": ["n1"], "failback": True}),
        # What is no priority from 1 to 100 is none, and before all.
        (ORDERED, {"an1": "100", "n1": "101"}, {"prefer": ["n1", "an1"], "failback": True}),
        (ORDERED, {"an1": "1", "n1": "one"}, {"prefer": ["n1", "an1"], "failback": True}),
        (ORDERED, {"an1": "", "n1": "0"}, {"prefer": [["an1", "n1"]], "failback": True}),
        # A flag in words is none.
        (
            {"ordered": "yes"},
            {"an1": "2", "n1": "1"},
            {"prefer": [["an1", "n1"]], "failback": True},
        ),
        ({}, {"n1": "1"}, {"prefer": ["n1"], "failback": True}),
        ({"nofailback": "1"}, {"n1": "1"}, {"prefer": ["n1"]}),
        ({"nofailback": "1", **ORDERED}, {"n1": "2", "an1": "1"}, {"prefer": ["an1", "n1"]}),
        ({"restricted": "1"}, {"n1": "2", "an1": "1"}, {"only": ["n1", "an1"]}),
        (
            {"restricted": "1", "nofailback": "1", **ORDERED},
            {"n1": "2", "an1": "1"},
            {"prefer": ["an1", "n1"], "only": ["an1", "n1"]},
        ),
        ({"restricted": "1"}, {"n9": "1"}, None),
    ],
)
def test_a_failover_domain_is_where_its_guests_run(flags, members, wanted):
    nodes = "".join(
        f'<failoverdomainnode name="{name}" priority="{priority}"/>'
        for name, priority in members.items()
    )
    given = " ".join(f'{flag}="{value}"' for flag, value in flags.items())
    found = guests(
        vm(name="web1", domain="d"),
        domains=f'<failoverdomain name="d" {given}>{nodes}</failoverdomain>',
    )
    of_guest = {**(wanted or {})}
    of_ha = {"failback": True} if of_guest.pop("failback", False) else True
    assert body(found)["guests"]["list"] == {"web1": {**of_guest, "ha": of_ha}}
    assert bool(fates_of(found, "domain")) is (wanted is None)


def test_with_central_processing_a_node_without_a_priority_comes_last():
    node = '<failoverdomainnode name="n1"/><failoverdomainnode name="an1" priority="100"/>'
    domain = f'<failoverdomain name="d" ordered="1">{node}</failoverdomain>'
    text = SHAPE.format(domains=domain, vms=vm(name="web1", domain="d"))
    found = parse(text.replace("<rm>", '<rm central_processing="1">'))
    assert body(found)["guests"]["list"]["web1"]["prefer"] == ["an1", "n1"]


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"recovery": "restart"}, True),
        ({"recovery": "Relocate"}, {"on_failure": "relocate"}),
        ({"recovery": "disable"}, {"on_failure": "disable"}),
        ({"recovery": "restart-disable"}, True),
        # It counted restarts, which are one less than the failures before it gave up.
        ({"max_restarts": "2", "restart_expire_time": "600"}, {"restarts": 3, "within": 600}),
        ({"max_restarts": "3", "restart_expire_time": "1h30m"}, {"restarts": 4, "within": 5400}),
        ({"max_restarts": "1"}, {"restarts": 2, "within": 7 * 86400}),
        (
            {"max_restarts": "99999", "restart_expire_time": "1w2d"},
            {"restarts": 1000, "within": 604800},
        ),
        # Without an end it never forgot.
        (
            {"max_restarts": "2", "restart_expire_time": "0"},
            {"restarts": 3, "within": 7 * 86400},
        ),
        (
            {"max_restarts": "2", "restart_expire_time": "5x"},
            {"restarts": 3, "within": 7 * 86400},
        ),
        (
            {"max_restarts": "2", "restart_expire_time": "1y"},
            {"restarts": 3, "within": 7 * 86400},
        ),
        ({"max_restarts": "2", "restart_expire_time": "-1"}, {"restarts": 3, "within": 1}),
        ({"max_restarts": "0", "restart_expire_time": "60"}, True),
        ({"max_restarts": "many"}, True),
        ({"restart_expire_time": "60"}, True),
        ({"exclusive": "0"}, True),
    ],
)
def test_what_followed_a_failure_follows_it_here(attributes, wanted):
    found = guests(vm(name="web1", **attributes))
    assert body(found)["guests"]["list"] == {"web1": {"ha": wanted}}
    assert wanted is not True or all(fates_of(found, key) for key in attributes)


@pytest.mark.parametrize(
    ("depends", "wanted"),
    [
        (["", "vm:g0", "vm:g1"], [None, ["g0"], ["g1"]]),
        (["vm:g2", "vm:g0", "vm:g1"], [None, None, None]),
        (["vm:g0", "service:dns", "g0"], [None, None, None]),
        (["vm:g1", "vm:g0", "vm:g0"], [None, None, ["g0"]]),
    ],
)
def test_a_guest_that_depended_on_another_starts_after_it(depends, wanted):
    found = guests(*(vm(name=f"g{at}", depend=depend) for at, depend in enumerate(depends)))
    listed = body(found)["guests"]["list"].values()
    assert [it["ha"]["after"] if it["ha"] is not True else None for it in listed] == wanted
    left = [it.value for it in found.remarks if it.attribute == "depend" and it.value]
    assert left == [it for it, name in zip(depends, wanted, strict=True) if it and not name]


def test_a_guest_that_was_exclusive_is_apart_from_all_others():
    found = guests(vm(name="web1", exclusive="yes"), vm(name="web2"), vm(name="a b"))
    listed = body(found)["guests"]["list"]
    assert listed == {"web1": {"ha": {"apart": ["web2"]}}, "web2": {"ha": True}, "a b": {}}
    (remark,) = [it for it in found.remarks if "it is listed without ha" in it.why]
    assert remark.element.endswith("vm[a b]")


@pytest.mark.parametrize(
    "attributes",
    [
        {"hypervisor": "xen"},
        {"hypervisor": "Xen"},
        {"use_virsh": "0"},
        {"hypervisor_uri": "xen+ssh://a/"},
        {"migration_uri": "xenmigr://%s/"},
    ],
)
def test_a_guest_of_xen_is_told_and_left_out_with_all_it_says(attributes):
    found = guests(vm(name="old", migration_mapping="n1:m1", tunnelled="1", **attributes))
    assert body(found) == {"name": "c", "nodes": {"n1": {}, "an1": {}}}
    reported = {it.attribute for it in found.remarks if "vm[old]" in it.element and "Xen" in it.why}
    assert reported == {None, "name", "migration_mapping", "tunnelled", *attributes}


@pytest.mark.parametrize(
    ("vms", "wanted"),
    [
        (
            [{"xmlfile": "/a/w"}],
            {"definitions": "shared", "list": {"g0": {"xmlfile": "/a/w", "ha": True}}},
        ),
        (
            [{"path": "/a:/b"}],
            {"definitions": "shared", "path": "/a:/b", "list": {"g0": {"ha": True}}},
        ),
        ([{"path": "/a:"}, {"path": "/b:/a"}], {"definitions": "shared", "path": "/a:/b"}),
        ([{"path": "/etc/libvirt/qemu:/b"}], {"definitions": "shared", "path": "/b"}),
        ([{"path": "b"}], {"definitions": "defined", "list": {"g0": {"ha": True}}}),
        ([{}], {"definitions": "defined", "list": {"g0": {"ha": True}}}),
        (
            [{"xmlfile": "/etc/libvirt/qemu/a.xml"}],
            {"definitions": "defined", "list": {"g0": {"ha": True}}},
        ),
        ([{"xmlfile": "/a/w", "path": "/b"}], {"definitions": "shared"}),
    ],
)
def test_definitions_are_where_the_guests_had_them(vms, wanted):
    found = guests(*(vm(name=f"g{number}", **it) for number, it in enumerate(vms)))
    reported = body(found)["guests"]
    assert {key: reported[key] for key in wanted} == wanted
    assert ("path" in reported) is ("path" in wanted)


def test_a_guest_that_finds_no_shared_definition_any_more_is_told():
    found = guests(vm(name="web1", path="/a"), vm(name="web2"))
    (remark,) = [it for it in found.remarks if it.element == "cluster/rm/vm[web2]"]
    assert "kvmcluster:guests:list:web2:xmlfile" in remark.why
    assert remark.became == fates.CHANGED


@pytest.mark.parametrize(
    ("vms", "migration", "became"),
    [
        ([{"tunnelled": "ON"}], {"tunnelled": True}, []),
        ([{"tunnelled": "no"}], None, ["the same here"]),
        ([{"tunnelled": "no"}, {"tunnelled": "yes"}], {"tunnelled": True}, ["changed"]),
        ([{"migrate": "pause"}], {"live": False}, []),
        ([{"migrate": "live"}], None, ["the same here"]),
        ([{"migrate": "pause"}, {}], None, ["left out"]),
    ],
)
def test_how_guests_migrate_holds_for_all_of_them(vms, migration, became):
    found = guests(*(vm(name=f"g{number}", **it) for number, it in enumerate(vms)))
    assert body(found).get("migration") == migration
    assert [it[0] for key in ("tunnelled", "migrate") for it in fates_of(found, key)] == became


@pytest.mark.parametrize("attribute", ["passwd", "Password", "snmp_priv_passwd", "community"])
def test_a_password_is_told_of_but_not_told(attribute):
    found = guests(f'<fencedevice {attribute}="s3cr3t"/>', vm(name="web1", **{attribute: "s3cr3t"}))
    assert len(fates_of(found, attribute)) == 2
    assert "s3cr3t" not in text_of(found) + repr(found.to_dict())


def test_a_password_inside_a_value_is_not_told_either():
    found = guests('<netfs options="rw,username=ann,password=s3cr3t"/>', "<a>secret: s3cr3t</a>")
    assert "s3cr3t" not in text_of(found) + repr(found.to_dict())
    assert fates_of(found, "options")


@pytest.mark.parametrize("flag", ["ordered", "restricted", "nofailback"])
def test_a_domain_s_flag_in_words_was_none(flag):
    node = '<failoverdomainnode name="n1" priority="1"/>'
    domain = f'<failoverdomain name="d" {flag}="yes">{node}</failoverdomain>'
    found = guests(vm(name="web1", domain="d"), domains=domain)
    assert fates_of(found, flag) == [fates.NO_NUMBER]


def test_a_domain_is_found_in_capitals_too_and_the_second_of_a_name_is_told():
    node = '<failoverdomainnode name="{}" priority="1"/>'
    domains = "".join(
        f'<failoverdomain name="{name}" ordered="1">{node.format(first)}</failoverdomain>'
        for name, first in (("Prefer", "n1"), ("prefer", "an1"))
    )
    found = guests(vm(name="web1", domain="PREFER"), domains=domains)
    assert body(found)["guests"]["list"] == {"web1": {"prefer": ["n1"], "ha": {"failback": True}}}
    reported = [it for it in found.remarks if it.element.endswith("failoverdomain[prefer]")]
    assert reported and all("twice" in it.why for it in reported)


def test_the_folder_of_xen_is_not_searched_as_it_never_was():
    found = guests(vm(name="web1", path="/etc/xen"))
    assert body(found)["guests"] == {"definitions": "defined", "list": {"web1": {"ha": True}}}
    assert fates_of(found, "path") == [(fates.LEFT, "RGManager ignored it for libvirt")]


def test_a_guest_inside_a_guest_comes_by_itself_and_that_is_told():
    found = guests('<vm name="web1"><vm name="web2"/></vm>')
    assert list(body(found)["guests"]["list"]) == ["web1", "web2"]
    (remark,) = [it for it in found.remarks if "/rm/" in it.element]
    assert remark.element.endswith("vm[web2]") and remark.became == fates.CHANGED


def test_lines_are_those_of_the_file():
    found = guests(vm(name="web1", snapshot="/a"), "\n\n", vm(name="web2", snapshot="/a"))
    assert [it.line for it in found.remarks if it.attribute == "snapshot"] == [4, 6]


@pytest.mark.parametrize("name", ["a/b", "{{ salt }}", "a{%b", "", "-x", ".x", "a\u2028b"])
def test_names_that_cannot_be_are_left_out_and_told(name):
    found = guests(vm(name=name), vm(name="web1"))
    assert list(body(found)["guests"]["list"]) == ["web1"]
    assert any(it.attribute == "name" and it.line == 4 for it in found.remarks)
    check_text(found)


def test_a_name_of_the_source_does_not_get_out_of_its_comment():
    text = as_text(guests(), "/a\nkvmcluster: {{ x }}\x1b[2J", "")
    assert all(line.startswith("#") for line in text.split("\n") if line)
    assert "{{" not in text and "\x1b" not in text


def test_people_get_the_text_alone():
    found = guests(vm(name="web1"))
    text = text_of(found)
    data = {
        "kind": "cluster_conf",
        "file": "/a",
        "ok": True,
        "yaml": text,
        **found.to_dict(),
        "retcode": 0,
    }
    assert tables.render(data) == text.rstrip("\n")
    assert tables.render({"kind": "error", "ok": False, "error": "no", "retcode": 1}) == "ERROR: no"


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_a_guest_whose_name_can_be_comes_through_the_text_unchanged(name):
    try:
        found = guests(vm(name=name))
    except ValueError:
        assume(False)  # no XML can hold it
    for listed in body(found).get("guests", {}).get("list", {}):
        assert listed == name
    check_text(found)
