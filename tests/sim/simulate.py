"""Many simulated runs with faults: ``simulate.py [RUNS] [FIRST_SEED] [KIND...]``.

Prints a table of faults and outcomes for each kind (`kinds`); exit code 1 if the world contradicts
the engine anywhere, with the seeds. ``simulate.py --show SEED`` tells the story of one,
``--show FOLDER`` that of a scenario, ``--keep SEED NAME`` makes it the scenario
tests/scenarios/NAME. A seed is ``KIND:NUMBER``.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path

import kinds
import scenario
from kinds import KINDS

WRONG = (
    "lost",
    "twice",
    "forked",
    "wrong",
    "owner destroyed",
    "left",
    "untidy",
    "denied",
    "endless",
    "slots",
    "fight",
    "raised",
)
AT_ONCE = 250
SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
SHOWN = 10


class Tally:
    """What many runs of a kind came to. ``results``: of each thing that was done."""

    def __init__(self):
        self.runs = self.deaths = self.lost_in_post_copy = 0
        self.wrong, self.seeds = Counter(), []
        self.settled, self.table, self.results = Counter(), Counter(), Counter()

    def add(self, seed, outcome):
        self.runs += 1
        self.deaths += outcome.deaths
        self.lost_in_post_copy += outcome.lost_in_post_copy
        self.settled.update(outcome.settled)
        self.results.update(outcome.results)
        for fault in outcome.faults or {"none": 1}:
            for result, times in outcome.results.items():
                self.table[fault, result] += times
        self.wrong.update(kind for kind, _ in outcome.wrong)
        self.seeds += [(seed, kind, words) for kind, words in outcome.wrong]

    def join(self, other):
        for name in ("runs", "deaths", "lost_in_post_copy"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("wrong", "settled", "table", "results"):
            getattr(self, name).update(getattr(other, name))
        self.seeds += other.seeds


def tallied(part):
    """Run the scenarios of a kind's seeds; a seed that raises is a finding like any other."""
    kind, seeds = part
    tally = Tally()
    for number in seeds:
        seed = f"{kind}:{number}"
        try:
            tally.add(seed, scenario.Run(kinds.scenario(seed), keep_log=False).outcome())
        except Exception as error:
            tally.wrong["raised"] += 1
            tally.seeds.append((seed, "raised", repr(error)))
    return kind, tally


def simulated(runs, first, processes, wanted=()):
    """Run so many scenarios, of all kinds or of those wanted; return a tally for each kind."""
    totals = {kind: Tally() for kind in wanted or KINDS}
    parts = kinds.mixed(runs, first, AT_ONCE, wanted or tuple(KINDS))
    with multiprocessing.Pool(processes) as pool:
        for kind, tally in pool.imap(tallied, parts):
            totals[kind].join(tally)
    return totals


def report(tallies, seconds):
    """Return what there is to be said, as lines."""
    runs = sum(tally.runs for tally in tallies.values())
    yield f"{runs} runs in {seconds:.0f} s, {runs / seconds:.0f} a second"
    for kind, tally in tallies.items():
        yield ""
        yield from _reported(kind, tally)
    wrong = sum((tally.wrong for tally in tallies.values()), Counter())
    seeds = [one for tally in tallies.values() for one in tally.seeds]
    yield ""
    yield ", ".join(f"{kind} {wrong[kind]}" for kind in WRONG)
    yield from (f"seed {seed}: {kind}: {words}" for seed, kind, words in seeds[:SHOWN])
    if seeds:
        yield "keep one as a scenario: tests/sim/simulate.py --keep SEED NAME"


def _reported(kind, tally):
    results = KINDS[kind].results
    yield (
        f"{kind}: {tally.runs} runs; a fault killed the guest's own QEMU {tally.deaths} times;"
        f" {tally.lost_in_post_copy} lost by libvirt itself in the switch to post-copy"
    )
    yield f"{'fault':<16}" + "".join(f"{result:>13}" for result in results)
    for fault in sorted({fault for fault, _ in tally.table}):
        yield f"{fault:<16}" + "".join(f"{tally.table[fault, result]:>13}" for result in results)
    yield f"{'all':<16}" + "".join(f"{tally.results[result]:>13}" for result in results)
    yield "after all had healed and recover ran:"
    yield from (f"  {times:>8}  {what}" for what, times in tally.settled.most_common())


def main(arguments):
    if arguments[:1] == ["--show"]:
        what = Path(arguments[1])
        found = scenario.read(what)[0] if what.is_dir() else kinds.scenario(arguments[1])
        print(found, *scenario.Run(found).outcome().log, sep="\n")
        return 0
    if arguments[:1] == ["--keep"]:
        seed, name = arguments[1:]
        readme = f"{name}: found by seed {seed}."
        scenario.write(SCENARIOS / name, kinds.scenario(seed), readme)
        return 0
    numbers = [int(one) for one in arguments if one.isdigit()]
    wanted = tuple(one for one in arguments if not one.isdigit())
    amount = numbers[0] if numbers else 100_000
    first = numbers[1] if len(numbers) > 1 else 0
    began = time.monotonic()
    tallies = simulated(amount, first, multiprocessing.cpu_count(), wanted)
    print(*report(tallies, time.monotonic() - began), sep="\n")
    return 1 if any(tally.seeds for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
