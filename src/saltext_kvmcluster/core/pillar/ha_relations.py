"""What guests with ``ha`` are to each other: apart, with, after; what of it can never be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Listed
from saltext_kvmcluster.core.pillar.ha import GuestHa
from saltext_kvmcluster.core.text import MAX_NAMES, listed
from saltext_kvmcluster.core.validate import shown, suggestion

_Found = Mapping[str, GuestHa]


def refuse(guests: Mapping[str, Listed], groups: Iterable[tuple[str, ...]], path: str) -> None:
    """Raise InputError unless what guests with ``ha`` are to each other can be.

    guests
        The list.
    groups
        The guests that are apart by ``guests: apart``.
    path
        The list's path in the pillar.
    """
    found = {name: guest.ha for name, guest in guests.items() if guest.ha}
    for name, wanted in found.items():
        named = {"apart": wanted.apart, "with": wanted.with_, "after": wanted.after}
        for key, others in named.items():
            for other in others:
                if other not in found:
                    raise InputError(
                        f"{path}:{name}:ha:{key}: {shown(other)} is not a guest of {path} with ha"
                        f"{suggestion(other, [*found])}"
                    )
    _refuse_circles(found, path)
    apart = {frozenset((name, other)) for name, one in found.items() for other in one.apart}
    apart |= {frozenset((one, other)) for group in groups for one in group for other in group}
    _refuse_impossible(found, apart, path, {name: guest.only for name, guest in guests.items()})


def _refuse_circles(found: _Found, path: str) -> None:
    after = {name: wanted.after for name, wanted in found.items()}
    beside = {name: wanted.with_ for name, wanted in found.items()}
    for name in found:
        if name in _reached(name, after):
            raise InputError(
                f"{path}:{name}:ha:after: it would wait for itself: the guests that it names wait,"
                " directly or not, for it"
            )
        if name in _reached(name, beside):
            raise InputError(
                f"{path}:{name}:ha:with: it would follow itself: the guests that it names follow,"
                " directly or not, it; name one guest in the others' with, and none in its own"
            )


def _refuse_impossible(
    found: _Found, apart: set[frozenset[str]], path: str, only: Mapping[str, tuple[str, ...]]
) -> None:
    """Raise InputError if guests that share a node, by ``with``, have none that they can share."""
    tied: dict[str, set[str]] = {name: set() for name in found}
    for name, wanted in found.items():
        for other in wanted.with_:
            tied[name].add(other)
            tied[other].add(name)
    seen: set[str] = set()
    for name in found:
        if not tied[name] or name in seen:
            continue
        together = sorted(_reached(name, tied))
        seen.update(together)
        names = listed(together, MAX_NAMES)
        if pair := next((pair for pair in apart if len(pair) == 2 and pair <= {*together}), None):
            raise InputError(
                f"{path}:{name}:ha:with: {' and '.join(sorted(pair))} are apart, and {names} share"
                " a node: one of them would always be off"
            )
        allowed = [{*only[guest]} for guest in together if only[guest]]
        if allowed and not set.intersection(*allowed):
            raise InputError(
                f"{path}:{name}:ha:with: {names} share a node, and no node is in the only of all of"
                " them: one of them would always be off"
            )


def _reached(name: str, graph: Mapping[str, Iterable[str]]) -> set[str]:
    """Return what is reached from a guest; itself only by a way that leads back."""
    known: set[str] = set()
    todo = [name]
    while todo:
        new = {*graph[todo.pop()]} - known
        known |= new
        todo += new
    return known
