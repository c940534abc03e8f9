"""Logins to peers: probes, one program or many over one login, and sessions that stay open."""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.pillar import networks
from saltext_kvmcluster.core.pillar.clusters import Node
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.host import commands, resolver, ssh_client

Key = tuple[str, str]
"""The path of a private key, and its fingerprint."""
WORKERS = 16
PROBE_LIMIT = 65536
BATCH_LIMIT = 16 * 1024 * 1024
RETRY_PAUSES = (0.5, 2.0)
_LOST = commands.Outcome(None, "", "the login ended before the program did")


def probe(
    name: str, timeout: float, wanted: Sequence[str] = ("true",), key: Key | None = None
) -> logins.LoginProbe:
    """Log in to a peer by one name, as libvirt does.

    wanted
        What is run there; see logins.trial.
    key
        Offered before the cluster key; a login by another one is a failure.
    """
    begun = time.monotonic()
    line = over(name, wanted, timeout)
    if key:
        line = [line[0], "-v", "-o", "IdentitiesOnly=yes", "-i", key[0], *line[1:]]
    outcome = commands.run(line, timeout + 2, limit=PROBE_LIMIT)
    seconds = round(time.monotonic() - begun, 3)
    found = logins.LoginProbe(
        outcome.code, outcome.stdout, outcome.stderr, seconds, outcome.overflowed
    )
    return logins.by_key(found, key[1]) if key else found


def echoes(name: str, timeout: float) -> bool:
    """Whether a host responds to an ICMP echo request; not where ping is not installed."""
    try:
        asked = ["ping", "-n", "-c", "1", "-W", f"{timeout:.0f}", name]
        return commands.run(asked, timeout + 2).code == 0
    except commands.NotInstalled:
        return False


def run_all(
    name: str,
    wanted: Mapping[str, Sequence[str]],
    timeout: float = 30.0,
    limit: int = BATCH_LIMIT,
    ahead: Sequence[str] = (),
) -> dict[str, commands.Outcome]:
    """Run programs on a peer over one login and return what each one did; see commands.run_all.

    ahead
        Words ahead of the shell there; see Ssh.becomes_root.

    WorldError, with the named cause, if the login fails. Programs without an outcome when the
    login ended have code None.
    """
    if not wanted:
        return {}
    mark = secrets.token_hex(8)
    outcome = commands.run(
        over(name, [*ahead, "sh", "-c", _script(wanted.values(), mark)], timeout),
        timeout,
        limit,
    )
    done = _split(outcome.stdout, mark)
    if not done:
        probe = logins.LoginProbe(outcome.code, outcome.stdout, outcome.stderr, 0.0)
        detail = _login_error(name, _explained(name, probe, timeout))
        raise WorldError(f"{name} is unreachable over ssh: {detail}")
    return {key: done[at] if at < len(done) else _LOST for at, key in enumerate(wanted)}


class Session:
    """A shell that runs until it is closed: one login to a peer, for many requests.

    Any failure ends it, and the next request logs in again. Threads take turns.
    """

    def __init__(
        self, name: str | None = None, ahead: Sequence[str] = (), timeout: float = 10.0
    ) -> None:
        """Name a peer, or None for this host.

        ahead
            Words ahead of the shell on a peer; see Ssh.becomes_root.
        timeout
            Seconds for a login.
        """
        self.name = name
        self._ahead = ahead
        self.timeout = timeout
        self._probed = logins.LoginProbe(None, "", "", 0.0)
        self._shell: commands.Held | None = None
        self._end = contextlib.ExitStack()
        self._turn = threading.RLock()

    @property
    def is_open(self) -> bool:
        """Whether it is logged in, as far as is known."""
        return self._shell is not None

    def login(self) -> logins.LoginProbe:
        """Log in unless logged in; return the result of the login."""
        with self._turn:
            for pause in (0.0, *RETRY_PAUSES):
                if self._shell is not None or (pause and not _is_dropped(self._probed)):
                    break
                time.sleep(pause)
                self._probed = self._tried()
            if self.name is not None:
                self._probed = _explained(self.name, self._probed, self.timeout)
            return self._probed

    def refuse_unless_open(self) -> None:
        """Raise the WorldError that names the cause, if the last login failed."""
        if self._shell is None:
            detail = _login_error(self.name or "", self._probed)
            raise WorldError(f"{self.name} is unreachable over ssh: {detail}")

    def run_all(
        self, wanted: Mapping[str, Sequence[str]], timeout: float = 30.0
    ) -> dict[str, commands.Outcome]:
        """Run programs there and return what each one did; see the function ``run_all``."""
        if not wanted:
            return {}
        done = self._ask(lambda mark: _items(wanted.values(), mark), timeout)
        return {key: done[at] if at < len(done) else _LOST for at, key in enumerate(wanted)}

    def run(self, script: str, timeout: float = 30.0) -> commands.Outcome:
        """Run lines in the shell itself, which keeps what they open; return what they did.

        WorldError if they do not end in time.
        """
        done = self._ask(lambda mark: _lines(script, mark), timeout)
        if not done:
            self.close()
            raise WorldError(f"no response from {self.name or 'a shell'} within {timeout:g} s")
        return done[0]

    def close(self) -> None:
        """End the shell, and with it everything that it holds."""
        with self._turn:
            self._shell = None
            self._end.close()

    def _ask(self, script: Callable[[str], str], timeout: float) -> list[commands.Outcome]:
        with self._turn:
            self.login()
            self.refuse_unless_open()
            assert self._shell is not None
            mark = secrets.token_hex(8)
            request = f"{script(mark)} printf '\\000{mark} end';\n"
            output = self._shell.answer(request, f"\0{mark} end", timeout)
            if output is None:
                output = self._shell.outcome().stdout
                self.close()
            return _split(output, mark)

    def _tried(self) -> logins.LoginProbe:
        begun = time.monotonic()
        line = ["sh"]
        if self.name is not None:
            line = over(self.name, [*self._ahead, "sh"], self.timeout)
        shell = self._end.enter_context(commands.held(line, BATCH_LIMIT))
        mark = secrets.token_hex(8)
        hello = f"LC_ALL=C; export LC_ALL; printf '\\000{mark}';\n"
        noise = shell.answer(hello, f"\0{mark}", self.timeout + 2)
        seconds = round(time.monotonic() - begun, 3)
        if noise is not None:
            self._shell = shell
            return logins.LoginProbe(0, noise[:PROBE_LIMIT], "", seconds)
        observed = shell.outcome()
        self._end.close()
        return logins.LoginProbe(
            observed.code, observed.stdout, observed.stderr, seconds, observed.overflowed
        )


def over(name: str, arguments: Sequence[str], timeout: float) -> list[str]:
    """Return the command line that runs a program on a peer.

    timeout
        Seconds to wait for the connection.
    """
    return [*dial(name, timeout), shlex.join(arguments)]


def _script(wanted: Iterable[Sequence[str]], mark: str) -> str:
    """Return a script for any POSIX shell that prints for each program what ``_split`` reads."""
    return f"LC_ALL=C; export LC_ALL;{_items(wanted, mark)}"


def _items(wanted: Iterable[Sequence[str]], mark: str) -> str:
    items = (
        f"{{ e=$({shlex.join(arguments)} 2>&1 >&3 3>&- </dev/null); c=$?; }} 3>&1;"
        f' printf \'\\000{mark} %s %s\\000\' "$c" "$e";'
        for arguments in wanted
    )
    return f" printf '\\000{mark} 0 \\000';{''.join(items)}"


def _lines(script: str, mark: str) -> str:
    return f"printf '\\000{mark} 0 \\000';\n{script}\nprintf '\\000{mark} %s \\000' $?;"


def _split(output: str, mark: str) -> list[commands.Outcome]:
    """Return each program's outcome; what the login itself printed before the first is dropped.

    The mark is new each time, so that no output can imitate the end of another.
    """
    parts = re.split(rf"\x00{mark} (\d+) ([^\x00]*)\x00", output)[3:]
    return [
        commands.Outcome(int(code), text, detail)
        for text, code, detail in zip(parts[0::3], parts[1::3], parts[2::3], strict=False)
    ]


def _login_error(name: str, probe: logins.LoginProbe) -> str:
    cell = cell_of("", name, probe, encrypted_key=False)
    return ": ".join(filter(None, (cell["cause"], cell["detail"], cell["remedy"])))


def cell_of(
    peer: str,
    name: str,
    probe: logins.LoginProbe | None,
    encrypted_key: bool,
    allowed: Sequence[str] = (),
) -> dict[str, Any]:
    """Return one cell of the matrix, see logins.cell, with this host's settings in a failed one.

    allowed
        The addresses and networks from which peers let us in; none for everywhere.
    """
    failed = probe is not None and logins.cause(probe, encrypted_key)
    note = ssh_client.note(name, failed) if failed else ""
    out = _uncovered(name, allowed) if failed == logins.KEY_NOT_ACCEPTED else ""
    return logins.cell(peer, name, probe, encrypted_key, note, out)


def _uncovered(name: str, allowed: Sequence[str]) -> str:
    """Return the address from which this host logs in to a name, if that is not allowed."""
    with contextlib.suppress(WorldError):
        own = networks.address(resolver.local_address(resolver.address(name)))
        return "" if not allowed or own is None or networks.covers(allowed, own) else str(own)
    return ""


def _explained(name: str, probe: logins.LoginProbe, timeout: float) -> logins.LoginProbe:
    """Return a login that was dropped with sshd's own reason, which ssh shows with -v alone.

    It takes another login, to which sshd adds no penalty.
    """
    if logins.cause(probe, encrypted_key=False) != logins.DROPPED:
        return probe
    line = dial(name, timeout)
    asked = commands.run([line[0], "-v", *line[1:], "true"], timeout + 2, limit=PROBE_LIMIT)
    if logins.PENALTY not in asked.stderr:
        return probe
    return replace(probe, stderr=f"{probe.stderr.rstrip()}\n{logins.PENALTY}\n")


def dial(name: str, timeout: float) -> list[str]:
    """Return the beginning of a command line that logs in to a peer as libvirt does."""
    return [
        *("ssh", "-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ControlPath=none"),
        *("-o", f"ConnectTimeout={max(1, int(timeout))}", "--", name),
    ]


def probe_peers(
    login_targets: logins.Targets,
    timeout: float,
    time_limit: float,
    wanted: Sequence[str],
    key: Key | None = None,
) -> dict[tuple[str, str], logins.LoginProbe]:
    """Probe logins to the given names of nodes; return the results by node id and name.

    Nodes are tried in parallel, the names of one node in sequence: sshd's MaxStartups drops logins
    when more than ten are pending, and every other node may be probing, too.

    timeout
        Seconds for one login.
    time_limit
        Seconds for all; a login not started by then is not in the result.
    wanted
        What is run there; see logins.trial.
    key
        The key to log in with, if it is not the cluster key.
    """
    one = functools.partial(probe, timeout=timeout, wanted=wanted, key=key)
    end = time.monotonic() + time_limit

    def names_of(node: Node, names: Sequence[str]) -> dict[tuple[str, str], logins.LoginProbe]:
        observed: dict[tuple[str, str], logins.LoginProbe] = {}
        for name in names:
            if time.monotonic() < end:
                observed[(node.id, name)] = _probe_again(one, name, timeout, end)
        return observed

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        observed = pool.map(names_of, login_targets, login_targets.values())
        return {key: probe for of_node in observed for key, probe in of_node.items()}


def _probe_again(
    one: Callable[[str], logins.LoginProbe], name: str, timeout: float, end: float
) -> logins.LoginProbe:
    """Probe; if sshd dropped the login (MaxStartups), wait and retry while time is left."""
    for pause in RETRY_PAUSES:
        observed = one(name)
        if not _is_dropped(observed) or time.monotonic() + pause >= end:
            return _explained(name, observed, timeout)
        time.sleep(pause)
    return _explained(name, one(name), timeout)


def _is_dropped(probe: logins.LoginProbe) -> bool:
    return logins.cause(probe, encrypted_key=False) in logins.RETRIED
