"""Leases: definitions and libvirt's configuration with them, all else as it was."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import Changes
from saltext_kvmcluster.core.guest import domainxml, leases
from saltext_kvmcluster.core.guest.domainxml import Lease
from saltext_kvmcluster.core.pillar.clusters import Guests
from saltext_kvmcluster.core.storage import lock_manager, lock_settings

UUID = "11111111-1111-1111-1111-111111111111"
FOLDER = "/mounts/gfs/kvmcluster-leases"
LEASE = Lease("kvmcluster-leases", UUID, "/mounts/gfs")
HEAD = f"<domain type='kvm'><name>web1</name><uuid>{UUID}</uuid><memory>1</memory>"
PLAIN = f"""<?xml version="1.0"?>
<!-- ours: </devices> -->
{HEAD}
  <devices>
    <disk type='network' device='disk'>
      <source protocol='nbd' name='</devices>'/><target dev='vda'/>
    </disk>
  </devices>
</domain>
""".replace("name='</devices>'", "name='x'")


def added(text, folder=FOLDER):
    return leases.added("web1", text, folder, "the text")


def test_a_lease_is_one_line_more_and_all_else_stays():
    after = added(PLAIN)
    assert domainxml.parse(after).leases == (LEASE,)
    new = [line for line in after.splitlines() if line not in PLAIN.splitlines()]
    assert new == [
        "    <lease><lockspace>kvmcluster-leases</lockspace>"
        f"<key>{UUID}</key><target path='/mounts/gfs'/></lease>".replace("'", '"')
    ]
    assert after.replace(f"{new[0]}\n", "") == PLAIN
    assert added(after) == after


@pytest.mark.parametrize(
    "devices",
    [
        "<devices></devices>",
        "<devices>\n</devices>",
        "<devices><!-- </devices> --></devices>",
        "<devices></devices ><!-- </devices> -->",
        "<devices><emulator>/x</emulator>\r\n\t</devices>",
        "<devices><lease><lockspace>l</lockspace><key>k</key><target path='/l'/></lease></devices>",
    ],
)
def test_devices_are_found_however_they_are_written(devices):
    text = f"{HEAD}{devices}</domain>"
    before, after = domainxml.parse(text), domainxml.parse(added(text))
    assert after.leases == (*before.leases, LEASE)


@pytest.mark.parametrize("devices", ["", "<devices/>", "<!-- <devices></devices> -->"])
def test_where_there_is_no_place_for_it_the_line_is_told(devices):
    with pytest.raises(InputError, match="<key>11111111-"):
        added(f"{HEAD}{devices}</domain>")


@pytest.mark.parametrize("text", ["", "<domain", "<network/>", PLAIN.replace("web1", "web2")])
def test_what_is_no_definition_of_it_gets_none(text):
    with pytest.raises(InputError):
        added(text)


@given(st.text(max_size=40))
def test_whatever_is_around_the_devices_stays(text):
    whole = PLAIN.replace("ours:", f"{re.sub('[^ -~]|-', '', text)}:")
    after = added(whole)
    assert len(after.splitlines()) == len(whole.splitlines()) + 1
    assert domainxml.parse(after).leases == (LEASE,)


def test_the_folder_is_that_of_the_pillar_or_in_the_first_folder_of_definitions():
    assert Guests(path=("/mounts/gfs", "/guests")).leases_in == FOLDER
    assert Guests(path=("/",)).leases_in == "/kvmcluster-leases"
    assert Guests(path=("/x",), lease_folder="/y/z").leases_in == "/y/z"
    assert Guests().leases_in == ""


# ---- libvirt's configuration

SHIPPED = """# Master configuration file
#lock_manager = "lockd"

max_processes = 10 # lock_manager = "x"
"""


def test_lockd_is_set_below_its_default_and_no_other_line_changes():
    found = lock_settings.qemu_conf(SHIPPED)
    assert found.changes == Changes(added=('lock_manager = "lockd"',))
    lines = SHIPPED.splitlines()
    assert found.text.splitlines() == [*lines[:2], 'lock_manager = "lockd"', *lines[2:]]
    again = lock_settings.qemu_conf(found.text)
    assert (again.text, again.changes) == (found.text, Changes())


@pytest.mark.parametrize("text", ["lock_manager = 'lockd'", ' lock_manager="lockd" # ours'])
def test_what_says_the_same_stays(text):
    assert lock_settings.qemu_conf(text).text == text


def test_another_value_is_replaced_and_repetitions_go():
    found = lock_settings.qemu_conf('a = 1\nlock_manager = "nop"\nb = 2\nlock_manager = "x"\n')
    assert found.text == 'a = 1\nlock_manager = "lockd"\nb = 2\n'
    assert 'lock_manager = "nop" -> lock_manager = "lockd"' in found.changes.replaced


def test_sanlock_is_not_taken_away():
    with pytest.raises(InputError, match="sanlock"):
        lock_settings.qemu_conf("lock_manager = 'sanlock'")


def test_an_empty_or_missing_file_is_filled():
    found = lock_settings.lockd_conf("", FOLDER)
    assert found.text == f'auto_disk_leases = 1\nfile_lockspace_dir = "{FOLDER}"\n'
    assert lock_settings.lockd_conf(found.text, FOLDER).changes == Changes()


def test_leases_by_hand_alone_are_switched_to_automatic_ones_since_lockd_knows_no_folder_else():
    found = lock_settings.lockd_conf("auto_disk_leases = 0\nscsi_lockspace_dir = '/s'\n", FOLDER)
    assert "auto_disk_leases = 0 -> auto_disk_leases = 1" in found.changes.replaced
    assert "scsi_lockspace_dir = '/s'\n" in found.text


def test_another_folder_is_not_left_while_guests_hold_leases_in_it():
    with pytest.raises(InputError) as caught:
        lock_settings.lockd_conf('file_lockspace_dir = "/old"\n', FOLDER)
    assert "lease_folder to /old" in str(caught.value)


LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=30)
    | st.sampled_from(["lock_manager = 'nop'", "#lock_manager = x", "auto_disk_leases = 0"]),
    max_size=6,
)


@given(LINES)
def test_any_configuration_ends_with_lockd_and_its_own_lines(lines):
    text = "".join(f"{line}\n" for line in lines)
    if lock_manager.name_of(text) == "sanlock":
        return
    after = lock_settings.qemu_conf(text)
    assert lock_manager.name_of(after.text) == "lockd"
    assert lock_settings.qemu_conf(after.text).changes == Changes()
    ours = re.compile(r"\s*lock_manager\s*=")
    kept = [line for line in text.splitlines() if not ours.match(line)]
    assert [line for line in after.text.splitlines() if not ours.match(line)] == kept
