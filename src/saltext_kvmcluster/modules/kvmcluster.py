"""Execution module: this node's part of the cluster.

Every function reads the cluster from pillar ``kvmcluster``, returns plain data, and fails with
one sentence that says what was wrong and what to do.
"""

from datetime import datetime, timezone

import salt.defaults.exitcodes

from saltext_kvmcluster import doors
from saltext_kvmcluster.core import keyfile, reach
from saltext_kvmcluster.core.identity import Identity
from saltext_kvmcluster.host import ssh

__virtualname__ = "kvmcluster"
__outputter__ = {"ssh_check": "kvmcluster"}


def __virtual__():
    return __virtualname__


@doors.salt_errors
def identity():
    """Return this node's identity: public key, host keys, fingerprints, login, time.

    The mine function of every node. Public data only. It fails while the cluster key is missing
    or unfit, so that the mine keeps what was published last.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.identity
        salt '*' mine.send kvmcluster.identity
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"])
    home = ssh.account(cluster.ssh.login).home
    found = ssh.key_file(keyfile.key_path(cluster, home), home)
    return Identity(
        node=__opts__["id"],
        cluster_key=keyfile.parsed(found, cluster),
        host_keys=ssh.host_keys(),
        login=cluster.ssh.login,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    ).published()


@doors.salt_errors
def peers():
    """Return what this node knows of its peers: identities, refused ones with why, missing ones.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.peers
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"])
    found = doors.mine_identities(cluster, __salt__["mine.get"])
    own = __opts__["id"]
    return {
        "cluster": cluster.name,
        "identities": {
            node: item.published() for node, item in found.accepted.items() if node != own
        },
        "refused": {node: why for node, why in found.refused.items() if node != own},
        "missing": [node for node in found.missing if node != own],
    }


@doors.salt_errors
def ssh_check(timeout=10, time_limit=120):
    """Log in to every peer by every name, as a migration does, and name the cause of each failure.

    timeout
        Seconds for one login. Default: 10.

    time_limit
        Seconds for all of them; what is not begun by then is reported as not tried. Default: 120.

    Returns ``{cluster, node, ok, cells: [{peer, name, ok, cause, said, remedy, seconds}]}``; the
    exit code is non-zero unless every cell is good. ``cause`` is ``ok`` or one of: no such name,
    refused, host key changed, host key unknown, timed out, no route, key not accepted,
    passphrase asked, dropped, bad configuration, noise, not tried, failed.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.ssh_check
        salt-run kvmcluster.ssh_matrix
    """
    cluster = doors.member_cluster(__pillar__, __opts__["id"])
    home = ssh.account(cluster.ssh.login).home
    encrypted = ssh.key_file(keyfile.key_path(cluster, home), home).encrypted
    peers_in_order = reach.calling_order(cluster, __opts__["id"])
    seen = ssh.knock_peers(
        peers_in_order,
        doors.seconds(timeout, "timeout"),
        doors.seconds(time_limit, "time_limit"),
    )
    cells = [
        reach.cell(peer.id, name, seen.get((peer.id, name)), encrypted)
        for peer in peers_in_order
        for name in peer.names
    ]
    row = reach.row(cluster.name, __opts__["id"], cells)
    if not row["ok"]:
        __context__["retcode"] = salt.defaults.exitcodes.EX_GENERIC
    return row
