"""The text of corosync.conf: which nodes there are, over which networks, and when one is lost.

As in corosync.conf(5), votequorum(5) and corosync-qdevice(8) of Corosync 3.
"""

from __future__ import annotations

import base64
import zlib

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import Changes, Wanted
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster, Node
from saltext_kvmcluster.core.pillar.ha import Ha

PATH = "/etc/corosync/corosync.conf"
AUTHKEY = "/etc/corosync/authkey"
AUTHKEY_SIZE = 256
SHORTEST_KEY, LONGEST_KEY = 128, 4096
"""Bytes of a key that Corosync takes (totem.keyfile, TOTEM_PRIVATE_KEY_LEN_MIN and _MAX)."""
MOST_NUMBER = 65535
MARK = (
    "# Written by the state kvmcluster.ha_corosync, from pillar kvmcluster; other changes are lost."
)

# The parser wants each brace at the end, or on a line, of its own.
_TEXT = """{mark}
totem {{
    version: 2
    cluster_name: {cluster}
    transport: knet
    crypto_cipher: aes256
    crypto_hash: sha256
    token: {token}
}}

nodelist {{
{nodes}
}}

quorum {{
    provider: corosync_votequorum
{quorum}
}}

logging {{
    to_stderr: no
    to_syslog: yes
    to_logfile: yes
    logfile: /var/log/corosync/corosync.log
    timestamp: on
}}
"""
_NODE = """    node {{
        name: {node.id}
        nodeid: {number}
{rings}
    }}"""
_DEVICE = """    device {{
        model: net
        votes: 1
        net {{
            host: {host}
            algorithm: ffsplit
        }}
    }}"""


def key(encoded: str) -> bytes:
    """Return the key of Corosync that a node printed in base64; InputError if it is none."""
    try:
        found = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise InputError(f"{AUTHKEY} was not printed as it is") from None
    if not SHORTEST_KEY <= len(found) <= LONGEST_KEY:
        raise InputError(f"{AUTHKEY} is no key of Corosync: it has {len(found)} bytes")
    return found


def node_number(node: str) -> int:
    """Return a node's number in Corosync: it depends on nothing but its minion id.

    So it stays what it is when others join and leave, and is the same wherever it is worked out.
    """
    # knet wants 1 to 65535.
    return zlib.crc32(node.encode()) % MOST_NUMBER + 1


def wanted(cluster: Cluster, ha: Ha, present: str) -> Wanted:
    """Return the text that the file should have.

    present
        The text that it has, empty if there is no file.
    """
    text = _text(cluster, ha)
    before, after = present.splitlines(), text.splitlines()
    return Wanted(
        text,
        Changes(
            added=tuple(line.strip() for line in after if line.strip() and line not in before),
            removed=tuple(line.strip() for line in before if line.strip() and line not in after),
        ),
    )


def is_ours(present: str) -> bool:
    """Whether a file was written by us."""
    return present.startswith(MARK)


def _text(cluster: Cluster, ha: Ha) -> str:
    numbers: dict[int, str] = {}
    for node in cluster.nodes:
        other = numbers.setdefault(node_number(node), node)
        if other != node:
            raise InputError(
                f"{ROOT}:nodes: {other} and {node} would have the same number in Corosync, which is"
                " made of the minion id: give one of them another minion id"
            )
    two_networks = all(node.migration != node.id for node in cluster.nodes.values())
    nodes = "\n".join(
        _NODE.format(node=node, number=number, rings=_rings(node, two_networks))
        for number, node in zip(numbers, cluster.nodes.values(), strict=True)
    )
    return _TEXT.format(
        mark=MARK, cluster=cluster.name, token=ha.token, nodes=nodes, quorum=_quorum(cluster, ha)
    )


def _rings(node: Node, two_networks: bool) -> str:
    names = [node.id, node.migration] if two_networks else [node.id]
    return "\n".join(f"        ring{at}_addr: {name}" for at, name in enumerate(names))


def _quorum(cluster: Cluster, ha: Ha) -> str:
    """Return what decides which part of a divided cluster goes on.

    ``wait_for_all``: after a start of the whole cluster none is fenced for not being there before
    every node has been there once. A quorum device has it set by Corosync itself.
    """
    if ha.quorum_device:
        return _DEVICE.format(host=ha.quorum_device.host)
    two = len(cluster.nodes) == 2
    return "\n".join([*(["    two_node: 1"] if two else []), "    wait_for_all: 1"])
