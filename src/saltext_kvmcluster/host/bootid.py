"""This host's boot: which one it is, and what asks for another one."""

from __future__ import annotations

from collections.abc import Iterator

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.host import commands, files

BOOT_ID = "/proc/sys/kernel/random/boot_id"
FLAGS = ("/run/reboot-required", "/run/reboot-needed")
"""Left by Debian's and Ubuntu's packages, and by SUSE's."""
ASKED = ("needs-restarting", "-r")
"""Red Hat's answer to the same question: exit code 1 says yes."""
TIMEOUT = 60.0
BEGAN = 19
"""Where a process's start stands in its stat file, counted behind its name."""


def identity() -> str:
    """Return what no other boot of this host has.

    A container has its machine's boot id, and a first process of its own.
    """
    return f"{_line(BOOT_ID)}:{process(1)}"


def process(pid: int) -> str:
    """Return what no other process of this boot has; empty if there is no such process."""
    text = files.read(f"/proc/{pid}/stat").text
    return f"{pid}:{text.rpartition(')')[2].split()[BEGAN]}" if text else ""


def is_alive(known: str) -> bool:
    """Whether a process that ``process`` told of is still there."""
    pid = known.partition(":")[0]
    return pid.isdecimal() and process(int(pid)) == known


def needed() -> Iterator[str]:
    """Yield each reason why this host ought to be rebooted."""
    for path in FLAGS:
        if files.exists(path):
            packages = (files.read(f"{path}.pkgs").text or "").split()
            yield f"{path} is there" + (f", for {listed(packages)}" if packages else "")
    try:
        asked = commands.run(ASKED, TIMEOUT)
    except commands.NotInstalled:
        return
    if asked.code is None:
        raise WorldError(f"{' '.join(ASKED)}: no end within {TIMEOUT:g} s")
    if asked.code == 1:
        detail = asked.stdout.strip().splitlines()
        yield f"{' '.join(ASKED)}: {detail[-1] if detail else 'exit code 1'}"


def _line(path: str) -> str:
    return (files.read(path).text or "").strip()
