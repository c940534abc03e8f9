"""The pillar's keys as a page of documentation: docs/pillar.md, written by ``make docs``."""

from __future__ import annotations

import inspect

from saltext_kvmcluster.core.pillar import options, schema
from saltext_kvmcluster.core.pillar.balancing import Balance
from saltext_kvmcluster.core.pillar.clusters import (
    ROOT,
    Cluster,
    Guests,
    Listed,
    Migration,
    Node,
)
from saltext_kvmcluster.core.pillar.ha import Device, Fencing, GuestHa, Ha, QuorumDevice
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.pillar.ssh import Ssh

HEAD = """\
# The pillar

Every key that is read from the pillar, part by part. Assign it to every node of the cluster and
to no other minion; the master reads it from there, too. An unknown key is an error with its path
and the nearest known key. Nothing starts with an invalid pillar.

`salt-run kvmcluster.members` reads it and reports errors. After a change:
`salt '*' saltutil.refresh_pillar`, and `salt-run state.orchestrate kvmcluster.orch.prepare` if
nodes, names or `ssh` changed.

This page is generated from the validator in `core/pillar`, by `make docs`.
"""

PARTS: tuple[tuple[str, tuple[type, ...]], ...] = (
    (ROOT, (Cluster,)),
    (f"{ROOT}:nodes:NODE", (Node,)),
    (f"{ROOT}:ssh", (Ssh,)),
    (f"{ROOT}:guests", (Guests,)),
    (f"{ROOT}:guests:list:GUEST", (Listed,)),
    (f"{ROOT}:guests:list:GUEST:ha", (GuestHa,)),
    (f"{ROOT}:migration", (Options, Migration)),
    (f"{ROOT}:ha", (Ha,)),
    (f"{ROOT}:ha:fencing", (Fencing,)),
    (f"{ROOT}:ha:fencing:devices:DEVICE", (Device,)),
    (f"{ROOT}:ha:quorum_device", (QuorumDevice,)),
    (f"{ROOT}:balance", (Balance,)),
)
"""Each part of the pillar by its path, and the classes whose fields are its keys."""

TOGETHER = """
### Options that exclude each other

Refused in the pillar as well as in a call of `kvmcluster.migrate`; [migrating](migrating.md) gives
the reasons.

"""

TAIL = """
## mine_functions

`kvmcluster.identity: []` under `mine_functions` is Salt's own setting: it refreshes each node's
public keys in the mine every hour. `kvmcluster.orch.prepare` publishes them at once.

## An example

Every key, as in `pillar.example`:

```{literalinclude} ../pillar.example
:language: yaml
```
"""


def document() -> str:
    """Return the page, in Markdown."""
    parts = "".join(_part(path, holders) for path, holders in PARTS)
    ours = [rule for rule in options.RULES if {*rule.keys} <= {*options.KEYS}]
    rules = "".join(f"- {_rule(rule)}\n" for rule in ours)
    return HEAD + parts + TOGETHER + rules + TAIL


def _part(path: str, holders: tuple[type, ...]) -> str:
    what = (inspect.getdoc(holders[-1]) or "").partition(" (pillar ")[0].rstrip(".")
    entries = (_entry(key) for holder in holders for key in schema.documented(holder))
    return f"\n## {path}\n\n{what}.\n\n" + "\n".join(entries)


def _entry(key: schema.Key) -> str:
    default = "Required" if key.default is None else f"Default: {key.default}"
    return f"`{key.name}`\n: {key.text}\n: Value: {key.wants}. {default}.\n"


def _rule(rule: options.Rule) -> str:
    return f"{', '.join(f'`{key}`' for key in rule.keys)}: {rule.sentence}"


if __name__ == "__main__":
    print(document(), end="")
