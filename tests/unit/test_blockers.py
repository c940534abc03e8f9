"""What is refused: each row of the table that docs/blockers.md is made of, and the versions."""

from pathlib import Path

import docs_blockers
import pytest
import worlds
from worlds import guest, node, world

from saltext_kvmcluster.core.findings import BLOCK, PROBLEM, UNKNOWN, WARN
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.blocker import Versions
from saltext_kvmcluster.core.readiness.checks import guest as checks
from saltext_kvmcluster.core.readiness.checks import node as node_checks

PAGE = Path(__file__).parent.parent.parent / "docs" / "blockers.md"
ROWS = docs_blockers.rows()
LATER = [row for row in ROWS if "since" in row]
OLD, NEW = Versions(9_000_000, 7_002_000), Versions(11_003_000, 10_001_000)
DEFINITION = """<domain type='{type}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>web1</name><uuid>{uuid}</uuid><memory>1024</memory>
<os><type arch='{arch}' machine='pc-i440fx-7.2'>hvm</type></os>{domain}<devices>{devices}</devices>
</domain>"""
PASSING = {"domain": "<qemu:commandline><qemu:arg value='{}'/></qemu:commandline>"}


def parsed(row):
    given = {"type": "kvm", "arch": "x86_64", "domain": "", "devices": "", **row}
    return domainxml.parse(DEFINITION.format(**{**given, "uuid": worlds.UUID}))


def there_is(row, here=OLD, there=OLD, **guests):
    """A world in which web1 has what a row says, between nodes of those versions."""
    answered = {key: tuple(row[key]) for key in ("refusals",) if key in row}
    web = guest(
        of=parsed(row),
        block_jobs=tuple(row.get("jobs", ())),
        snapshots=row.get("snapshots", 0),
        **answered,
    )
    nodes = [
        node(name, daemon=worlds.daemon(name, libvirt=versions.libvirt, qemu=versions.qemu))
        for name, versions in (("node1", here), ("node2", there))
    ]
    nodes[0] = node("node1", daemon=nodes[0].daemon, guests=(web,))
    return world(*nodes, guests=guests)


def issues(one):
    (web,) = one.guests
    return list(checks.blockers(one, web))


def on_arrival(one):
    (web,) = one.guests
    asked = node_checks.machine(one, web)
    return list(node_checks.versions(one, asked, node_checks.machines(one, one.nodes["node2"])))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["what"])
def test_a_row_is_as_the_check_says(row):
    found = issues(there_is(row))
    if row.get("says"):
        assert found[0].sentence.startswith(row["says"]), found
        assert (found[0].severity or BLOCK) == row.get("severity", BLOCK)
        assert found[0].remedy and "GUEST" not in found[0].remedy
    else:
        assert found == []
    assert len({issue.sentence for issue in found}) == len(found) <= 2


def test_the_table_is_long_and_no_row_is_there_twice():
    assert len({row["what"] for row in ROWS}) == len(ROWS) >= 40
    assert sum("seen" in row for row in ROWS) >= 40


def test_the_page_is_as_the_table_makes_it():
    assert PAGE.read_text(encoding="utf-8") == docs_blockers.document(), "run: make docs"


@pytest.mark.parametrize("row", LATER, ids=lambda row: row["what"])
def test_what_newer_versions_migrate_is_refused_of_older_ones_alone(row):
    since = Versions(*row["since"])
    answered = {**row, "refusals": []}
    found = issues(there_is(answered, NEW, NEW)) + on_arrival(there_is(answered, NEW, NEW))
    assert [(issue.sentence, issue.severity) for issue in found] == (
        [(row["later"], WARN)] if "later" in row else []
    )
    older = Versions(*(number and number - 1 for number in since))
    (here,) = issues(there_is(answered, older, NEW))
    (arrival,) = on_arrival(there_is(answered, NEW, older))[:1]
    for issue in (here, arrival):
        assert str(since) in issue.sentence and str(older) in issue.sentence
        assert (issue.outcome, issue.severity or BLOCK) == (PROBLEM, BLOCK)


@pytest.mark.parametrize("row", LATER, ids=lambda row: row["what"])
def test_a_version_that_is_not_known_is_unknown(row):
    nothing = Versions(0, 0)
    found = [issues(there_is(row, nothing, NEW))[0], on_arrival(there_is(row, NEW, nothing))[0]]
    assert {issue.outcome for issue in found} == {UNKNOWN}


@pytest.mark.parametrize("row", [row for row in LATER if row.get("asked")], ids=lambda r: r["what"])
def test_what_qemu_alone_knows_it_is_asked(row):
    assert parsed(row).asks
    (silent,) = issues(there_is({**row, "refusals": []} | {"refusals": ()}, NEW, NEW)) or (None,)
    assert silent is None
    row = {key: value for key, value in row.items() if key != "refusals"}
    (silent,) = issues(there_is(row, NEW, NEW))
    assert silent.outcome == UNKNOWN
    (told,) = issues(there_is({**row, "refusals": ["it has no driver"]}, NEW, NEW))
    assert told.sentence == "its QEMU does not migrate it: it has no driver"
    assert told.remedy == "remove it: virsh edit web1, then restart the guest"


def test_a_guest_without_such_a_part_is_not_asked():
    assert not parsed({}).asks and not parsed(PASSING).asks


def test_qemus_own_words_are_not_repeated():
    row = {
        "devices": "<filesystem><source dir='/a'/></filesystem><sound model='usb'/>",
        "refusals": ["non-migratable device: usb-audio"],
    }
    assert [issue.sentence for issue in issues(there_is(row))] == [
        "its sound card is a USB device, which QEMU does not migrate"
    ]


@pytest.mark.parametrize(
    ("allowed", "passes"),
    [
        (["web1"], True),
        (["db1", "web*"], True),
        (["*"], True),
        (["*1"], True),
        (["web"], False),
        (["w?b1"], False),
        (["[w]eb1", "web.*"], False),
        ([], False),
    ],
)
def test_what_passes_libvirt_is_allowed_by_guest(allowed, passes):
    found = issues(there_is(PASSING, passthrough=allowed))
    assert bool(found) is not passes
    for issue in found:
        assert "kvmcluster:guests:passthrough: [web1]" in issue.remedy


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("secret,id=s,data=hunter2,x=1", "secret,id=s,data=…,x=1"),
        ("vnc=:1,password=hunter2", "vnc=:1,password=…"),
        ('{{"data": "hunter2", "id": "s"}}', '{{"data": "…", "id": "s"}}'),
        ("a\u202eb; c", "a\ufffdb; c"),
        ("x" * 1000, "x" * 300 + "…"),
    ],
)
def test_no_secret_is_shown_of_what_passes_libvirt(value, shown):
    value = value.replace("{{", "{").replace("}}", "}")
    shown = shown.replace("{{", "{").replace("}}", "}")
    argument = value.replace('"', "&quot;")
    (issue,) = issues(there_is({"domain": PASSING["domain"].format(argument)}))
    assert issue.sentence == f"it hands QEMU arguments that nothing checks: {shown}"


def test_an_allowed_guest_is_still_asked_for_the_rest():
    row = {**PASSING, "devices": "<sound model='usb'/>"}
    (issue,) = issues(there_is(row, passthrough=["web1"]))
    assert issue.sentence.startswith("its sound card")


@pytest.mark.parametrize(
    ("timers", "tsc"),
    [
        ("<timer name='rtc'/><timer name='tsc' frequency='2500000000'/>", 2_500_000_000),
        ("<timer name='tsc' mode='native'/>", 0),
        ("<timer name='tsc' frequency='fast'/>", 0),
        ("<timer name='kvmclock' frequency='1'/>", 0),
    ],
)
def test_the_frequency_that_a_guest_wants_is_read(timers, tsc):
    assert parsed({"domain": f"<clock>{timers}</clock>"}).tsc == tsc
