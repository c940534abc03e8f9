"""Why nothing more of a plan is begun, and which nodes may begin more all the same."""

from __future__ import annotations

from collections.abc import Mapping

INTERRUPTED = (
    "interrupted: no further migrations are begun; those that were begun go on; to list them:"
    " salt-run kvmcluster.job; to end one: salt-run kvmcluster.cancel GUEST"
)
GOES_ON = "{node} did not confirm that it begins no further migrations; to stop it: {command}"


def ending(detail: str, is_interrupted: bool, unstopped: Mapping[str, str]) -> str:
    """Return why nothing more is begun, and which nodes may begin more; empty if all is over.

    unstopped
        The lists of migrations that were not seen to be stopped, by id: the node of each.
    """
    goes_on = [
        GOES_ON.format(node=node, command=f"salt {node} kvmcluster.departed {id} stop=True")
        for id, node in unstopped.items()
    ]
    if is_interrupted and not detail:
        detail = "" if goes_on else INTERRUPTED
        goes_on[:1] = [f"interrupted: {one}" for one in goes_on[:1]]
    return "; ".join([*([detail] if detail else []), *goes_on])


def in_vain(plans: int) -> str:
    """Return why there is no further plan: nodes have begun nothing of so many in a row."""
    return (
        f"of {plans} plans in a row nothing was begun by the nodes that guests were to leave; is"
        " there room in their /run?"
    )
