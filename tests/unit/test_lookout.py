"""What keeps one handover from being completed does not keep others from it."""

import pytest

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.host import lookout

CLUSTER = object()


@pytest.fixture
def tried(monkeypatch):
    """The guests that were tried; ``odd`` cannot be."""
    found = []

    def complete(cluster, here, uuid):
        assert (cluster, here) == (CLUSTER, "node1")
        found.append(uuid)
        if uuid == "odd":
            raise WorldError("its lock cannot be opened; move it away")

    monkeypatch.setattr(lookout, "complete", complete)
    return found


def test_one_that_fails_hinders_no_other(monkeypatch, tried):
    monkeypatch.setattr(lookout, "unsettled", lambda here: ["odd", "web1"])
    due = lookout.attempt(CLUSTER, "node1", {})
    assert tried == ["odd", "web1"] and set(due) == {"odd", "web1"}
    assert lookout.attempt(CLUSTER, "node1", due) == due and len(tried) == 2, "not due yet"
    late = {uuid: (0.0, pause) for uuid, (_, pause) in due.items()}
    again = lookout.attempt(CLUSTER, "node1", late)
    assert tried == ["odd", "web1"] * 2
    assert all(lookout.INTERVAL < pause <= lookout.LATER for _, pause in again.values())


def test_what_is_settled_is_forgotten(monkeypatch, tried):
    monkeypatch.setattr(lookout, "unsettled", lambda here: [])
    assert lookout.attempt(CLUSTER, "node1", {"web1": (0.0, 1.0)}) == {}
    assert tried == []


def test_a_journal_that_cannot_be_read_is_read_again_later(monkeypatch, tried):
    def unsettled(here):
        raise WorldError("it is not a folder; move it away")

    monkeypatch.setattr(lookout, "unsettled", unsettled)
    due = {"web1": (0.0, 1.0)}
    assert lookout.attempt(CLUSTER, "node1", due) == due and tried == []
