"""This host's sshd: its effective settings, its host keys, and our drop-in."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import time
from collections.abc import Callable, Sequence

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.fileplan import FilePlan, plan_file
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.trust import sshd
from saltext_kvmcluster.core.trust.identity import PublicKey, parse_host_key
from saltext_kvmcluster.host import commands, files, resolver
from saltext_kvmcluster.host.keys import public_half

SSHD = "/usr/sbin/sshd"
SSHD_CONFIG = "/etc/ssh/sshd_config"
RELOAD_TIME = 10.0


def host_keys() -> tuple[PublicKey, ...]:
    """Return the public keys that sshd presents to clients, by its configuration.

    Keys of types or sizes that peers would refuse are left out; WorldError if none is left.
    """
    settings = effective_settings("root", "localhost", "127.0.0.1")
    keys = []
    for path in settings.get("hostkey", ()):
        with contextlib.suppress(InputError):
            public = _host_public(path)
            if public:
                keys.append(parse_host_key(public))
    if not keys:
        raise WorldError(
            f"sshd has no host key that can be published; see HostKey in {SSHD_CONFIG}"
        )
    return tuple(keys)


def effective_settings(
    login: str, host: str, address: str, config: str = SSHD_CONFIG
) -> sshd.Settings:
    """Return sshd's own reading of its configuration for one connection (``sshd -T -C``)."""
    connection = (
        f"user={login},host={host},addr={address},laddr={resolver.local_address(address)},lport=22"
    )
    files.ensure_folder("/run/sshd", "root")
    outcome = commands.run([SSHD, "-T", "-C", connection, "-f", config])
    if outcome.code != 0:
        detail = outcome.stderr.strip() or outcome.stdout.strip() or "nothing"
        if "Bad configuration option: Include" in detail:
            raise WorldError(
                "this sshd has no Include (it needs OpenSSH 8.2), so drop-ins are ignored;"
                f" set the missing options in {SSHD_CONFIG} itself"
            )
        raise WorldError(f"sshd rejects its configuration; correct it: {detail[:500]}")
    return sshd.parse_settings(outcome.stdout)


def penalty() -> int | None:
    """Return for how many seconds sshd here refuses an address at most, None if it is not known."""
    with contextlib.suppress(WorldError):
        return sshd.penalty(effective_settings("root", "localhost", "127.0.0.1"))
    return None


def try_drop_in(text: str, login: str, host: str, address: str) -> sshd.Settings:
    """Return what sshd's settings would be with our drop-in's text in its place.

    WorldError with sshd's own message if sshd rejects it.
    """
    with files.workshop() as folder:
        drop_in, main = os.path.join(folder, "drop-in"), os.path.join(folder, "main")
        order = [*read_before_drop_in(), drop_in, SSHD_CONFIG]
        includes = "".join(f"Include {item}\n" for item in order)
        for path, content in ((drop_in, text), (main, includes)):
            files.apply(FilePlan(path, content, 0o600, "root", {}))
        return effective_settings(login, host, address, main)


def read_before_drop_in() -> list[str]:
    """Return the drop-ins whose names come before ours: their values have priority."""
    others = sorted(glob.glob(os.path.join(os.path.dirname(sshd.DROP_IN), "*.conf")))
    return [path for path in others if path < sshd.DROP_IN]


def connections(peers: Sequence[Node]) -> list[tuple[str, str]]:
    """Return the connections (host, address) for which sshd's settings have to be queried."""
    if not any(sshd.depends_on_peer(files.read(path).text or "") for path in _sshd_files()):
        return sshd.one_connection(peers)
    return sshd.all_connections(peers, resolver.addresses)


def issues(
    cluster: Cluster,
    account: sshd.Account,
    connections: Sequence[tuple[str, str]],
    settings: Callable[[str, str, str], sshd.Settings] = effective_settings,
) -> list[sshd.Refusal]:
    """Return what keeps the login out over any of the connections, each issue once."""
    return sshd.together(
        {
            f"{host} ({address})": sshd.issues(
                settings(account.login, host, address), account, cluster.ssh.key_type
            )
            for host, address in connections
        }
    )


def plan_drop_in(
    cluster: Cluster, account: sshd.Account, here: str
) -> tuple[list[FilePlan], list[str]]:
    """Return the plan of a drop-in that lets the login in, if one is needed and would do.

    Otherwise none, and what keeps the login out.
    """
    pairs = connections(cluster.peers(here))
    found = issues(cluster, account, pairs)
    if not found or not cluster.ssh.manage_sshd:
        return [], sshd.unmanaged(found)
    state = files.read(sshd.DROP_IN)
    wanted = sshd.drop_in(found, account.login, state.text or "")

    def tried(login: str, host: str, address: str) -> sshd.Settings:
        return try_drop_in(wanted.text, login, host, address)

    left = issues(cluster, account, pairs, tried)
    problems = sshd.unresolved(left, drop_in_ignored(), read_before_drop_in())
    return ([] if problems else [plan_file(sshd.DROP_IN, state, wanted, 0o600, "root")]), problems


def drop_in_ignored() -> list[str]:
    """Return why sshd would ignore our drop-in, empty if it reads it."""
    return sshd.drop_in_ignored(files.read(SSHD_CONFIG).text or "", SSHD_CONFIG)


def reload_sshd_if_due() -> None:
    """Make a running sshd read our drop-in if it is younger than sshd's last start or reload.

    By SIGHUP, as its unit's ExecReload does: sshd then restarts itself and rewrites its pid file,
    which is awaited. WorldError if that does not happen in time.
    """
    drop_in = _written(sshd.DROP_IN)
    if drop_in is None:
        return
    settings = effective_settings("root", "localhost", "127.0.0.1")
    path = (settings.get("pidfile") or ("none",))[0]
    started, pid = _written(path), _pid_of_sshd(path)
    if started is None or pid is None or started > drop_in:
        return
    os.kill(pid, signal.SIGHUP)
    end = time.monotonic() + RELOAD_TIME
    while _written(path) in (None, started):
        if time.monotonic() > end:
            raise WorldError(f"sshd (process {pid}) did not reload; run: systemctl reload ssh")
        time.sleep(0.02)


def _written(path: str) -> int | None:
    """Return when a file was last written, None if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _pid_of_sshd(path: str) -> int | None:
    """Return the process that a pid file names, if it is an sshd."""
    try:
        pid = int(files.read(path).text or "")
        program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except (OSError, ValueError):
        return None
    return pid if program.startswith("sshd") else None


def _sshd_files() -> list[str]:
    return [SSHD_CONFIG, *glob.glob(os.path.join(os.path.dirname(sshd.DROP_IN), "*.conf"))]


def _host_public(path: str) -> str | None:
    return files.read(path).text if path.endswith(".pub") else public_half(path)[0]
