"""Why a part of a pillar would not be accepted."""

from __future__ import annotations

import re
from typing import Any

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar import clusters, parser
from saltext_kvmcluster.core.text import printable

NAMELESS = "imported"
ROOT = clusters.ROOT
JINJA = re.compile(r"\{(?=[{%#])")
Pillar = dict[str, Any]


def refusal(body: Pillar, *texts: str) -> str | None:
    """Return why a part of a pillar cannot be; None if it can.

    texts
        What of it stands in the pillar's file as it is, where Salt looks for Jinja first.
    """
    if any(JINJA.search(text) for text in texts):
        return "Salt would take it for Jinja in a pillar's file"
    try:
        parser.from_pillar({ROOT: {"name": NAMELESS, "nodes": {"node": {}}, **body}})
    except InputError as error:
        return printable(str(error))
    return None
