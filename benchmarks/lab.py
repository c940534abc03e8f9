"""Measure what the whole cluster takes in the lab, as an administrator waits for it.

Run by ``make bench``: it brings up a lab of its own, of 3 nodes and 6 guests. Every figure is a
median of whole commands.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "KVMCLUSTER_LAB": "bench"}
NODES, GUESTS = 3, 6
DISKS = ("gluster", "lun", "nbd")
MOST = {"check": 3.0}
MEASURED = {
    "check": ["salt-run", "--", "kvmcluster.check"],
    "check one": ["salt-run", "--", "kvmcluster.check", "guest0"],
    "status": ["salt-run", "--", "kvmcluster.status"],
    "ping": ["salt", "--", "*", "test.ping"],
}


def main():
    arguments = _arguments()
    ctl("down")
    try:
        build()
        report = {name: median(command, arguments.rounds) for name, command in MEASURED.items()}
    finally:
        ctl("down")
    missed = {name: bar for name, bar in MOST.items() if report[name] > bar}
    print(json.dumps(report, indent=2) if arguments.json else as_text(report, missed))
    return 1 if missed else 0


def build():
    print(f"building a lab of {NODES} nodes and {GUESTS} guests ...", file=sys.stderr)
    ctl("up", "--nodes", str(NODES))
    ctl("salt-run", "--", "state.orchestrate", "kvmcluster.orch.prepare")
    for number in range(GUESTS):
        node, disk = f"node{number % NODES + 1}", DISKS[number % len(DISKS)]
        ctl("guest", f"guest{number}", "--on", node, "--disk", disk, "--bridge")


def ctl(*words):
    done = subprocess.run(
        [ROOT / "lab" / "ctl", *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=600
    )
    if done.returncode:
        sys.exit(f"lab/ctl {' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def median(command, rounds):
    """Time a command's whole process; the first run is not counted."""
    ctl(*command)
    return statistics.median(seconds(lambda: ctl(*command)) for _ in range(rounds))


def seconds(run):
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def as_text(report, missed):
    lines = [f"{NODES} nodes, {GUESTS} guests, in the lab:"]
    lines += [f"{' '.join(MEASURED[name]):42} {taken:6.2f} s" for name, taken in report.items()]
    lines += [
        f"MISSED {name}: {report[name]:.2f} s, the limit is {bar}" for name, bar in missed.items()
    ]
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
