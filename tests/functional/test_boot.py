"""Which boot of the host it is, and what asks for another one: real files and programs."""

import pathlib
import subprocess

import pytest

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.host import bootid, commands

REQUIRED = pathlib.Path("/run/reboot-required")
PACKAGES = pathlib.Path("/run/reboot-required.pkgs")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Make ``needs-restarting`` a program that does what it is given to do."""
    monkeypatch.setattr(commands, "SYSTEM_PATH", f"{tmp_path}:{commands.SYSTEM_PATH}")

    def make(script):
        path = tmp_path / "needs-restarting"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


@pytest.fixture
def required():
    REQUIRED.touch()
    yield REQUIRED
    REQUIRED.unlink()
    PACKAGES.unlink(missing_ok=True)


def test_a_boot_is_the_same_until_it_ends():
    assert bootid.identity() == bootid.identity()
    machine, pid, began = bootid.identity().split(":")
    assert (len(machine), pid) == (36, "1") and began.isdecimal()


def test_a_process_is_alive_until_it_ends():
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        known = bootid.process(sleeper.pid)
        assert bootid.is_alive(known)
        assert not bootid.is_alive(f"{sleeper.pid}:1")
        sleeper.kill()
    assert not bootid.is_alive(known)
    assert not bootid.is_alive("") and not bootid.is_alive("no:number")


def test_a_file_asks_for_a_reboot(required):
    assert list(bootid.needed()) == ["/run/reboot-required exists"]
    PACKAGES.write_text("linux-image\nlibc6\n")
    assert list(bootid.needed()) == ["/run/reboot-required exists (packages: linux-image, libc6)"]


def test_a_program_asks_for_a_reboot(program):
    assert list(bootid.needed()) == []
    program("test x$1 = x-r && echo Core libraries && echo Reboot is required; exit 1")
    assert list(bootid.needed()) == ["needs-restarting -r: Reboot is required"]
    program("echo no need; exit 0")
    assert list(bootid.needed()) == []


def test_a_program_that_does_not_end_is_no_answer(program, monkeypatch):
    program("sleep 60")
    monkeypatch.setattr(bootid, "TIMEOUT", 0.2)
    with pytest.raises(WorldError, match=r"needs-restarting -r: timeout after 0.2 s"):
        list(bootid.needed())
