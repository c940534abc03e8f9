"""Which guests a node's highstate starts, as Salt compiles it there."""

import pytest
from sandbox import NODES, SALT

STATES = SALT / "states"
HA = {"ha": {"manage": False}, "guests": {"list": {"web1": {"ha": True}}, "path": "/srv/guests"}}
STARTS = """
web1:
  kvmcluster.guest_running: []
second:
  virt.running: [{name: web2}]
web3:
  kvmcluster.guest_placed: [{text: none}]
"""


@pytest.fixture
def facts(kvm):
    """A function that returns what a node reports with this highstate."""

    def report(sls, **more):
        kvm.pillar(raw={"kvmcluster": {"name": "test", "nodes": NODES, **more}})
        (STATES / "top.sls").write_text("base: {'*': [of_admins]}")
        (STATES / "of_admins.sls").write_text(sls)
        found = kvm.call("kvmcluster.facts", targets=False)
        return {key: found[key] for key in ("state_starts", "state_detail") if key in found}

    yield report
    for name in ("top", "of_admins"):
        (STATES / f"{name}.sls").unlink(missing_ok=True)


def test_what_the_highstate_starts_is_told_where_a_guest_has_ha(facts):
    assert facts(STARTS, **HA) == {"state_starts": ["web1", "web2"]}
    assert facts(STARTS) == {}


def test_why_it_is_not_known_is_told(facts):
    found = facts("web1: [\n", **HA)
    assert [*found] == ["state_detail"] and "of_admins" in found["state_detail"]
