"""What kvmcluster.migrate asks is enough: it forbids what a look at all that can be known forbids.

Everything is broken for real, as in test_check.py. Each guest is judged by both ways on its own
node, for each destination; the answers have to be the same, word by word.
"""

import contextlib
import json
import pathlib
import re
import sys

import mistakes
import pytest
from mistakes import Mistake, destroy, disk, each, on, start

from saltext_kvmcluster.core.checks import REGISTRY

VERDICTS = pathlib.Path(__file__).with_name("verdicts.py")
BLOCKING = {check.id for check in REGISTRY if check.severity == "BLOCK"}
GUESTS = {
    "web": ("node1", "--bridge"),
    "lun": ("node1", "--disk", "lun"),
    "nbd": ("node3", "--disk", "nbd"),
}
NBD = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
    "<source protocol='nbd' name='nbd'><host name='master' port='10809'/></source>"
    "<target dev='vda' bus='virtio'/></disk>"
)
TOGETHER = disk(f"{mistakes.VOLUME}/both.img").replace("<target", "<shareable/><target")


def mistake(check, guest, make, cure):
    return Mistake(check, "", {"guests": [guest]}, make, "", cure=cure)


CLASHES = [
    # What runs is known closely only where it may use the same disk.
    mistake("guest.disk", "nbd", start("node2", "thief", devices=NBD), destroy("node2", "thief")),
    mistake(
        "",
        "one",
        each(
            on("node1", f"truncate -s 1M {mistakes.VOLUME}/both.img"),
            start("node1", "one", devices=TOGETHER),
            start("node2", "two", devices=TOGETHER),
        ),
        each(destroy("node1", "one"), destroy("node2", "two")),
    ),
]
# A node cannot ask sshd elsewhere; that it lets nobody in shows in ssh.reach.
NOT_TOLD = {"ssh.authorized"}


@pytest.fixture(scope="module")
def lab(prepared_lab):
    for name, (node, *options) in GUESTS.items():
        prepared_lab.guest(name, node, *options)
    yield prepared_lab
    for name in GUESTS:
        prepared_lab.stop_guest(name)


def judged(lab):
    """Return the blocking findings by both ways, for each guest and destination."""
    with lab.pillar() as pillar:
        told = json.dumps({"kvmcluster": pillar.cluster})
    said = [lab.exec(node, sys.executable, VERDICTS, node, stdin=told) for node in lab.nodes]
    # How much memory is free is another thing at every look.
    lines = re.sub(r"\d+ MiB are available", "some are available", "".join(said)).splitlines()
    return [json.loads(line) for line in lines]


def said(findings):
    """Return what findings say; for which names ssh is set up differs, since a move needs few."""
    return [
        [check, outcome, "" if check == "ssh.config" else words]
        for check, outcome, words in findings
    ]


def test_nothing_forbids_what_is_sound(lab):
    cells = judged(lab)
    assert len(cells) == 2 * len(GUESTS)
    assert all(cell["all"] == cell["few"] == [] for cell in cells), cells


@pytest.mark.parametrize("group", ["GUESTS", "HOSTS", "LOGINS", "DISKS", "CLASHES"])
def test_what_forbids_a_move_is_found_by_little(lab, group):
    made = CLASHES if group == "CLASHES" else getattr(mistakes, group)
    with contextlib.ExitStack() as afterwards, contextlib.ExitStack() as remedies:
        for one in made:
            afterwards.callback(one.after, lab)
            remedies.callback(one.mend, lab)
            one.make(lab)
        cells = judged(lab)
    different = [cell for cell in cells if said(cell["all"]) != said(cell["few"])]
    assert not different, json.dumps(different, indent=1)
    found = {check for cell in cells for check, *_ in cell["few"]}
    assert found >= {one.check for one in made} & BLOCKING - NOT_TOLD
