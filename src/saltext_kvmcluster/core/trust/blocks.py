"""What all managed ssh files share: the marked block, the tag of a line, the changes to keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from saltext_kvmcluster.core.fileplan import Changes
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust.identity import Identities, PublicKey

BEGIN = "# BEGIN kvmcluster (managed by Salt: changes inside are lost)\n"
END = "# END kvmcluster\n"
_BEGIN = re.compile(r"[ \t]*# BEGIN kvmcluster(?: \(.*)?\s*\Z")
_END = re.compile(r"[ \t]*# END kvmcluster\s*\Z")
TAG = re.compile(r"kvmcluster/[^/\s]+/(\S+)\Z")


def tag(cluster: Cluster, node: str) -> str:
    """Return the comment that marks a line as ours and names its node."""
    return f"kvmcluster/{cluster.name}/{node}"


def absences(cluster: Cluster, identities: Identities, text: str) -> list[str]:
    """Return which nodes have no identity in the mine, and whether a file has entries of them."""
    return [
        f"{node} has no identity in the mine: "
        + (
            "its entries stay as they are"
            if f"{tag(cluster, node)}\n" in text
            else "it has no entry yet"
        )
        + f"; run: salt {node} mine.send kvmcluster.identity"
        for node in identities.missing
    ]


def refusals(refused: Mapping[str, str]) -> list[str]:
    """Return which nodes' identities are refused, and why."""
    return [
        f"{node}: its published identity is refused: {why}; its present entries stay"
        for node, why in refused.items()
    ]


class KeyChanges:
    """Collects what a change does to keys, node by node."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.removed: list[str] = []
        self.replaced: list[str] = []

    def changes(self) -> Changes:
        return Changes(tuple(self.added), tuple(self.removed), tuple(self.replaced))

    def compare(self, node: str, old: Iterable[PublicKey], new: Iterable[PublicKey]) -> None:
        """Record the changes to one node's keys; keys of one type replace each other."""
        gone = [key for key in old if key not in set(new)]
        come = [key for key in new if key not in set(old)]
        for key in come:
            former = next((item for item in gone if item.type == key.type), None)
            if former:
                gone.remove(former)
                self.replaced.append(f"{node} {key_label(former)} -> {key.fingerprint}")
            else:
                self.added.append(f"{node} {key_label(key)}")
        self.removed += [f"{node} {key_label(key)}" for key in gone]


def key_label(key: PublicKey) -> str:
    return f"{key.type} {key.fingerprint}"


def split_lines(text: str) -> list[str]:
    """Split at line feeds alone, as ssh and sshd do; every line keeps its own."""
    return re.findall(r"[^\n]*\n|[^\n]+\Z", text)


def owned_lines(lines: list[str]) -> list[bool]:
    """Return for each line whether it is in our block; a begin without an end owns only itself."""
    owned = [False] * len(lines)
    begin: int | None = None
    for index, line in enumerate(lines):
        if _BEGIN.match(line):
            begin = index
            owned[index] = True
        elif _END.match(line):
            owned[index] = True
            if begin is not None:
                owned[begin : index + 1] = [True] * (index + 1 - begin)
            begin = None
    return owned
