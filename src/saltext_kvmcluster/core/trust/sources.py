"""From which addresses peers log in, and which of these ``kvmcluster:ssh:from`` does not cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from saltext_kvmcluster.core.pillar import networks
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import MAX_NAMES, listed, one_line

Seen = Mapping[str, Mapping[networks.Address, str]]
"""By node its addresses, each with how it is known."""

ECHO = "echo $SSH_CONNECTION"
"""What a login prints to tell from which address it comes; see ssh(1)."""


def client(output: str) -> networks.Address | None:
    """Return the address from which a login came that printed ``ECHO``; None if it did not.

    What the login's shell printed before does not count.
    """
    lines = [line.split() for line in output.splitlines() if line.strip()]
    return networks.address(lines[-1][0]) if lines and len(lines[-1]) == 4 else None


def uncovered(cluster: Cluster, seen: Seen) -> dict[str, str]:
    """Return the nodes that the wanted ``from`` would keep out, each with what to do about it."""
    found = {}
    for node, addresses in seen.items():
        missing = {
            address: how
            for address, how in addresses.items()
            if not networks.covers(cluster.ssh.from_, address)
        }
        if missing:
            which = listed((f"{at} ({how})" for at, how in missing.items()), MAX_NAMES)
            found[node] = (
                f"{node} logs in from {which}, which kvmcluster:ssh:from does not cover: add"
                f" {listed(map(str, missing), MAX_NAMES)} there; until then its line lets in from"
                " where it did, too"
            )
    return found


def unasked(failures: Mapping[str, str]) -> dict[str, str]:
    """Return the nodes that could not be asked from where their logins come, and what of them."""
    return {
        node: f"{node} could not be asked from where it logs in, so kvmcluster:ssh:from does not"
        f" hold for its key yet; apply this again once it can be: {one_line(why)}"
        for node, why in failures.items()
    }


def by_names(
    names: Iterable[tuple[str, str, Iterable[str]]],
) -> dict[str, dict[networks.Address, str]]:
    """Return the addresses of nodes' names.

    names
        Each a node, its name, and the addresses of that.
    """
    seen: dict[str, dict[networks.Address, str]] = {}
    for node, name, addresses in names:
        for address in map(networks.address, addresses):
            if address is None:
                continue
            how = "its name is this address" if name == str(address) else f"its name {name}"
            seen.setdefault(node, {}).setdefault(address, how)
    return seen
