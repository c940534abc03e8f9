"""The only place that runs a process: an argument list, a time limit, never a shell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from saltext_kvmcluster.core.errors import WorldError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Outcome:
    """What a process did. ``code`` is None when its time ran out and it was ended."""

    code: int | None
    stdout: str
    stderr: str


def run(arguments: Sequence[str], timeout: float = 30.0, home: str | None = None) -> Outcome:
    """Run a program and return what it did, whatever its exit code.

    timeout
        Seconds after which the program is killed; its outcome then has code None.
    home
        The HOME it is given; default: ours.

    Raises WorldError if the program is not installed. Output is decoded as UTF-8, with every
    undecodable byte shown as a replacement character.
    """
    environment = {"PATH": SYSTEM_PATH, "LC_ALL": "C", "HOME": home or os.path.expanduser("~")}
    try:
        done = subprocess.run(
            list(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise WorldError(
            f"{arguments[0]} is not installed; it belongs to {_package(arguments[0])}"
        ) from None
    except subprocess.TimeoutExpired as error:
        return Outcome(None, _text(error.stdout), _text(error.stderr))
    except OSError as error:
        raise WorldError(f"{arguments[0]} cannot be run: {error.strerror}") from None
    return Outcome(done.returncode, _text(done.stdout), _text(done.stderr))


def checked(arguments: Sequence[str], timeout: float = 30.0) -> str:
    """Run a program that has to succeed and return its standard output; WorldError otherwise."""
    outcome = run(arguments, timeout)
    if outcome.code == 0:
        return outcome.stdout
    ended = f"no end within {timeout:g} s" if outcome.code is None else f"exit code {outcome.code}"
    said = outcome.stderr.strip() or outcome.stdout.strip() or "nothing"
    raise WorldError(f"{' '.join(arguments)}: {ended}; it said: {said[:500]}")


def _text(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", "replace")


def _package(program: str) -> str:
    name = os.path.basename(program)
    return {"sshd": "openssh-server", "restorecon": "policycoreutils"}.get(name, "openssh-client")
