"""The imported pillar as the text of an SLS file, with the remarks as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from saltext_kvmcluster.core.rgmanager.clusterconf import Imported
from saltext_kvmcluster.core.rgmanager.elements import LONGEST_VALUE, Remark
from saltext_kvmcluster.core.rgmanager.fates import BECAME
from saltext_kvmcluster.core.rgmanager.refusals import JINJA, ROOT
from saltext_kvmcluster.core.text import printable

WIDTH = 100


def as_text(found: Imported, source: str, dumped: str) -> str:
    """Return the pillar as the text of an SLS file, with the remarks as comments.

    source
        The name of the imported file.

    dumped
        The pillar as YAML.
    """
    steps = [
        "The nodes have their names from cluster.conf. Use their minion ids instead: compare with"
        " 'salt-key -L', and change what differs.",
        "Read the remarks at the end: they list what has changed, and what has no counterpart.",
        "Put this into the pillar of these nodes, and of no other minion. Then run"
        " 'salt-run state.orchestrate kvmcluster.orch.prepare' and 'salt-run kvmcluster.check'.",
        "Two cluster managers must not manage one guest: stop RGManager on all nodes before you"
        " start or move a guest with this extension.",
    ]
    if "ha" in found.pillar[ROOT]:
        steps.append(
            "Then 'salt-run state.orchestrate kvmcluster.orch.ha' gives the guests with ha to"
            " Pacemaker, which starts them elsewhere when their node dies; with 'test=True' it"
            " shows what it would do. To do without, remove every ha."
        )
    lines = [*_wrapped(f"Pillar for saltext-kvmcluster, made from {source}."), "#"]
    for number, step in enumerate(steps, 1):
        lines += _wrapped(f"{number}. {step}", "   ")
    return "\n".join([*lines, "", dumped.rstrip("\n"), "", *_remarks(found.remarks), ""])


def _remarks(remarks: Iterable[Remark]) -> list[str]:
    """Return comments: each reason once, and below it the pieces of the file."""
    groups: dict[tuple[str, str], dict[tuple[int, str], list[str]]] = {}
    for remark in remarks:
        places = groups.setdefault((remark.became, remark.why), {})
        places.setdefault((remark.line, remark.element), []).append(_piece(remark))
    if not groups:
        return ["# Remarks: none."]
    lines = _wrapped("Remarks. Numbers are lines of cluster.conf. Its comments are not imported.")
    for (became, why), places in sorted(groups.items(), key=lambda it: BECAME.index(it[0][0])):
        lines += ["#", *_wrapped(f"{became.capitalize()}: {why}")]
        for (line, element), pieces in places.items():
            lines.append(_comment(" ".join(filter(None, [f"    {line}: {element}", *pieces]))))
    return lines


def _piece(remark: Remark) -> str:
    value = remark.value or ""
    shown = value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "…"
    if remark.attribute is None:
        return f'"{shown}"' if value else ""
    return f'{printable(remark.attribute[:LONGEST_VALUE])}="{shown}"'


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Return a text as comments, broken into lines."""
    lines = textwrap.wrap(
        text,
        WIDTH - 2,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [_comment(line) for line in lines]


def _comment(text: str) -> str:
    """Return a comment that is one for YAML and for Jinja, too."""
    return "# " + JINJA.sub("{ ", printable(text))
