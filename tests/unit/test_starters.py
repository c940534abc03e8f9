"""What starts guests at a node's next boot, by the files and programs of several systems."""

import pytest

from saltext_kvmcluster.core.facts import starters
from saltext_kvmcluster.core.facts.parsers import CommandOutput
from saltext_kvmcluster.core.facts.starters import CONFIGS, LIST, SCRIPTS, Starters
from saltext_kvmcluster.core.findings import BLOCK, UNKNOWN, WARN
from saltext_kvmcluster.core.ownership import next_boot
from saltext_kvmcluster.core.ownership.startup import NodeAnswer, Request
from saltext_kvmcluster.core.pacemaker.fencing import FencingRuling
from saltext_kvmcluster.core.verdicts import Observation, Sighting

UUID = "16a36525-6e7b-454c-93a9-97f91369f824"
OTHER = "00000000-6e7b-454c-93a9-97f91369f824"
DEBIAN, FEDORA = SCRIPTS
DEFAULT, SYSCONFIG, CONFD = CONFIGS
SCRIPT_OF_DEBIAN = f"""{DEBIAN}:ON_BOOT="ignore"
{DEBIAN}:test -f "$sysconfdir"/default/libvirt-guests &&
{DEBIAN}:    . "$sysconfdir"/default/libvirt-guests
"""
SCRIPT_OF_FEDORA = f"""{FEDORA}:ON_BOOT="start"
{FEDORA}:test -f "$initconfdir"/sysconfig/libvirt-guests &&
"""
STARTS = f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=start\n"
KEPT = f"{LIST}:default {UUID} {OTHER}\n"


def parsed(
    files=SCRIPT_OF_DEBIAN, unit="enabled\n", unit_code=0, code=2, once="", error="", **settings
):
    outputs = {
        "guests_files": CommandOutput(code, files),
        "guests_unit": CommandOutput(unit_code, unit, error),
        "started_once": CommandOutput(0, once),
    }
    return starters.parse(outputs.__getitem__, settings)


@pytest.mark.parametrize(
    ("files", "path"),
    [
        (STARTS, DEFAULT),
        (SCRIPT_OF_FEDORA, FEDORA),
        (f"{SCRIPT_OF_FEDORA}{SYSCONFIG}:ON_BOOT='start' # since March\n", SYSCONFIG),
        (f'{SCRIPT_OF_FEDORA}{SYSCONFIG}:  export ON_BOOT="start"\n', SYSCONFIG),
        (f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=ignore\n{DEFAULT}:ON_BOOT=start\n", DEFAULT),
        (f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=start;\n", DEFAULT),
    ],
)
@pytest.mark.parametrize("unit", ["enabled\n", "enabled-runtime\n", "generated\n", "alias\n"])
def test_a_service_that_starts_guests(files, path, unit):
    found = parsed(files + KEPT, unit)
    assert path in found.service
    assert found.listed == {UUID, OTHER}
    assert found.remedy.startswith("ON_BOOT=ignore in /etc/")
    assert not found.detail


@pytest.mark.parametrize(
    "files",
    [
        SCRIPT_OF_DEBIAN,
        f"{CONFD}:ON_BOOT=ignore\n",
        f"{SCRIPT_OF_DEBIAN}{DEFAULT}:# ON_BOOT=start\n",
        f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_SHUTDOWN=suspend # as ON_BOOT\n",
        f"{SCRIPT_OF_DEBIAN}{DEFAULT}:OTHER=/etc/default/other\n",
        f"{SCRIPT_OF_FEDORA}{SYSCONFIG}:  ON_BOOT=start\n{SYSCONFIG}:ON_BOOT=ignore\n",
        f"{SCRIPT_OF_FEDORA}{SYSCONFIG}:. /etc/site\n{SYSCONFIG}:ON_BOOT='ignore' # ours\n",
        f"{SCRIPT_OF_DEBIAN}{DEBIAN}:if [ x$ON_BOOT != xstart ]; then\n",
        f"{SCRIPT_OF_DEBIAN}{SYSCONFIG}:ON_BOOT=start\n",
        f"{SCRIPT_OF_FEDORA}{SYSCONFIG}:ON_BOOT=ignore\n",
        f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=\n",
        f"{SCRIPT_OF_DEBIAN}{DEBIAN}:    ON_BOOT=start\n",
        f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=starting\n",
    ],
)
def test_a_service_that_starts_none(files):
    assert parsed(files + KEPT) == Starters()


@pytest.mark.parametrize(
    ("unit", "error"),
    [
        ("disabled\n", ""),
        ("masked\n", ""),
        ("masked-runtime\n", ""),
        ("static\n", ""),
        ("not-found\n", ""),
        ("", "Failed to get unit file state for libvirt-guests.service: No such file or directory"),
    ],
)
def test_a_service_that_does_not_run_at_boot(unit, error):
    assert parsed(STARTS + KEPT, unit, 1, error=error) == Starters()


@pytest.mark.parametrize(
    "case",
    [
        {"files": STARTS, "unit": "", "unit_code": 127},
        {"files": STARTS, "unit": "", "unit_code": None},
        {"files": STARTS, "unit": "", "unit_code": 1, "error": "Failed to connect to bus"},
        {"files": "", "code": 127},
        {"files": "", "code": None},
        {"files": f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=$(site-policy)\n"},
        {"files": f'{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT="$POLICY"\n'},
        {"files": ""},
        {"files": f"{SCRIPT_OF_DEBIAN}{DEFAULT}:[ -e /x ] && ON_BOOT=start\n"},
        {"files": f"{SCRIPT_OF_DEBIAN}{DEFAULT}:: ${{ON_BOOT:=start}}\n"},
        {"files": f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_SHUTDOWN=suspend ON_BOOT=start\n"},
        {"files": f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=ignore; ON_BOOT=start\n"},
        {"files": f'{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=st"art"\n'},
        {"files": f"{SCRIPT_OF_DEBIAN}{DEFAULT}:. /etc/site/libvirt-guests\n"},
        {"files": f"{SCRIPT_OF_DEBIAN}{DEFAULT}:ON_BOOT=ignore\n{DEFAULT}:source /etc/site\n"},
        {"files": f"{SCRIPT_OF_FEDORA}{SYSCONFIG}:    ON_BOOT=ignore\n"},
        {"files": f"{SCRIPT_OF_FEDORA}{SYSCONFIG}:if x; then\n{SYSCONFIG}:ON_BOOT=ignore\n"},
        {"files": f"{SCRIPT_OF_DEBIAN}{DEFAULT}:    ON_BOOT=start\n"},
    ],
)
def test_what_is_not_known_is_never_that_nothing_starts(case):
    found = parsed(**case)
    assert found.detail
    (issue,) = starters.issues("node1", seen(), found)
    assert issue.outcome == UNKNOWN


def test_a_node_without_systemctl_whose_settings_start_none_is_known():
    assert parsed(SCRIPT_OF_DEBIAN, "", 127) == Starters()
    assert parsed("", "", 127) == Starters(), "there is no libvirt-guests"


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({}, False),
        ({"auto_shutdown_try_save": "none"}, False),
        ({"auto_shutdown_try_save": "persistent"}, True),
        ({"auto_shutdown_try_shutdown": "all"}, True),
        ({"auto_shutdown_poweroff": "all", "auto_shutdown_restore": "0"}, False),
        ({"auto_shutdown_poweroff": "all", "auto_shutdown_restore": "1"}, True),
    ],
)
def test_a_daemon_that_stops_guests_at_shutdown_starts_them_at_boot(settings, starts):
    assert bool(parsed(**settings).daemon) == starts


def seen(sighting=Sighting.RUNNING, persistent=True):
    return Observation(sighting, "web1", UUID, persistent=persistent)


FOUND = parsed(STARTS + KEPT, once="web1.xml\nweb2.xml.once\nweb1.xml.once\n")


@pytest.mark.parametrize(
    ("observation", "found", "severities"),
    [
        (seen(), FOUND, [BLOCK, BLOCK]),
        (seen(Sighting.SHUT_OFF), FOUND, [BLOCK, BLOCK]),
        (seen(), parsed(STARTS), [WARN]),
        (seen(Sighting.PAUSED_BY_USER), parsed(STARTS), [WARN]),
        (seen(Sighting.SHUT_OFF), parsed(STARTS), []),
        (seen(), parsed(auto_shutdown_poweroff="all"), [WARN]),
        (seen(), parsed(STARTS, auto_shutdown_poweroff="all"), [WARN, WARN]),
        (seen(persistent=False), FOUND, []),
        (seen(Sighting.ABSENT), FOUND, []),
        (seen(Sighting.UNREACHABLE), None, []),
    ],
)
def test_what_starts_a_guest(observation, found, severities):
    issues = [*starters.issues("node1", observation, found)]
    assert [one.severity or BLOCK for one in issues] == severities
    assert all("node1" in one.sentence and one.remedy for one in issues)


def warned(definitions="defined", offline=(), found=FOUND, **answers):
    asked = {node: NodeAnswer(observation) for node, observation in answers.items()}
    request = Request("web1", UUID, "node1", definitions, frozenset(offline))
    known = dict.fromkeys(next_boot.keepers(asked), found)
    return [*next_boot.warnings(request, asked, known)]


def test_a_start_warns_of_what_starts_the_guest_again():
    (text, once) = warned(node1=seen(), node2=Observation(Sighting.ABSENT))
    assert "on the list of libvirt-guests" in text
    assert f"ON_BOOT=ignore in {DEFAULT}" in text
    assert "autostart --once" in once
    assert warned("shared", node1=seen(persistent=False)) == []
    assert warned(found=Starters(), node1=seen(), node2=seen(Sighting.SHUT_OFF)) == []


def test_a_start_warns_of_the_next_boot_of_a_node_that_is_declared_offline():
    (text,) = warned(offline=["node3"], found=Starters(), node1=seen())
    assert text.startswith("node3 was declared offline")
    assert warned("shared", ["node3"], Starters(), node1=seen(persistent=False)) == []


def test_a_start_warns_of_the_next_boot_of_a_node_that_was_fenced():
    asked = {
        "node1": NodeAnswer(seen()),
        "node3": NodeAnswer(detail="no route", fenced=FencingRuling(True, "fenced")),
    }
    request = Request("web1", UUID, "node1", "defined")
    (text,) = next_boot.warnings(request, asked, {"node1": Starters()})
    assert text.startswith("node3 was fenced, so whether it starts web1 at its next boot")
