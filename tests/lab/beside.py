"""Commands to guests that Pacemaker manages, or beside it, and what came of each.

As a program it carries out all attempts by turns, and goes on where the last call stopped.
KVMCLUSTER_LAB says which lab, KVMCLUSTER_BESIDE_FILE where what came of each is appended as a line
of JSON. Salt runs from the checkout's virtual environment, or from KVMCLUSTER_VENV: with an older
version the same attempts show what that one did wrong.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "lab")]

from attempts import ATTEMPTS  # noqa: E402
from labs import Lab  # noqa: E402
from managed import Bench  # noqa: E402
from series import revision  # noqa: E402

UP = ("up", "--pacemaker")


@contextlib.contextmanager
def bench_of(name):
    """A lab with Pacemaker and guests, which is taken down in the end."""
    lab = Lab(name)
    lab.ctl("down")
    lab.ctl(*UP, timeout=300)
    try:
        bench = Bench(lab)
        bench.prepare()
        yield bench
    finally:
        lab.ctl("down")


def results_file():
    return pathlib.Path(
        os.environ.get("KVMCLUSTER_BESIDE_FILE", "/var/tmp/kvmcluster-beside.jsonl")
    )


def results():
    """Return what came of each attempt so far that was carried out."""
    if not results_file().exists():
        return []
    tales = map(json.loads, results_file().read_text(encoding="utf-8").splitlines())
    return [tale for tale in tales if "wrong" in tale]


def tried(bench, attempt):
    """Carry an attempt out and bring all in order again; return what there is to tell."""
    begun = time.monotonic()
    tale = {"attempt": attempt.name}
    try:
        tale |= bench.carry_out(attempt)
        bench.put_in_order()
    except Exception:
        tale["disorder"] = traceback.format_exc()[-1500:]
    return {**tale, "seconds": round(time.monotonic() - begun, 1), "revision": revision()}


def outcome(tale):
    if "wrong" not in tale:
        return "the lab is not in order: " + tale["disorder"].strip().splitlines()[-1]
    return "; ".join(tale["wrong"]) or "right"


def work_off(todo):
    """Carry attempts out, each with its line in the file; a lab in disorder is built anew."""
    name = os.environ.get("KVMCLUSTER_LAB", "beside")
    while todo:
        with bench_of(name) as bench:
            while todo:
                tale = tried(bench, todo.pop(0))
                with open(results_file(), "a", encoding="utf-8") as file:
                    file.write(json.dumps(tale) + "\n")
                print(f"{tale['attempt']}: {outcome(tale)} ({tale['seconds']} s)", flush=True)
                if "disorder" in tale:
                    break


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="of all attempts (default 2)")
    names = [attempt.name for attempt in ATTEMPTS]
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"default: all: {', '.join(names)}")
    options = parser.parse_args()
    wanted = [one for one in ATTEMPTS if one.name in (options.only or names)]
    done = collections.Counter(tale["attempt"] for tale in results())
    work_off([one for at in range(options.rounds) for one in wanted if done[one.name] <= at])
    tales = results()
    bad = [tale for tale in tales if tale["wrong"]]
    print(f"{len(tales)} attempts, {len(bad)} of them wrong")
    return 1 if bad or len(tales) < options.rounds * len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
