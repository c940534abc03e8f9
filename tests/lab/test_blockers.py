"""What is refused, tried on real parts: each row of docs/blockers.md that this machine can show.

libvirt is asked by plain virsh what it refuses, and the check what it says of the same guest.
"""

import sys
from pathlib import Path

import pytest
from labs import LOGIN

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools"))

import docs_blockers

ROWS = [row for row in docs_blockers.rows() if "seen" in row]
NAME = "t"
DEFINITION = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>t</name><uuid>11111111-1111-1111-1111-111111111119</uuid><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='{machine}'>hvm</type></os>
<features><acpi/>{features}</features>{domain}<devices>{devices}</devices>{arguments}</domain>"""
URIS = (f"qemu+ssh://{LOGIN}@node2/system?no_tty=1", "tcp:node2-mig")


def text(row):
    seen = {**row, **row["seen"]}
    words = "".join(f"<qemu:arg value='{word}'/>" for word in seen.get("arguments", ()))
    return DEFINITION.format(
        machine=seen.get("machine", "pc"),
        features=seen.get("features", ""),
        domain=seen.get("domain", ""),
        devices=seen.get("devices", ""),
        arguments=f"<qemu:commandline>{words}</qemu:commandline>" if words else "",
    )


@pytest.fixture(scope="module")
def strict_lab(prepared_lab):
    """The lab, where the pillar allows no guest to hand QEMU anything past libvirt."""
    with prepared_lab.pillar() as pillar:
        pillar.cluster["guests"] |= {"passthrough": []}
        pillar.save()
        prepared_lab.refresh_pillar()
        yield prepared_lab
    prepared_lab.refresh_pillar()


@pytest.fixture
def guest(strict_lab, request):
    """Have the guest of a row run on node1, with what the row has happen to it."""
    lab, row = strict_lab, request.param
    seen = row["seen"]
    for node in ("node1", "node2"):
        lab.exec(node, "sh", "-ec", seen.get("both", "true"))
    lab.exec("node1", "sh", "-ec", seen.get("before", "true"))
    lab.exec("node1", "virsh", "--quiet", "create", "/dev/stdin", stdin=text(row))
    try:
        lab.exec("node1", "sh", "-ec", seen.get("running", "true"))
        yield lab, row
    finally:
        lab.exec("node1", "sh", "-c", seen.get("after", "true"))
        for node in ("node1", "node2"):
            lab.exec(node, "virsh", "destroy", NAME, check=False)


def checked(lab):
    """Return what the check says about the guest, and where it says that the guest can go."""
    data = lab.salt("node1", "kvmcluster.check", NAME)
    (row,) = (row for row in data["guests"] if row["guest"] == NAME)
    told = [one["sentence"] for one in data["findings"] if one["id"] == "guest.blockers"]
    return told, row["movable_to"]


@pytest.mark.nightly
@pytest.mark.parametrize("guest", ROWS, ids=lambda row: row["what"], indirect=True)
def test_what_is_said_to_be_refused_is(guest):
    lab, row = guest
    found, movable_to = checked(lab)
    refused = lab.exec(
        *("node1", "sh", "-c"),
        f"virsh migrate --live --p2p {NAME} '{URIS[0]}' {URIS[1]} 2>&1 || true",
    )
    if row.get("words"):
        assert row["words"] in refused
        assert NAME in lab.exec("node1", "virsh", "list", "--name").split()
    else:
        assert refused.strip() == ""
        assert NAME in lab.exec("node2", "virsh", "list", "--name").split()
    if row["seen"].get("arguments"):
        assert "it hands QEMU arguments that nothing checks" in found[0]
    elif row.get("says"):
        assert found[0].startswith(row["says"])
    else:
        assert (found, "node2" in movable_to) == ([], "unknown" not in row)
