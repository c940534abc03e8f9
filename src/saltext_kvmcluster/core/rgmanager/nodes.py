"""The nodes of a cluster.conf, for the pillar."""

from __future__ import annotations

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.rgmanager.elements import Element, is_in
from saltext_kvmcluster.core.rgmanager.fates import LEFT, Fate
from saltext_kvmcluster.core.rgmanager.refusals import NAMELESS, ROOT, Pillar
from saltext_kvmcluster.core.text import printable


class Nodes:
    """The imported nodes, and the owner of each name."""

    def __init__(self) -> None:
        self.bodies: dict[str, Pillar] = {}
        self._owners: dict[str, str] = {}

    def owner(self, name: str) -> str | None:
        """Return the node that has a name; RGManager ignored case."""
        return self._owners.get(name.lower())

    def claim(self, node: str, key: str | None = None, name: str = "") -> str | None:
        """Import a node, or one more name of it under a key; or return why that is impossible."""
        more: Pillar = {"names": [name]} if key == "names" else {key: name} if key else {}
        try:
            wanted = {ROOT: {"name": NAMELESS, "nodes": {node: more}}}
            found = parser.from_pillar(wanted).nodes[node]
        except InputError as error:
            return printable(str(error))
        names = [known.lower() for known in found.names]
        for known in names:
            if self._owners.get(known, node) != node:
                return f"the name {known} already belongs to {self._owners[known]}"
        self._owners.update(dict.fromkeys(names, node))
        body = self.bodies.setdefault(node, {})
        if key == "names":
            body.setdefault(key, []).append(name)
        elif key:
            body[key] = name
        return None

    def map(self, pair: str) -> str | None:
        """Import one NODE:NAME of a migration mapping; or return why that is impossible."""
        member, _, target = (part.strip() for part in pair.partition(":"))
        node = self.owner(member)
        if not target:
            return "want NODE:NAME"
        if node is None:
            return f"{member!r} is not an imported node"
        body = self.bodies[node]
        known = body.get("migration", target)
        if known != target:
            return f"a node has one migration name here; the first one for {node} is used, {known}"
        return None if "migration" in body else self.claim(node, "migration", target)


def take_nodes(parts: list[Element]) -> Nodes:
    nodes, refused = Nodes(), ""
    for part in parts:
        if part.tag != "clusternode" or not is_in(part, "clusternodes"):
            continue
        name = part.given.get("name", "")
        twice = f"{name} is defined twice; the first definition is used"
        why = twice if nodes.owner(name) else nodes.claim(name)
        if why:
            part.drop(why)
            refused = refused or f" ({why})"
            continue
        part.take("name")
        part.imported = True
        for child in part.children:
            if child.tag == "altname":
                _add_name(child, name, nodes)
    if not nodes.bodies:
        raise InputError(f"no node in it can be imported{refused}")
    return nodes


def _add_name(altname: Element, node: str, nodes: Nodes) -> None:
    """Import a node's name in its second network as one of its names."""
    altname.imported = True
    name = altname.take("name")
    why = nodes.claim(node, "names", name) if name else None
    if why:
        altname.remark("name", name, Fate(LEFT, why))
