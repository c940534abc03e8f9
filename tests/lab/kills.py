"""Nodes that fail while kvmcluster.orch.ha guards their guests, and what came of each.

As a program it goes on where the last call stopped. KVMCLUSTER_LAB says which lab,
KVMCLUSTER_KILLS_FILE where what came of each failure is appended as a line of JSON.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "lab")]

from guarded import Disorder, bench_of  # noqa: E402
from labs import PROGRAM  # noqa: E402
from series import revision  # noqa: E402

HOMES = {"web1": "node1", "web2": "node2", "db1": "node3"}
# How long each may take until its guests write again, in seconds; None: they are not disturbed.
KINDS = {"power": 60, "daemons": 60, "cables": 180, "management": 240, "migration": None}
UNDISTURBED = 45


def fail(bench, kind, node):
    """Have a node fail; return what puts it right again, to be called once all is seen."""
    lab = bench.lab
    if kind == "power":
        # It returns once the node is up again.
        reboot = subprocess.Popen([*PROGRAM, "reboot", node], env=lab.environment)
        return reboot.wait
    if kind == "daemons":
        for daemon in ("libvirtd", "corosync"):
            lab.ctl("kill", node, daemon)
        return lambda: None
    networks = [] if kind == "cables" else ["--network", kind]
    lab.ctl("cut", node, *networks)
    return lambda: lab.ctl("heal", node, *networks)


def carry_out(bench, kind, node):
    """Have a node fail, and return what there is to tell of it."""
    victims = [name for name in bench.homes if [*bench.qemus(name)] == [node]]
    if not victims:
        raise Disorder(f"no guest runs on {node}")
    before, qemus = bench.records(), {name: bench.qemus(name) for name in bench.homes}
    begun = time.monotonic()
    mend = fail(bench, kind, node)
    tale = {"started": {}, "writes": {}, "twice": []}
    most = KINDS[kind] or UNDISTURBED
    while time.monotonic() - begun < most and len(tale["writes"]) < len(victims):
        look(bench, tale, before, victims, node, begun)
        time.sleep(0.3)
    mend()
    bench.settle()
    wrong = [f"{name} ran on several nodes" for name in sorted(set(tale["twice"]))]
    if KINDS[kind] is None:
        wrong += [f"{one} was disturbed" for one in qemus if bench.qemus(one) != qemus[one]]
    else:
        wrong += [f"{one} did not come back" for one in victims if one not in tale["writes"]]
    return {**tale, "wrong": wrong + bench.faults(before) + bench.stray(), "guests": victims}


def look(bench, tale, before, victims, node, begun):
    """Note which guests run elsewhere, and which of them write."""
    now = round(time.monotonic() - begun, 1)
    for name in victims:
        nodes = {*bench.qemus(name)}
        if len(nodes) > 1:
            tale["twice"].append(name)
        if nodes - {node}:
            tale["started"].setdefault(name, now)
            if bench.record(name)["boots"] > before[name]["boots"]:
                tale["writes"].setdefault(name, now)


# ---- many of them


def results_file():
    return pathlib.Path(os.environ.get("KVMCLUSTER_KILLS_FILE", "/var/tmp/kvmcluster-kills.jsonl"))


def results():
    if not results_file().exists():
        return []
    return [json.loads(line) for line in results_file().read_text("utf-8").splitlines()]


def tried(bench, kind):
    """Have the node fail that has had most luck so far; a lab in disorder is told, too."""
    begun = time.monotonic()
    tale = {"kind": kind, "revision": revision()}
    try:
        node = busiest(bench)
        tale |= {"node": node, **carry_out(bench, kind, node)}
    except Exception:
        tale["disorder"] = traceback.format_exc()[-2000:]
    return {**tale, "seconds": round(time.monotonic() - begun, 1)}


def busiest(bench):
    """Return the node with most guests."""
    on = [node for name in bench.homes for node in bench.qemus(name)]
    if not on:
        raise Disorder("no guest runs anywhere")
    return max(sorted(set(on)), key=on.count)


def work_off(todo):
    while todo:
        with bench_of(os.environ.get("KVMCLUSTER_LAB", "kills"), HOMES) as bench:
            while todo:
                kind = todo.pop(0)
                tale = tried(bench, kind)
                with open(results_file(), "a", encoding="utf-8") as file:
                    file.write(json.dumps(tale) + "\n")
                print(kind, tale.get("node"), outcome(tale), f"({tale['seconds']} s)", flush=True)
                if "disorder" in tale or tale["wrong"]:
                    break


def outcome(tale):
    if "disorder" in tale:
        return "the lab is not in order: " + tale["disorder"].strip().splitlines()[-1]
    return "; ".join(tale["wrong"]) or f"right, started {tale['started']}, writes {tale['writes']}"


def table(tales):
    """Return the seconds until guests ran elsewhere, and wrote, by kind."""
    lines = [f"{'failure':12}{'failures':>9}{'wrong':>6}  ran elsewhere after, median and worst"]
    for kind in KINDS:
        found = [tale for tale in tales if tale["kind"] == kind and "wrong" in tale]
        times = [seconds for tale in found for seconds in tale["started"].values()]
        seen = f"{statistics.median(times):.1f} s, {max(times):.1f} s" if times else "undisturbed"
        bad = sum(1 for tale in found if tale["wrong"])
        lines.append(f"{kind:12}{len(found):9}{bad:6}  {seen if found else '-'}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="of all kinds (default 4)")
    parser.add_argument("only", nargs="*", metavar="KIND", help=f"default: {', '.join(KINDS)}")
    options = parser.parse_args()
    kinds = options.only or [*KINDS]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        parser.error(f"{unknown[0]}: known are {', '.join(KINDS)}")
    done = [tale["kind"] for tale in results() if "wrong" in tale]
    work_off([one for at in range(options.rounds) for one in kinds if done.count(one) <= at])
    tales = results()
    print(table(tales))
    good = [tale for tale in tales if "wrong" in tale and not tale["wrong"]]
    return 0 if len(good) == len(tales) >= options.rounds * len(kinds) else 1


if __name__ == "__main__":
    sys.exit(main())
