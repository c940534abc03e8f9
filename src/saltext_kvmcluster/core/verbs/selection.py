"""Which guests a command is for: names, lists, patterns; and whether it may be carried out."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.names import guest_name
from saltext_kvmcluster.core.text import MAX_NAMES, listed, printable

MOST = 1000
LIST = "to list the guests: salt-run kvmcluster.status"
_WILD = "*?["

Facts = Mapping[str, NodeFacts]


@dataclass(frozen=True)
class Words:
    """What was typed for guests: names and patterns, in order; ``whole`` is all of it."""

    each: tuple[str, ...]
    whole: str

    @property
    def has_pattern(self) -> bool:
        """Whether how many guests are meant depends on what nodes tell."""
        return any(map(_is_pattern, self.each))


@dataclass(frozen=True)
class Selection:
    """The guests that are meant, by name; ``unmatched`` are patterns that no guest matches.

    ``is_open``: whether there may be more of them, on nodes that do not tell their guests.
    """

    guests: tuple[str, ...]
    unmatched: tuple[str, ...] = ()
    is_open: bool = False

    @property
    def needs_consent(self) -> bool:
        """Whether it is more than the one guest that somebody has named."""
        return len(self.guests) > 1 or self.is_open


def words(given: object) -> Words:
    """Return names and patterns of guests, given with commas or as a list; InputError if wrong."""
    raw = given if isinstance(given, list) else str(given).split(",")
    if not isinstance(given, (str, list)):
        guest_name(given, "guest")
    found = [one.strip() if isinstance(one, str) else one for one in raw]
    found = [one for one in found if one != ""]
    if not found or len(found) > MOST:
        raise InputError(
            f"guest: want a guest's name, a pattern as 'web*', or up to {MOST} of them with"
            f" commas, got {validate.shown(given)}"
        )
    for one in found:
        if not (isinstance(one, str) and one.isprintable() and _is_pattern(one)):
            guest_name(one, "guest")
    return Words(tuple(dict.fromkeys(map(str, found))), given if isinstance(given, str) else "")


def one_word(given: object) -> Words:
    """Return the name of one guest; InputError if it is none."""
    name = guest_name(given, "guest")
    return Words((name,), name)


def select(asked: Words, cluster: Cluster, facts: Facts, may_be_unseen: bool = False) -> Selection:
    """Return the guests that are meant; InputError if one is not known, or none matches.

    A guest of exactly the name that was typed is meant, and nothing else, whatever its characters.

    may_be_unseen
        Whether a guest may be meant that is off, and of which only a file on shared storage tells.
    """
    known = known_names(cluster, facts)
    if asked.whole in known:
        return Selection((asked.whole,))
    patterns = [word for word in asked.each if _is_pattern(word) and word not in known]
    plain = [word for word in asked.each if word not in patterns]
    unknown = [word for word in plain if word not in known]
    if may_be_unseen and cluster.guests.definitions == "shared":
        unknown = [word for word in unknown if word in cluster.nodes]
    if unknown:
        raise not_known(unknown, cluster, facts)
    matched = {word: fnmatch.filter(known, word) for word in patterns}
    found = sorted({*plain, *(name for names in matched.values() for name in names)})
    unmatched = tuple(word for word, names in matched.items() if not names)
    if not found:
        raise InputError(f"no guest matches {listed(unmatched)}{hidden(facts)}; {LIST}")
    return Selection(tuple(found), unmatched, bool(patterns and silent(facts)))


def cluster_of(asked: Words, seen: Mapping[str, tuple[Cluster, Facts]]) -> str:
    """Return the cluster to which guests belong, where the master has several.

    InputError where their names do not decide, as while a node that may have one does not answer.
    """
    if len(seen) == 1:
        return next(iter(seen))
    say = f"say which cluster: cluster= one of {listed(sorted(seen), MAX_NAMES)}"
    known = {name: known_names(*one) for name, one in seen.items()}
    by_word = {
        word: [name for name in seen if word in known[name]]
        for word in ([asked.whole] if any(asked.whole in one for one in known.values()) else ())
        or asked.each
    }
    if asked.has_pattern and any(_is_pattern(word) and not by_word[word] for word in by_word):
        raise InputError(f"a pattern is for the guests of one cluster; {say}")
    for word, names in by_word.items():
        if not names:
            unseen = "".join(hidden(facts) for _, facts in seen.values())
            raise InputError(f"no cluster has a guest {printable(word)}{unseen}; {LIST}")
        if len(names) > 1:
            raise InputError(f"{printable(word)} is a guest of clusters {listed(names)}; {say}")
    found = sorted({names[0] for names in by_word.values()})
    if len(found) > 1:
        raise InputError(f"these guests are of clusters {listed(found)}; {say}")
    if unseen := "".join(hidden(facts) for name, (_, facts) in seen.items() if name != found[0]):
        raise InputError(
            f"{listed(map(printable, by_word))}: known in cluster {found[0]}, and another one may"
            f" have a guest of that name{unseen}; {say}"
        )
    return found[0]


def known_names(cluster: Cluster, facts: Facts) -> list[str]:
    """Return the guests of the pillar's list, and those of the nodes that tell them, sorted."""
    seen = (guest.name for one in facts.values() for guest in one.guests or ())
    return sorted({*cluster.guests.list, *seen})


def not_known(names: Iterable[str], cluster: Cluster, facts: Facts) -> InputError:
    """Return the error that no node has these guests; a node's name is named as such."""
    unknown = list(names)
    sentence = f"no node that responded has a guest {listed(map(printable, unknown), MAX_NAMES)}"
    nodes = [name for name in unknown if name in cluster.nodes]
    if nodes:
        verb = "is a node" if len(nodes) == 1 else "are nodes"
        sentence += f": {listed(nodes)} {verb}; to empty one: salt-run kvmcluster.drain"
    return InputError(f"{sentence}{hidden(facts)}; {LIST}; nothing was done")


def hidden(facts: Facts) -> str:
    """Return which nodes do not tell their guests, as the end of a sentence; or nothing."""
    names = [f"{node} ({why})" for node, why in silent(facts).items()]
    return f"; no information from {listed(names, MAX_NAMES)}" if names else ""


def silent(facts: Facts) -> dict[str, str]:
    """Return why nodes do not tell their guests, by node."""
    return {
        node: printable(one.detail or one.daemon_detail or "no response")
        for node, one in facts.items()
        if one.guests is None
    }


def _is_pattern(word: str) -> bool:
    return any(char in word for char in _WILD)
