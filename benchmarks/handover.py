"""Measure what a guest stands at the switch of a strict handover, against libvirt's own.

Run by ``make bench``: it brings up a lab of its own, of 2 nodes and a guest on each kind of disk.
``kvmcluster.migrate`` and ``virsh migrate --live --p2p`` with the same options take turns, and on
the guarded disk ``kvmcluster.migrate handover=libvirt``, too. What a guest stands is measured from
outside, twice: by the times at which libvirt's events arrive (its last stop at the source, its
resume at the destination), and by its own record: the real time between the last number printed
here and the first one there, less the time between the two by the guest's clock, which stands still
meanwhile. The times of files are good to 4 ms. The seconds are those of whole commands.

Memory is sent at BANDWIDTH, so that the copy lasts some seconds, as a real guest's does: all nodes
and the master share this machine, and at full speed the switch falls into what the commands
themselves have to do at their start. ``--bandwidth 0`` is full speed.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "lab"), str(ROOT / "tests" / "lab")]
os.environ["KVMCLUSTER_LAB"] = "bench"

import libvirt  # noqa: E402
from kvmlab import cluster, disks, guests, plan, processes, record  # noqa: E402
from watching import RESUMED, SUSPENDED, Watch  # noqa: E402

DISKS = ("gluster", "nbd", "lun")
WAY = ("node1", "node2")
STRICT, LIBVIRT, PLAIN = "strict", "handover=libvirt", "virsh migrate"
WAYS = {"gluster": (STRICT, PLAIN, LIBVIRT), "nbd": (STRICT, PLAIN), "lun": (STRICT, PLAIN)}
# What a migration of ours sets before it begins.
DOWNTIME = 300
# MiB/s
BANDWIDTH = 20
# The most by which the medians may differ: milliseconds against virsh, seconds against libvirt's.
MOST = {"stands_ms": 30.0, "wall_s": 0.1}
LIMIT = 300
PATIENCE = 5
TAIL = re.compile(r"<(\d{10})>")


def main():
    arguments = _arguments()
    ctl("down")
    try:
        ctl("up", "--nodes", "2")
        ctl("salt-run", "--", "state.orchestrate", "kvmcluster.orch.prepare")
        report = {
            disk: measure(disk, arguments.rounds, arguments.bandwidth)
            for disk in arguments.disk or DISKS
        }
    finally:
        ctl("down")
    missed = over(report)
    print(json.dumps(report, indent=2) if arguments.json else as_text(report, missed))
    return 1 if missed else 0


def ctl(*words, limit=600):
    done = subprocess.run(
        [ROOT / "lab" / "ctl", *words], stdout=subprocess.PIPE, text=True, timeout=limit
    )
    if done.returncode:
        sys.exit(f"lab/ctl {' '.join(map(str, words))} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def measure(disk, rounds, bandwidth):
    """Return what each way took, one migration of each a round; the first round does not count.

    They take turns in beginning a round, and a guest goes to and fro. A migration that fails is
    repeated, PATIENCE times at most, and counted.
    """
    name, ways = f"web-{disk}", WAYS[disk]
    ctl("guest", name, "--on", WAY[0], "--disk", disk)
    place = cluster.current()
    first = {one: processes.need(place, one) for one in place.places}
    report = {way: {"events": [], "record": [], "wall": [], "failed": 0} for way in ways}
    for number in range(-1, rounds):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            while not (found := moved(place, first, name, way, bandwidth)):
                report[way]["failed"] += 1
                if report[way]["failed"] > PATIENCE:
                    sys.exit(f"{way} fails too often")
            if number >= 0:
                for key, value in found.items():
                    report[way].setdefault(key, []).append(value)
    judgement = guests.record(place, name)
    if not judgement.whole:
        sys.exit(f"the guest's record is incomplete: {record.describe(judgement)}")
    ctl("guest", name, "--stop")
    return report


def moved(place, first, name, way, bandwidth):
    """Migrate a guest once; return what was measured, None if it did not move."""
    (source,) = guests.where(place, name)
    destination = WAY[source == WAY[0]]
    uuid = processes.run_in(place, source, "virsh", "domuuid", name).strip()
    watch = Watch(WAY, first, uuid)
    console = processes.inside_path(first[destination], guests.console_path(name))
    with printing(console) as printed:
        begun = time.perf_counter()
        done = salt(first, source, *words(name, destination, way, bandwidth))
        wall = time.perf_counter() - begun
        there = printed.wait(10)
    stop = [when for when, *what in watch.heard if what[:2] == [source, SUSPENDED]]
    resumed = watch.at(destination, RESUMED)
    watch.close()
    if done.returncode or not stop or resumed is None or not there:
        print(f"{way} failed: {done.stdout[-1000:]}", file=sys.stderr, flush=True)
        return None
    found = {
        "events": 1000 * (resumed - stop[-1]),
        "record": by_its_record(place, first, name, source, destination, printed.at),
        "wall": wall,
    }
    if claimed := re.search(r'"downtime_ms": (\d+)', done.stdout):
        found["reported"] = int(claimed[1])
    shown = ", ".join(f"{key} {value:.2f}" for key, value in found.items())
    print(f"{name} {way}: {shown}", file=sys.stderr, flush=True)
    return found


def words(name, destination, way, bandwidth):
    if way == PLAIN:
        peer = f"{destination}-mig"
        uri = f"qemu+ssh://root@{peer}/system?no_tty=1"
        return (
            "cmd.run",
            f"virsh migrate-setmaxdowntime {name} {DOWNTIME};"
            f" virsh migrate --live --p2p {name} {uri} tcp:{peer} --listen-address {peer}"
            f" --bandwidth {bandwidth}",
        )
    more = () if way == STRICT else (way,)
    return ("kvmcluster.migrate", name, destination, f"bandwidth={bandwidth}", *more)


class Printed(threading.Event):
    """Whether a console was written to, and ``at`` which time first."""

    at = 0.0


@contextlib.contextmanager
def printing(console):
    """Note the first time at which a file is written to while the context lasts."""
    printed, over = Printed(), threading.Event()
    before = console.stat().st_size if console.exists() else 0

    def look():
        while not over.wait(0.005):
            with contextlib.suppress(OSError):
                now = console.stat()
                if now.st_size > before:
                    printed.at = now.st_mtime_ns / 1e9
                    printed.set()
                    return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield printed
    finally:
        over.set()
        thread.join()


def by_its_record(place, first, name, source, destination, printed):
    """Return the milliseconds for which the guest stood, by its consoles and its own clock."""
    here = processes.inside_path(first[source], guests.console_path(name))
    number = max(map(int, TAIL.findall(here.read_text(errors="replace"))))
    written = record.read_disk(disks.written(disks.raw_file(place, name)))
    stamps = {one.number: one.stamp for one in written}
    ran = stamps[number + 1] - stamps[number]
    return 1000 * (printed - here.stat().st_mtime_ns / 1e9 - ran)


def salt(first, node, *arguments):
    line = ["salt", "--timeout=120", "--out=json", node, *arguments]
    return subprocess.run(
        processes.entering(first[plan.MASTER], line),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )


def middle(report, disk, way, key):
    return statistics.median(report[disk][way][key])


def differences(report):
    """Return by what medians differ, with the name of its limit."""
    for disk, key in itertools.product(report, ("events", "record")):
        more = middle(report, disk, STRICT, key) - middle(report, disk, PLAIN, key)
        yield f"{disk}: stands longer than with virsh, by {key}", more, "stands_ms"
    for disk in report:
        if LIBVIRT in report[disk]:
            more = middle(report, disk, STRICT, "wall") - middle(report, disk, LIBVIRT, "wall")
            yield f"{disk}: whole command longer than with {LIBVIRT}", more, "wall_s"


def over(report):
    return [words for words, more, limit in differences(report) if more > MOST[limit]]


def as_text(report, missed):
    lines = []
    for disk, ways in report.items():
        for way, found in ways.items():
            stands = ", ".join(
                f"{key} {statistics.median(found[key]):.0f} ms"
                f" ({min(found[key]):.0f} to {max(found[key]):.0f})"
                for key in ("events", "record", "reported")
                if found.get(key)
            )
            lines.append(
                f"{disk:8}{way:17} {len(found['wall'])} times: {stands};"
                f" {statistics.median(found['wall']):.2f} s; {found['failed']} failed"
            )
    for words, more, limit in differences(report):
        mark = "MISSED " if words in missed else ""
        lines.append(f"{mark}{words}: {more:+.2f}, the limit is {MOST[limit]:g} ({limit})")
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--bandwidth", type=int, default=BANDWIDTH, metavar="MIB_A_SECOND")
    parser.add_argument("--disk", action="append", choices=DISKS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    libvirt.registerErrorHandler(lambda context, error: None, None)
    sys.exit(main())
