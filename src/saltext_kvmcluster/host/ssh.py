"""What ssh and sshd are on this host: keys, effective settings, and one knock at a peer's door."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import grp
import os
import pwd
import re
import secrets
import shlex
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.pillar.paths import EVERYDAY_KEYS
from saltext_kvmcluster.core.trust import logins, sshd
from saltext_kvmcluster.core.trust.identity import PublicKey, parse_host_key
from saltext_kvmcluster.core.trust.keyfile import KeyFile
from saltext_kvmcluster.host import commands, files

SSHD = "/usr/sbin/sshd"
SSHD_CONFIG = "/etc/ssh/sshd_config"
RSA_BITS = "4096"
WORKERS = 16
PROBE_LIMIT = 65536
BATCH_LIMIT = 16 * 1024 * 1024
RETRY_PAUSES = (0.5, 2.0)
RELOAD_TIME = 10.0

_LOST = commands.Outcome(None, "", "the login ended before it did")
_MATCH = re.compile(r"^\s*match\b.*\b(address|host|localaddress|localport)\b", re.I | re.M)
_DIRECTIVE = re.compile(r"\s*[A-Za-z]")


def account(login: str) -> sshd.Account:
    """Return the account of a login; InputError if there is none, or none with a usable home."""

    def group(gid: int) -> str:
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return str(gid)

    try:
        entry = pwd.getpwnam(login)
    except KeyError:
        raise InputError(
            f"kvmcluster:ssh:login: this host has no account {login}; make it with user.present"
        ) from None
    if not os.path.isabs(entry.pw_dir):
        raise InputError(
            f"kvmcluster:ssh:login: the home of account {login} is {entry.pw_dir!r}, not an"
            f" absolute path; give it one: usermod -d /its/home {login}"
        )
    groups = [group(gid) for gid in os.getgrouplist(login, entry.pw_gid)]
    folders = (entry.pw_dir, os.path.join(entry.pw_dir, ".ssh"))
    return sshd.Account(
        login,
        entry.pw_dir,
        tuple(groups),
        tuple(item for path in folders for item in _observe(path)),
    )


def key_file(path: str, account: sshd.Account) -> KeyFile:
    """Look at the private key at ``path`` without touching it."""
    beside = files.read(f"{path}.pub", account.login).text
    try:
        found = os.stat(path)
    except FileNotFoundError:
        link = os.readlink(path) if os.path.islink(path) else None
        return KeyFile(path, exists=False, public_file=beside, link=link)
    except OSError as error:
        raise WorldError(f"{path} cannot be looked at: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise WorldError(f"{path} is not a regular file; move it away")
    public, trouble = _public_half(path)
    return KeyFile(
        path,
        exists=True,
        mode=found.st_mode & 0o7777,
        owner=files.owner_name(found.st_uid),
        public=public,
        public_file=beside,
        encrypted=public is None and "passphrase" in trouble,
        trouble=trouble,
        everyday=_everyday(path, public or beside, account),
        link=os.path.realpath(path) if os.path.islink(path) else None,
    )


def make_key(path: str, key_type: str, comment: str, login: str) -> None:
    """Make a key pair without a passphrase for a login; an existing file is never replaced.

    The pair is made where only root comes, and put in its place when it is whole.
    """
    files.ensure_folder(os.path.dirname(path), login)
    with files.workshop() as workshop:
        made = os.path.join(workshop, "key")
        size = ["-b", RSA_BITS] if key_type == "rsa" else []
        commands.checked(
            ["ssh-keygen", "-q", "-t", key_type, *size, "-N", "", "-C", comment, "-f", made], 120
        )
        for source, target, mode in ((made, path, 0o600), (f"{made}.pub", f"{path}.pub", 0o644)):
            text = files.read(source).text or ""
            files.create(FilePlan(target, text, mode, login, {}))


def host_keys() -> tuple[PublicKey, ...]:
    """Return the public keys that sshd shows to whoever connects, as its configuration has them.

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
    connection = f"user={login},host={host},addr={address},laddr={_local_address(address)},lport=22"
    files.ensure_folder("/run/sshd", "root")
    outcome = commands.run([SSHD, "-T", "-C", connection, "-f", config])
    if outcome.code != 0:
        detail = outcome.stderr.strip() or outcome.stdout.strip() or "nothing"
        if "Bad configuration option: Include" in detail:
            raise WorldError(
                "this sshd knows no Include (OpenSSH 8.2 brought it), so no drop-in can help;"
                f" set in {SSHD_CONFIG} itself what is missing"
            )
        raise WorldError(
            f"sshd does not take its configuration; correct it; it said: {detail[:500]}"
        )
    return sshd.parse_settings(outcome.stdout)


def try_drop_in(text: str, login: str, host: str, address: str) -> sshd.Settings:
    """Return what sshd's settings would be with our drop-in's text in its place.

    WorldError with sshd's own words if it does not take it.
    """
    with files.workshop() as folder:
        drop_in, main = os.path.join(folder, "drop-in"), os.path.join(folder, "main")
        order = [*read_before_drop_in(), drop_in, SSHD_CONFIG]
        includes = "".join(f"Include {item}\n" for item in order)
        for path, content in ((drop_in, text), (main, includes)):
            files.apply(FilePlan(path, content, 0o600, "root", {}))
        return effective_settings(login, host, address, main)


def read_before_drop_in() -> list[str]:
    """Return the drop-ins whose names come before ours: what they set wins."""
    others = sorted(glob.glob(os.path.join(os.path.dirname(sshd.DROP_IN), "*.conf")))
    return [path for path in others if path < sshd.DROP_IN]


def connections(peers: Sequence[Node]) -> list[tuple[str, str]]:
    """Return the connections (host, address) for which sshd's settings have to be asked.

    One stands for all unless a Match block looks at hosts or addresses; then it is each address
    that the peers' names have, as far as this host can resolve them.
    """
    if not any(_MATCH.search(files.read(path).text or "") for path in _sshd_files()):
        return [(peers[0].names[0] if peers else "localhost", "127.0.0.1")]
    found: dict[str, str] = {}
    for name in (name for peer in peers for name in peer.names):
        with contextlib.suppress(OSError):
            for entry in socket.getaddrinfo(name, 22, type=socket.SOCK_STREAM):
                found.setdefault(str(entry[4][0]), name)
    return [(name, at) for at, name in found.items()] or [("localhost", "127.0.0.1")]


def obstacles(
    cluster: Cluster,
    account: sshd.Account,
    connections: Sequence[tuple[str, str]],
    settings: Callable[[str, str, str], sshd.Settings] = effective_settings,
) -> list[sshd.SshdIssue]:
    """Return what stands in the login's way over any of the connections, each thing once."""
    return sshd.together(
        {
            f"{host} ({address})": sshd.obstacles(
                settings(account.login, host, address), account, cluster.ssh.key_type
            )
            for host, address in connections
        }
    )


def drop_in_ignored() -> list[str]:
    """Return why sshd would not read our drop-in; empty if its configuration includes the folder.

    It has to come before every other setting: the first value that sshd finds wins.
    """
    text = files.read(SSHD_CONFIG).text or ""
    first = next((line for line in text.splitlines() if _DIRECTIVE.match(line)), "")
    pattern = first.split()[1:2] if first.lower().lstrip().startswith("include") else []
    if any(fnmatch.fnmatch(sshd.DROP_IN, item.strip('"')) for item in pattern):
        return []
    folder = os.path.dirname(sshd.DROP_IN)
    return [f"{SSHD_CONFIG} does not begin with 'Include {folder}/*.conf': put it first"]


def reload_sshd_if_due() -> None:
    """Make a running sshd read our drop-in if it is younger than sshd's last start or reload.

    By SIGHUP, as its unit's ExecReload does: sshd then starts itself anew and writes its pid file
    again, which is waited for. WorldError if that is not seen.
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


def client_settings(names: Sequence[str]) -> dict[str, sshd.Settings | None]:
    """Return ssh's own reading of its configuration for each name (``ssh -G``)."""

    def of(name: str) -> sshd.Settings | None:
        outcome = commands.run(["ssh", "-G", "--", name])
        return sshd.parse_settings(outcome.stdout) if outcome.code == 0 else None

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        return dict(zip(names, pool.map(of, names), strict=True))


def labels(folder: str) -> dict[str, str | None]:
    """Return each file's SELinux label in a folder, None if unreadable; nothing without SELinux."""
    if not os.path.exists(files.SELINUX) or not os.path.isdir(folder):
        return {}

    def of(path: str) -> str | None:
        try:
            return os.getxattr(path, "security.selinux").decode().rstrip("\0")
        except (OSError, ValueError):
            return None

    return {
        path: of(path) for path in [folder, *sorted(entry.path for entry in os.scandir(folder))]
    }


def probe(name: str, timeout: float) -> logins.LoginProbe:
    """Log in to a peer by one name, as libvirt does, run nothing there, and say what was seen."""
    begun = time.monotonic()
    outcome = commands.run([*_dial(name, timeout), "true"], timeout + 2, limit=PROBE_LIMIT)
    seconds = round(time.monotonic() - begun, 3)
    return logins.LoginProbe(
        outcome.code, outcome.stdout, outcome.stderr, seconds, outcome.overflowed
    )


def run_all(
    name: str, wanted: Mapping[str, Sequence[str]], timeout: float = 30.0, limit: int = BATCH_LIMIT
) -> dict[str, commands.Outcome]:
    """Run programs on a peer over one login and return what each one did; see commands.run_all.

    WorldError, with the named cause, if the login fails. What was not reached when the login
    ended, for whatever reason, has code None.
    """
    if not wanted:
        return {}
    mark = secrets.token_hex(8)
    outcome = commands.run(
        [*_dial(name, timeout), f"sh -c {shlex.quote(_script(wanted.values(), mark))}"],
        timeout,
        limit,
    )
    done = _split(outcome.stdout, mark)
    if not done:
        probe = logins.LoginProbe(outcome.code, outcome.stdout, outcome.stderr, 0.0)
        raise WorldError(f"{name} cannot be asked over ssh: {_login_trouble(probe)}")
    return {key: done[at] if at < len(done) else _LOST for at, key in enumerate(wanted)}


class Session:
    """A shell that stays until it is let go: one login to a peer, for many questions.

    Whatever breaks it ends it, and the next question logs in anew. Threads take turns.
    """

    def __init__(self, name: str | None = None, timeout: float = 10.0) -> None:
        """Name a peer, or nobody for this host.

        timeout
            Seconds for a login.
        """
        self.name = name
        self.timeout = timeout
        self._knocked = logins.LoginProbe(None, "", "", 0.0)
        self._shell: commands.Held | None = None
        self._end = contextlib.ExitStack()
        self._turn = threading.RLock()

    @property
    def is_open(self) -> bool:
        """Whether it was logged in, and has not been seen to break."""
        return self._shell is not None

    def login(self) -> logins.LoginProbe:
        """Log in, unless that was done; return what was seen of the login."""
        with self._turn:
            for pause in (0.0, *RETRY_PAUSES):
                if self._shell is not None or (pause and not _is_dropped(self._knocked)):
                    break
                time.sleep(pause)
                self._knocked = self._tried()
            return self._knocked

    def refuse_unless_open(self) -> None:
        """Raise the WorldError that names the cause, if the last login failed."""
        if self._shell is None:
            raise WorldError(
                f"{self.name} cannot be asked over ssh: {_login_trouble(self._knocked)}"
            )

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

        WorldError if the shell does not get through them in time.
        """
        done = self._ask(lambda mark: _lines(script, mark), timeout)
        if not done:
            self.close()
            raise WorldError(f"{self.name or 'a shell'} did not answer within {timeout:g} s")
        return done[0]

    def close(self) -> None:
        """End the shell, and with it whatever it holds."""
        with self._turn:
            self._shell = None
            self._end.close()

    def _ask(self, script: Callable[[str], str], timeout: float) -> list[commands.Outcome]:
        with self._turn:
            self.login()
            self.refuse_unless_open()
            assert self._shell is not None
            mark = secrets.token_hex(8)
            reported = f"{script(mark)} printf '\\000{mark} end';\n"
            detail = self._shell.answer(reported, f"\0{mark} end", timeout)
            if detail is None:
                detail = self._shell.outcome().stdout
                self.close()
            return _split(detail, mark)

    def _tried(self) -> logins.LoginProbe:
        begun = time.monotonic()
        line = ["sh"] if self.name is None else [*_dial(self.name, self.timeout), "sh"]
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
    return [*_dial(name, timeout), shlex.join(arguments)]


def _script(wanted: Iterable[Sequence[str]], mark: str) -> str:
    """Return a script for any POSIX shell that tells of each program what ``_split`` reads."""
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

    The mark is new each time, so that no output can pass for the end of another.
    """
    parts = re.split(rf"\x00{mark} (\d+) ([^\x00]*)\x00", output)[3:]
    return [
        commands.Outcome(int(code), text, detail)
        for text, code, detail in zip(parts[0::3], parts[1::3], parts[2::3], strict=False)
    ]


def _login_trouble(probe: logins.LoginProbe) -> str:
    cell = logins.cell("", "", probe, encrypted_key=False)
    return ": ".join(filter(None, (cell["cause"], cell["detail"], cell["remedy"])))


def _dial(name: str, timeout: float) -> list[str]:
    """Return the beginning of a command line that logs in to a peer as libvirt does."""
    return [
        *("ssh", "-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ControlPath=none"),
        *("-o", f"ConnectTimeout={max(1, int(timeout))}", "--", name),
    ]


def probe_peers(
    login_targets: logins.Targets, timeout: float, time_limit: float
) -> dict[tuple[str, str], logins.LoginProbe]:
    """Knock at the given names of nodes and return what was seen, by node id and name.

    Nodes are tried side by side, the names of one node after each other: sshd's MaxStartups
    drops logins when more than ten are pending, and every other node may be asking as well.

    timeout
        Seconds for one login.
    time_limit
        Seconds for all; what is not begun by then is not in the result.
    """
    end = time.monotonic() + time_limit

    def names_of(node: Node, names: Sequence[str]) -> dict[tuple[str, str], logins.LoginProbe]:
        observed: dict[tuple[str, str], logins.LoginProbe] = {}
        for name in names:
            if time.monotonic() < end:
                observed[(node.id, name)] = _knock_again(name, timeout, end)
        return observed

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        observed = pool.map(names_of, login_targets, login_targets.values())
        return {key: probe for of_node in observed for key, probe in of_node.items()}


def _knock_again(name: str, timeout: float, end: float) -> logins.LoginProbe:
    """Knock, and when sshd dropped us for want of room, wait and knock again while time is left."""
    for pause in RETRY_PAUSES:
        observed = probe(name, timeout)
        if not _is_dropped(observed) or time.monotonic() + pause >= end:
            return observed
        time.sleep(pause)
    return probe(name, timeout)


def _is_dropped(probe: logins.LoginProbe) -> bool:
    return logins.cause(probe, encrypted_key=False) in logins.RETRIED


def _sshd_files() -> list[str]:
    return [SSHD_CONFIG, *glob.glob(os.path.join(os.path.dirname(sshd.DROP_IN), "*.conf"))]


def _host_public(path: str) -> str | None:
    return files.read(path).text if path.endswith(".pub") else _public_half(path)[0]


def _public_half(path: str) -> tuple[str | None, str]:
    """Return the public half of a private key without a passphrase, or None and the trouble."""
    outcome = commands.run(["ssh-keygen", "-y", "-P", "", "-f", path])
    public = outcome.stdout.strip() if outcome.code == 0 else None
    return public, outcome.stderr.strip().rpartition("\n")[2]


def _everyday(path: str, public: str | None, account: sshd.Account) -> str | None:
    """Return the everyday key that is the same file or has the same public half."""
    for name in EVERYDAY_KEYS:
        everyday = os.path.join(account.home, ".ssh", name)
        if not os.path.isfile(everyday):
            continue
        if os.path.samefile(everyday, path):
            return everyday
        theirs = None
        with contextlib.suppress(WorldError):
            theirs = files.read(f"{everyday}.pub", account.login).text
        theirs = theirs or _public_half(everyday)[0]
        if public and theirs and theirs.split()[:2] == public.split()[:2]:
            return everyday
    return None


def _observe(path: str) -> list[sshd.Folder]:
    """Return what a folder is, or nothing if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [sshd.Folder(path, stat.S_IMODE(found.st_mode), files.owner_name(found.st_uid))]


def _local_address(address: str) -> str:
    """Return the address of ours at which a peer of that address arrives; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 22))
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
