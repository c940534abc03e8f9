"""The wanted ssh client configuration: our own file, and its include in the login's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from saltext_kvmcluster.core.fileplan import Changes, Wanted
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.trust.blocks import BEGIN, END, owned_lines, split_lines
from saltext_kvmcluster.core.trust.rotation import SUFFIX

CONFIG = "kvmcluster_config"
USER_CONFIG = "config"
HOST_LINE_LENGTH = 900
ALIAS = "HostKeyAlias"
# Of OpenSSH 7.6, 8.5, 8.7 (three) and 9.6; all others are in 7.3, the oldest one that has Include.
# Some are built without PKCS#11.
NEWER = (
    "RemoteCommand none",
    "KnownHostsCommand none",
    "SessionType default",
    "StdinNull no",
    "ForkAfterAuthentication no",
    "ChannelTimeout none",
    "PKCS11Provider none",
)


def wanted(
    cluster: Cluster,
    key: str,
    known_hosts_path: str,
    present: str,
    newer: Iterable[str] = NEWER,
    both: bool = False,
) -> Wanted:
    """Return the wanted client configuration for every name of every member.

    The host keys of our file are the only ones that count (no global known hosts, no DNS, no
    rewriting by UpdateHostKeys), connections to peers are direct (``ProxyCommand none`` rules out
    ProxyJump, too), and a stalled connection ends, so that nothing that runs over ssh hangs. See
    ssh_config(5).

    libvirt's daemon runs ``ssh NAME COMMAND`` with the login's configuration, so everything in
    there that would lead elsewhere or run something else has its default here: ssh uses the first
    value. ``IgnoreUnknown`` keeps an option of the login's that this ssh does not know from ending
    it. The keys of a token (PKCS#11) would be offered before any file. Port, addresses to bind to
    and algorithms are left to the login, since they may be right; see ``client_settings``.

    newer
        Those of NEWER that ssh knows here. An unknown one in our file would end ssh for every host,
        since ``IgnoreUnknown`` holds only where its rule does.
    both
        Whether a second key is beside the first one, see ``offering``.
    """
    options = (
        "IgnoreUnknown *",
        "HostName %h",
        "CanonicalizeHostname no",
        f"User {cluster.ssh.login}",
        "IdentityAgent none",
        f"IdentityFile {_quoted(key)}",
        "IdentitiesOnly yes",
        "PubkeyAuthentication yes",
        "PreferredAuthentications publickey",
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {_quoted(known_hosts_path)}",
        "GlobalKnownHostsFile /dev/null",
        "VerifyHostKeyDNS no",
        "UpdateHostKeys no",
        "CheckHostIP no",
        "ProxyCommand none",
        "ControlMaster no",
        "ControlPath none",
        "BatchMode yes",
        "RequestTTY auto",
        "PermitLocalCommand no",
        "ForwardAgent no",
        "ForwardX11 no",
        "ClearAllForwardings yes",
        "ExitOnForwardFailure no",
        "Tunnel no",
        "LogLevel INFO",
        "VisualHostKey no",
        "ConnectionAttempts 1",
        "ConnectTimeout 10",
        "ServerAliveInterval 10",
        "ServerAliveCountMax 3",
        *newer,
    )
    body = "".join(f"    {option}\n" for option in options)
    hosts = list(_host_lines(_host_patterns(cluster)))
    aliases = "".join(_alias(node) for node in cluster.nodes.values())
    text = BEGIN + "".join(f"{line}\n{body}" for line in hosts) + aliases + END
    text = offering(text, key, both)
    return Wanted(text) if text == present else Wanted(text, _config_changes(present, text))


def offering(text: str, key: str, both: bool) -> str:
    """Return our file with a login that offers a key, and the one beside it if there are both.

    ssh reads the public half as it begins, and the private one when it is to sign: a login that
    is under way when the second key takes the first one's place cannot sign with that one any
    more. It then goes on with the second, which is still where it was.
    """
    one = f"    IdentityFile {_quoted(key)}\n"
    two = f"{one}    IdentityFile {_quoted(key + SUFFIX)}\n"
    alone = text.replace(two, one)
    return alone.replace(one, two) if both else alone


def with_include(present: str, include: str) -> Wanted:
    """Return the login's own ssh configuration with our file included ahead of all else.

    ssh uses the first value, so the block comes before the first directive.
    """
    block = f"{BEGIN}Include {_quoted(include)}\n{END}"
    lines = split_lines(present)
    inside = owned_lines(lines)
    rest = "".join(line for line, owned in zip(lines, inside, strict=True) if not owned)
    head = present.partition(block)[0]
    if block in present and rest == present.replace(block, "", 1) and not _directives(head):
        return Wanted(present)
    known = f"Include {_quoted(include)}\n" in lines
    changes = (
        Changes(replaced=("block put first",)) if known else Changes(added=(block.split("\n")[1],))
    )
    return Wanted(block + rest, changes)


def own_include(present: str) -> str:
    """Return our block of the login's own ssh configuration, and any directive ahead of it."""
    lines = split_lines(present)
    last = max((at for at, owned in enumerate(owned_lines(lines)) if owned), default=-1)
    return "".join(line for line in lines[: last + 1] if _directives(line))


def _alias(node: Node) -> str:
    """Return the rule by which a node's host keys are looked up, whatever alias the login has."""
    names = dict.fromkeys(spelled for name in node.names for spelled in (name, name.lower()))
    return "".join(f"{line}\n    {ALIAS} {node.id.lower()}\n" for line in _host_lines(names))


def _host_patterns(cluster: Cluster) -> Iterator[str]:
    """Yield every name as written and in lower case, then the further patterns.

    ``Host`` compares with what was typed; a capital letter in the pillar must not hide the name.
    """
    for node in cluster.nodes.values():
        for name in node.names:
            yield name
            if name != name.lower():
                yield name.lower()
    yield from cluster.ssh.host_patterns


def _host_lines(patterns: Iterable[str]) -> Iterator[str]:
    """Yield Host lines short enough for every OpenSSH that knows Include (7.3 reads 4096)."""
    line = "Host"
    for pattern in patterns:
        if len(line) + len(pattern) > HOST_LINE_LENGTH:
            yield line
            line = "Host"
        line += f" {pattern}"
    yield line


def _config_changes(present: str, text: str) -> Changes:
    old_hosts, old_options = _config_parts(present)
    new_hosts, new_options = _config_parts(text)
    changed = [
        key
        for key in (*new_options, *old_options.keys() - new_options.keys())
        if old_options and old_options.get(key) != new_options.get(key)
    ]
    return Changes(
        tuple(name for name in new_hosts if name not in old_hosts),
        tuple(name for name in old_hosts if name not in new_hosts),
        tuple(
            f"{key} {old_options.get(key, 'unset')} -> {new_options.get(key, 'unset')}"
            for key in changed
        ),
    )


def _config_parts(text: str) -> tuple[dict[str, None], dict[str, str]]:
    hosts: dict[str, None] = {}
    options: dict[str, dict[str, None]] = {}
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword == "Host":
            hosts.update(dict.fromkeys(value.split()))
        elif keyword not in ("", ALIAS) and not keyword.startswith("#"):
            options.setdefault(keyword, {})[value] = None
    return hosts, {keyword: ", ".join(values) for keyword, values in options.items()}


def _directives(text: str) -> bool:
    stripped = (line.strip() for line in text.splitlines())
    return any(line and not line.startswith("#") for line in stripped)


def _quoted(path: str) -> str:
    """Return a path as ssh_config takes it: percent signs doubled, quoted where it has a space."""
    escaped = path.replace("%", "%%")
    return f'"{escaped}"' if " " in escaped else escaped
