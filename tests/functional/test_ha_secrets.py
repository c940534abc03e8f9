"""State ha_secrets: which files with secrets of fence devices a node keeps, which it removes."""

import pathlib

import pytest
from sandbox import NODES, sh

FOLDER = pathlib.Path("/var/lib/pacemaker/lrm/secrets")
CIB = pathlib.Path("/var/lib/pacemaker/cib/cib.xml")
READS = """<cib><configuration><resources><primitive id="kvmcluster-fence-{}" class="stonith">
<instance_attributes id="i"><nvpair id="n" name="password" value="lrm://"/></instance_attributes>
</primitive></resources></configuration></cib>"""


@pytest.fixture
def fenced(kvm):
    """A function that runs the state with some devices, each with a password."""
    sh("rm", "-rf", FOLDER)
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    sh("chown", "-R", "hacluster:", "/var/lib/pacemaker")

    def run(*names, test=False):
        secrets = {"password": {"pillar": "board"}}
        board = {"agent": "fence_x", "nodes": ["alpha", "beta"], "secrets": secrets}
        fencing = {"devices": dict.fromkeys(names, board)}
        cluster = {"name": "test", "nodes": NODES, "ha": {"fencing": fencing}}
        kvm.pillar(raw={"kvmcluster": cluster, "board": "x1y2"})
        return kvm.states[test]["kvmcluster.ha_secrets"]("secrets")

    yield run
    sh("rm", "-rf", FOLDER, CIB)


def kept():
    return sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*"))


def test_a_secret_goes_once_its_device_is_in_neither_pillar_nor_pacemaker(fenced):
    theirs = FOLDER / "theirs" / "password"
    assert fenced("old", "new")["result"] is True
    theirs.parent.mkdir()
    theirs.write_text("z")
    CIB.parent.mkdir(parents=True, exist_ok=True)
    CIB.write_text(READS.format("old"))
    before = kept()
    dry = fenced("new", test=True)
    assert dry["result"] is None and kept() == before
    stays = fenced("new")
    assert stays["result"] is True and not stays["changes"] and kept() == before
    assert "kvmcluster-fence-old/password stays until Pacemaker no longer" in stays["comment"]
    CIB.write_text(READS.format("new"))
    real = fenced("new")
    assert real["result"] is True and real["changes"] == dry["changes"] and "x1y2" not in str(real)
    new = ["kvmcluster-fence-new", "kvmcluster-fence-new/password"]
    assert kept() == [*new, "kvmcluster-fence-new/password.sign", "theirs", "theirs/password"]
    assert not fenced("new")["changes"]
