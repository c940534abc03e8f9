"""What one ssh login to a peer showed, and the name of what went wrong.

ssh ends with 255 for every failure of its own and names the cause only in its message, in English
whatever the locale. The table below is read top to bottom; what it does not know stays `failed`
with ssh's own message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.pillar.ssh import Ssh
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.untrusted import Reader

Targets = Mapping[Node, Sequence[str]]

OK = "ok"
NOISE = "noise"
TIMED_OUT = "timed out"
FAILED = "failed"
NOT_TRIED = "not tried"
KEY_NOT_ACCEPTED = "key not accepted"
NOT_FROM_HERE = "address not permitted"
PASSPHRASE = "passphrase asked"
NO_ALGORITHM = "no common algorithm"
DROPPED = "dropped"
REFUSED_FOR_NOW = "refused for now"
NOT_ROOT = "sudo refused"
NO_LIBVIRT = "libvirt refused"
# What sshd of OpenSSH 9.8 and newer answers instead of its banner; ssh shows it with -v alone.
PENALTY = "Not allowed at this time"

CAUSES = (
    ("no such name", r"Could not resolve hostname"),
    ("refused", r"Connection refused"),
    ("host key changed", r"REMOTE HOST IDENTIFICATION HAS CHANGED|(?i:revoked)"),
    ("host key unknown", r"host key is known for|Host key verification failed"),
    ("no answer", r"timed out during banner exchange|banner exchange: .*timed out"),
    (TIMED_OUT, r"timed out|Timeout, server"),
    ("no route", r"No route to host|Network is unreachable"),
    (KEY_NOT_ACCEPTED, r"Permission denied|Too many authentication failures"),
    (REFUSED_FOR_NOW, PENALTY),
    (NO_ALGORITHM, r"no matching .+ found"),
    (DROPPED, r"Connection (closed|reset) by|kex_exchange_identification"),
    (
        "bad configuration",
        r"Bad configuration option|Bad owner or permissions|terminating, \d+ bad"
        r"|(?m:^\S+:? line \d+: )|Cannot execute command-line and remote command",
    ),
)


def _for_now(limit: int | None) -> str:
    """Return what to do while sshd refuses an address; ``limit``: for how many seconds it may."""
    known = "by default for up to 600 s" if limit is None else f"for up to {limit} s"
    return (
        f"wait: after failed logins, sshd there refuses this address {known} (PerSourcePenalties),"
        " or it has too many logins at once (MaxStartups); its log says which. To prevent it, name"
        " the cluster's addresses in PerSourcePenaltyExemptList there"
    )


REMEDIES = {
    "no such name": "give the name an address (DNS or /etc/hosts), or correct the pillar",
    "refused": "start sshd there",
    "host key changed": "if the node was reinstalled: salt-run state.orchestrate"
    " kvmcluster.orch.prepare; otherwise find out which host answers there",
    "host key unknown": "apply kvmcluster.trust here, after mine.send kvmcluster.identity there",
    "no answer": "sshd there accepts connections but sends no response: check whether it hangs",
    TIMED_OUT: "check the network and firewall between the two nodes",
    "no route": "check the network between the two nodes",
    KEY_NOT_ACCEPTED: "apply kvmcluster.trust there, after mine.send kvmcluster.identity here",
    NOT_FROM_HERE: "add the address to kvmcluster:ssh:from, then apply kvmcluster.trust there",
    PASSPHRASE: "apply kvmcluster.key here and follow its error message",
    REFUSED_FOR_NOW: _for_now(None),
    NO_ALGORITHM: "let ssh here and sshd there have one in common, as the message says",
    DROPPED: "sshd there is overloaded (MaxStartups) or broken; read its log",
    "bad configuration": "correct ssh's configuration here as in the message",
    NOT_ROOT: "install sudo there and let the login run sh by it, without a password: LOGIN"
    " ALL=(root) NOPASSWD: /bin/sh (visudo -f /etc/sudoers.d/kvmcluster); or set"
    " kvmcluster:ssh:sudo to false",
    NO_LIBVIRT: "let the login use libvirt there: add it to the group libvirt, or allow it"
    " org.libvirt.unix.manage in polkit (docs/login.md)",
    NOISE: "silence the login's shell start-up files there for non-interactive shells",
    FAILED: "see ssh's message",
    NOT_TRIED: "time ran out; give a longer time_limit",
}

RESPONSES = {
    OK: "accepts ssh logins",
    NOISE: "accepts ssh logins",
    "refused": "refuses connections to sshd",
    "host key changed": "responds with another host key",
    "host key unknown": "responds with an unknown host key",
    "no answer": "accepts connections to sshd",
    KEY_NOT_ACCEPTED: "refuses ssh logins",
    PASSPHRASE: "refuses ssh logins",
    DROPPED: "drops ssh logins",
    REFUSED_FOR_NOW: "drops ssh logins",
    NO_ALGORITHM: "accepts connections to sshd",
}
"""The causes that show that a host is on, in words."""

LONGEST_PENALTY = 10**6
RETRIED = (DROPPED, REFUSED_FOR_NOW)
MAX_DETAIL = 300
FORGETTING = ("ssh-keygen -f", "remove with:")

SSH_FAILED, LIBVIRT_REFUSED = 255, 77
_ACCEPTED = "Server accepts key:"
# Where there is virsh: does libvirt refuse the account? Whatever else fails is another check's.
_USES_LIBVIRT = (
    "e=$(LC_ALL=C timeout 3 virsh -q -c qemu:///system uri 2>&1 </dev/null) || case $e in"
    f' *ermission\\ denied* | *uthentication*) echo "$e" >&2; exit {LIBVIRT_REFUSED} ;; esac'
)


@dataclass(frozen=True)
class LoginProbe:
    """One login: exit code (None: it was ended), what it printed, and how long it took.

    ``overflowed`` when it was ended because it printed more than is kept.
    """

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    overflowed: bool = False


def trial(login: Ssh) -> tuple[str, ...]:
    """Return what is run to try a login: nothing, or what shows that an account may do its part."""
    if login.login == "root":
        return ("true",)
    sudo = f"{' '.join(login.becomes_root)} sh -c true || exit; " if login.sudo else ""
    return ("sh", "-c", f"{sudo}{_USES_LIBVIRT}")


def cause(probe: LoginProbe, encrypted_key: bool) -> str:
    """Return `ok` or the name of what went wrong.

    Any other exit code than 255 comes from the far side: the login succeeded, and the output is
    not ssh's. The same holds for a login that was ended while it printed: ssh itself prints
    little, and to standard error only.

    encrypted_key
        Whether our key has a passphrase: then ssh offers no key, and sshd's error says just that.
    """
    if probe.overflowed or (probe.code is None and probe.stdout):
        return NOISE
    if probe.code == 0:
        return NOISE if probe.stdout else OK
    if probe.code not in (None, SSH_FAILED):
        if re.search(r"(?m)^(\S+:.* )?sudo: ", probe.stderr):
            return NOT_ROOT
        return NO_LIBVIRT if probe.code == LIBVIRT_REFUSED else FAILED
    found = next((name for name, text in CAUSES if re.search(text, probe.stderr)), None)
    if found == KEY_NOT_ACCEPTED and encrypted_key:
        return PASSPHRASE
    if found:
        return found
    return TIMED_OUT if probe.code is None else FAILED


def by_key(probe: LoginProbe, fingerprint: str) -> LoginProbe:
    """Return a login by ``ssh -v`` as failed unless the last key that was accepted is that one."""
    lines = probe.stderr.splitlines()
    accepted = [line for line in lines if _ACCEPTED in line]
    plain = "\n".join(line for line in lines if not line.startswith(("debug", "OpenSSH_")))
    if probe.code == 0 and fingerprint not in (accepted[-1].split() if accepted else ()):
        detail = f"Permission denied: {fingerprint} is not the key that let in"
        return replace(probe, code=SSH_FAILED, stderr=detail)
    return replace(probe, stderr=plain)


def response(name: str, probe: LoginProbe, echoes: bool) -> str:
    """Return how a host responds under a name; empty if it does not, and may be off.

    echoes
        Whether it responds to an ICMP echo request.
    """
    found = cause(probe, encrypted_key=False)
    ran = probe.code not in (0, None, SSH_FAILED)
    if found in RESPONSES or ran:
        return f"{name} {RESPONSES.get(found, RESPONSES[OK])}"
    return f"{name} responds to ping" if echoes else ""


def cell(
    peer: str,
    name: str,
    probe: LoginProbe | None,
    encrypted_key: bool,
    note: str = "",
    uncovered: str = "",
) -> dict[str, Any]:
    """Return one cell of the matrix as plain data; without a probe it was not tried.

    note
        Which settings of this host's own may be behind a failure; see client_settings.note.
    uncovered
        The address from which this host logs in there, if ``kvmcluster:ssh:from`` does not cover
        it: ssh itself is told no more than that its key is not accepted.
    """
    found = cause(probe, encrypted_key) if probe else NOT_TRIED
    if found == KEY_NOT_ACCEPTED and uncovered:
        found, note = NOT_FROM_HERE, f"this node logs in from {uncovered}"
    probe = probe or LoginProbe(None, "", "", 0.0)
    first, second = probe.stderr, probe.stdout
    detail = second or first if found == NOISE else first or second
    return {
        "peer": peer,
        "name": name,
        "ok": found == OK,
        "cause": found,
        "detail": _noted(_last_lines(detail), note),
        "remedy": REMEDIES.get(found, ""),
        "seconds": probe.seconds,
    }


def row(
    cluster_name: str, node: str, cells: Sequence[dict[str, Any]], refuses_for: int | None = None
) -> dict[str, Any]:
    """Return one node's row of the matrix.

    refuses_for
        Seconds for which the node's own sshd may refuse an address; None if not at all.
    """
    return {
        "kind": "ssh_row",
        "cluster": cluster_name,
        "node": node,
        "ok": all(cell["ok"] for cell in cells),
        "cells": list(cells),
        "refuses_for": refuses_for,
    }


def matrix(cluster: Cluster, rows: dict[str, Any]) -> dict[str, Any]:
    """Put the rows together; a node whose row is missing or malformed is listed as silent.

    ``ok`` needs every node's row and, in it, a good cell for every peer and name in the pillar.
    A node is believed about its own logins alone, and about those that the pillar asks for.
    """
    reported = {}
    silent = {}
    for node in cluster.nodes:
        wanted = [(peer.id, name) for peer in cluster.peers(node) for name in peer.names]
        try:
            cells = {
                (cell["peer"], cell["name"]): cell
                for cell in map(_cell, Reader(rows.get(node)).at("cells").items())
            }
        except InputError:
            silent[node] = _excuse(rows.get(node))
            continue
        sent = Reader(rows[node], lenient=True).at("refuses_for")
        limit = sent.whole(default=None, least=1, most=LONGEST_PENALTY)
        good_cells = [cells.get(at) or _absent(*at) for at in wanted]
        reported[node] = row(cluster.name, node, good_cells, limit)
    for one in reported.values():
        for found in one["cells"]:
            if found["cause"] == REFUSED_FOR_NOW and found["peer"] in reported:
                found["remedy"] = _for_now(reported[found["peer"]]["refuses_for"])
    good = sum(cell["ok"] for node in reported for cell in reported[node]["cells"])
    total = sum(len(node.names) for node in cluster.nodes.values()) * (len(cluster.nodes) - 1)
    return {
        "kind": "ssh_matrix",
        "cluster": cluster.name,
        "nodes": list(cluster.nodes),
        "ok": good == total and not silent,
        "cells": total,
        "good": good,
        "rows": reported,
        "silent": silent,
    }


def refused_for_now(matrix: dict[str, Any]) -> bool:
    """Whether nothing is wrong but that sshd refuses logins for a time."""
    bad = [cell for row in matrix["rows"].values() for cell in row["cells"] if not cell["ok"]]
    return bool(bad) and not matrix["silent"] and all(c["cause"] == REFUSED_FOR_NOW for c in bad)


def login_order(cluster: Cluster, node: str) -> list[Node]:
    """Return the peers, beginning after the node: so not all log in to the first one at once."""
    nodes = list(cluster.nodes.values())
    at = [item.id for item in nodes].index(cluster.node(node).id)
    return nodes[at + 1 :] + nodes[:at]


def by_every_name(cluster: Cluster, node: str) -> Targets:
    """Return how a node logs in to each peer by each of its names."""
    return {peer: peer.names for peer in login_order(cluster, node)}


def as_moves(cluster: Cluster, source: str | None, destination: str | None) -> dict[str, list[str]]:
    """Return to which peers which nodes log in before moves are planned, for ``login_targets``.

    source, destination
        The nodes that all moves are from, or to; None if they may be any.
    """
    return {
        node: [peer for peer in cluster.nodes if peer != node and destination in (None, peer)]
        for node in cluster.nodes
        if source in (None, node)
    }


def login_targets(cluster: Cluster, node: str, wanted: object) -> Targets:
    """Return how a node is to log in to its peers.

    By the migration name alone, as its moves do.

    wanted
        True for every peer, False for none; or the peers of each node. InputError for anything
        else. A peer that this node's pillar does not have yet is skipped, and counts as not tried.
    """
    if isinstance(wanted, bool):
        wanted = {node: list(cluster.nodes) if wanted else []}
    peers = wanted.get(node, []) if isinstance(wanted, dict) else None
    if not isinstance(peers, list):
        raise InputError(f"reach: want true, false or lists of peers by node, got {wanted!r:.60}")
    return {peer: (peer.migration,) for peer in login_order(cluster, node) if peer.id in peers}


def cells(sent: object) -> list[dict[str, Any]]:
    """Return the logins that a node reports; none if its report is invalid."""
    try:
        return [_cell(cell) for cell in Reader(sent).items()]
    except InputError:
        return []


def _cell(sent: Reader) -> dict[str, Any]:
    """Return a cell from what a node sent: only the cause, the message and the time are its own.

    A cause that we do not know, or a good one that the cell's own ``ok`` denies, is `failed`.
    """
    sent.at("remedy").text()
    ok, found = sent.at("ok").flag(), sent.at("cause").text()
    if found not in REMEDIES and not (found == OK and ok):
        found = FAILED
    return {
        "peer": sent.at("peer").line(most=MAX_DETAIL),
        "name": sent.at("name").line(most=MAX_DETAIL),
        "ok": found == OK,
        "cause": found,
        "detail": sent.at("detail").line(most=MAX_DETAIL),
        "remedy": REMEDIES.get(found, ""),
        "seconds": _duration(sent.at("seconds")),
    }


def _duration(sent: Reader) -> float:
    """Return a number of seconds that JSON can carry; 0.0 for one that it cannot."""
    if not isinstance(sent.value, (int, float)):
        raise sent.error("a number")
    return float(max(Reader(sent.value, lenient=True).number(default=0.0), 0.0))


def _absent(peer: str, name: str) -> dict[str, Any]:
    """Return the cell of a login that is missing in a node's row."""
    remedy = "its pillar differs from the master's: run saltutil.refresh_pillar there"
    return {**cell(peer, name, None, False), "detail": "not in its row", "remedy": remedy}


def _excuse(sent: object) -> str:
    """Return why there is no row: the node's error, if it sent one."""
    if isinstance(sent, str) and sent:
        return _last_lines(sent)
    return "no response" if sent in (None, "") else "unexpected response"


def _last_lines(text: str) -> str:
    """Return the last lines of a message, without ssh's advice to forget a pinned host key."""
    stripped = (line.strip() for line in text.splitlines())
    lines = [line for line in stripped if line and not line.startswith(FORGETTING)]
    return _bounded(" / ".join(lines[-3:]))


def _noted(detail: str, note: str) -> str:
    """Return a message with what is known besides; where both are too long, that stays whole."""
    known = _bounded(note)
    room = max(0, MAX_DETAIL - len(known) - len(" / "))
    return " / ".join(filter(None, (detail if not known else detail[:room], known)))


def _bounded(text: str) -> str:
    """Return a text cut to what is shown, as one printable line."""
    return printable(text[:MAX_DETAIL])
