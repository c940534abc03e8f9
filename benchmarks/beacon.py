"""Measure what one observation of the beacon costs, against a plain listing of all guests.

Run by ``make bench``: it brings up a lab of its own, of one node, which is measured with 0, 20 and
200 guests defined. An observation is what the minion itself does at each interval; the listing is
what ``virsh list --all`` does over an open connection. Both take turns in one process. The
processor time of the observer, the process beside the minion, is shown separately.
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
ENVIRONMENT = {**os.environ, "KVMCLUSTER_LAB": os.environ.get("KVMCLUSTER_LAB", "bench")}
SIZES = (0, 20, 200)
# An observation of 200 guests may take as long as a listing of them.
MOST = 1.0
GUEST = """<domain type='qemu'><name>idle{number}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"""


def main():
    arguments = _arguments()
    if arguments.inside:
        print(json.dumps({size: measure(size, arguments.observations) for size in SIZES}))
        return 0
    ctl("down")
    try:
        ctl("up", "--nodes", "1")
        ctl("salt-run", "--", "state.orchestrate", "kvmcluster.orch.prepare")
        inside = [
            sys.executable,
            __file__,
            "--inside",
            "--observations",
            str(arguments.observations),
        ]
        report = json.loads(ctl("exec", "node1", "--", *inside))
    finally:
        ctl("down")
    for size, found in report.items():
        print(
            f"{size:>3} guests: observation {found['observation']:.2f} ms, listing"
            f" {found['listing']:.2f} ms, ratio {found['ratio']:.2f}; observer"
            f" {found['observer']:.2f} ms of processor time each, {found['resident']} MiB"
        )
    ratio = report[str(SIZES[-1])]["ratio"]
    if ratio > MOST:
        print(f"MISSED: {ratio:.2f} of a listing, the limit is {MOST}")
    return 1 if ratio > MOST else 0


def ctl(*words):
    done = subprocess.run(
        [ROOT / "lab" / "ctl", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        timeout=600,
    )
    if done.returncode:
        sys.exit(f"lab/ctl {' '.join(map(str, words))} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def measure(size, observations):
    """Return the median milliseconds of an observation and of a listing of ``size`` guests."""
    import libvirt

    from saltext_kvmcluster.host.observer_client import ObserverClient

    daemon = libvirt.open("qemu:///system")
    there = len(daemon.listAllDomains())
    for number in range(there, size):
        daemon.defineXML(GUEST.format(number=number))
    pillar = {"name": "lab", "nodes": {"node1": {"names": ["node1.lab.example"]}}}
    reported = []

    def observe():
        client.observe("lab", "node1", pillar, lambda tag, data: reported.append(tag))

    def listing():
        return [(one.name(), one.state(), one.ID()) for one in daemon.listAllDomains()]

    client = ObserverClient()
    try:
        for _ in range(20):
            observe()
            listing()
            time.sleep(0.1)
        took = {"observation": [], "listing": []}
        (observer,) = children()
        before = processor_time(observer)
        for _ in range(observations):
            for name, work in (("observation", observe), ("listing", listing)):
                begun = time.perf_counter()
                work()
                took[name].append((time.perf_counter() - begun) * 1000)
        used = (processor_time(observer) - before) * 1000 / observations
        resident = memory(observer)
    finally:
        client.close()
    assert not reported, reported
    medians = {name: statistics.median(times) for name, times in took.items()}
    ratio = medians["observation"] / medians["listing"]
    return {**medians, "ratio": ratio, "observer": used, "resident": resident}


def children():
    found = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found]


def processor_time(pid):
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) // 1024


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--observations", type=int, default=500, help="observations for each size")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
