"""Storage: what real tools print is read, each disk's place is judged, and nonsense is no fact."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import cases

from saltext_kvmcluster.core.findings import PROBLEM, UNKNOWN
from saltext_kvmcluster.core.guest.disks import Disk, Source
from saltext_kvmcluster.core.storage import inventory, shared_storage
from saltext_kvmcluster.core.storage.cache_mode import cache_issue
from saltext_kvmcluster.core.storage.inventory import COMMANDS, StorageFacts
from saltext_kvmcluster.core.storage.location import Location
from saltext_kvmcluster.core.storage.same_storage import difference

ROOT = "22 1 8:2 / / rw,relatime - ext4 /dev/sda2 rw\n"
GLUSTER = "30 22 0:40 / /gluster rw - fuse.glusterfs server:/images rw\n"
GFS2 = "31 22 8:3 / /gfs2 rw - gfs2 /dev/sda3 rw\n"
USUAL = {"mounts": (0, ROOT), "devices": (0, '{"blockdevices": []}'), "links": (0, "")}
CHECKED = ("kind", "fit", "identity", "folder")


def reported(outputs):
    """Return outputs of COMMANDS in which what a case leaves out is not installed, or empty."""
    given = {
        key: (out["code"], out["out"]) if isinstance(out, dict) else (0, out)
        for key, out in outputs.items()
    }
    return {**dict.fromkeys(COMMANDS, (127, "")), **USUAL, "old_replicas": (1, ""), **given}


KEYS = {"description", "outputs", "disks", "detail", "variants"}


def variants():
    for name, case in cases("storage").items():
        assert {"description", "outputs", "disks"} <= set(case) <= KEYS
        yield pytest.param(case, id=name)
        for variant in case.get("variants", ()):
            yield pytest.param(variant, id=f"{name}: {variant['what']}")


def source_of(disk):
    kind, path = next(iter(disk.items()))
    protocol = path.partition(":")[0] if kind == "network" else ""
    return Source(kind, path, protocol=protocol, hosts=tuple(disk.get("hosts", ())))


@pytest.mark.parametrize("case", list(variants()))
def test_each_disk_lies_where_the_tools_say(case):
    facts = inventory.parse(reported(case["outputs"]))
    for disk in case["disks"]:
        found = shared_storage.locate(source_of(disk), facts)
        wanted = {key: disk[key] for key in CHECKED if key in disk}
        assert {key: getattr(found, key) for key in wanted} == wanted, found
        assert disk.get("why", "") in found.why
    if "detail" in case:
        assert facts.detail == case["detail"]


@pytest.mark.parametrize("case", list(variants()))
def test_what_mounts_tell_needs_no_devices(case):
    facts = inventory.parse(reported(case["outputs"]))
    mounted = StorageFacts(mounts=facts.mounts, links=facts.links, detail=facts.detail)
    for disk in case["disks"]:
        source = source_of(disk)
        if shared_storage.needs_mounts_alone(source, mounted):
            assert shared_storage.locate(source, mounted) == shared_storage.locate(source, facts)


def test_devices_are_asked_for_where_a_disk_may_lie_on_one():
    facts = inventory.parse(reported({"mounts": ROOT + GLUSTER + GFS2}))
    images = [Source("file", f"/{folder}/image") for folder in ("gluster", "gfs2", "own")]
    others = [Source("block", "/dev/sda"), Source("network", "nbd:a"), Source()]
    told_by = [shared_storage.needs_mounts_alone(source, facts) for source in (*images, *others)]
    assert told_by == [True, False, False, False, True, True]


def test_what_was_never_asked_is_not_known():
    for source in (Source("file", "/x"), Source("block", "/dev/sda")):
        assert shared_storage.locate(source, StorageFacts()).fit is None
        assert shared_storage.locate(source, inventory.parse({})).fit is None


def drbd(role, here, there, resource="r0", settings=True, quorum=True, **more):
    """Return the place of a DRBD volume on a node that is connected from here to there."""
    status = [
        {
            "name": resource,
            "role": role,
            **more,
            "devices": [{"volume": 0, "minor": 1, "disk-state": "UpToDate", "quorum": quorum}],
            "connections": [
                {
                    "peer-node-id": 1,
                    "connection-state": "Connected",
                    "peer-role": "Primary",
                    "peer_devices": [{"volume": 0, "peer-disk-state": "UpToDate"}],
                }
            ],
        }
    ]
    path = f"path {{ _this_host ipv4 {here}:7; _remote_host ipv4 {there}:7; }}"
    net = "net { allow-two-primaries yes; }"
    net = f'resource "{resource}" {{ connection {{ _peer_node_id 1; {net} {path} }} }}'
    device = {"kname": "/dev/drbd1", "name": "/dev/drbd1", "type": "disk"}
    facts = inventory.parse(
        reported(
            {
                "devices": json.dumps({"blockdevices": [device]}),
                "replicas": json.dumps(status),
                "replica_settings": net if settings else {"code": 20, "out": ""},
            }
        )
    )
    return shared_storage.locate(Source("block", "/dev/drbd1"), facts)


@pytest.mark.parametrize(
    ("reported", "why"),
    [
        ({"suspended": True}, "is suspended"),
        ({"suspended": False, "suspended-user": True}, "is suspended"),
        ({"suspended": "no-data,quorum"}, "is suspended"),
        ({"suspended": False, "quorum": False}, "has no quorum"),
    ],
)
def test_a_drbd_volume_whose_io_stands_still_is_not_fit(reported, why):
    found = drbd("Primary", "a", "b", **reported)
    assert found.fit is False and why in found.why
    assert drbd("Primary", "a", "b", suspended=False, **{"suspended-user": False}).fit


LUN = Location("lun", True, "", "WWN 1")
GFS = Location("gfs2", True, "", "gfs2 1", "/g")


@pytest.mark.parametrize(
    ("here", "there", "outcome"),
    [
        (LUN, LUN, None),
        (LUN, Location("lun", True, "", "WWN 2"), PROBLEM),
        (LUN, Location("lun", True, ""), UNKNOWN),
        (LUN, Location("nothing", False, ""), PROBLEM),
        (LUN, Location("nfs", True, "", folder="/n"), PROBLEM),
        (GFS, GFS, None),
        (GFS, Location("gfs2", True, "", "", "/g"), None),
        (GFS, Location("gfs2", True, "", "gfs2 2", "/g"), PROBLEM),
        (Location("none", True, ""), Location("none", True, ""), None),
        (drbd("Primary", "a", "b"), drbd("Secondary", "b", "a"), None),
        (drbd("Primary", "a", "b"), drbd("Secondary", "c", "d"), PROBLEM),
        (drbd("Primary", "a", "b"), drbd("Primary", "a", "b"), PROBLEM),
        (drbd("Primary", "a", "b"), drbd("Primary", "b", "a", "r1"), PROBLEM),
        (drbd("Primary", "a", "b"), drbd("Primary", "b", "a", settings=False), UNKNOWN),
    ],
)
def test_two_nodes_see_the_same_only_where_something_proves_it(here, there, outcome):
    for found in (difference(here, there), difference(there, here)):
        assert (found and found.outcome) == outcome
        assert found is None or (found.sentence and found.remedy)


FILE, BLOCK, NETWORK = Source("file", "/x"), Source("block", "/x"), Source("network", "nbd:x")
NFS = Location("nfs", True, "", folder="/n")


@pytest.mark.parametrize(
    ("disk", "place", "qemu", "safe"),
    [
        (Disk("vda", FILE, cache="none"), NFS, 0, True),
        (Disk("vda", FILE, cache="directsync"), NFS, 0, True),
        (Disk("vda", FILE, cache="writeback"), NFS, 0, False),
        (Disk("vda", FILE), NFS, 0, False),
        (Disk("vda", FILE), NFS, 3_001_000, False),
        (Disk("vda", FILE), NFS, 4_000_000, True),
        (Disk("vda", FILE, cache="unsafe"), NFS, 8_000_000, False),
        (Disk("vda", FILE, cache="writethrough"), NFS, 0, False),
        (Disk("vda", FILE, cache="writeback"), GFS, 0, True),
        (Disk("vda", FILE, cache="writeback", readonly=True), NFS, 0, True),
        (Disk("vda", FILE, shareable=True), NFS, 0, True),
        (Disk("vda", FILE, shareable=True, cache="writeback"), NFS, 0, False),
        (Disk("vda", BLOCK, cache="writeback"), LUN, 0, False),
        (Disk("vda", BLOCK, cache="none"), LUN, 0, True),
        (Disk("vda", NETWORK, cache="writeback"), Location("nbd", True, ""), 0, True),
        (Disk("vda", NETWORK, cache="unsafe"), Location("nbd", True, ""), 8_000_000, False),
        (Disk("sda", Source(), cache="writeback"), Location("none", True, ""), 0, True),
    ],
)
def test_the_cache_mode_is_judged_as_libvirt_does(disk, place, qemu, safe):
    found = cache_issue(disk, place, qemu)
    assert (found is None) == safe
    assert found is None or (disk.target in found.sentence and "cache='none'" in found.remedy)


def test_what_a_node_says_cannot_spoil_the_terminal():
    mounts = ROOT + "30 22 0:9 / /g\x1b[2J\\033[31m rw - \x1bfs a rw\n"
    facts = inventory.parse(reported({"mounts": mounts}))
    found = shared_storage.locate(Source("file", "/g\x1b[2J\x1b[31m/" + "x" * 4000), facts)
    assert found.folder == "/g\x1b[2J\x1b[31m"
    assert found.why.isprintable() and found.kind.isprintable() and len(found.why) < 1000


WORDS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["/dev/drbd1", "/dev/sda", "part", "mpath", "disk", "lvm", "0x12", "wz--ns"]),
)  # fmt: skip
KEYS = st.sampled_from(
    [
        *("blockdevices", "children", "kname", "name", "type", "wwn", "report", "lv", "lv_path"),
        *("vg_attr", "maps", "path_groups", "paths", "sysfs", "uuid", "devices", "connections"),
        *("volume", "minor", "peer_devices", "peer-node-id", "role"),
    ]
)
DOCUMENTS = st.recursive(
    WORDS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=12,
).map(json.dumps)
MOUNTS = st.lists(
    st.lists(
        st.sampled_from(["1", "2", "3", "0:1", "/", "/a", "/a/b", "-", "nfs", "rw", "\\040", ""]),
        max_size=12,
    ).map(" ".join),
    max_size=5,
).map("\n".join)
SETTINGS = st.lists(
    st.sampled_from(
        [
            *("resource", '"r0"', "{", "}", ";", "net", "volume", "0", "1", "_this_host", "path"),
            *("connection", "device", "minor", "#", "\n", '"'),
        ]
    ),
    max_size=30,
).map(" ".join)
PROC = st.lists(
    st.sampled_from(["version: 8.4", "\n", " 0: cs:", "Connected", " ro:", "a/b", " ds:", " C "]),
    max_size=12,
).map("".join)
LINKS = st.lists(
    st.sampled_from(["/a", "/a/b", "\t", "\n", "..", "/", "/dev/sda", "/dev/rbd/x", "/dev/rbd0"]),
    max_size=12,
).map("".join)
CODES = st.sampled_from([0, 0, 0, 0, 1, 5, 20, 127, None])
OUTPUTS = st.fixed_dictionaries(
    {},
    optional={
        key: st.tuples(CODES, st.one_of(DOCUMENTS, MOUNTS, SETTINGS, PROC, LINKS, st.text()))
        for key in COMMANDS
    },
)
DISKS = [
    Source(kind, path, protocol="nbd", hosts=("[x",))
    for kind in ("file", "block", "network")
    for path in ("/", "/a/b/c", "/dev/sda", "/dev/drbd1", "/dev/rbd0", "..", "\x00")
]


@given(OUTPUTS)
def test_no_output_is_more_than_unknown(outputs):
    facts = inventory.parse(outputs)
    for source in DISKS:
        assert shared_storage.locate(source, facts).fit in (True, False, None)


@pytest.mark.parametrize("key", COMMANDS)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 5_000,
        '{"blockdevices": [' + '{"children": [' * 5_000,
        "{" * 5_000 + "}" * 5_000,
        "resource r { " * 2_000 + "}" * 2_000,
        "9" * 10_000,
        '{"blockdevices": [{"kname": ' + "9" * 9_999 + "}]}",
        "\ud800",
    ],
)
def test_no_output_is_too_deep_or_too_long(key, text):
    inventory.parse(reported({key: text}))


def test_devices_that_are_made_of_each_other_end_somewhere():
    part = {"kname": "/dev/a", "type": "part"}
    other = {"kname": "/dev/b", "type": "part", "children": [part]}
    devices = json.dumps({"blockdevices": [other, {**part, "children": [{**other}]}]})
    facts = inventory.parse(reported({"devices": devices}))
    assert not shared_storage.locate(Source("block", "/dev/a"), facts).fit


def test_links_that_lead_in_circles_or_grow_end_somewhere():
    facts = inventory.parse(reported({"links": "/a\t/a/a\n/b\t/c\n/c\t/b\n"}))
    for path in ("/a", "/b", "/b/x"):
        assert shared_storage.locate(Source("file", path), facts).folder == "/"


def test_twenty_thousand_disks_are_judged_at_once():
    mounts = ROOT + "".join(f"{n} 22 0:{n} / /g/{n} rw - nfs4 a:/{n} rw\n" for n in range(30, 330))
    facts = inventory.parse(reported({"mounts": mounts}))
    disks = [Source("file", f"/g/{30 + n % 300}/guests/{n}.img") for n in range(20_000)]
    began = time.process_time()
    assert all(shared_storage.locate(disk, facts).fit for disk in disks)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:10809", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "[::]:1"),
        *("[::1]", "[::ffff:127.0.0.1]:1", "ip6-localhost", "ip6-loopback:3", "", ":10809"),
        *("unix:/run/nbd", "/run/nbd.sock"),
    ],
)
@pytest.mark.parametrize("protocol", ["nbd", "http"])
def test_a_server_that_every_node_takes_for_itself_is_shared_by_nobody(protocol, host):
    source = Source("network", f"{protocol}:disk", protocol=protocol, hosts=(host,))
    assert shared_storage.locate(source, StorageFacts()).fit is False


def test_a_wwn_that_every_target_has_is_none():
    alike = "0x60000000000000000e00000000010001"
    output = (
        '{"blockdevices": [{"kname": "/dev/sda", "type": "disk", "tran": "iscsi", "wwn": "%s"}]}'
    )
    facts = inventory.parse({"devices": (0, output % alike), "mounts": (0, "")})
    assert shared_storage.locate(Source("block", "/dev/sda"), facts).identity == ""
