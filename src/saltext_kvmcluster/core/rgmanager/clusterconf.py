"""RGManager's cluster.conf as our pillar: the file's text in, data and remarks out.

Nothing in the file is dropped silently. What imports an attribute takes it out of its element; in
the end there is a remark for everything that is left.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.rgmanager.availability import availability, available_guests
from saltext_kvmcluster.core.rgmanager.elements import (
    LONGEST_VALUE,
    Element,
    Remark,
    elements_of,
    remark_on_the_rest,
)
from saltext_kvmcluster.core.rgmanager.failover import domains_of
from saltext_kvmcluster.core.rgmanager.fates import CHANGED, Fate
from saltext_kvmcluster.core.rgmanager.guests import listed_guests, take_guests
from saltext_kvmcluster.core.rgmanager.migration import map_migration, migration_settings
from saltext_kvmcluster.core.rgmanager.nodes import take_nodes
from saltext_kvmcluster.core.rgmanager.refusals import NAMELESS, ROOT, Pillar, refusal
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.trust.identity import MINE_FUNCTION
from saltext_kvmcluster.core.validate import shown

MAX_SIZE = 1024 * 1024
"""The longest text that is read, in bytes; real ones are far shorter."""
FRAME = {
    "clusternodes": "cluster",
    "fencedevices": "cluster",
    "totem": "cluster",
    "cman": "cluster",
    "rm": "cluster",
    "failoverdomains": "rm",
    "resources": "rm",
}


@dataclass(frozen=True)
class Imported:
    """The pillar from a cluster.conf, and the remarks on it."""

    pillar: Pillar
    remarks: tuple[Remark, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"pillar": self.pillar, "remarks": [asdict(remark) for remark in self.remarks]}


def parse(text: str | bytes) -> Imported:
    """Return the pillar and remarks for a cluster.conf; InputError if it is invalid."""
    if len(text) > MAX_SIZE:
        raise InputError(f"not a cluster.conf: longer than {MAX_SIZE // 1024} KiB")
    parts = elements_of(xmltext.parse_xml(text))
    if parts[0].tag != "cluster":
        raise InputError(
            "not a cluster.conf: its first element is"
            f" {printable(parts[0].tag[:LONGEST_VALUE])}, not cluster"
        )
    pillar = _pillar(parts)
    parser.from_pillar(pillar)
    for part in parts:  # Parents come before their children.
        remark_on_the_rest(part)
    remarks = sorted((remark for part in parts for remark in part.remarks), key=lambda it: it.line)
    return Imported(pillar, tuple(remarks))


def path(value: object) -> str:
    """Return the path of the file; InputError if it is invalid."""
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise InputError(f"file: want the path of a cluster.conf, got {shown(value)}")


def _pillar(parts: list[Element]) -> Pillar:
    root = parts[0]
    for part in parts:
        part.imported = part is root or bool(
            part.parent and part.parent.imported and FRAME.get(part.tag) == part.parent.tag
        )
    nodes = take_nodes(parts)
    guests = take_guests(part for part in parts if part.tag == "vm" and part.inside("rm"))
    available = available_guests(guests, domains_of(parts, nodes), nodes)
    listed = listed_guests(guests, available)
    map_migration(guests.values(), nodes)
    body: Pillar = {"name": _name(root), "nodes": nodes.bodies}
    for key, value in (
        ("ha", availability(parts, nodes) if guests else {}),
        ("guests", listed),
        ("migration", migration_settings(list(guests.values()))),
    ):
        if value:
            body[key] = value
    return {ROOT: body, "mine_functions": {MINE_FUNCTION: []}}


def _name(root: Element) -> str:
    """Return the cluster's name, or a placeholder for an invalid one."""
    name = root.take("name")
    why = refusal({"name": name}) if name else "the cluster has no name"
    if name and not why:
        return name
    renamed = f"the cluster is named {NAMELESS!r}; rename it: {why}"
    root.remark("name" if name else None, name, Fate(CHANGED, renamed))
    return NAMELESS
