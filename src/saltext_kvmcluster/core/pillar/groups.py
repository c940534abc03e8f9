"""Which guests are kept together, and which apart; what of it can never be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Guests
from saltext_kvmcluster.core.text import MAX_NAMES, listed

Groups = Mapping[str, frozenset[str]]


def kept_apart(guests: Guests) -> Groups:
    """Return, by guest, the guests from which it is to be kept apart."""
    found: dict[str, set[str]] = defaultdict(set)
    for group in guests.apart:
        for guest in group:
            found[guest].update(other for other in group if other != guest)
    for one in guests.list.values():
        for other in one.ha.apart if one.ha else ():
            found[one.name].add(other)
            found[other].add(one.name)
    return {guest: frozenset(others) for guest, others in found.items()}


def kept_together(guests: Guests) -> Groups:
    """Return, by guest, the guests that are to be on one node with it, and itself.

    Groups that share a guest are one. The ``with`` of high availability counts, too.
    """
    return joined([*guests.with_, *_bound(guests)])


def kept_bound(guests: Guests) -> Groups:
    """Return the same of those that do not run unless they are together."""
    return joined(_bound(guests))


def _bound(guests: Guests) -> list[tuple[str, ...]]:
    known = guests.list.items()
    return [(name, *one.ha.with_) for name, one in known if one.ha and one.ha.with_]


def joined(groups: Iterable[tuple[str, ...]]) -> Groups:
    """Return, by member, the groups; those that share a member are one."""
    found: dict[str, set[str]] = {}
    for group in groups:
        whole = set(group).union(*(found[guest] for guest in group if guest in found))
        found.update(dict.fromkeys(whole, whole))
    frozen: dict[int, frozenset[str]] = {}
    return {guest: frozen.setdefault(id(whole), frozenset(whole)) for guest, whole in found.items()}


def refuse(guests: Guests, path: str) -> None:
    """Raise InputError if guests that are kept together, or apart, can never be so.

    path
        The guests' path in the pillar.
    """
    apart = kept_apart(guests)
    together = kept_together(guests)
    for place, group in enumerate(guests.with_):
        whole = together[group[0]]
        _refuse_together(guests, whole, apart, f"{path}:with:{place}")
    only = {name: one.only for name, one in guests.list.items() if one.only}
    for place, group in enumerate(guests.apart):
        if crowded := _crowded(group, only):
            nodes = sorted({node for guest in crowded for node in only[guest]})
            raise InputError(
                f"{path}:apart:{place}: {listed(crowded, MAX_NAMES)} may only run on"
                f" {listed(nodes, MAX_NAMES)}, by their only: that is not a node for each of them"
            )


def _refuse_together(guests: Guests, whole: frozenset[str], apart: Groups, path: str) -> None:
    members = sorted(whole)
    names = listed(members, MAX_NAMES)
    for guest in members:
        if others := sorted(whole & apart.get(guest, frozenset())):
            raise InputError(
                f"{path}: {guest} and {others[0]} are apart, and {names} are to be on one node:"
                " both cannot be"
            )
    known = [guests.list[guest] for guest in members if guest in guests.list]
    limited = [one for one in known if one.only]
    if limited and not set.intersection(*({*one.only} for one in limited)):
        raise InputError(
            f"{path}: {names} are to be on one node, and no node is in the only of all of them"
        )
    homes = {one.home: one.name for one in known if one.home}
    if len(homes) > 1:
        listed_homes = listed((f"{name} on {home}" for home, name in homes.items()), MAX_NAMES)
        raise InputError(
            f"{path}: {names} are to be on one node, and their homes differ: {listed_homes}"
        )


def _crowded(group: Iterable[str], only: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return guests that cannot have a node each, by their ``only``; none if they can."""
    takers: dict[str, str] = {}

    def seats(guest: str, tried: set[str]) -> bool:
        for node in only[guest]:
            if node not in tried:
                tried.add(node)
                if node not in takers or seats(takers[node], tried):
                    takers[node] = guest
                    return True
        return False

    for guest in group:
        tried: set[str] = set()
        if guest in only and not seats(guest, tried):
            return sorted([*(takers[node] for node in tried), guest])
    return []
