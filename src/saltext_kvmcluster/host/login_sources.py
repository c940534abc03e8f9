"""From which addresses peers log in to this node: of their names, and as sshd here sees them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.pillar.networks import Address
from saltext_kvmcluster.core.trust import sources
from saltext_kvmcluster.host import resolver, ssh

WORKERS = 16
LOGIN_TIME = 5.0


def uncovered(
    cluster: Cluster, here: str, limited: Mapping[str, bool]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return whom the wanted ``from`` would keep out, and who cannot be asked, each with remedies.

    limited
        The nodes whose lines are to be limited, and whether they have a line now: those that have
        one are asked to log in here by each name of this node, over a login to them.
    """
    peers = [peer for peer in cluster.peers(here) if peer.id in limited]
    names = [(peer.id, name) for peer in peers for name in peer.names]
    own = cluster.node(here).names
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        found = pool.map(lambda pair: resolver.addresses(pair[1]), names)
        seen = sources.by_names(
            (node, name, addresses) for (node, name), addresses in zip(names, found, strict=True)
        )
        asked = [peer for peer in peers if limited[peer.id]]
        answers = dict(zip(asked, pool.map(lambda peer: _asked(peer, own), asked), strict=True))
    failures = {}
    for peer, answer in answers.items():
        if isinstance(answer, str):
            failures[peer.id] = answer
            continue
        for address, name in answer.items():
            seen.setdefault(peer.id, {}).setdefault(address, f"to {name}")
    return sources.uncovered(cluster, seen), sources.unasked(failures)


def _asked(peer: Node, own: tuple[str, ...]) -> dict[Address, str] | str:
    """Return from which addresses a peer logs in, by each of our names; or why it cannot be asked.

    A login that fails from there now has nothing to lose, and is left out.
    """
    dial = {name: [*ssh.dial(name, LOGIN_TIME), sources.ECHO] for name in own}
    try:
        answers = ssh.run_all(peer.migration, dial, LOGIN_TIME * (1 + len(own)))
    except WorldError as error:
        return str(error)
    found: dict[Address, str] = {}
    for name, outcome in answers.items():
        address = sources.client(outcome.stdout) if outcome.code == 0 else None
        if address:
            found.setdefault(address, name)
    return found
