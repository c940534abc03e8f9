"""What is collected of Pacemaker on a host: one that does not run, one that does not answer."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.ha.holds import Hold
from saltext_kvmcluster.core.pacemaker import cib, managers
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import CIB
from saltext_kvmcluster.host import collector, pacemaker_view
from saltext_kvmcluster.host.pacemaker_control import Control
from saltext_kvmcluster.host.ssh import Session

WANTED = pathlib.Path("/etc/systemd/system/multi-user.target.wants/pacemaker.service")
RESOURCE = (
    '<primitive id="{0}" class="ocf" provider="heartbeat" type="VirtualDomain">'
    '<instance_attributes id="{0}-i"><nvpair id="{0}-c" name="config" value="{1}"/>'
    "</instance_attributes></primitive>"
)


@pytest.fixture(autouse=True)
def cleared():
    def clear():
        pathlib.Path(CIB).unlink(missing_ok=True)
        WANTED.unlink(missing_ok=True)

    clear()
    yield
    clear()


def kept(**configs):
    """Leave a CIB, and have Pacemaker start with the host."""
    resources = "".join(RESOURCE.format(name, path) for name, path in configs.items())
    file = pathlib.Path(CIB)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"<cib><configuration><resources>{resources}</resources></configuration><status/></cib>"
    )
    WANTED.parent.mkdir(parents=True, exist_ok=True)
    WANTED.symlink_to("/lib/systemd/system/pacemaker.service")


def observed():
    """Return what both ways to ask a host find, which is the same."""
    with contextlib.closing(Session()) as shell:
        found = pacemaker_view.observed(shell)
        assert pacemaker_view.fenced(shell) is None
    reported = node_report.parse("node1", collector.gather_host("node1"), 0.0, 0.0)
    assert reported.pacemaker == found
    return found


def test_where_it_neither_runs_nor_starts_there_is_none():
    begun = time.monotonic()
    assert observed() == Pacemaker()
    kept()
    WANTED.unlink()
    assert observed() == Pacemaker()
    assert time.monotonic() - begun < 10


def test_what_its_resources_name_is_read_from_the_files(tmp_path):
    good, spoilt, pipe = tmp_path / "web.xml", tmp_path / "x.xml", tmp_path / "pipe"
    good.write_text(
        "<domain type='kvm'><metadata><name>no</name></metadata><name>web1</name></domain>"
    )
    spoilt.write_text("<domain><name>web2</name>")
    os.mkfifo(pipe)
    kept(vm=good, broken=spoilt, hangs=pipe, folder=tmp_path, missing=tmp_path / "none")
    found = observed()
    assert found.guests == {str(good): "web1"}
    assert found.unread.keys() == {str(one) for one in (spoilt, pipe, tmp_path, tmp_path / "none")}
    assert "no answer within 5 s" in found.unread[str(pipe)]
    assert "No such file" in found.unread[str(tmp_path / "none")]
    for guest in ("web1", "web2"):
        assert str(managers.of(guest, {"node1": found})) == "?"


def test_one_that_runs_and_does_not_answer_is_not_known(tmp_path):
    daemon = tmp_path / "pacemakerd"
    shutil.copy("/bin/sleep", daemon)
    with subprocess.Popen([daemon, "60"]) as process:
        try:
            found = observed()
        finally:
            process.kill()
    assert found.runs and found.error.startswith("crm_mon: ")
    assert str(managers.of("web1", {"node1": found})) == "?"
    assert observed() == Pacemaker()


EMPTY = (
    '<cib admin_epoch="0" epoch="1" num_updates="0" validate-with="pacemaker-3.0"><configuration>'
    '<crm_config/><nodes><node id="1" uname="node1"/></nodes><resources>{0}</resources>'
    "<constraints/></configuration><status/></cib>"
)


def test_cibadmin_makes_one_hold_and_ends_that_alone(tmp_path):
    file = tmp_path / "cib.xml"
    file.write_text(EMPTY.format(RESOURCE.format("web1", "/srv/web1.xml")))
    hold, other = (Hold("migrate", node, "2026-11-29T10:45:06.123+00:00") for node in "ab")

    def found():
        return cib.parse(file.read_text())

    with contextlib.closing(Session()) as shell:
        # Pacemaker's tools then work on a file, without a cluster.
        shell.run(f"export CIB_file={file}")
        control = Control(shell)
        assert control.hold("web1", hold)
        assert not control.hold("web1", other)
        assert not control.hold("web2", other)
        assert found().guests[0].mark == hold.mark and not found().guests[0].managed
        control.release("web1", other.mark)
        assert found().guests[0].mark == hold.mark
        control.want("web1", "Stopped")
        control.release("web1", hold.mark)
        assert found().guests[0].mark == "" and found().guests[0].managed
        assert control.standby("node1", "1", "drained, it's <new>")
        assert not control.standby("node1", "1", "again")
        assert found().standbys == {"node1": "drained, it's <new>"}
        shell.run("crm_attribute -N node1 -n standby -D")
        assert found().standbys == {}
        assert control.standby("node1", "1", "again")
        assert found().standbys == {"node1": "again"}
        control.end_standby("node1", "1")
        assert found().standbys == {}
        for by_hand in ("-d is-managed", "-p is-managed -v true"):
            assert control.hold("web1", hold)
            shell.run(f"crm_resource -r web1 --meta {by_hand}")
            assert (found().guests[0].mark, found().guests[0].managed) == ("", True)
            assert control.hold("web1", other)
            assert (found().guests[0].mark, found().guests[0].managed) == (other.mark, False)
            control.release("web1", other.mark)
            assert found().guests[0].managed and "hold" not in file.read_text()
        with pytest.raises(WorldError, match="crm_resource on this node failed"):
            control.want("web2", "Stopped")
