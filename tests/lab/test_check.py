"""Checks on real parts: each mistake is found, and its remedy fixes it.

Everything here is broken for real. What no machine like this one can show is named in ELSEWHERE.

What kvmcluster.migrate asks is enough: it forbids what a look at all that can be known forbids.
Each guest is judged by both ways on its own node, for each destination; the answers have to be the
same, word by word.
"""

import concurrent.futures
import contextlib
import json
import pathlib
import re
import sys

import mistakes
import pytest
from labs import until
from mistakes import Mistake, destroy, disk, each, on, start

from saltext_kvmcluster.core.findings import OK, PROBLEM, UNKNOWN
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY

CERTIFIED = f"""mkdir -p {mistakes.CERTIFICATES} && cd {mistakes.CERTIFICATES}
touch ca-cert.pem client-cert.pem client-key.pem server-cert.pem server-key.pem"""
# They are empty: enough to be there, not to encrypt.
PLAIN = "tls=false"
LISTED = {"web": {"xmlfile": f"{mistakes.VOLUME}/web.xml"}}
DISKS = {
    "web": ("node1", "--bridge"),
    "lun": ("node1", "--disk", "lun"),
    "nbd": ("node2", "--disk", "nbd"),
}
READ = "libvirt tells the definition of every guest that runs, and what it tells is readable"
BESIDE = "no Pacemaker runs in this lab; see test_pacemaker.py"
WITHOUT_HA = "no guest of this lab has ha; see test_ha_refusals.py"
ALIKE = "all nodes of the lab have the same CPUs, memory and security drivers"
PLAIN_GUESTS = "no guest of the lab wants it while a node is silent"
ELSEWHERE = {
    **{(check, PROBLEM): ALIKE for check in ("cpu.pinning", "memory.hugepages", "node.labels")},
    **{(check, UNKNOWN): PLAIN_GUESTS for check in ("cpu.pinning", "memory.hugepages")},
    **{(check, UNKNOWN): PLAIN_GUESTS for check in ("network.listen", "secret.present")},
    **{(check.id, PROBLEM): BESIDE for check in REGISTRY if check.id.partition(".")[0] == "ha"},
    **{(check, UNKNOWN): WITHOUT_HA for check in ("ha.disks", "ha.starts", "ha.stored")},
    ("ssh.label", PROBLEM): "this kernel has no SELinux",
    ("node.minion", PROBLEM): "a node's own minion reports it to the master; see test_guests.py",
    ("node.clock", PROBLEM): "all nodes of the lab have one clock",
    ("storage.cache", UNKNOWN): READ,
    ("guest.blockers", UNKNOWN): READ,
    ("guest.frozen", UNKNOWN): READ,
    ("guest.only", UNKNOWN): PLAIN_GUESTS,
    ("guest.guard", UNKNOWN): READ,
    ("guest.handover", UNKNOWN): READ,
}
"""Outcomes that are seen in tests/unit/test_checks.py alone, with why."""

VERDICTS = pathlib.Path(__file__).with_name("verdicts.py")
BLOCKING = {check.id for check in REGISTRY if check.severity == "BLOCK"}
# A node cannot ask sshd elsewhere; that it lets nobody in shows in ssh.reach. The key is spoilt on
# a node that has no guest to send.
NOT_TOLD = {"ssh.authorized", "ssh.key"}
NBD = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
    "<source protocol='nbd' name='nbd'><host name='master' port='10809'/></source>"
    "<target dev='vda' bus='virtio'/></disk>"
)
TOGETHER = disk(f"{mistakes.VOLUME}/both.img").replace("<target", "<shareable/><target")


def mistake(check, guest, make, cure):
    return Mistake(check, "", {"guests": [guest]}, make, "", cure=cure)


CLASHES = [
    # What runs is known closely only where it may use the same disk.
    mistake("guest.disk", "nbd", start("node3", "thief", devices=NBD), destroy("node3", "thief")),
    mistake(
        "",
        "one",
        each(
            on("node1", f"truncate -s 1M {mistakes.VOLUME}/both.img"),
            start("node1", "one", devices=TOGETHER),
            start("node2", "two", devices=TOGETHER),
        ),
        each(destroy("node1", "one"), destroy("node2", "two")),
    ),
]


class Seen:
    """The outcomes that a cluster's checks had while the tests of this module ran."""

    def __init__(self):
        self.outcomes = set()

    def check(self, lab, *arguments):
        """Check the cluster and return its data; a check that tells nothing was OK."""
        data = lab.run("kvmcluster.check", *arguments)
        assert "error" not in data, data["error"]
        reported = {(finding["id"], finding["outcome"]) for finding in data["findings"]}
        silent = {check.id for check in REGISTRY} - {check for check, _ in reported}
        self.outcomes |= reported | {(check, OK) for check in silent}
        return data


@pytest.fixture(scope="module")
def observed():
    return Seen()


@pytest.fixture(scope="module")
def lab(prepared_lab):
    """Three guests, on a file system, a LUN and a network disk, one listed; memory by TLS."""
    for node in prepared_lab.nodes:
        prepared_lab.exec(node, "sh", "-ec", CERTIFIED)
    with prepared_lab.pillar() as pillar:
        pillar.cluster["guests"] |= {"list": LISTED, "passthrough": list(DISKS)}
        pillar.cluster["migration"] = {"tls": True}
        pillar.save()
        for name, (node, *options) in DISKS.items():
            prepared_lab.guest(name, node, *options)
        prepared_lab.refresh_pillar()
        yield prepared_lab
        for name in DISKS:
            prepared_lab.stop_guest(name)
    prepared_lab.refresh_pillar()
    for node in prepared_lab.nodes:
        prepared_lab.exec(node, "rm", "-r", mistakes.CERTIFICATES)


def reported(data, check):
    return [finding for finding in data["findings"] if finding["id"] == check]


def row(data, guest):
    (found,) = (row for row in data["guests"] if row["guest"] == guest)
    return found


@pytest.mark.pair
def test_what_is_said_to_be_movable_moves(lab, observed):
    data = observed.check(lab)
    assert (data["ok"], data["movable"], data["moves"]) == (True, 6, 6), data["findings"]
    assert {found["id"] for found in data["findings"]} == {"guest.guard"}
    for name, (node, *_) in DISKS.items():
        assert row(data, name)["node"] == node
        moved = lab.salt(node, "kvmcluster.migrate", name, "node3", PLAIN)
        assert moved["result"] == "moved", moved
        assert lab.salt("node3", "kvmcluster.migrate", name, node, PLAIN)["result"] == "moved"
        lab.assert_whole(name)
    assert reported(observed.check(lab, "web"), "guest.guard") == []


def judged(lab):
    """Return the blocking findings by both ways, for each guest and destination."""
    with lab.pillar() as pillar:
        reported = json.dumps({"kvmcluster": pillar.cluster})

    def verdicts(node):
        return lab.exec(node, sys.executable, VERDICTS, node, stdin=reported)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = [*pool.map(verdicts, lab.nodes)]
    # How much memory is free is another thing at every look, and a key is added at one of them.
    answers = re.sub(r"\d+ MiB are available", "some are available", "".join(answers))
    answers = re.sub(r"Warning: Permanently added [^/]* / ", "", answers)
    return [json.loads(line) for line in answers.splitlines()]


def detail(findings):
    """Return what findings say; for which names ssh is set up differs, since a move needs few."""
    return [
        [check, outcome, "" if check == "ssh.config" else words]
        for check, outcome, words in findings
    ]


def found_by_both(lab, made):
    """Judge by both ways, with these mistakes made."""
    cells = judged(lab)
    different = [cell for cell in cells if detail(cell["all"]) != detail(cell["few"])]
    assert not different, json.dumps(different, indent=1)
    found = {check for cell in cells for check, *_ in cell["few"]}
    assert found >= {one.check for one in made} & BLOCKING - NOT_TOLD


def test_a_move_of_what_is_sound_is_forbidden_by_neither_way(lab):
    cells = judged(lab)
    assert len(cells) == 2 * len(DISKS)
    assert all(cell["all"] == cell["few"] == [] for cell in cells), cells


def test_what_forbids_a_move_is_found_by_both_ways(lab):
    with contextlib.ExitStack() as remedies:
        for one in CLASHES:
            remedies.callback(one.fix, lab)
            one.make(lab)
        found_by_both(lab, CLASHES)


@pytest.mark.parametrize("group", ["GUESTS", "HOSTS", "LOGINS", "DISKS"])
def test_each_mistake_is_found_and_its_remedy_fixes_it(lab, observed, group):
    with contextlib.ExitStack() as afterwards, contextlib.ExitStack() as remedies:
        made = getattr(mistakes, group)
        for mistake in made:
            afterwards.callback(mistake.after, lab)
            remedies.callback(mistake.fix, lab)
            mistake.make(lab)
        data = observed.check(lab)
        found_by_both(lab, made)
        remedies.close()
        after = observed.check(lab)
    assert not data["ok"]
    for mistake in made:
        found = [finding for finding in data["findings"] if mistake.is_in(finding)]
        assert len(found) == 1, (mistake, data["findings"])
        assert found[0]["outcome"] == mistake.outcome
        assert mistake.remedy in found[0]["remedy"], (mistake, found[0])
        assert not [finding for finding in after["findings"] if mistake.is_in(finding)], mistake


@pytest.mark.pair
def test_a_closed_node_is_no_destination_and_no_fault(lab, observed):
    lab.salt("node2", "kvmcluster.cordon", "new memory")
    try:
        data = observed.check(lab)
        (cordoned,) = reported(data, "node.cordon")
    finally:
        lab.ctl("salt-run", "--", "kvmcluster.undrain", "node2")
    assert (cordoned["outcome"], cordoned["nodes"]) == (PROBLEM, ["node2"])
    assert cordoned["remedy"] == "salt-run kvmcluster.undrain node2"
    assert data["ok"] and row(data, "web")["movable_to"] == ["node3"]
    assert not reported(observed.check(lab), "node.cordon")


def test_a_stopped_daemon_is_a_problem_there_and_a_gap_elsewhere(lab, observed):
    lab.ctl("kill", "node3", "libvirtd")
    try:
        data = observed.check(lab)
    finally:
        lab.ctl("start", "node3", "libvirtd")
    (stopped,) = reported(data, "node.daemon")
    assert (stopped["outcome"], stopped["nodes"]) == (PROBLEM, ["node3"])
    assert "systemctl restart libvirtd" in stopped["remedy"]
    assert row(data, "web")["movable_to"] == ["node2"]
    assert observed.check(lab)["ok"]


def test_a_cut_node_is_not_known_and_its_peers_say_what_they_saw(lab, observed):
    lab.ctl("cut", "node3")
    try:
        data = observed.check(lab)
    finally:
        lab.heal("node3")
    (silent,) = reported(data, "node.daemon")
    assert (silent["outcome"], silent["nodes"]) == (UNKNOWN, ["node3"])
    unreached = [
        found for found in reported(data, "ssh.reach") if found["destinations"] == ["node3"]
    ]
    assert {found["outcome"] for found in unreached} == {PROBLEM}
    assert {node for found in unreached for node in found["nodes"]} == {"node1", "node2"}
    assert (data["moves"], data["movable"]) == (6, 3)
    # Its minion and its storage take a moment to notice that the network is back.
    until(lambda: lab.ask(["node3"], "test.ping", patience=3), "an answer of node3")
    assert any(observed.check(lab)["ok"] for _ in range(8))


def test_what_is_in_the_place_of_a_definition_is_not_taken_for_none(lab, observed):
    path = LISTED["web"]["xmlfile"]
    lab.exec("node1", "sh", "-c", f"mv {path} {path}.kept && mkdir {path}")
    try:
        (finding,) = reported(observed.check(lab), "guest.definition")
    finally:
        lab.exec("node1", "sh", "-c", f"rmdir {path} && mv {path}.kept {path}")
    assert finding["outcome"] == UNKNOWN


def test_libvirts_own_handover_is_not_for_a_disk_that_nothing_guards(lab, observed):
    try:
        with lab.pillar() as pillar:
            pillar.cluster["migration"] = {"tls": True, "handover": "libvirt"}
            pillar.save()
            lab.refresh_pillar()
            (finding,) = reported(observed.check(lab), "guest.handover")
    finally:
        lab.refresh_pillar()
    # The other guest of the lab is on a file system whose locks reach the other nodes.
    assert (finding["outcome"], set(finding["guests"])) == (PROBLEM, {"lun", "nbd"})
    assert "vda" in finding["sentence"] and "handover=strict" in finding["remedy"]


def test_a_guest_goes_to_no_node_that_its_only_leaves_out(lab, observed):
    try:
        with lab.pillar() as pillar:
            pillar.cluster["guests"]["list"]["web"]["only"] = ["node1", "node2"]
            pillar.save()
            lab.refresh_pillar()
            (finding,) = reported(observed.check(lab), "guest.only")
    finally:
        lab.refresh_pillar()
    where = (finding["outcome"], finding["guests"], finding["destinations"])
    assert where == (PROBLEM, ["web"], ["node3"])


def test_every_check_was_seen_with_every_outcome(observed):
    """Runs last: what the tests above have seen, and what no machine like this one shows."""
    wanted = {(check.id, outcome) for check in REGISTRY for outcome in (OK, PROBLEM, UNKNOWN)}
    assert wanted - observed.outcomes == set(ELSEWHERE)
