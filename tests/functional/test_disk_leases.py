"""State disk_leases: what comes to lie in libvirt's configuration and on shared storage.

The shared storage is a real GlusterFS mount, without a server behind it. No libvirt runs here, so
no daemon is restarted; the lab shows that, and that a lease keeps a second guest away.
"""

import pathlib

import pytest
from sandbox import NODES, sentence, sh, until, world

SHARED = pathlib.Path("/srv/leased")
LIBVIRT = pathlib.Path("/etc/libvirt")
VOLUME = """volume posix
  type storage/posix
  option directory /run/leased
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
  <memory unit='MiB'>160</memory>
  <os><type>hvm</type></os>
  <devices>
    <!-- ours -->
  </devices>
</domain>
"""
LEASE = (
    f"    <lease><lockspace>kvmcluster-leases</lockspace><key>{UUID}</key>"
    f'<target path="{SHARED}"/></lease>\n'
)
LEASED = TEXT.replace("  </devices>", f"{LEASE}  </devices>")
FILE, FOLDER = SHARED / "web1.xml", SHARED / "kvmcluster-leases"
QEMU = '# Master configuration file\n#lock_manager = "lockd"\nmax_processes = 10\n'
PLACES = (SHARED, LIBVIRT)


@pytest.fixture(scope="module")
def volume():
    brick = pathlib.Path("/run/leased")
    brick.mkdir()
    SHARED.mkdir(parents=True)
    pathlib.Path("/run/leased.vol").write_text(VOLUME)
    sh("glusterfs", "--volfile=/run/leased.vol", SHARED)
    until(lambda: SHARED.is_mount(), "GlusterFS is not mounted")
    yield SHARED
    sh("umount", "--lazy", SHARED)


@pytest.fixture
def lease(kvm, volume):
    """A function that runs the state dry and for real, and makes sure that the dry run foretold."""
    sh("find", SHARED, "-mindepth", "1", "-delete")
    for name in ("qemu.conf", "qemu-lockd.conf"):
        (LIBVIRT / name).unlink(missing_ok=True)
    LIBVIRT.mkdir(exist_ok=True)
    (LIBVIRT / "qemu.conf").write_text(QEMU)
    (LIBVIRT / "qemu.conf").chmod(0o640)
    FILE.write_text(TEXT)
    guests(kvm, path=str(SHARED), leases=True, list={"web1": {}})
    return lambda: leased(kvm)


def guests(kvm, **settings):
    kvm.pillar(raw={"kvmcluster": {"name": "test", "nodes": NODES, "guests": settings}})


def leased(kvm):
    before = [world(place) for place in PLACES]
    dry = kvm.states[True]["kvmcluster.disk_leases"]("leases")
    assert [world(place) for place in PLACES] == before, "test=True wrote"
    real = kvm.states[False]["kvmcluster.disk_leases"]("leases")
    assert dry["changes"] == real["changes"]
    assert dry["result"] is (None if real["result"] and real["changes"] else real["result"])
    sentence(real["comment"])
    return real


def test_from_nothing_to_leases_and_then_it_is_left_alone(lease):
    done = lease()
    assert done["result"] is True, done["comment"]
    assert done["changes"]["leases"] == {"added": [str(FOLDER), str(FOLDER / UUID)]}
    assert done["changes"]["qemu.conf"]["added"] == ['lock_manager = "lockd"']
    added = ["auto_disk_leases = 1", f'file_lockspace_dir = "{FOLDER}"']
    assert done["changes"]["qemu-lockd.conf"]["added"] == added
    assert "lease" in str(done["changes"]["web1.xml"]["replaced"])
    text = (LIBVIRT / "qemu.conf").read_text()
    assert text.replace('\nlock_manager = "lockd"\n', "\n") == QEMU
    assert (LIBVIRT / "qemu.conf").stat().st_mode & 0o777 == 0o640
    assert FILE.read_text() == LEASED
    assert FOLDER.stat().st_mode & 0o777 == 0o700 and (FOLDER / UUID).stat().st_size == 0
    assert any("no response from alpha" in warning for warning in done["warnings"])
    before = [world(place) for place in PLACES]
    again = lease()
    assert (again["result"], again["changes"]) == (True, {})
    assert [world(place) for place in PLACES] == before


def test_a_file_of_a_lease_keeps_its_inode_which_another_node_may_have_locked(lease):
    lease()
    before = (FOLDER / UUID).stat().st_ino
    (LIBVIRT / "qemu.conf").write_text(QEMU)
    FILE.write_text(TEXT)
    assert set(lease()["changes"]) == {"qemu.conf", "web1.xml"}
    assert (FOLDER / UUID).stat().st_ino == before


def test_without_the_pillars_word_nothing_happens(lease, kvm):
    guests(kvm, path=str(SHARED), list={"web1": {}})
    done = lease()
    assert (done["result"], done["changes"]) == (True, {}) and "leases is not true" in done[
        "comment"
    ]


def test_only_a_folder_that_every_node_has_can_hold_leases(lease, kvm):
    pathlib.Path("/srv/own").mkdir(exist_ok=True)
    guests(kvm, path=str(SHARED), leases=True, lease_folder="/srv/own/leases", list={"web1": {}})
    done = lease()
    assert done["result"] is False and done["changes"] == {}
    assert "lease_folder: a lease must be stored where every node has it" in done["comment"]
    guests(kvm, path=str(SHARED), leases=True, lease_folder="/srv/missing/leases")
    assert "is its file system mounted?" in lease()["comment"]


def test_another_lock_manager_and_another_folder_are_not_replaced(lease):
    (LIBVIRT / "qemu.conf").write_text('lock_manager = "sanlock"\n')
    done = lease()
    assert (done["result"], done["changes"]) == (False, {}) and "sanlock" in done["comment"]
    (LIBVIRT / "qemu.conf").write_text(QEMU)
    (LIBVIRT / "qemu-lockd.conf").write_text('file_lockspace_dir = "/old"\n')
    done = lease()
    assert (done["result"], done["changes"]) == (False, {}) and "lease_folder to /old" in done[
        "comment"
    ]


def test_a_listed_guest_without_a_definition_is_named_and_stops_no_other(lease, kvm):
    guests(kvm, path=str(SHARED), leases=True, list={"web1": {}, "web2": {}})
    done = lease()
    assert done["result"] is True and "no definition of web2" in done["comment"]
    assert "web1.xml" in done["changes"]


def test_a_definition_that_is_placed_has_its_lease(lease, kvm):
    lease()
    for old in (FOLDER / UUID, FILE):
        old.unlink()
    dry = kvm.states[True]["kvmcluster.guest_placed"]("web1", contents=TEXT)
    assert not (FOLDER / UUID).exists() and dry["result"] is None
    done = kvm.states[False]["kvmcluster.guest_placed"]("web1", contents=TEXT)
    assert done["result"] is True and FILE.read_text() == LEASED
    assert (FOLDER / UUID).exists()
    assert lease()["changes"] == {}
