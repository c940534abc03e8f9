"""Where a definition is looked for and put, what is refused, and what a new one changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.pillar.clusters import Guests, Listed

UUID = "11111111-1111-1111-1111-111111111111"
TEXT = f"""<domain type='kvm'>
  <name>web1</name><uuid>{UUID}</uuid><memory unit='MiB'>160</memory>
  <os><type>hvm</type></os>
</domain>
"""
PATH = Guests("shared", ("/one", "/two"))
FILE = Guests("shared", ("/one",), {"web1": Listed("web1", "/file/web1.xml")})
SCHEMA = {
    "domain.rng": b"""<grammar xmlns='http://relaxng.org/ns/structure/1.0'
        datatypeLibrary='http://www.w3.org/2001/XMLSchema-datatypes'>
      <start><ref name='domain'/></start><include href='common.rng'/></grammar>""",
    "common.rng": b"""<grammar xmlns='http://relaxng.org/ns/structure/1.0'
        datatypeLibrary='http://www.w3.org/2001/XMLSchema-datatypes'>
      <include href='common.rng'/><!-- a circle -->
      <define name='domain'><element name='domain'><element name='name'>
        <data type='token'/></element></element></define></grammar>""",
}


def test_the_path_is_searched_folder_by_folder_first_the_name_then_the_name_with_xml():
    order = ("/one/web1", "/one/web1.xml", "/two/web1", "/two/web1.xml")
    assert store.paths(PATH, "web1") == order
    for number, path in enumerate(order):
        assert store.find(PATH, "web1", order[number:]) == store.Found(path)


def test_xmlfile_wins_over_path_with_a_warning():
    assert store.find(FILE, "web1", ["/file/web1.xml"]) == store.Found("/file/web1.xml")
    both = store.find(FILE, "web1", ["/one/web1", "/file/web1.xml"])
    assert both.path == "/file/web1.xml" and "/one/web1 is not" in both.warning
    with pytest.raises(InputError, match=r"at /file/web1.xml; /one/web1 exists, but xmlfile"):
        store.find(FILE, "web1", ["/one/web1"])
    assert store.find(FILE, "web2", ["/one/web2"]).path == "/one/web2"


def test_a_missing_definition_is_told_with_every_place():
    with pytest.raises(InputError) as caught:
        store.find(PATH, "web1", [])
    assert "/one/web1, /one/web1.xml, /two/web1, /two/web1.xml" in str(caught.value)
    with pytest.raises(InputError, match="neither a path nor"):
        store.find(Guests(), "web1", [])


def test_a_definition_is_put_where_it_is_found_or_at_the_first_good_place():
    assert store.target(PATH, "web1", []) == "/one/web1.xml"
    assert store.target(PATH, "web1", ["/two/web1"]) == "/two/web1"
    assert store.target(FILE, "web1", []) == "/file/web1.xml"
    with pytest.raises(InputError, match="neither a path nor"):
        store.target(Guests(), "web1", [])


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (TEXT.replace("web1", "web2"), "defines a guest named 'web2', not 'web1'"),
        (TEXT.replace(f"<uuid>{UUID}</uuid>", ""), "has no <uuid>"),
        ("<domain", "given: "),
        ("", "given: "),
        (TEXT.replace("web1", "\udcff"), "given: "),
    ],
)
def test_what_is_no_definition_of_the_guest_is_refused(text, detail):
    with pytest.raises(InputError) as caught:
        store.parse("web1", text, "the text given")
    assert detail in str(caught.value) and str(caught.value).isprintable()


def test_another_uuid_makes_another_guest():
    old = store.parse("web1", TEXT, "it")
    new = store.parse("web1", TEXT.replace("1111-1111", "2222-1111"), "it")
    store.same_guest(old, old, "/one/web1")
    with pytest.raises(InputError, match=r"/one/web1 has UUID 11111111-.* a different guest"):
        store.same_guest(old, new, "/one/web1")


def test_a_change_is_told_by_its_meaning():
    old = store.parse("web1", TEXT, "it")
    assert store.changes(old, store.parse("web1", TEXT.replace("\n", ""), "it")) == ()
    (change,) = store.changes(old, store.parse("web1", TEXT.replace("160", "256"), "it"))
    assert change.endswith("before, 262144 KiB now") and "163840 KiB" in change


@pytest.mark.parametrize("folder", ["/etc/libvirt", "/etc/libvirt/qemu"])
def test_libvirts_own_folder_is_no_place(folder):
    assert folder in store.misplaced(folder)
    assert store.misplaced("/etc/libvirt-shared") == ""


def test_the_schema_is_applied_with_all_that_it_includes():
    assert store.faults("<domain><name>a</name></domain>", SCHEMA) == ()
    (fault,) = store.faults("<domain>\n<nome>a</nome></domain>", SCHEMA)
    assert fault.startswith("line 2: ") and "nome" in fault


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_is_in_a_definition_a_fault_is_one_line(text):
    try:
        found = store.faults(f"<domain>{text}</domain>", SCHEMA)
    except InputError:
        return
    assert found and all(fault.isprintable() for fault in found)


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-16", "utf-8"])
def test_a_definition_in_any_encoding_is_given_to_libvirt_as_text(encoding):
    raw = f"<?xml version='1.0' encoding='{encoding}'?>\n<domain><name>b\xfccher</name></domain>"
    text = raw.encode(encoding).decode("utf-8", "surrogateescape")
    assert "<name>b\xfccher</name>" in store.as_text(text)


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16"])
def test_a_file_is_read_in_the_encoding_that_it_declares(encoding):
    text = f"<?xml version='1.0' encoding='{encoding}'?><domain><title>wéb</title></domain>"
    assert "wéb" in store.decoded(text.encode(encoding), "/a")


def test_a_file_in_no_encoding_that_it_declares_is_refused():
    with pytest.raises(InputError, match="/a is not in its declared encoding"):
        store.decoded("<domain><title>wéb</title></domain>".encode("latin-1"), "/a")
    assert store.decoded(b"no XML", "/a") == "no XML"
