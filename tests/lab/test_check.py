"""Readiness on real parts: each mistake is found, and what the remedy says mends it.

Everything here is broken for real. What no machine like this one can show is named in ELSEWHERE.
"""

import contextlib

import mistakes
import pytest

from saltext_kvmcluster.core.checks import REGISTRY
from saltext_kvmcluster.core.findings import OK, PROBLEM, UNKNOWN

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
ELSEWHERE = {
    ("ssh.label", PROBLEM): "this kernel has no SELinux",
    ("node.clock", PROBLEM): "all nodes of the lab have one clock",
    ("storage.cache", UNKNOWN): READ,
    ("guest.blockers", UNKNOWN): READ,
    ("guest.frozen", UNKNOWN): READ,
    ("guest.lock", UNKNOWN): READ,
}
"""Outcomes that are seen in tests/unit/test_checks.py alone, with why."""


class Seen:
    """The outcomes that a cluster's checks had while the tests of this module ran."""

    def __init__(self):
        self.outcomes = set()

    def check(self, lab, *arguments):
        """Check the cluster and return its data; a check that tells nothing was OK."""
        data = lab.run("kvmcluster.check", *arguments)
        assert "error" not in data, data["error"]
        told = {(finding["id"], finding["outcome"]) for finding in data["findings"]}
        silent = {check.id for check in REGISTRY} - {check for check, _ in told}
        self.outcomes |= told | {(check, OK) for check in silent}
        return data


@pytest.fixture(scope="module")
def seen():
    return Seen()


@pytest.fixture(scope="module")
def lab(prepared_lab):
    """Three guests, on a file system, a LUN and a network disk, one listed; memory by TLS."""
    for node in prepared_lab.nodes:
        prepared_lab.exec(node, "sh", "-ec", CERTIFIED)
    with prepared_lab.pillar() as pillar:
        pillar.cluster["guests"]["list"] = LISTED
        pillar.cluster["migration"] = {"tls": True}
        pillar.save()
        for name, (node, *options) in DISKS.items():
            prepared_lab.guest(name, node, *options)
        refresh(prepared_lab)
        yield prepared_lab
        for name in DISKS:
            prepared_lab.stop_guest(name)
    refresh(prepared_lab)
    for node in prepared_lab.nodes:
        prepared_lab.exec(node, "rm", "-r", mistakes.CERTIFICATES)


def refresh(lab):
    lab.ctl("salt", "--", "*", "saltutil.refresh_pillar", "wait=True")


def told(data, check):
    return [finding for finding in data["findings"] if finding["id"] == check]


def row(data, guest):
    (found,) = (row for row in data["guests"] if row["guest"] == guest)
    return found


def test_what_is_said_to_be_movable_moves(lab, seen):
    data = seen.check(lab)
    assert (data["ok"], data["movable"], data["moves"]) == (True, 6, 6), data["findings"]
    assert [found["id"] for found in data["findings"]] == ["guest.lock"]
    for name, (node, *_) in DISKS.items():
        assert row(data, name)["node"] == node
        moved = lab.salt(node, "kvmcluster.migrate", name, "node3", PLAIN)
        assert moved["result"] == "moved", moved
        assert lab.salt("node3", "kvmcluster.migrate", name, node, PLAIN)["result"] == "moved"
        assert lab.record(name)["whole"]
    assert told(seen.check(lab, "web"), "guest.lock") == []


@pytest.mark.parametrize("group", ["GUESTS", "HOSTS", "LOGINS", "DISKS"])
def test_each_mistake_is_found_and_its_remedy_mends_it(lab, seen, group):
    with contextlib.ExitStack() as afterwards, contextlib.ExitStack() as remedies:
        made = getattr(mistakes, group)
        for mistake in made:
            afterwards.callback(mistake.after, lab)
            remedies.callback(mistake.mend, lab)
            mistake.make(lab)
        data = seen.check(lab)
        remedies.close()
        after = seen.check(lab)
    assert not data["ok"]
    for mistake in made:
        found = [finding for finding in data["findings"] if mistake.is_in(finding)]
        assert len(found) == 1, (mistake, data["findings"])
        assert found[0]["outcome"] == mistake.outcome
        assert mistake.remedy in found[0]["remedy"], (mistake, found[0])
        assert not [finding for finding in after["findings"] if mistake.is_in(finding)], mistake


def test_a_stopped_daemon_is_a_problem_there_and_a_gap_elsewhere(lab, seen):
    lab.ctl("kill", "node3", "libvirtd")
    try:
        data = seen.check(lab)
    finally:
        lab.ctl("start", "node3", "libvirtd")
    (stopped,) = told(data, "node.daemon")
    assert (stopped["outcome"], stopped["nodes"]) == (PROBLEM, ["node3"])
    assert "systemctl restart libvirtd" in stopped["remedy"]
    assert row(data, "web")["movable_to"] == ["node2"]
    assert seen.check(lab)["ok"]


def test_a_cut_node_is_not_known_and_its_peers_say_what_they_saw(lab, seen):
    lab.ctl("cut", "node3")
    try:
        data = seen.check(lab)
    finally:
        lab.ctl("heal", "node3")
    (silent,) = told(data, "node.daemon")
    assert (silent["outcome"], silent["nodes"]) == (UNKNOWN, ["node3"])
    unreached = [found for found in told(data, "ssh.reach") if found["destinations"] == ["node3"]]
    assert {found["outcome"] for found in unreached} == {PROBLEM}
    assert {node for found in unreached for node in found["nodes"]} == {"node1", "node2"}
    assert (data["moves"], data["movable"]) == (6, 3)
    # Its minion and its storage take a moment to notice that the network is back.
    assert any(seen.check(lab)["ok"] for _ in range(8))


def test_what_is_in_the_place_of_a_definition_is_not_taken_for_none(lab, seen):
    path = LISTED["web"]["xmlfile"]
    lab.exec("node1", "sh", "-c", f"mv {path} {path}.kept && mkdir {path}")
    try:
        (finding,) = told(seen.check(lab), "guest.definition")
    finally:
        lab.exec("node1", "sh", "-c", f"rmdir {path} && mv {path}.kept {path}")
    assert finding["outcome"] == UNKNOWN


def test_every_check_was_seen_with_every_outcome(seen):
    """Runs last: what the tests above have seen, and what no machine like this one shows."""
    wanted = {(check.id, outcome) for check in REGISTRY for outcome in (OK, PROBLEM, UNKNOWN)}
    assert wanted - seen.outcomes == set(ELSEWHERE)
