"""Finds, enters and ends the processes of a lab, and nothing else on the machine."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from .plan import CHECKOUT, LabError, clean_environment

INSIDE = str(CHECKOUT / "lab" / "inside")
NAMESPACES = ["--mount", "--pid", "--net", "--uts", "--ipc"]
# A node's cables, disks and name outlive its reboots; its processes and what they mount do not.
MACHINE = ["--mount", "--net", "--uts", "--ipc"]
BOOT = ["--mount", "--pid"]
# Where first processes were found last, by lab and role: looking for one reads all of /proc.
FOUND = {}


def run(*command, **options):
    """Run a command, return what it printed; a failure is a LabError with its error message."""
    return output(*command, stdin=subprocess.DEVNULL, text=True, **options)


def output(*command, timeout=60, title=None, **options):
    """Like run, for a command that is given or prints bytes."""
    words = [str(word) for word in command]
    title = title or " ".join(words)
    try:
        done = subprocess.run(words, capture_output=True, timeout=timeout, **options)
    except FileNotFoundError as error:
        raise LabError(f"{words[0]}: not installed; run lab/ctl install") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{title}: no answer in {timeout} seconds") from error
    if done.returncode:
        printed = done.stderr or done.stdout
        text = printed if isinstance(printed, str) else printed.decode(errors="replace")
        raise LabError(f"{title}: {text.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def wait_until(condition, seconds, complaint):
    """Return the first true value of condition(); complain when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise LabError(complaint)
        time.sleep(0.05)
    return value


def first_process(lab, role):
    """The command that is process 1 of a namespace; by it the namespace is found again."""
    return ["tini", "-s", "--", sys.executable, "-B", INSIDE, role, lab.name, str(lab.size)]


def birth(lab, role, namespaces=NAMESPACES, **options):
    """Start a new namespace whose first process plays the role."""
    return launch(["unshare", *namespaces, "--fork", *first_process(lab, role)], **options)


def launch(command, env=None, **options):
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=env or clean_environment(),
        **options,
    )


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def find(lab, role):
    """The process id of the role's first process, or None."""
    known = FOUND.get((lab.name, role))
    if known and plays(lab, role, known):
        return known
    for pid in all_pids():
        if plays(lab, role, pid):
            FOUND[lab.name, role] = pid
            return pid
    return None


def plays(lab, role, pid):
    line = command_line(pid)
    return line[:3] == ["tini", "-s", "--"] and line[5:8] == [INSIDE, role, lab.name]


def need(lab, role):
    pid = find(lab, role)
    if pid is None:
        raise LabError(f"{role} is not running in lab {lab.name!r}; see lab/ctl status")
    return pid


def pid_namespace(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def processes_in(pid):
    """All processes of the PID namespace that pid is in: {pid: command line}."""
    namespace = pid_namespace(pid)
    if namespace is None:
        return {}
    inside = [other for other in all_pids() if pid_namespace(other) == namespace]
    return {other: line for other in inside if (line := command_line(other))}


def stat(pid):
    """What /proc/PID/stat says from the state on, or None for no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def is_over(pid):
    """Whether a process has ended, whether or not its parent has asked for its exit code.

    One whose first thread alone has ended is a zombie already, and keeps its files and their locks.
    """
    now = stat(pid)
    return now is None or now[0] == "X" or (now[0] == "Z" and int(now[17]) <= 1)


def end(pid, number=signal.SIGKILL):
    """End the first process of a namespace, and with it the namespace.

    It is over only when all others in its namespace are; last of all goes the unshare that
    waits for it.
    """
    parent = int((stat(pid) or [None, 0])[1])
    waiting = command_line(parent)[:1] == ["unshare"]
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    wait_until(lambda: is_over(pid), 30, f"process {pid} does not end")
    if waiting:
        wait_until(lambda: is_over(parent), 30, f"process {parent} does not end")


def venv_of(pid):
    """The virtual environment that a first process was told of, None if it cannot be read."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    told = [word.partition("=")[2] for word in words if word.startswith("KVMCLUSTER_VENV=")]
    return told[0] if told else None


def entering(pid, command, directory="/root", interrupts=False):
    """The command that runs a command in all the namespaces of pid.

    The parent-death signal ends the command when its caller is killed; what the command
    itself started in the background is left alone.

    interrupts
        Whether Ctrl-C is the command's own, though the caller ignores it.
    """
    environment = [f"{key}={value}" for key, value in clean_environment(venv_of(pid)).items()]
    return [
        "nsenter",
        "--target",
        str(pid),
        "--all",
        "--",
        "setpriv",
        "--pdeathsig",
        "KILL",
        "env",
        *(["--default-signal=INT"] if interrupts else []),
        "--ignore-environment",
        f"--chdir={directory}",
        *environment,
        *map(str, command),
    ]


def run_in(lab, place, *command, **options):
    title = f"{place}: {' '.join(map(str, command))}"
    return run(*entering(need(lab, place), command), title=title, **options)


def inside_path(pid, path):
    """A path as the process sees it, reachable from here."""
    return Path(f"/proc/{pid}/root") / str(path).lstrip("/")
