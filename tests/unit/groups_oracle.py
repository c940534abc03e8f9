"""Random small clusters with groups, and by brute force what of their rules can be kept at best.

Written against docs/placement.md, without a line of the product's planner: it tries every way to
place every guest.
"""

import itertools
import random
from dataclasses import dataclass, field

NODES = ("node1", "node2", "node3", "node4")


@dataclass
class Case:
    """A cluster: free MiB by node, guests by name as (node, MiB, frozen), and the rules."""

    free: dict
    guests: dict
    apart: list = field(default_factory=list)
    together: list = field(default_factory=list)
    only: dict = field(default_factory=dict)
    prefer: dict = field(default_factory=dict)
    cordoned: tuple = ()

    def outcome(self, at):
        """The rules that are broken with guests at these nodes: outside, pairs, groups parted."""
        outside = sum(at[name] not in nodes for name, nodes in self.only.items())
        pairs = {
            frozenset((one, other))
            for group in self.apart
            for one, other in itertools.combinations(group, 2)
            if at[one] == at[other]
        }
        parted = sum(len({at[name] for name in group}) > 1 for group in self.together)
        return outside, len(pairs), parted

    def enemies(self, name):
        return {other for group in self.apart if name in group for other in group} - {name}

    def allowed(self, moves):
        """Whether moves can be made side by side: nothing is counted on that one would make."""
        for node in self.free:
            sent = [name for name, to in moves.items() if to == node]
            if sum(self.guests[name][1] for name in sent) > self.free[node]:
                return False
            there = {name for name, (at, _, _) in self.guests.items() if at == node}
            if any(self.enemies(name) & (there | {*sent}) for name in sent):
                return False
            if sent and node in self.cordoned:
                return False
            if any(node not in self.only.get(name, (node,)) for name in sent):
                return False
        return not any(self.guests[name][2] for name in moves)

    def now(self):
        return {name: at for name, (at, _, _) in self.guests.items()}


def best_drain(case, node):
    """The most guests that can leave, and with that the least groups that are parted."""
    here = [name for name, (at, _, _) in case.guests.items() if at == node]
    best = None
    for ways in itertools.product(
        [None, *(one for one in case.free if one != node)], repeat=len(here)
    ):
        moves = {name: to for name, to in zip(here, ways, strict=True) if to}
        if not case.allowed(moves):
            continue
        stuck = len(here) - len(moves)
        found = stuck, case.outcome({**case.now(), **moves})[2]
        best = found if best is None or found < best else best
    return best


def best_balance(case, most):
    """The least rules that are broken after at most so many moves."""
    names = list(case.guests)
    best = case.outcome(case.now())
    for ways in itertools.product([None, *case.free], repeat=len(names)):
        moves = {
            name: to
            for name, to in zip(names, ways, strict=True)
            if to and to != case.guests[name][0]
        }
        if len(moves) > most or any(case.guests[name][0] in case.cordoned for name in moves):
            continue
        if sum(way is not None for way in ways) != len(moves) or not case.allowed(moves):
            continue
        best = min(best, case.outcome({**case.now(), **moves}))
    return best


def case(seed):
    """A random cluster without contradictions in its rules."""
    dice = random.Random(seed)
    nodes = NODES[: dice.choice((3, 3, 4))]
    names = [f"g{number}" for number in range(dice.randint(2, 6))]
    found = Case(
        {node: dice.randint(0, 8) for node in nodes},
        {name: (dice.choice(nodes), dice.randint(1, 4), dice.random() < 0.08) for name in names},
        cordoned=tuple(node for node in nodes if dice.random() < 0.06),
    )
    for name in names:
        if dice.random() < 0.2:
            found.only[name] = dice.sample(nodes, dice.randint(1, len(nodes)))
        if dice.random() < 0.2:
            inside = found.only.get(name, nodes)
            found.prefer[name] = dice.sample(inside, dice.randint(1, len(inside)))
    free = names[:]
    dice.shuffle(free)
    while len(free) > 1 and dice.random() < 0.7:
        size = dice.randint(2, min(3, len(free)))
        found.together.append([free.pop() for _ in range(size)])
    for _ in range(dice.choice((0, 1, 1, 2))):
        group = dice.sample(names, dice.randint(2, min(3, len(names))))
        if not any(len({*group} & {*whole}) > 1 for whole in found.together):
            found.apart.append(group)
    return found
