"""Random operations on guests that Pacemaker manages: ours, by hand, failures; what came of each.

What counts: no guest ever runs twice, none is moved, stopped or started by one hand against the
other, and after ``recover`` nothing is left. As a program it goes on where the last call stopped.
KVMCLUSTER_LAB says which lab, KVMCLUSTER_OPERATIONS_FILE where each operation is appended as a line
of JSON. What is done by hand is done by pcs as well as by Pacemaker's own tools where there is pcs.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "lab")]

from doings import Doings, Meant, drawn  # noqa: E402
from guarded import Watch, bench_of  # noqa: E402
from series import revision  # noqa: E402

HOMES = {
    **{"web1": "node1", "web2": "node1", "db1": "node2"},
    **{"db2": "node2", "app1": "node3", "app2": "node3"},
}
# Pacemaker's monitor comes every 10 s, and what follows of it some seconds later.
AFTERWARDS = 15
LOGS = [f"var/log/{name}" for name in ("libvirt", "guests", "pacemaker", "salt")]
# What an administrator who does what status says comes to an end in.
ROUNDS = 3
# What is in Pacemaker's configuration that an operation was to take away again.
LEFT_OVER = {
    "cli-": "a constraint of crm_resource",
    "kvmcluster-hold": "a hold of ours",
    "kvmcluster-standby": "a standby of ours",
    'name="is-managed"': "a resource that is not managed",
    'name="standby" value="on"': "a node on standby",
    'name="maintenance"': "maintenance",
    'value="Stopped"': "a guest that is to be stopped",
}


def carry_out(bench, seed, kinds=(), afterwards=AFTERWARDS):
    """Carry out operations side by side, recover, and return what there is to tell of it.

    kinds
        Which; by default those of the seed.
    """
    chance = random.Random(seed)
    kinds = kinds or drawn(chance)
    before, begun = bench.records(), time.monotonic()
    doings, watch = shared_out(bench, chance, len(kinds)), Watch(bench)
    watch.start()
    try:
        meant = Meant.of_all(at_once(doings, kinds))
        bench.settle()
        status = recover(bench, doings[0])
        bench.settle()
        left = [f"{name} does not write" for name in bench.silent()]
        settled = bench.everywhere()
        time.sleep(afterwards)
    finally:
        watch.end()
    left += bench.stray() + left_over(bench)
    if not status[-1].startswith("0 "):
        left.append("status is not content in the end")
    wrong = [refused for doing in doings for refused in doing.refused]
    if settled != (now := bench.everywhere()):
        wrong.append(f"not settled: {settled}, then {now}")
    wrong += bench.faults(before) + watch.against(meant) + restarted(bench, before, meant)
    printed = "; ".join(doing.printed for doing in doings)
    if "Traceback" in "".join([printed, *status]):
        wrong.append("no plain words")
    tale = {"seed": seed, "operations": [*kinds], "wrong": left + wrong, "left": left}
    tale |= {"meant": vars(meant), "printed": printed, "status": status, "paths": watch.told()}
    return {**tale, "seconds": round(time.monotonic() - begun, 1)}


def shared_out(bench, chance, count):
    """Return what carries out one operation each, on guests of its own."""
    names = sorted(bench.homes)
    chance.shuffle(names)
    return [Doings(bench, random.Random(chance.random()), names[at::count]) for at in range(count)]


def at_once(doings, kinds):
    """Carry out an operation each; return what each was meant to do."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        return [*threads.map(lambda doing, kind: getattr(doing, kind)(), doings, kinds)]


def recover(bench, doing):
    """Do what status says, as an administrator does; return what it said."""
    said = []
    for _ in range(ROUNDS):
        done = bench.lab.ctl("salt-run", "--", "kvmcluster.status", check=False, timeout=600)
        said.append(f"{done.returncode} {done.stdout}{done.stderr}")
        advised = [name for name in bench.homes if f"kvmcluster.recover {name}" in done.stdout]
        if done.returncode == 0:
            break
        for name in advised:
            doing.runner("recover", name, must=False)
        bench.settle()
    return said


def restarted(bench, before, meant):
    """Say which guests started again that were not meant to."""
    return [
        f"{name} started again"
        for name, then in before.items()
        if name not in meant.restarted and bench.record(name)["boots"] != then["boots"]
    ]


def left_over(bench):
    text = bench.crm("cibadmin", "--query", "--scope=configuration").stdout
    return [f"left over: {what}" for word, what in LEFT_OVER.items() if word in text]


# ---- many of them


def results_file():
    default = "/var/tmp/kvmcluster-operations.jsonl"
    return pathlib.Path(os.environ.get("KVMCLUSTER_OPERATIONS_FILE", default))


def results():
    """Return the last word on each seed so far."""
    if not results_file().exists():
        return {}
    lines = results_file().read_text("utf-8").splitlines()
    return {tale["seed"]: tale for tale in map(json.loads, lines)}


def tried(bench, seed):
    begun = time.monotonic()
    try:
        tale = carry_out(bench, seed)
    except Exception:
        tale = {"seed": seed, "disorder": traceback.format_exc()[-2000:]}
        tale["seconds"] = round(time.monotonic() - begun, 1)
    if "disorder" in tale or tale["wrong"]:
        folder = results_file().with_suffix(".evidence") / f"{seed}-{int(time.time())}"
        bench.lab.keep(folder, *LOGS)
        tale["evidence"] = str(folder)
    return {**tale, "revision": revision()}


def work_off(seeds):
    """Carry operations out, each with its line in the file; a lab in disorder is built anew."""
    todo = [*seeds]
    while todo:
        with bench_of(os.environ.get("KVMCLUSTER_LAB", "hands"), HOMES) as bench:
            while todo:
                tale = tried(bench, todo.pop(0))
                with open(results_file(), "a", encoding="utf-8") as file:
                    file.write(json.dumps(tale) + "\n")
                print(tale["seed"], *tale.get("operations", []), outcome(tale), flush=True)
                if "disorder" in tale or tale["left"]:
                    break


def outcome(tale):
    if "disorder" in tale:
        return "the lab is not in order: " + tale["disorder"].strip().splitlines()[-1]
    return f"{'; '.join(tale['wrong']) or 'right'} ({tale['seconds']} s)"


def seeds_of(count):
    """Return the seeds of so many operations."""
    seeds, many = [], 0
    while many < count:
        seeds.append(len(seeds))
        many += len(drawn(random.Random(seeds[-1])))
    return seeds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="of operations (default 100)")
    parser.add_argument("only", nargs="*", type=int, metavar="SEED", help="default: all")
    options = parser.parse_args()
    wanted, before = seeds_of(options.count), results()
    work_off(options.only or [one for one in wanted if "wrong" not in before.get(one, {})])
    tales = [tale for tale in results().values() if "wrong" in tale]
    many = sum(len(tale["operations"]) for tale in tales)
    bad = [tale for tale in tales if tale["wrong"]]
    print(f"{many} operations at {len(tales)} times, {len(bad)} of them wrong")
    return 1 if bad or many < options.count else 0


if __name__ == "__main__":
    sys.exit(main())
