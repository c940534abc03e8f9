"""Publishing is done when the mine holds what the nodes themselves say."""

from material import KEYS, TIME, cluster, published, read

from saltext_kvmcluster.core.trust import publication

FOUND = cluster("node1", "node2", "node3")
TOLD = read(FOUND, node1=published("node1"), node2=published("node2")).accepted
LATER = "2027-01-02T03:04:05+00:00"


def test_answers_are_identities_or_the_reason_why_not():
    reported, failed = publication.reported_identities(
        FOUND, {"node1": published("node1"), "node2": "no pillar 'kvmcluster'"}
    )
    assert list(reported) == ["node1"]
    assert failed == {"node2": "no pillar 'kvmcluster'", "node3": "no response"}


def test_an_unfit_answer_has_failed_by_its_reason():
    _, failed = publication.reported_identities(FOUND, {"node1": published("node2")})
    assert "another node, 'node2'" in failed["node1"]


def test_another_time_alone_is_no_other_identity():
    later = read(FOUND, node1=published("node1", time=LATER)).accepted
    assert publication.pending(later, TOLD) == [] and LATER != TIME


def test_another_key_or_host_key_is_pending_until_the_mine_has_it():
    fresh = read(
        FOUND,
        node1=KEYS["node2-new"],
        node2=published("node2", host_keys=[{"key": KEYS["other"]}]),
    ).accepted
    assert publication.pending(fresh, TOLD) == ["node1", "node2"]
    assert publication.pending(fresh, {}) == ["node1", "node2"]
    assert publication.pending(fresh, fresh) == []


def test_the_order_of_host_keys_does_not_matter():
    keys = [{"key": KEYS["host1"]}, {"key": KEYS["host2"]}]
    one = read(FOUND, node1=published("node1", host_keys=keys)).accepted
    other = read(FOUND, node1=published("node1", host_keys=keys[::-1])).accepted
    assert publication.pending(one, other) == []


def test_the_report_tells_fresh_unchanged_late_and_failed_apart():
    before = {"node1": TOLD["node1"]}
    report = publication.report(FOUND, TOLD, before, TOLD, {"node3": "no response"})
    assert report["published"] == [f"node2 {TOLD['node2'].cluster_key.fingerprint}"]
    assert report["unchanged"] == ["node1"] and report["ok"] is False
    late = publication.report(FOUND, TOLD, before, before, {})
    assert list(late["failed"]) == ["node2"] and late["published"] == [] and not late["ok"]
    assert publication.report(FOUND, TOLD, TOLD, TOLD, {})["ok"] is True


def test_what_a_node_says_instead_is_one_printable_line():
    detail = "\x1b[2J\nOK: 18 of 18 logins good\r\n" + "x" * 1000
    _, failed = publication.reported_identities(FOUND, {"node1": detail})
    assert failed["node1"].isprintable() and "\n" not in failed["node1"]
    assert len(failed["node1"]) <= 501
