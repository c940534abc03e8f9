"""This host's boot: its identity, and the reasons for a reboot."""

from __future__ import annotations

from collections.abc import Iterator

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.host import commands, files

BOOT_ID = "/proc/sys/kernel/random/boot_id"
FLAGS = ("/run/reboot-required", "/run/reboot-needed")
"""Written by Debian's and Ubuntu's packages, and by SUSE's."""
ASKED = ("needs-restarting", "-r")
"""The same on Red Hat: exit code 1 means yes."""
TIMEOUT = 60.0
BEGAN = 19
"""The index of a process's start time in its stat file, counted after its name."""


def identity() -> str:
    """Return the identity of this boot.

    A container has its host's boot id, but a first process of its own.
    """
    return f"{_line(BOOT_ID)}:{process(1)}"


def process(pid: int) -> str:
    """Return the identity of a process in this boot; empty if there is no such process.

    One that has ended and was not waited for yet is none.
    """
    fields = (files.read(f"/proc/{pid}/stat").text or "").rpartition(")")[2].split()
    return f"{pid}:{fields[BEGAN]}" if fields and fields[0] not in "ZX" else ""


def is_alive(known: str) -> bool:
    """Whether a process still runs, by its identity from ``process``."""
    pid = known.partition(":")[0]
    return pid.isdecimal() and process(int(pid)) == known


def needed() -> Iterator[str]:
    """Yield each reason to reboot this host."""
    for path in FLAGS:
        if files.exists(path):
            packages = (files.read(f"{path}.pkgs").text or "").split()
            yield f"{path} exists" + (f" (packages: {listed(packages)})" if packages else "")
    try:
        asked = commands.run(ASKED, TIMEOUT)
    except commands.NotInstalled:
        return
    if asked.code is None:
        raise WorldError(f"{' '.join(ASKED)}: timeout after {TIMEOUT:g} s")
    if asked.code == 1:
        detail = asked.stdout.strip().splitlines()
        yield f"{' '.join(ASKED)}: {detail[-1] if detail else 'exit code 1'}"


def _line(path: str) -> str:
    return (files.read(path).text or "").strip()
