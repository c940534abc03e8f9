"""A lock that the file system releases some milliseconds after QEMU closed the image."""

import libvirtd
import scenario

REFUSED = "unable to execute QEMU command 'cont': Failed to get shared \"write\" lock"


def test_the_copy_is_resumed_over_the_same_connection(monkeypatch):
    resume, asked = libvirtd.Daemon.resume, []

    def late(self, uuid, wanted=None):
        asked.append(self.world.now)
        if len(asked) == 1:
            raise libvirtd.LibvirtError(f"internal error: {REFUSED}")
        return resume(self, uuid, wanted)

    monkeypatch.setattr(libvirtd.Daemon, "resume", late)
    run = scenario.Run(scenario.Scenario(("migrate web1 from node1 to node2 patience=60",)))
    outcome = run.outcome()
    assert not outcome.wrong
    assert "result: moved, owner: node2" in scenario.plain(outcome.log)
    first, second = asked
    assert second - first < 0.1, "a new connection takes 0.2 s"
