"""Measure our migration against libvirt's own, as an administrator waits for it.

Run by ``make bench``: it brings up a lab of its own, of 3 nodes and one guest, which goes from
node1 to node2 and back. ``salt NODE kvmcluster.migrate`` and ``salt NODE cmd.run 'virsh migrate
...'`` take turns, each as often in either direction, timed on the master as whole commands.
Downtimes are libvirt's own.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "KVMCLUSTER_LAB": "bench"}
GUEST = "web"
WAY = ("node1", "node2")
OURS, VIRSH = "kvmcluster.migrate", "virsh migrate"
MOST = {"wall": 1.25, "downtime": 1.05}
DOWNTIME = re.compile(r"Total downtime:\s+(\d+)\s+ms")
LIMIT = 300
PATIENCE = 5


def main():
    arguments = _arguments()
    if arguments.inside:
        print(json.dumps(measure(arguments.rounds)))
        return 0
    ctl("down")
    try:
        build()
        inside = [sys.executable, __file__, "--inside", "--rounds", str(arguments.rounds)]
        report = json.loads(ctl("exec", "master", "--", *inside, limit=None))
        record = json.loads(ctl("record", GUEST, "--json"))
    finally:
        ctl("down")
    if not record["whole"]:
        sys.exit(f"the guest's record is incomplete: {record}")
    report["ratio"] = {
        what: statistics.median(report[OURS][what]) / statistics.median(report[VIRSH][what])
        for what in MOST
    }
    missed = {what: bar for what, bar in MOST.items() if report["ratio"][what] > bar}
    print(json.dumps(report, indent=2) if arguments.json else as_text(report, missed))
    return 1 if missed else 0


def build():
    print("building a lab of 3 nodes and a guest ...", file=sys.stderr)
    ctl("up", "--nodes", "3")
    ctl("salt-run", "--", "state.orchestrate", "kvmcluster.orch.prepare")
    ctl("guest", GUEST, "--on", WAY[0])


def ctl(*words, limit=600):
    done = subprocess.run(
        [ROOT / "lab" / "ctl", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        timeout=limit,
    )
    if done.returncode:
        sys.exit(f"lab/ctl {' '.join(map(str, words))} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def measure(rounds):
    """Return each command's seconds and downtimes, one migration a round; the first do not count.

    The two take turns in beginning a round, so that each runs as often in either direction. A
    failed migration is repeated, PATIENCE times at most, and counted as ``failed``.
    """
    ways = {OURS: ours, VIRSH: virsh}
    report = {name: {"wall": [], "downtime": [], "failed": 0} for name in ways}
    for number in range(-2, rounds):
        for name in (OURS, VIRSH) if number % 2 else (VIRSH, OURS):
            while not (found := timed(ways[name])):
                report[name]["failed"] += 1
                if report[name]["failed"] > PATIENCE:
                    sys.exit(f"{name} fails too often")
            if number >= 0:
                report[name]["wall"].append(found[0])
                report[name]["downtime"].append(found[1])
    return report


def timed(way):
    """Return the seconds and the downtime of one migration, None if the guest did not move."""
    source, destination = WAY if GUEST in guests(WAY[0]) else WAY[::-1]
    words = way(destination)
    begun = time.perf_counter()
    done = salt(source, *words)
    taken = time.perf_counter() - begun
    if done.returncode or GUEST not in guests(destination):
        print(f"{words[0]} failed: {done.stdout[-1000:]}", file=sys.stderr, flush=True)
        return None
    downtime = measured(destination)
    print(f"{words[0]} {taken:.2f} s, {downtime} ms", file=sys.stderr, flush=True)
    return taken, downtime


def guests(node):
    return salt(node, "cmd.run", "virsh list --name").stdout.split()


def ours(destination):
    return ("kvmcluster.migrate", GUEST, destination)


def virsh(destination):
    """Return the plain command, with our names and without our checks."""
    name = f"{destination}-mig"
    uri = f"qemu+ssh://root@{name}/system?no_tty=1"
    return ("cmd.run", f"virsh migrate --live --p2p {GUEST} {uri} tcp:{name}")


def measured(node):
    """Return the milliseconds for which the guest that arrived at a node was stopped."""
    found = DOWNTIME.search(salt(node, "cmd.run", f"virsh domjobinfo --completed {GUEST}").stdout)
    if not found:
        sys.exit(f"libvirt on {node} reports no downtime")
    return int(found[1])


def salt(node, *words):
    return subprocess.run(
        ["salt", "--timeout=120", node, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )


def as_text(report, missed):
    lines = []
    for name in (OURS, VIRSH):
        walls, downs = report[name]["wall"], report[name]["downtime"]
        lines.append(
            f"{name:20} {len(walls)} times: {statistics.median(walls):5.2f} s"
            f" ({min(walls):.2f} to {max(walls):.2f}), downtime {statistics.median(downs):.0f} ms"
            f" ({min(downs)} to {max(downs)}); {report[name]['failed']} failed"
        )
    lines += [f"{what} ratio {ratio:.3f}" for what, ratio in report["ratio"].items()]
    lines += [
        f"MISSED {what}: {report['ratio'][what]:.3f}, the limit is {bar}"
        for what, bar in missed.items()
    ]
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help="on the master of a lab that is up")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
