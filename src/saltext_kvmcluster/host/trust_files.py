"""The files of the ssh trust on this host, and whether they are still as they were written."""

from __future__ import annotations

import os

from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import client_config, login_keys, pinned_hosts, sshd
from saltext_kvmcluster.host import accounts, files


def paths(cluster: Cluster) -> list[str]:
    """Return the files that the states of the trust write, of every account that has some."""
    login = cluster.ssh.login
    own = [os.path.join(accounts.account(login).home, ".ssh", login_keys.AUTHORIZED_KEYS)]
    for account in map(accounts.account, dict.fromkeys(["root", login])):
        names = (pinned_hosts.KNOWN_HOSTS, client_config.CONFIG, client_config.USER_CONFIG)
        own += [os.path.join(account.home, ".ssh", name) for name in names]
    return [*own, sshd.DROP_IN]


def drifted(cluster: Cluster) -> list[str]:
    """Return those that differ from what was written last; Busy while one may be written."""
    return files.drifted(paths(cluster), cluster.ssh.exclusive)
