"""What starts a guest that was just started once more: what its nodes do at their next boot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from saltext_kvmcluster.core.facts import starters
from saltext_kvmcluster.core.facts.starters import Starters
from saltext_kvmcluster.core.ownership.startup import NodeAnswer, Request


def keepers(asked: Mapping[str, NodeAnswer]) -> list[str]:
    """Return the nodes whose libvirt keeps a definition of a guest, so that it can start there."""
    return [node for node, answer in asked.items() if answer.same_uuid.persistent]


def warnings(
    request: Request, asked: Mapping[str, NodeAnswer], known: Mapping[str, Starters | None]
) -> Iterator[str]:
    """Yield what starts a guest at the next boot of a node, wherever it runs by then.

    asked
        What the nodes answered after its start.
    known
        What starts guests on those that keep a definition of it; None where that is not known.
    """
    for node in keepers(asked):
        for issue in starters.issues(node, asked[node].same_uuid, known[node]):
            yield f"{issue.sentence} ({issue.remedy})"
    if request.definitions != "defined":
        return
    fenced = {node for node, answer in asked.items() if answer.is_off}
    for node in sorted({*request.declared_offline, *fenced}):
        how = "was fenced" if node in fenced else "was declared offline"
        yield (
            f"{node} {how}, so whether it starts {request.guest} at its next boot is"
            " not known: autostart and libvirt-guests do, wherever it runs by then (boot it with"
            f" systemd.mask=libvirtd.service systemd.mask=libvirtd.socket on its kernel's command"
            f" line, and look at {starters.LIST} and /etc/libvirt/qemu/autostart there first)"
        )
