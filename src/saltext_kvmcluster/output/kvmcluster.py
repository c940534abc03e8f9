"""Outputter: the extension's returns as text for people.

On a terminal the words that say how it is are coloured, unless ``--no-color`` is given or the
environment has ``NO_COLOR``. ``--force-color`` colours in any case.

Data whose ``kind`` is not one of ours goes through Salt's own ``nested`` outputter.
"""

from __future__ import annotations

import os
from typing import Any

import salt.loader

from saltext_kvmcluster.core.output import colours, tables

__virtualname__ = "kvmcluster"

# Set by Salt's loader.
__opts__: dict[str, Any]


def __virtual__() -> str:
    return __virtualname__


def output(data: object, **kwargs: Any) -> str:
    """Return the data as text.

    CLI Example:

    .. code-block:: bash

        salt 'node1' kvmcluster.ssh_check --out=kvmcluster
    """
    text = tables.render(data)
    if text is not None:
        return _shown(text)
    texts = [tables.render(item) for item in data.values()] if isinstance(data, dict) else []
    known = [text for text in texts if text is not None]
    if known and len(known) == len(texts):
        return _shown("\n\n".join(known))
    return str(salt.loader.outputters(__opts__)["nested"](data, **kwargs))


def _shown(text: str) -> str:
    """Return a text in colour where that is wanted: Salt knows of its options and of a terminal."""
    unwanted = os.environ.get("NO_COLOR") and not __opts__.get("force_color")
    return colours.coloured(text) if __opts__.get("color") and not unwanted else text
