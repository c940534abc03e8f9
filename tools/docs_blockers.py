"""What is refused, as a page of documentation: docs/blockers.md, written by ``make docs``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from saltext_kvmcluster.core.guest.blocker import Versions

CASES = Path(__file__).parent.parent / "tests" / "cases" / "definitions" / "blockers.yaml"
HEAD = """\
# What cannot be migrated

libvirt and QEMU refuse to migrate some guests by what is in their definitions. The check
`guest.blockers` ([checks](checks.md)) says so beforehand; where neither refuses but the guest would
be harmed, it does so alone. Versions are judged on both nodes: the source's by `guest.blockers`,
the destination's by `node.versions`. A guest runs the QEMU that started it: after an upgrade it is
the older one, until the guest is restarted.

*Asked*: from those versions on only the guest's running QEMU knows, by what its guest or the host's
driver does. It is asked with `query-migrate`, which libvirt notes in the guest's log
(`tainted: custom-monitor`). To ask it yourself about any guest, on its node:

```
virsh qemu-monitor-command GUEST --pretty '{"execute":"query-migrate"}'
```

`blocked-reasons` in its answer are what it refuses; without that it refuses nothing.

What a definition hands QEMU past libvirt is refused, since nothing checks it. Make sure that every
path, address and device in it means the same on all nodes, then allow it in the pillar:

```
kvmcluster:
  guests:
    passthrough: [web1]
```

*Seen* rows were tried with libvirt 9.0 and QEMU 7.2 on real parts, by `tests/lab/test_blockers.py`
(`make nightly`); the others are by source alone. This page is generated from
`tests/cases/definitions/blockers.yaml`, whose every row is a unit test.

| part of the definition | who refuses | in which words | the check | moves | how known |
| --- | --- | --- | --- | --- | --- |
"""


def rows() -> list[dict[str, Any]]:
    """Return the rows of the table, as they are in the file."""
    found: list[dict[str, Any]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))["rows"]
    return found


def document() -> str:
    """Return the page, in Markdown."""
    return HEAD + "".join(f"| {' | '.join(_cells(row))} |\n" for row in rows())


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    known = f"{'seen; ' if 'seen' in row else ''}{row['by']}"
    cells = (
        row["what"],
        row.get("who", ""),
        f"`{row['words']}`" if "words" in row else "",
        row.get("severity", "BLOCK") if row.get("says") or row.get("since") else "OK",
        _moves(row),
        known,
    )
    return tuple(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)


def _moves(row: Mapping[str, Any]) -> str:
    if "since" in row:
        return f"from {Versions(*row['since'])}" + (", asked" if row.get("asked") else "")
    asked = ", asked" if "refusals" in row else ""
    return str(row.get("moves", "no" if row.get("says") else "yes")) + asked


if __name__ == "__main__":
    print(document(), end="")
