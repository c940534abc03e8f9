"""A drain that another process began, watched on a terminal: what is there, until it is over."""

import json
import os
import pty
import re
import select
import subprocess

import pytest
from labs import MASTER, PROGRAM, Call

GUESTS = ("guest1", "guest2", "guest3")
SLOW = 8  # MiB/s: each migration lasts for some seconds
SECONDS = 100
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def lab(prepared_lab):
    for name in GUESTS:
        prepared_lab.guest(name, "node1")
    with prepared_lab.pillar() as pillar:
        pillar.cluster["migration"] = {"bandwidth": SLOW, "max_outgoing": 1}
        pillar.save()
        prepared_lab.refresh_pillar()
        yield prepared_lab
    prepared_lab.refresh_pillar()
    for name in GUESTS:
        prepared_lab.stop_guest(name)


def watched(lab):
    """Return all that a terminal of 80 columns was given."""
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    subprocess.run(["stty", "-F", os.ttyname(theirs), "cols", "80", "rows", "24"], check=True)
    words = ["salt-run", "kvmcluster.watch", "interval=1", f"time_limit={SECONDS}"]
    process = subprocess.Popen(
        [*PROGRAM, "exec", MASTER, "--", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**lab.environment, "TERM": "xterm"},
    )
    os.close(theirs)
    text = b""
    while select.select([ours], [], [], SECONDS)[0]:
        try:
            text += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    assert process.wait(60) == 0, text.decode()
    return text.decode()


@pytest.mark.nightly
def test_a_drain_that_another_process_began_is_watched_until_its_end(lab):
    watching = Call(watched, lab)
    done = lab.ctl("salt-run", "--", "--out=json", "kvmcluster.drain", "node1", timeout=300)
    assert len(json.loads(done.stdout)["moved"]) == len(GUESTS)
    text = watching.end(SECONDS + 120)
    screens = ESCAPES.sub("", text)
    assert "\x1b[?1049h" in text and "\x1b[?1049l" in text
    for seen in (
        r"AT WORK  drain node1 \(process \d+\): [0-2]/3 moved, 0 failed",
        r"guest\d +node1 +node[23] +copying +\d+ % ",
        r"guest\d +node1 +node[23] +\d +node1 sends 1 at once; ahead of it: guest",
        r"MOVED  guest\d, node1 -> node[23]: \d+\.\d s, downtime \d+ ms",
        r"node1  cordoned  0 ",
    ):
        assert re.search(seen, screens), f"{seen} in:\n{screens[-6000:]}"
    last = text.rsplit("\x1b[?1049l", 1)[1]
    assert "AT WORK" not in last and "0 migrations, 0 waiting" in last
    assert lab.run("kvmcluster.undrain", "node1")["ok"]
