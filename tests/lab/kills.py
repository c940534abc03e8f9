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
# Seconds in which its guests have to write again, on a machine however busy: how long they took
# is told. None: they are not disturbed.
KINDS = {"power": 240, "daemons": 240, "cables": 240, "management": 240, "migration": None}
UNDISTURBED = 45
PACEMAKER_LOG = "/var/log/pacemaker/pacemaker.log"


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
    return lambda: plug_in(lab, kind, node)


def plug_in(lab, kind, node):
    lab.ctl("heal", node)
    if kind == "cables":
        # It was fenced, booted while it was cut off, and mounts its storage only when it boots.
        lab.exec(node, "reboot", check=False)


def carry_out(bench, kind, node):
    """Have a node fail, and return what there is to tell of it."""
    victims = [name for name in bench.homes if [*bench.qemus(name)] == [node]]
    if not victims:
        raise Disorder(f"no guest runs on {node}")
    before, qemus = bench.records(), {name: bench.qemus(name) for name in bench.homes}
    begun, since = time.monotonic(), time.time()
    mend = fail(bench, kind, node)
    tale = {"load": os.getloadavg()[0], "locked": {}, "started": {}, "writes": {}, "twice": []}
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
    moved = {name: at for name, at in tale["locked"].items() if name in tale["started"]}
    return {
        **tale,
        "locked": moved,
        "fenced": [round(at - since, 1) for at in bench.fenced(node) if at >= since - 1],
        "wrong": wrong + bench.faults(before) + bench.stray(),
        "guests": victims,
    }


def look(bench, tale, before, victims, node, begun):
    """Note which guests run elsewhere, and which of them write; until when a disk was locked."""
    now = round(time.monotonic() - begun, 1)
    for name in victims:
        nodes = {*bench.qemus(name)}
        if len(nodes) > 1:
            tale["twice"].append(name)
        if nodes - {node}:
            tale["started"].setdefault(name, now)
            if bench.record(name)["boots"] > before[name]["boots"]:
                tale["writes"].setdefault(name, now)
            continue
        # A QEMU that finds its disk locked ends at once: only one that stays counts.
        tale["started"].pop(name, None)
        if bench.is_locked(name):
            tale["locked"][name] = now


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
                    keep_logs(bench, kind)
                    break


def keep_logs(bench, kind):
    """Keep what Pacemaker has logged on each node beside the results: the lab is taken down."""
    for node in bench.lab.nodes:
        text = bench.lab.ctl("exec", node, "--", "cat", PACEMAKER_LOG, check=False).stdout
        at = f"{results_file().stem}-{len(results_file().read_text().splitlines())}-{kind}-{node}"
        results_file().with_name(f"{at}.log").write_text(text)


def outcome(tale):
    if "disorder" in tale:
        return "the lab is not in order: " + tale["disorder"].strip().splitlines()[-1]
    return "; ".join(tale["wrong"]) or ", ".join(f"{name} {tale[name]}" for name in COLUMNS)


COLUMNS = ("fenced", "locked", "started", "writes")


def table(tales):
    """Return median and worst seconds, over all guests of a kind of failure.

    Until the node was fenced, a disk was last seen locked, a guest ran elsewhere, and wrote there.
    """
    head = "".join(f"{name:>14}" for name in COLUMNS)
    lines = [f"{'failure':12}{'failures':>9}{'guests':>7}{'wrong':>6}{head}"]
    for kind in KINDS:
        found = [tale for tale in tales if tale["kind"] == kind and "wrong" in tale]
        guests = sum(len(tale["guests"]) for tale in found)
        bad = sum(1 for tale in found if tale["wrong"])
        seen = "".join(f"{median_and_worst(found, name):>14}" for name in COLUMNS)
        lines.append(f"{kind:12}{len(found):9}{guests:7}{bad:6}{seen}")
    return "\n".join(lines)


def median_and_worst(tales, name):
    values = [tale[name] for tale in tales]
    times = [at for one in values for at in (one.values() if isinstance(one, dict) else one)]
    return f"{statistics.median(times):.1f} {max(times):.1f}" if times else "-"


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
