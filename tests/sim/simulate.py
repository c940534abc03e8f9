"""Many simulated migrations with faults: ``simulate.py [AMOUNT] [FIRST_SEED]``.

Prints a table of faults and outcomes; exit code 1 if the world contradicts the engine anywhere,
with the seeds. ``simulate.py --show SEED`` tells the story of one, ``--show FOLDER`` that of a
scenario, ``--keep SEED NAME`` makes it the scenario tests/scenarios/NAME.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path

import scenario
import schedules

KINDS = (
    "lost",
    "twice",
    "forked",
    "wrong",
    "owner destroyed",
    "left",
    "untidy",
    "denied",
    "endless",
)
RESULTS = ("moved", "not_moved", "unknown", "refused", "killed")
AT_ONCE = 250
SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
SHOWN = 10


class Tally:
    """What many runs came to."""

    def __init__(self):
        self.runs = self.migrations = self.deaths = self.lost_in_post_copy = 0
        self.wrong, self.seeds = Counter(), []
        self.settled, self.table, self.results = Counter(), Counter(), Counter()

    def add(self, seed, outcome):
        self.runs += 1
        self.migrations += sum(outcome.results.values())
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
        for name in ("runs", "migrations", "deaths", "lost_in_post_copy"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("wrong", "settled", "table", "results"):
            getattr(self, name).update(getattr(other, name))
        self.seeds += other.seeds


def tallied(seeds):
    """Run the scenarios of some seeds; a seed that raises is a finding like any other."""
    tally = Tally()
    for seed in seeds:
        try:
            tally.add(seed, scenario.Run(schedules.scenario(seed), keep_log=False).outcome())
        except Exception as error:
            tally.wrong["raised"] += 1
            tally.seeds.append((seed, "raised", repr(error)))
    return tally


def simulated(migrations, first, processes):
    """Run scenarios in the order of their seeds until so many migrations are done."""
    total = Tally()
    parts = (range(at, at + AT_ONCE) for at in range(first, first + migrations, AT_ONCE))
    with multiprocessing.Pool(processes) as pool:
        for tally in pool.imap(tallied, parts):
            total.join(tally)
            if total.migrations >= migrations:
                pool.terminate()
                break
    return total


def report(tally, seconds):
    """Return what there is to be said, as lines."""
    rate = tally.migrations / seconds
    yield (
        f"{tally.migrations} migrations in {tally.runs} runs, {seconds:.0f} s, {rate:.0f} a second;"
        f" a fault killed the guest's own QEMU {tally.deaths} times"
    )
    yield ""
    yield f"{'fault':<16}" + "".join(f"{result:>11}" for result in RESULTS)
    for fault in sorted({fault for fault, _ in tally.table}):
        yield f"{fault:<16}" + "".join(f"{tally.table[fault, result]:>11}" for result in RESULTS)
    yield f"{'all':<16}" + "".join(f"{tally.results[result]:>11}" for result in RESULTS)
    yield ""
    yield "after all had healed and recover ran:"
    yield from (f"  {times:>8}  {what}" for what, times in tally.settled.most_common())
    yield ""
    yield f"{tally.lost_in_post_copy} lost by libvirt itself in the switch to post-copy"
    yield ", ".join(f"{kind} {tally.wrong[kind]}" for kind in (*KINDS, "raised"))
    yield from (f"seed {seed}: {kind}: {words}" for seed, kind, words in tally.seeds[:SHOWN])
    if tally.seeds:
        yield "keep one as a scenario: tests/sim/simulate.py --keep SEED NAME"


def main(arguments):
    if arguments[:1] == ["--show"]:
        what = arguments[1]
        found = schedules.scenario(int(what)) if what.isdigit() else scenario.read(Path(what))[0]
        print(found, *scenario.Run(found).outcome().log, sep="\n")
        return 0
    if arguments[:1] == ["--keep"]:
        seed, name = arguments[1:]
        readme = f"{name}: found by seed {seed}."
        scenario.write(SCENARIOS / name, schedules.scenario(int(seed)), readme)
        return 0
    amount = int(arguments[0]) if arguments else 100_000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    began = time.monotonic()
    tally = simulated(amount, first, multiprocessing.cpu_count())
    print(*report(tally, time.monotonic() - began), sep="\n")
    return 1 if tally.seeds else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
