"""State guest_placed: what comes to lie on shared storage, and what is refused.

The shared storage is a real GlusterFS mount, without a server behind it. No libvirt runs here, so
no node can say whether the guest runs; the lab shows the rest.
"""

import os
import pathlib
import subprocess
import threading

import pytest
from sandbox import NODES, sentence, sh, until, world

SHARED = pathlib.Path("/srv/shared")
VOLUME = """volume posix
  type storage/posix
  option directory /run/brick
end-volume
volume locks
  type features/locks
  subvolumes posix
end-volume
"""
UUID = "11111111-1111-1111-1111-111111111111"
TEXT = f"""<domain type='kvm'>
  <name>web1</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>{{{{ memory }}}}</memory>
  <os><type>hvm</type></os>
</domain>
"""
FILE = SHARED / "web1.xml"


@pytest.fixture(scope="module")
def volume():
    brick = pathlib.Path("/run/brick")
    brick.mkdir()
    SHARED.mkdir(parents=True)
    pathlib.Path("/run/volume").write_text(VOLUME)
    sh("glusterfs", "--volfile=/run/volume", SHARED)
    until(lambda: SHARED.is_mount(), "GlusterFS is not mounted")
    yield SHARED
    sh("umount", "--lazy", SHARED)


@pytest.fixture
def place(kvm, volume):
    """A function that runs the state dry and for real, and makes sure that the dry run foretold."""
    for path in volume.iterdir():
        path.unlink()
    guests(kvm, path=f"{SHARED}:/srv/more")
    return lambda **arguments: placed(kvm, **arguments)


def guests(kvm, **settings):
    kvm.pillar(raw={"kvmcluster": {"name": "test", "nodes": NODES, "guests": settings}})


def placed(kvm, name="web1", **arguments):
    arguments = arguments or {"contents": TEXT, "context": {"memory": 160}}
    before = world(SHARED)
    dry = kvm.states[True]["kvmcluster.guest_placed"](name, **arguments)
    assert world(SHARED) == before, "test=True wrote"
    real = kvm.states[False]["kvmcluster.guest_placed"](name, **arguments)
    assert dry["changes"] == real["changes"]
    assert dry["result"] is (None if real["result"] and real["changes"] else real["result"])
    sentence(real["comment"])
    return real


def test_a_definition_is_rendered_placed_and_then_left_alone(place):
    done = place()
    assert done["result"] is True and UUID in done["changes"]["web1.xml"]["added"][0]
    assert FILE.read_text() == TEXT.replace("{{ memory }}", "160")
    assert FILE.stat().st_mode & 0o777 == 0o600
    before = world(SHARED)
    again = place()
    assert (again["result"], again["changes"]) == (True, {})
    assert world(SHARED) == before and os.listdir(SHARED) == ["web1.xml"]


def test_a_change_is_told_by_its_meaning_and_that_nobody_knows_whether_the_guest_runs(place):
    place()
    done = place(contents=TEXT, defaults={"memory": 256}, context={"memory": 512})
    (change,) = done["changes"]["web1.xml"]["replaced"]
    assert "163840 KiB before, 524288 KiB now" in change
    assert any("no response from alpha" in warning for warning in done["warnings"])
    layout = place(contents=TEXT.replace("\n", " \n"), context={"memory": 512})
    assert layout["changes"]["web1.xml"]["replaced"] == ["layout, no entry"]


def test_the_file_server_is_a_source(place, kvm):
    root = pathlib.Path(kvm.master.config["file_roots"]["base"][0])
    source = root / "functional-test-web1.xml"
    source.write_text(TEXT)
    try:
        done = place(source=f"salt://{source.name}", context={"memory": 160})
        assert done["result"] is True, done["comment"]
        plain = place(source=f"salt://{source.name}", template=None)
        assert plain["result"] is False and "memory" in plain["comment"]
    finally:
        source.unlink()
    assert "160" in FILE.read_text()


def test_where_it_is_found_there_it_is_replaced(place):
    (SHARED / "web1").write_text(TEXT.replace("{{ memory }}", "99"))
    (SHARED / "web1").chmod(0o644)
    assert "web1" in place()["changes"]
    assert os.listdir(SHARED) == ["web1"] and (SHARED / "web1").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ({"contents": "<domain"}, "the definition given: it is not XML"),
        ({"contents": TEXT.replace("web1", "web2")}, "defines a guest named 'web2', not 'web1'"),
        ({"contents": TEXT.replace(f"<uuid>{UUID}</uuid>", "")}, "has no <uuid>"),
        ({"contents": TEXT.replace("<os>", "<fancy/><os>")}, "breaks libvirt's schema: line"),
        ({"contents": "{{ nobody.knows.this }}"}, "does not render"),
        ({"contents": "{% if %}"}, "does not render"),
        ({"contents": TEXT, "template": "nosuch"}, "nosuch is not supported"),
        ({"contents": 5}, "contents: want text, got int"),
        ({"source": "salt://nowhere.xml"}, "salt://nowhere.xml is not found"),
        ({"source": "salt://a", "contents": "b"}, "give either source or contents"),
        ({"contents": TEXT, "name": "../web1"}, "want a guest's name"),
    ],
)
def test_what_is_no_good_definition_is_refused(place, arguments, detail):
    arguments = {"context": {"memory": 160}, **arguments}
    done = place(**arguments)
    assert done["result"] is False and detail in done["comment"], done["comment"]
    assert os.listdir(SHARED) == []


def test_another_uuid_and_what_is_no_definition_are_not_overwritten(place):
    place()
    other = TEXT.replace(UUID, UUID.replace("1", "2"))
    refused = place(contents=other, context={"memory": 160})
    assert refused["result"] is False and "a different guest" in refused["comment"]
    FILE.write_text("my shopping list")
    assert str(FILE) in place()["comment"]
    assert FILE.read_text() == "my shopping list"


def test_only_storage_that_every_node_has_is_a_place(place, kvm):
    pathlib.Path("/srv/own").mkdir(exist_ok=True)
    guests(kvm, path="/srv/own")
    done = place()
    assert done["result"] is False and "where every node has it" in done["comment"]
    guests(kvm, path="/srv/missing")
    assert "is its file system mounted?" in place()["comment"]
    link = pathlib.Path("/srv/link")
    link.symlink_to("/etc/libvirt")
    try:
        guests(kvm, path="/srv/link")
        assert "belongs to this node's libvirt" in place()["comment"]
    finally:
        link.unlink()
    guests(kvm)
    assert "neither a path nor" in place()["comment"]


def test_whoever_reads_finds_the_old_definition_or_the_new_one(place):
    place()
    stop, observed = threading.Event(), set()

    def read():
        while not stop.is_set():
            observed.add(FILE.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for memory in range(200, 204):
        assert place(contents=TEXT, context={"memory": memory})["result"] is True
    stop.set()
    reader.join()
    texts = {TEXT.replace("{{ memory }}", str(memory)) for memory in (160, *range(200, 204))}
    assert observed <= texts
    assert subprocess.check_output(["ls", "-A", SHARED], text=True) == "web1.xml\n"
