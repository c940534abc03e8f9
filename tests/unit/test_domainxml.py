"""Guest definitions: whatever libvirt takes is read, whatever else stands there is refused."""

import time
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import CASES, load

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.domainxml import (
    MAX_COMPARED,
    METADATA,
    Frozen,
    differences,
    frozen_xml,
    parse,
)
from saltext_kvmcluster.core.guest.units import in_bytes

READ = ("plain", "disks", "host_parts", "files")
CASE = {name: load(CASES / "definitions" / f"{name}.yaml") for name in READ}
REFUSED = load(CASES / "definitions" / "refused.yaml")["refused"]
PAIRS = load(CASES / "definitions" / "differences.yaml")
RUNS = load(CASES / "definitions" / "runs.yaml")["pairs"]
PLAIN, BASE = CASE["plain"]["xml"], PAIRS["base"]
SMALL = "<domain type='kvm'><name>{}</name>{}</domain>"


def reported(disk):
    """Return a disk as the cases tell it, its own fields and those of its source in one."""
    own = {field.name: getattr(disk, field.name) for field in fields(disk)}
    source = {field.name: getattr(disk.source, field.name) for field in fields(disk.source)}
    layers = [[layer.kind, layer.path, layer.format] for layer in disk.backing]
    return {**own, **source, "backing": layers, "hosts": list(disk.source.hosts)}


def replaced(text, pairs):
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("case", CASE.values(), ids=CASE)
def test_a_definition_is_read(case):
    guest = parse(case["xml"])
    for name, wanted in case["guest"].items():
        assert getattr(guest, name) == wanted, name
    disks = {disk.target: reported(disk) for disk in guest.disks}
    for target, wanted in case.get("disks", {}).items():
        assert {name: disks[target][name] for name in wanted} == wanted, target
    assert len(disks) == len(case.get("disks", {}))
    cards = [[card.kind, card.source, card.mac] for card in guest.interfaces]
    assert cards == case.get("interfaces", cards)
    leases = [[lease.lockspace, lease.key, lease.target] for lease in guest.leases]
    assert leases == case.get("leases", [])
    assert [[file.path, file.use] for file in guest.files] == case.get("files", [])
    assert len(guest.blockers) == len(case["blockers"]), guest.blockers
    for found, wanted in zip(guest.blockers, case["blockers"], strict=True):
        assert found.what.startswith(wanted)


@pytest.mark.parametrize("case", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_definition_is_refused_in_a_sentence(case):
    for text in (case["xml"], case["xml"].encode()):
        with pytest.raises(InputError, match="it") as caught:
            parse(text)
        assert case["says"] in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "iso-8859-1"])
def test_every_encoding_is_read(encoding):
    name = encoding.removesuffix("-sig").removesuffix("-le")
    text = f"<?xml version='1.0' encoding='{name}'?>" + SMALL.format("wéb", "")
    assert parse(text.encode(encoding)).name == "wéb"
    assert parse(text).name == "wéb"
    assert parse("\ufeff" + text).name == "wéb"


def test_entities_are_never_expanded_and_no_file_is_read():
    laughs = "<!ENTITY x0 'ha'>" + "".join(
        f"<!ENTITY x{level} '{f'&x{level - 1};' * 10}'>" for level in range(1, 12)
    )
    long = f"<!ENTITY x11 '{'ha' * 50_000}'>"
    for entities in (laughs, long, "<!ENTITY x11 SYSTEM 'file:///etc/hosts'>"):
        for use in (SMALL.format("&x11;", ""), SMALL.format("a", f"<b c='{'&x11;' * 9999}'/>")):
            begun = time.process_time()
            with pytest.raises(InputError) as caught:
                parse(f"<!DOCTYPE domain [{entities}]>{use}")
            assert "haha" not in str(caught.value) and time.process_time() - begun < 0.2


@pytest.mark.parametrize("text", ["x" * 100_000_000, b"<" * 100_000_000], ids=["text", "bytes"])
def test_a_huge_text_is_refused_at_once(text):
    begun = time.process_time()
    with pytest.raises(InputError, match="longer than 10 MiB"):
        parse(text)
    assert time.process_time() - begun < 0.2


def test_deep_and_wide_definitions_end():
    for text in ("<a>" * 100_000, SMALL.format("a", "<a>" * 300 + "</a>" * 300)):
        with pytest.raises(InputError):
            parse(text)
    deep, wide = "<a>" * 250 + "</a>" * 250, "<a b='1'/>" * 2_000
    for more in (deep, wide, "<devices>" + "<disk/>" * 500 + "</devices>"):
        guest = parse(SMALL.format("a", more))
        assert differences(guest, guest) == ()
        assert len(differences(guest, parse(SMALL.format("b", "")))) >= 2
    with pytest.raises(InputError, match="more than 10000 devices"):
        parse(SMALL.format("a", f"<devices>{'<disk/>' * 10_001}</devices>"))
    long = parse(SMALL.format("a", f"<!-- {'x' * MAX_COMPARED} -->"))
    assert differences(long, long) == ()
    assert len(differences(long, guest)) == 1


@pytest.mark.parametrize(
    ("number", "unit", "size"),
    [
        *(("3", unit, 3) for unit in ("b", "byte", "bytes", "Bytes")),
        *(("3", unit, 3 * 1024) for unit in ("k", "K", "KiB", "kib")),
        *(("3", unit, 3000) for unit in ("KB", "kb")),
        *(("1", unit, 10**6) for unit in ("MB",)),
        *(("1", unit, 2**20) for unit in ("M", "MiB")),
        *((" +1\n", unit, 2**60) for unit in ("E", "EiB")),
        *((number, "KiB", None) for number in ("", "-1", "1.5", "1 2", "٣", "9" * 30)),
        *(("1", unit, None) for unit in ("", "x", "KBB", "ki")),
    ],
)
def test_sizes_are_those_of_libvirt(number, unit, size):
    assert in_bytes(number, unit) == size


@pytest.mark.parametrize(
    "reason", ["a disk is being changed", "a < b & 'c' \"d\" ]]>", "\x1b[2J\x00é\ud800"]
)
def test_a_frozen_guest_says_why(reason):
    element = frozen_xml(reason, "2026-01-01T00:00:00+00:00")
    injected = element.replace("<guest>", f"<k:guest xmlns:k='{METADATA}'>").replace(
        "</guest>", "</k:guest>"
    )
    for prefix in ("", "k:"):
        own = injected.replace("<frozen", f"<{prefix}frozen").replace("</f", f"</{prefix}f")
        frozen = parse(SMALL.format("a", f"<metadata>{own}</metadata>")).frozen
        assert frozen.since == "2026-01-01T00:00:00+00:00"
        assert frozen.reason == "".join(c if c.isprintable() else "\ufffd" for c in reason)


def test_what_is_said_of_frozen_guests_is_bounded():
    guest = f"<guest xmlns='{METADATA}'><frozen>{{}}</frozen></guest>"
    own = f"<metadata><g xmlns='{METADATA}'/>{guest}</metadata>"
    frozen = parse(SMALL.format("a", own.format("\u202e" + "x" * 5000))).frozen
    assert frozen == Frozen("\ufffd" + "x" * 999, "")
    assert parse(SMALL.format("a", own.replace(METADATA, "urn:x"))).frozen is None


@pytest.mark.parametrize("case", PAIRS["same"], ids=lambda case: case["what"])
def test_what_means_the_same_is_no_difference(case):
    one, other = parse(replaced(BASE, case.get("of", ()))), parse(replaced(BASE, case["replace"]))
    assert differences(one, other) == differences(other, one) == ()


@pytest.mark.parametrize("case", RUNS, ids=lambda case: case["what"])
def test_what_runs_is_what_was_written(case):
    written, runs = parse(case["written"]), parse(case["runs"])
    assert differences(written, runs) == differences(runs, written) == ()
    other = parse(case["runs"].replace(">131072<", ">262144<"))
    assert "memory: 131072 KiB here, 262144 KiB there" in differences(written, other)


@pytest.mark.parametrize("case", PAIRS["differ"], ids=lambda case: case["says"][0])
def test_what_differs_in_meaning_is_told(case):
    one, other = parse(replaced(BASE, case.get("of", ()))), parse(replaced(BASE, case["replace"]))
    assert list(differences(one, other)) == case["says"]
    assert len(differences(other, one)) == len(case["says"])


NBD = "<source protocol='nbd' name='b'{}><host name='store1'{}/></source>"


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (("", ""), ("", " port='10810'"), "host port: 10809 here, 10810 there"),
        (("", ""), ("", " port='24007'"), "host port: 10809 here, 24007 there"),
        (("", ""), ("", " transport='rdma'"), "host transport: tcp here, rdma there"),
        ((" tls='no'", ""), (" tls='yes'", ""), "tls: no here, yes there"),
    ],
)
def test_a_network_disk_differs_from_what_libvirt_fills_in(one, other, says):
    texts = [replaced(BASE, [("<source file='/b'/>", NBD.format(*it))]) for it in (one, other)]
    found = [parse(text) for text in texts]
    assert f"disk vdb source {says}" in differences(*found)


def test_host_model_is_what_it_became():
    asked = parse(SMALL.format("a", "<cpu mode='host-model' check='partial'/>"))
    cpu = (
        "<cpu mode='custom' match='exact' check='full'><model>{}</model><feature name='x'/>{}</cpu>"
    )
    runs = parse(SMALL.format("a", cpu.format("Skylake", "")))
    assert differences(asked, runs) == ()
    more = parse(SMALL.format("a", cpu.format("Skylake", "<topology cores='2'/>")))
    assert differences(asked, parse(SMALL.format("a", ""))) == (
        "cpu: host-model partial here, nothing there",
    )
    assert differences(asked, more) == ("cpu topology: 2 there, nothing here",)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_nothing_but_our_own_error_comes_of_any_text(text):
    with pytest.raises(InputError):
        parse(text)


@st.composite
def mutated(draw):
    text = draw(st.sampled_from([*(case["xml"] for case in CASE.values()), BASE]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text) - 1))
        end = at + draw(st.integers(0, 30))
        new = draw(
            st.sampled_from(["", "'", "<", "<a/>", "&", "9" * 25, "\x00", "é", "\u202e", "-"])
        )
        text = text[:at] + new + text[end:]
    return text


@given(mutated(), st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_a_spoiled_definition_is_read_or_refused(text, encoding):
    for spoiled in (text, text.encode(encoding, "replace")):
        try:
            guest = parse(spoiled)
        except InputError as error:
            assert str(error).isprintable() and len(str(error)) < 500
            continue
        assert all(blocker.what.isprintable() for blocker in guest.blockers)
        assert all(sentence.isprintable() for sentence in guest.passthrough)
        assert differences(guest, guest) == ()
        assert all(sentence.isprintable() for sentence in differences(guest, parse(PLAIN)))


ELEMENT = st.recursive(
    st.builds(
        lambda tag, name, value: f"<{tag} {name}='{value}'/>",
        *(st.sampled_from(words) for words in (["a", "disk", "b"], ["x", "dev"], ["1", "2"])),
    ),
    lambda inner: st.builds(
        lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>",
        st.sampled_from(["a", "b", "target"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


@given(st.lists(ELEMENT, max_size=4), ELEMENT)
def test_an_element_more_is_always_told(parts, more):
    one = parse(SMALL.format("a", "<unknown>" + "".join(parts) + "</unknown>"))
    other = parse(SMALL.format("a", "<unknown>" + "".join([*parts, more]) + "</unknown>"))
    assert differences(one, one) == ()
    assert differences(one, other) and differences(other, one)


def test_twenty_thousand_are_read_in_a_run():
    begun = time.process_time()
    for _ in range(50):
        domainxml.parse(PLAIN)
    assert (time.process_time() - begun) / 50 < 0.002


@pytest.mark.parametrize(
    ("given", "running"),
    [
        ("", "<watchdog model='itco' action='reset'/>"),
        ("<graphics type='vnc' passwd='x'/>", "<graphics type='vnc'/>"),
        (
            "<disk type='network'><source protocol='https' name='a'><cookies><cookie name='c'>x"
            "</cookie></cookies></source><target dev='sda'/></disk>",
            "<disk type='network'><source protocol='https' name='a'/><target dev='sda'/></disk>",
        ),
        (
            "<disk type='block'><source dev='/dev/a'><reservations managed='yes'/></source>"
            "<target dev='sda'/></disk>",
            "<disk type='block'><source dev='/dev/a'><reservations managed='yes'><source"
            " type='unix' path='/var/lib/libvirt/qemu/domain-1-a/pr-helper0.sock' mode='client'/>"
            "</reservations></source><target dev='sda'/></disk>",
        ),
    ],
)
def test_what_a_newer_libvirt_adds_or_does_not_show_is_no_difference(given, running):
    whole = "<domain type='kvm'><name>a</name><memory>1</memory><devices>{}</devices></domain>"
    assert differences(parse(whole.format(given)), parse(whole.format(running))) == ()


def test_another_watchdog_is_a_difference():
    whole = "<domain type='kvm'><name>a</name><memory>1</memory><devices>{}</devices></domain>"
    other = parse(whole.format("<watchdog model='i6300esb' action='reset'/>"))
    assert differences(parse(whole.format("")), other)
