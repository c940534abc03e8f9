"""Which run of maintenance holds which node on this master: one at a time.

In Salt's cache; a process that has ended holds nothing. Two runs over one node would each uncordon
it while the other one is about to go on there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.host import bootid
from saltext_kvmcluster.master.pillars import Functions

BANK = "kvmcluster/maintained"


def refuse_second(functions: Functions, cluster: str, node: str) -> None:
    """Raise InputError while another process of this master holds a node."""
    holder = str(functions["cache.fetch"](f"{BANK}/{cluster}", node) or "")
    if holder != bootid.process(os.getpid()) and bootid.is_alive(holder):
        raise InputError(
            f"{node} is in maintenance by another run on this master, in process"
            f" {holder.partition(':')[0]}; wait until it ends"
        )


def others(functions: Functions, cluster: str, nodes: Iterable[str]) -> list[str]:
    """Return a sentence for each node that another process of this master holds."""
    found = []
    for node in nodes:
        try:
            refuse_second(functions, cluster, node)
        except InputError as error:
            found.append(str(error))
    return found


def hold(functions: Functions, cluster: str, node: str) -> None:
    """Have this process hold a node until it ends; InputError if another one does."""
    refuse_second(functions, cluster, node)
    functions["cache.store"](f"{BANK}/{cluster}", node, bootid.process(os.getpid()))
    refuse_second(functions, cluster, node)


def release(functions: Functions, cluster: str, node: str) -> None:
    """Have this process hold a node no longer."""
    if functions["cache.fetch"](f"{BANK}/{cluster}", node) == bootid.process(os.getpid()):
        functions["cache.flush"](f"{BANK}/{cluster}", node)
