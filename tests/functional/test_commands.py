"""commands.run against real processes that print without end, hang, or leave others behind."""

import os
import time
from pathlib import Path

import pytest
from sandbox import until

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.host import claims, commands

LIMIT = 65536
# Of these processes the ones that must not be waited for take 5 s or longer.
SOON = 3.5


def shell(script, *words, **options):
    """Run a shell's script; return its outcome and how long it took."""
    begun = time.monotonic()
    outcome = commands.run(["sh", "-c", script, "sh", *map(str, words)], **options)
    return outcome, time.monotonic() - begun


def alive(path):
    """Whether the process whose number stands in a file is still there, zombies aside."""
    try:
        stat = Path(f"/proc/{int(path.read_text())}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # The second if it ended amid the reading.
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def ends(path):
    until(lambda: not alive(path), f"the process of {path} was left behind", 5)


def peak():
    """Return the most memory that this process ever had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


@pytest.mark.parametrize(("where", "lengths"), [("", (LIMIT, 0)), (">&2", (0, LIMIT))])
def test_endless_output_is_cut_at_its_limit(where, lengths):
    before = peak()
    outcome, took = shell(f"exec yes AAAAAAAAAAAAAAAA {where}", timeout=20, limit=LIMIT)
    assert (outcome.code, outcome.overflowed) == (None, True)
    assert (len(outcome.stdout), len(outcome.stderr)) == lengths
    assert took < SOON and peak() - before < 16 * 1024 * 1024


def test_output_up_to_the_limit_is_whole_and_one_byte_more_is_too_much():
    script = 'head -c "$1" /dev/zero; head -c "$1" /dev/zero >&2'
    outcome, _ = shell(script, LIMIT, limit=LIMIT)
    assert outcome == commands.Outcome(0, "\0" * LIMIT, "\0" * LIMIT)
    outcome, _ = shell(script, LIMIT + 1, limit=LIMIT)
    assert outcome.code is None and outcome.overflowed


def test_both_streams_are_read_side_by_side():
    script = "for i in 1 2 3 4 5; do head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2; done"
    outcome, took = shell(script)
    assert (outcome.code, len(outcome.stdout), len(outcome.stderr)) == (0, 500000, 500000)
    assert took < SOON


@pytest.mark.parametrize("keeps_printing", ["", "while :; do echo a; sleep 0.01; done &"])
def test_a_time_limit_holds_and_ends_the_whole_group(tmp_path, keeps_printing):
    pid = tmp_path / "pid"
    script = f'echo begun; {keeps_printing} sleep 60 & echo $! >"$1"; wait'
    outcome, took = shell(script, pid, timeout=1)
    assert outcome.code is None and not outcome.overflowed
    assert outcome.stdout.startswith("begun\n") and 1 <= took < SOON
    ends(pid)


def test_too_much_output_ends_the_whole_group(tmp_path):
    pid = tmp_path / "pid"
    outcome, took = shell('sleep 60 & echo $! >"$1"; exec yes', pid, limit=LIMIT)
    assert outcome.overflowed and took < SOON
    ends(pid)


@pytest.mark.parametrize("new_session", ["", "setsid"])
def test_a_grandchild_that_holds_the_output_does_not_hold_us_up(tmp_path, new_session):
    pid = tmp_path / "pid"
    script = f'echo done; {new_session} sleep 5 & echo $! >"$1"; exit 3'
    outcome, took = shell(script, pid)
    assert outcome == commands.Outcome(3, "done\n", "") and took < SOON
    ends(pid) if not new_session else os.kill(int(pid.read_text()), 9)


def test_a_grandchild_in_a_session_of_its_own_does_not_hold_up_a_time_limit():
    outcome, took = shell("setsid sleep 5 & sleep 60", timeout=1)
    assert outcome.code is None and took < SOON


def test_a_program_that_closes_its_output_is_waited_for():
    outcome, took = shell("exec >&- 2>&-; sleep 0.5; exit 4")
    assert outcome == commands.Outcome(4, "", "") and 0.5 <= took < SOON
    outcome, took = shell("exec >&- 2>&-; sleep 60", timeout=0.5)
    assert outcome.code is None and took < SOON


def test_a_quick_program_is_quick_and_leaves_no_descriptor_open():
    commands.run(["true"])
    before, begun = len(os.listdir("/proc/self/fd")), time.monotonic()
    for _ in range(20):
        assert commands.run(["echo", "in"]) == commands.Outcome(0, "in\n", "")
    assert len(os.listdir("/proc/self/fd")) == before and time.monotonic() - begun < 1


def test_who_needs_success_is_told_of_too_much_output():
    with pytest.raises(WorldError, match=r"yes: killed after 1048576 bytes .*output: y"):
        commands.checked(["yes"])
    with pytest.raises(WorldError, match="is not installed"):
        commands.run(["no-such-program"])


UUID = "1" * 8


def claim(path, holder="node1"):
    return commands.held(claims.command(str(path), holder, 60))


def test_a_held_process_echoes_until_it_is_let_go():
    with commands.held(["cat"]) as held:
        assert held.echoes(5) and held.echoes(5)
        assert held.outcome().code is None


def test_a_process_that_ends_or_stays_silent_does_not_echo():
    with commands.held(["sh", "-c", "echo out; echo err >&2; exit 3"]) as ended:
        assert not ended.echoes(5)
        assert ended.outcome() == commands.Outcome(3, "out\n", "err\n")
    with commands.held(["sleep", "60"]) as silent:
        assert not silent.echoes(0.2)


def test_a_claim_is_held_by_one_and_tells_the_others_by_whom(tmp_path):
    path = tmp_path / "lock"
    with claim(path) as first:
        assert first.echoes(5)
        with claim(path, "node2") as second:
            assert not second.echoes(5)
            assert second.outcome().code == claims.CONFLICT
            assert second.outcome().stdout == "node1\n"
    with claim(path, "node2") as third:
        assert third.echoes(5) and path.read_text() == "node2\n"


def test_a_claim_that_cannot_be_made_is_not_one_that_another_has(tmp_path):
    with claim(tmp_path / "missing" / "lock") as held:
        assert not held.echoes(5)
        assert held.outcome().code not in (None, claims.CONFLICT)
        assert "lock" in held.outcome().stderr


def test_each_node_has_a_claim_of_its_own_for_each_guest():
    assert claims.lock_path(True, "/root", "node2", UUID) == f"/run/kvmcluster-start-{UUID}.lock"
    other = claims.lock_path(False, ".", "node2", UUID)
    assert other == f"./.ssh/kvmcluster-start-{UUID}-node2.lock"
    assert claims.command("/run/x", "node1", 60.5)[-3:] == ["/run/x", "node1", "60"]
