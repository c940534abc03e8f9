"""Measure what the whole cluster takes in the lab, as an administrator waits for it.

Run by ``make bench``: it brings up labs of its own, one of 3 nodes and 6 guests, then one of 4
nodes of which one is dead. Every figure is a median of whole commands, which take turns, so that
all of them see the same machine. Salt's own limits are its defaults, not the lab's.
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
GUESTS = 6
DISKS = ("gluster", "lun", "nbd")
PING = ["salt", "--", "*", "test.ping"]
WELL = {
    "ping": PING,
    "status": ["salt-run", "--", "kvmcluster.status"],
    "check": ["salt-run", "--", "kvmcluster.check"],
    "check one": ["salt-run", "--", "kvmcluster.check", "guest0", "node2"],
}
# With a dead node, test.ping itself takes the 15 s of Salt's own limits.
DEAD = {
    "dead: ping": PING,
    "dead: status": ["salt-run", "--", "kvmcluster.status"],
    "dead: check": ["salt-run", "--", "kvmcluster.check"],
    "dead: drain test=True": ["salt-run", "--", "kvmcluster.drain", "node1", "test=True"],
}
SALT = "/etc/salt/master"
RATIO = "status / ping"
MOST = {
    "check": 3.0,
    "check one": 2.5,
    RATIO: 1.5,
    "dead: status": 10.0,
    "dead: check": 15.0,
    "dead: drain test=True": 20.0,
}


def main():
    arguments = _arguments()
    ctl("down")
    try:
        build(3)
        report = medians(WELL, arguments.rounds)
        ctl("down")
        build(4)
        ctl("cut", "node4")
        report |= medians(DEAD, arguments.rounds)
    finally:
        ctl("down")
    report[RATIO] = report["status"] / report["ping"]
    missed = {name: bar for name, bar in MOST.items() if report[name] > bar}
    print(json.dumps(report, indent=2) if arguments.json else as_text(report, missed))
    return 1 if missed else 0


def build(nodes):
    print(f"building a lab of {nodes} nodes and {GUESTS} guests ...", file=sys.stderr)
    ctl("up", "--nodes", str(nodes))
    ctl("exec", "master", "--", "sed", "-i", '/"timeout":/d; /"gather_job_timeout":/d', SALT)
    ctl("salt-run", "--", "state.orchestrate", "kvmcluster.orch.prepare")
    for number in range(GUESTS):
        node, disk = f"node{number % 3 + 1}", DISKS[number % len(DISKS)]
        ctl("guest", f"guest{number}", "--on", node, "--disk", disk, "--bridge")


def ctl(*words, codes=(0,)):
    done = subprocess.run(
        [ROOT / "lab" / "ctl", *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=600
    )
    if done.returncode not in codes:
        sys.exit(f"lab/ctl {' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def medians(commands, rounds):
    """Time the whole process of each command; the first round is not counted."""
    taken = [{name: seconds(line) for name, line in commands.items()} for _ in range(rounds + 1)]
    return {name: statistics.median(one[name] for one in taken[1:]) for name in commands}


def seconds(command):
    """Time a command; one that finds a problem, as with a dead node, ends with 1."""
    begun = time.perf_counter()
    ctl(*command, codes=(0, 1))
    return time.perf_counter() - begun


def as_text(report, missed):
    lines = [f"3 nodes, or 4 of which one is dead, and {GUESTS} guests, in the lab:"]
    lines += [f"{name:24} {taken:6.2f}" for name, taken in report.items()]
    lines += [
        f"MISSED {name}: {report[name]:.2f}, the limit is {bar}" for name, bar in missed.items()
    ]
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
