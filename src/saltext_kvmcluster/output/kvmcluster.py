"""Outputter: the extension's returns as text for people.

What is not of a shape that the extension returns goes through Salt's own ``nested`` outputter.
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
    if (
        data
        and isinstance(data, dict)
        and all(tables.render(item) is not None for item in data.values())
    ):
        return "\n\n".join(tables.render(item) for item in data.values())
    return salt.loader.outputters(__opts__)["nested"](data, **kwargs)
