"""Whether sshd, by its configuration, accepts the login with the file that we manage.

Judged from the output of ``sshd -T -C user=…,host=…,addr=…``: sshd's effective settings for one
connection, Match blocks included. See sshd(8) and sshd_config(5).
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from saltext_kvmcluster.core.fileplan import Changes, Wanted
from saltext_kvmcluster.core.pillar.clusters import Node
from saltext_kvmcluster.core.trust.blocks import BEGIN, END
from saltext_kvmcluster.core.trust.login_keys import AUTHORIZED_KEYS

DROP_IN = "/etc/ssh/sshd_config.d/00-kvmcluster.conf"
MANAGE = (
    "kvmcluster:ssh:manage_sshd: true lets this state write a drop-in for what a setting can fix"
)
RELATIVE_FILE = f".ssh/{AUTHORIZED_KEYS}"

ALGORITHMS = {"rsa": ("rsa-sha2-512", "rsa-sha2-256"), "ed25519": ("ssh-ed25519",)}

Settings = Mapping[str, tuple[str, ...]]

_MATCH = re.compile(r"^\s*match\b.*\b(address|host|localaddress|localport)\b", re.I | re.M)
_PENALTY = re.compile(r"(?:^| )max:(\d{1,9})")
_DIRECTIVE = re.compile(r"\s*[A-Za-z]")


@dataclass(frozen=True)
class Folder:
    """A folder above the file that we manage; ``mode`` holds permission bits."""

    path: str
    mode: int
    owner: str


@dataclass(frozen=True)
class Account:
    """What sshd checks of the account that logs in; ``folders`` are its home and ~/.ssh."""

    login: str
    home: str
    groups: tuple[str, ...]
    folders: tuple[Folder, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """One reason why sshd would refuse the login, and the remedy.

    ``setting`` is the sshd_config line that resolves it, None where only a person may decide.
    """

    problem: str
    remedy: str
    setting: str | None = None


def parse_settings(output: str) -> dict[str, tuple[str, ...]]:
    """Return ``sshd -T``'s lines by keyword; a keyword that repeats collects its values."""
    settings: dict[str, tuple[str, ...]] = {}
    for line in output.splitlines():
        keyword, _, value = line.strip().partition(" ")
        settings[keyword.lower()] = (*settings.get(keyword.lower(), ()), value)
    return settings


def depends_on_peer(config: str) -> bool:
    """Whether a configuration file has a Match block for hosts or addresses."""
    return bool(_MATCH.search(config))


def one_connection(peers: Sequence[Node]) -> list[tuple[str, str]]:
    """Return the one connection (host, address) that represents those of all peers."""
    return [(peers[0].names[0] if peers else "localhost", "127.0.0.1")]


def all_connections(
    peers: Sequence[Node], addresses: Callable[[str], Iterable[str]]
) -> list[tuple[str, str]]:
    """Return a connection (host, address) for each address that the peers' names have.

    addresses
        Returns the addresses of a name, none if it cannot be resolved.
    """
    found: dict[str, str] = {}
    for name in (name for peer in peers for name in peer.names):
        for address in addresses(name):
            found.setdefault(address, name)
    return [(name, at) for at, name in found.items()] or [("localhost", "127.0.0.1")]


def drop_in_ignored(config: str, path: str) -> list[str]:
    """Return why sshd would not read our drop-in; empty if its configuration includes the folder.

    The Include must come before every other setting: sshd uses the first value.

    config
        The text of sshd's main configuration file.
    path
        Where that file is.
    """
    first = next((line for line in config.splitlines() if _DIRECTIVE.match(line)), "")
    patterns = first.split()[1:2] if first.lower().lstrip().startswith("include") else []
    if any(fnmatch.fnmatch(DROP_IN, pattern.strip('"')) for pattern in patterns):
        return []
    folder = posixpath.dirname(DROP_IN)
    return [f"{path} does not begin with 'Include {folder}/*.conf'; add it as the first line"]


def issues(settings: Settings, account: Account, key_type: str) -> list[Refusal]:
    """Return every reason why the login cannot use a key of our file."""
    found = [
        _file_not_read(settings, account),
        _keys_refused(settings),
        _type_refused(settings, key_type),
        _root_refused(settings, account),
        _more_than_a_key(settings),
        *_lists(settings, account),
        *_closed_folders(account),
        *_loose_folders(settings, account),
    ]
    return [issue for issue in found if issue]


def together(found: Mapping[str, Iterable[Refusal]]) -> list[Refusal]:
    """Return the issues of several connections, each once; one of some connections names them."""
    connections: dict[Refusal, list[str]] = {}
    for connection, issues_there in found.items():
        for issue in issues_there:
            connections.setdefault(issue, []).append(connection)
    return [
        issue
        if len(there) == len(found)
        else replace(issue, problem=f"for logins from {', '.join(there)}: {issue.problem}")
        for issue, there in connections.items()
    ]


def drop_in(found: Iterable[Refusal], login: str, present: str) -> Wanted:
    """Return the drop-in that resolves every issue that a setting can resolve.

    A Match block for the login alone: it overrides the global section and changes nothing for
    other accounts. An existing drop-in keeps its settings, since they are why it works now.
    """
    lines = [line.strip() for line in present.splitlines()]
    settings = {_keyword(line): line for line in lines if _keyword(line) not in ("", "match")}
    fresh = {_keyword(o.setting): o.setting for o in found if o.setting}
    body = "".join(f"    {line}\n" for line in {**settings, **fresh}.values())
    added = tuple(line for key, line in fresh.items() if key not in settings)
    replaced = tuple(
        f"{settings[key]} -> {line}"
        for key, line in fresh.items()
        if key in settings and settings[key] != line
    )
    return Wanted(f"{BEGIN}Match User {login}\n{body}{END}", Changes(added, (), replaced))


def sentences(found: Iterable[Refusal]) -> list[str]:
    """Return each issue with its remedy."""
    return [f"{issue.problem}: {issue.remedy}" for issue in found]


def unmanaged(found: Sequence[Refusal]) -> list[str]:
    """Return why the login is refused where we may not write a drop-in."""
    return sentences(found) + ([MANAGE] if any(issue.setting for issue in found) else [])


def unresolved(left: Sequence[Refusal], ignored: list[str], earlier: Iterable[str]) -> list[str]:
    """Return why the login would still be refused with our drop-in.

    ignored
        Why sshd would ignore it.
    earlier
        The drop-ins that sshd reads before it.
    """
    overridden = [
        f"{path} is read before {DROP_IN}, and sshd uses the first value: correct it there"
        for path in earlier
    ]
    is_set = any(issue.setting for issue in left)
    return sentences(left) + ignored + (overridden if is_set else [])


def penalty(settings: Settings) -> int | None:
    """Return for how many seconds sshd refuses an address at most; None if it does not.

    That is PerSourcePenalties, of OpenSSH 9.8 and newer.
    """
    found = _PENALTY.search(" ".join(settings.get("persourcepenalties", ())))
    return int(found[1]) if found else None


def _keyword(line: str) -> str:
    """Return a line's keyword in lower case; nothing for a comment or an empty line."""
    return "" if line.startswith("#") else line.partition(" ")[0].lower()


def _file_not_read(settings: Settings, account: Account) -> Refusal | None:
    files = " ".join(settings.get("authorizedkeysfile", ())).split()
    wanted = _expanded(RELATIVE_FILE, account)
    if any(_expanded(name, account) == wanted for name in files):
        return None
    kept = " ".join(name for name in files if name.lower() != "none")
    setting = f"AuthorizedKeysFile {kept} {RELATIVE_FILE}".replace("  ", " ")
    return Refusal(
        f"sshd reads {' '.join(files) or 'no file'}, not {RELATIVE_FILE}",
        _set(setting),
        setting,
    )


def _keys_refused(settings: Settings) -> Refusal | None:
    if settings.get("pubkeyauthentication", ("yes",)) == ("yes",):
        return None
    setting = "PubkeyAuthentication yes"
    return Refusal("sshd accepts no keys (PubkeyAuthentication no)", _set(setting), setting)


def _type_refused(settings: Settings, key_type: str) -> Refusal | None:
    named = ("pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes")
    accepted = ",".join(value for name in named for value in settings.get(name, ())).split(",")
    algorithms = ALGORITHMS[key_type]
    if accepted == [""] or any(algorithm in accepted for algorithm in algorithms):
        return None
    return Refusal(
        f"sshd accepts no {key_type} keys (PubkeyAcceptedAlgorithms)",
        f"add {algorithms[0]} there, or choose another kvmcluster:ssh:key_type",
    )


def _root_refused(settings: Settings, account: Account) -> Refusal | None:
    permit = settings.get("permitrootlogin", ("prohibit-password",))[0]
    if account.login != "root" or permit in ("yes", "prohibit-password", "without-password"):
        return None
    setting = "PermitRootLogin prohibit-password"
    return Refusal(f"sshd refuses root (PermitRootLogin {permit})", _set(setting), setting)


def _more_than_a_key(settings: Settings) -> Refusal | None:
    methods = " ".join(settings.get("authenticationmethods", ("any",))).split()
    if any(method in ("any", "publickey") for method in methods):
        return None
    return Refusal(
        f"sshd requires more than a key (AuthenticationMethods {' '.join(methods)})",
        "allow 'publickey' alone for this login, in a Match block, and reload sshd",
    )


def _lists(settings: Settings, account: Account) -> Iterable[Refusal]:
    """Yield the refusals of the four access lists, each pattern by itself, as sshd reads them.

    A user pattern with a host part (USER@HOST) can allow, but does not count as a denial.
    """
    users, groups = (account.login,), account.groups
    checks = (
        ("denyusers", "DenyUsers", users, False),
        ("allowusers", "AllowUsers", users, True),
        ("denygroups", "DenyGroups", groups, False),
        ("allowgroups", "AllowGroups", groups, True),
    )
    for keyword, name, subjects, must_match in checks:
        patterns = " ".join(settings.get(keyword, ())).split()
        if keyword.endswith("users"):
            patterns = [p.rpartition("@")[0] or p for p in patterns if must_match or "@" not in p]
        matched = any(_matches(pattern, name) for pattern in patterns for name in subjects)
        if patterns and matched != must_match:
            verb = "does not list" if must_match else "lists"
            yield Refusal(
                f"sshd's {name} ({' '.join(patterns)}) {verb} {account.login}",
                f"change {name} so that {account.login} may log in, and reload sshd",
            )


def _closed_folders(account: Account) -> Iterable[Refusal]:
    """Yield the folders that the login cannot enter; sshd reads the keys as the login."""
    for folder in account.folders:
        if folder.owner == "root" != account.login and not folder.mode & 0o001:
            yield Refusal(
                f"{folder.path} belongs to root with mode {folder.mode:04o}, so"
                f" {account.login} cannot enter it, and sshd cannot read the key there",
                f"run: chown {account.login}: {folder.path}",
            )


def _loose_folders(settings: Settings, account: Account) -> Iterable[Refusal]:
    """Yield the folders whose keys sshd does not trust; only its log shows that."""
    if settings.get("strictmodes", ("yes",)) != ("yes",):
        return
    for folder in account.folders:
        if folder.owner not in ("root", account.login):
            yield Refusal(
                f"{folder.path} belongs to {folder.owner}, so sshd (StrictModes) ignores keys"
                " there",
                f"run: chown {account.login}: {folder.path}",
            )
        if folder.mode & 0o022:
            yield Refusal(
                f"{folder.path} is writable by others (mode {folder.mode:04o}), so sshd"
                " (StrictModes) ignores keys there",
                f"run: chmod go-w {folder.path}",
            )


def _set(setting: str) -> str:
    return f"set '{setting}' in sshd's configuration and reload sshd"


def _matches(pattern: str, name: str) -> bool:
    """Whether a pattern of ``*`` and ``?`` matches; these lists have no negation and no sets."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _expanded(name: str, account: Account) -> str:
    """Return the path that sshd opens for a name in AuthorizedKeysFile."""
    tokens = {"%h": account.home, "%u": account.login, "%%": "%"}
    expanded = re.sub("%[hu%]", lambda token: tokens[token.group()], name)
    return posixpath.normpath(posixpath.join(account.home, expanded))
