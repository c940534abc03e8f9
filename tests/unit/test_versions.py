"""What is new says since when: administrators have several versions side by side."""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent.parent / "src" / "saltext_kvmcluster"
# They were there before versions were noted, so that they may lack one.
BEFORE = {
    "modules": """
        access boot cancel check cordon depart departed facts fence fence_devices freeze
        guests history identity inspect job leave migrate peer_facts peers reboot
        reboot_guest recover responds restart_crashed shutdown sighting sls_check
        ssh_check standby start start_assigned startable state_jobs uncordon unfreeze
        unsettled unstandby
    """,
    "states": """
        applied assessed authorized_keys disk_leases drained guest_placed guest_running
        ha_authkey ha_corosync ha_fence_agents ha_fencing ha_guests ha_pillar
        ha_preflight ha_properties ha_secrets identities_published key_present
        known_hosts migration_ready migration_settled preflight reboot refused reported
        restored rolling rolling_done sls_ready ssh_config ssh_ready undrained
    """,
    "runners": """
        apply assess balance cancel capacity check console cordon display drain evacuate
        fence_test freeze ha_preflight history import_cluster_conf job members metrics
        migrate preflight publish react reboot recover report restore rolling
        rolling_done shutdown sls_check ssh_matrix start status uncordon undrain
        unfreeze watch
    """,
}
SINCE = re.compile(r"^ *\.\. versionadded:: \d+\.\d+\.\d+$", re.M)


def functions(text):
    """Return the public functions of a door, with their documentation."""
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def undated(kind, text):
    """Return what is new in a door, and does not say since when."""
    before = BEFORE[kind].split()
    return [
        name
        for name, documented in functions(text).items()
        if name not in before and not SINCE.search(documented)
    ]


@pytest.mark.parametrize("kind", BEFORE)
def test_what_is_new_says_since_when(kind):
    doors = sorted((SRC / kind).glob("*.py"))
    assert doors
    assert [name for door in doors for name in undated(kind, door.read_text("utf-8"))] == []


@pytest.mark.parametrize("kind", BEFORE)
def test_what_was_there_is_still_there(kind):
    there = {
        name for door in (SRC / kind).glob("*.py") for name in functions(door.read_text("utf-8"))
    }
    assert set(BEFORE[kind].split()) <= there


def test_one_without_a_version_is_found():
    new = 'def anew():\n    """Do.\n\n    .. versionadded:: {}\n    """\n'
    assert undated("modules", new.format("0.1.0")) == []
    assert undated("modules", new.format("")) == ["anew"]
    assert undated("modules", "def check():\n    pass\n") == []
