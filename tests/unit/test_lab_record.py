"""The judge of what a lab guest wrote, on crafted disks and consoles."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lab"))

from kvmlab import record

BOOT = "0123456789abcdef"


def disk(numbers, boot=BOOT, paused_before=None, booted=1_700_000_000.35):
    """A disk with these numbers; the guest saw nothing of a 2 s pause before one of them."""
    sectors = {0: b"kvmcluster lab record 1\n"}
    for number in numbers:
        unseen = 2 if paused_before is not None and number >= paused_before else 0
        stamp = 5 + number / 10
        rtc = int(booted + stamp + unseen)
        text = f"number={number} boot={boot} stamp={stamp:.6f} rtc={rtc}\n"
        sectors[number] = text.encode()
    size = max(sectors) + 10
    return b"".join(sectors.get(at, b"").ljust(record.SECTOR, b"\0") for at in range(size))


def console(numbers):
    return "\r\nboot\r\n" + "".join(f"<{number:010}>\r\n" for number in numbers)


def test_whole_record():
    # Number 20 was being printed when the guest moved: half of it is on either console.
    first = console(range(1, 20)) + "<00000"
    second = "00020>\r\n" + console(range(21, 41))
    judgement = record.judge(disk(range(1, 41)), {"node1": first, "node2": second})
    assert judgement.whole
    assert (judgement.written, judgement.first, judgement.last) == (40, 1, 40)
    assert judgement.longest_pause == pytest.approx(0.1)


def test_lost_numbers():
    numbers = [*range(1, 10), *range(12, 21)]
    judgement = record.judge(disk(numbers), {"node1": console(range(1, 23))})
    assert judgement.lost == [10, 11, 21, 22]
    assert not judgement.whole


def test_repeated_numbers():
    judgement = record.judge(disk(range(1, 21)), {"node1": console([*range(1, 21), 7, 8])})
    assert judgement.repeated == [7, 8]
    assert judgement.doubled == []
    assert not judgement.whole


def test_doubled_numbers():
    consoles = {"node1": console(range(1, 13)), "node2": console(range(11, 21))}
    judgement = record.judge(disk(range(1, 21)), consoles)
    assert judgement.doubled == [11, 12]
    assert judgement.repeated == []
    assert not judgement.whole


def test_restarted_guest():
    rest = disk(range(21, 41), boot="f" * 16, booted=1_700_000_090.35)[21 * record.SECTOR :]
    both = disk(range(1, 21))[: 21 * record.SECTOR] + rest
    judgement = record.judge(both, {"node1": console(range(1, 41))})
    assert judgement.boots == 2
    assert judgement.longest_pause == pytest.approx(0.1)
    assert judgement.lost == []
    assert not judgement.whole


def test_empty_record_is_not_whole():
    assert not record.judge(disk([]), {}).whole


def test_pause_that_the_guest_did_not_see():
    judgement = record.judge(disk(range(1, 61), paused_before=30), {"node1": ""})
    assert judgement.longest_pause == pytest.approx(2.1, abs=0.15)
