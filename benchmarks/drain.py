"""Measure a drain against a loop of ``virsh migrate`` over the same guests.

Run by ``make bench``: it brings up a lab of its own, of 4 nodes and 12 guests, 6 of them on node1.
In each round node1 is emptied once by ``salt-run kvmcluster.drain`` and once by a loop on node1
that sends each guest, one after another, evenly to the others, with the same names and without our
checks. Each is timed as a whole command. Meanwhile libvirt is asked how many migrations are in
progress; at the end every guest's record is checked.

``--bandwidth`` limits one migration, in MiB/s, for both; 0 for no limit. A lab guest is then sent
in one second, and most of the measured time is the start of QEMU and of Salt's jobs on the CPUs
that all nodes share. With the limit it takes 6 s, like a guest of 7 GB at 10 Gbit/s.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "KVMCLUSTER_LAB": "bench"}
NODES = ["node1", "node2", "node3", "node4"]
LEAVING = [f"web{number}" for number in range(1, 7)]
STAYING = {f"db{number}": NODES[1 + number % 3] for number in range(1, 7)}
DRAIN, LOOP = "kvmcluster.drain", "loop of virsh migrate"
BARS = {0: 1.1, 16: 0.65}
"""The highest ratio of a drain to the loop, by the bandwidth of one migration."""
LIMIT = 2
JOBS = "; ".join(f"domjobinfo {guest}" for guest in LEAVING)
SAMPLE = f"while sleep 1; do virsh '{JOBS}' 2>&1 | grep -c 'Outgoing migration'; done"


def main():
    arguments = _arguments()
    ctl("down")
    try:
        build()
        reports = [measure(arguments.rounds, speed) for speed in arguments.bandwidth]
        lost = [name for name in [*LEAVING, *STAYING] if not whole(name)]
    finally:
        ctl("down")
    if arguments.json:
        print(json.dumps({"lost": lost, "reports": reports}, indent=2))
    else:
        print(*map(as_text, reports), sep="\n")
        print(f"guests with an incomplete record: {', '.join(lost) or 'none'}")
    return 1 if lost or any(not is_good(report) for report in reports) else 0


def is_good(report):
    return report["ratio"] <= bar(report) and report["most"] <= LIMIT


def bar(report):
    return BARS.get(report["bandwidth"], max(BARS.values()))


def build():
    print("building a lab of 4 nodes and 12 guests ...", file=sys.stderr)
    ctl("up", "--nodes", str(len(NODES)))
    ctl("salt-run", "--", "state.orchestrate", "kvmcluster.orch.prepare")
    for name in LEAVING:
        ctl("guest", name, "--on", "node1")
    for name, node in STAYING.items():
        ctl("guest", name, "--on", node)


def measure(rounds, bandwidth):
    """Return the seconds of each command, and the most migrations of a drain observed at once."""
    report = {DRAIN: [], LOOP: [], "bandwidth": bandwidth, "most": 0}
    for number in range(rounds):
        for name in (DRAIN, LOOP) if number % 2 else (LOOP, DRAIN):
            limit(bandwidth)
            with watched() as observed:
                begun = time.perf_counter()
                drain() if name == DRAIN else loop()
                taken = time.perf_counter() - begun
            left = [guest for guest in LEAVING if guest in guests("node1")]
            if left:
                sys.exit(f"{name}: {left} are left on node1")
            report[name].append(taken)
            if name == DRAIN:
                report["most"] = max(report["most"], *observed, 0)
            print(f"{name} {taken:.1f} s", file=sys.stderr, flush=True)
            back()
    report["ratio"] = statistics.median(report[DRAIN]) / statistics.median(report[LOOP])
    return report


@contextlib.contextmanager
def watched():
    """Yield the number of migrations from node1 in progress, observed once a second."""
    watching = subprocess.Popen(
        [ROOT / "lab" / "ctl", "exec", "node1", "--", "sh", "-c", SAMPLE],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    observed = collections.deque()
    thread = threading.Thread(
        target=lambda: observed.extend(map(int, watching.stdout)), daemon=True
    )
    thread.start()
    try:
        yield observed
    finally:
        ctl("exec", "node1", "--", "pkill", "-f", "sleep 1; do", check=False)
        watching.terminate()
        thread.join(10)


def drain():
    ctl("salt-run", "--", "kvmcluster.drain", "node1")


def loop():
    """Send one guest after another, evenly to all nodes, as a drain does."""
    goals = {guest: NODES[1 + place % 3] for place, guest in enumerate(LEAVING)}
    lines = [
        f"virsh migrate --live --p2p {guest} 'qemu+ssh://root@{node}-mig/system?no_tty=1'"
        f" tcp:{node}-mig"
        for guest, node in goals.items()
    ]
    ctl("exec", "node1", "--", "sh", "-ec", "\n".join(lines))


def back():
    """Bring all guests back to node1, by virsh, and uncordon it."""
    limit(0)
    for node in NODES[1:]:
        for guest in set(LEAVING).intersection(guests(node)):
            uri = "qemu+ssh://root@node1-mig/system?no_tty=1"
            words = ("virsh", "migrate", "--live", "--p2p", guest, uri, "tcp:node1-mig")
            ctl("exec", node, "--", *words)
    ctl("salt-run", "--", "kvmcluster.undrain", "node1")


def limit(bandwidth):
    for guest in set(LEAVING).intersection(guests("node1")):
        ctl("exec", "node1", "--", "virsh", "migrate-setspeed", guest, str(bandwidth))


def guests(node):
    return ctl("exec", node, "--", "virsh", "list", "--name").split()


def whole(name):
    return json.loads(ctl("record", name, "--json", check=False))["whole"]


def ctl(*words, check=True):
    done = subprocess.run(
        [ROOT / "lab" / "ctl", *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=900
    )
    if check and done.returncode:
        sys.exit(f"lab/ctl {' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def as_text(report):
    speed = f"{report['bandwidth']} MiB/s each" if report["bandwidth"] else "unlimited bandwidth"
    lines = [f"4 nodes, 12 guests, 6 of which leave node1, {speed}:"]
    lines += [
        f"{name:24} {statistics.median(report[name]):6.1f} s  ({len(report[name])} rounds)"
        for name in (DRAIN, LOOP)
    ]
    lines.append(f"ratio {report['ratio']:.2f}, the limit is {bar(report)}")
    lines.append(f"most migrations of a drain at once: {report['most']}, the limit is {LIMIT}")
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bandwidth", type=int, nargs="+", default=[0, 16], metavar="MiB/s")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
