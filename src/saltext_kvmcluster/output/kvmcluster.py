"""Outputter: the extension's returns as text for people.

Data whose ``kind`` is not one of ours goes through Salt's own ``nested`` outputter.
"""

from __future__ import annotations

from typing import Any

import salt.loader

from saltext_kvmcluster.core.output import tables

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
        return text
    texts = [tables.render(item) for item in data.values()] if isinstance(data, dict) else []
    known = [text for text in texts if text is not None]
    if known and len(known) == len(texts):
        return "\n\n".join(known)
    return str(salt.loader.outputters(__opts__)["nested"](data, **kwargs))
