"""Why a part of a pillar would be refused."""

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
    """Return why a part of a pillar is invalid; None if it is valid.

    texts
        The texts in it, which Salt renders with Jinja before it reads the YAML.
    """
    if any(JINJA.search(text) for text in texts):
        return "Salt would render it as Jinja in a pillar's file"
    try:
        parser.from_pillar({ROOT: {"name": NAMELESS, "nodes": {"node": {}}, **body}})
    except InputError as error:
        return printable(str(error))
    return None
