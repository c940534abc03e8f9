"""The registry of checks as a page of documentation: docs/checks.md, written by ``make docs``."""

from __future__ import annotations

import inspect

from saltext_kvmcluster.core.readiness.checks.base import GUEST, MOVE, NODE, PAIR, Check
from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY

HEAD = """\
# Checks

`salt-run kvmcluster.check` and `kvmcluster.check` show which guest can move where, and why not.
Each check is OK, a PROBLEM, or UNKNOWN if a fact that it needs is not available. Every finding has
a remedy. BLOCK means that a migration would fail or could harm the guest: a PROBLEM forbids it, and
so does UNKNOWN. WARN forbids nothing.

`kvmcluster.migrate` runs the checks of severity BLOCK first. It asks source and destination only,
so its findings on names, UUIDs and disks cover these two nodes.

This page is generated from the registry in `core/readiness/checks`, by `make docs`.

"""
SUBJECTS = {
    NODE: "each node",
    PAIR: "each source and destination",
    GUEST: "each guest",
    MOVE: "each guest and destination",
}


def document() -> str:
    """Return the page, in Markdown."""
    rows = [f"| `{check.id}` | {check.severity} | {check.title} |" for check in REGISTRY]
    table = ["| id | severity | OK means |", "| --- | --- | --- |", *rows]
    return HEAD + "\n".join(table) + "\n" + "".join(_section(check) for check in REGISTRY)


def _section(check: Check) -> str:
    return (
        f"\n## {check.id}\n\n{inspect.getdoc(check.find)}\n\n"
        f"- OK means: {check.title}\n"
        f"- Severity: {check.severity}\n"
        f"- Judged for {SUBJECTS[check.scope]}{_role(check)}\n"
        f"- Remedy: {check.remedy}\n"
    )


def _role(check: Check) -> str:
    return f", in the role of {' or '.join(check.role)}" if check.scope == NODE else ""


if __name__ == "__main__":
    print(document(), end="")
