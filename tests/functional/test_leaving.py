"""What a node's files say of a guest that leaves it."""

import pytest

from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.host import leaving
from saltext_kvmcluster.host.leaving import Leaving

MOVE = Move("web1", "c6a03beb-295e-499a-b50f-94bfb088f6f2", "node1", "node2")
UP = "2024-01-01 10:00:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2\n"
SENT = "2024-01-01 10:30:00.000+0000: initiating migration\n"
DOWN = "2024-01-01 11:00:00.000+0000: shutting down, reason=migrated\n"


@pytest.mark.parametrize(
    ("log", "sent"), [(None, 0), ("", 0), (UP, 0), (UP + SENT, 1), (UP + DOWN + UP, 0), (DOWN, -1)]
)
def test_a_log_that_does_not_know_the_run_proves_nothing_later(tmp_path, monkeypatch, log, sent):
    monkeypatch.setattr(leaving, "LOGS", str(tmp_path))
    monkeypatch.setattr(leaving, "STATUS", str(tmp_path))
    if log is not None:
        (tmp_path / "web1.log").write_text(log)
    assert Leaving(MOVE).sent == sent


def test_a_log_that_cannot_be_read_proves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(leaving, "LOGS", str(tmp_path))
    (tmp_path / "web1.log").mkdir()
    assert Leaving(MOVE).sent == -1
