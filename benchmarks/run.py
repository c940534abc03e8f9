"""Measure trust against Salt's stock states, and the cost of the extension where it is not used.

Run by ``make bench``, in the lab's sandbox: it writes to /root/.ssh and /etc of a throw-away node.
Every figure is a median of whole processes; those that are compared take turns in the same run.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import generated
import msgpack
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
SALT_CALL = "from salt.scripts import salt_call; salt_call()"
NODE = "node1"
SSH = pathlib.Path("/root/.ssh")
MOST = {"ping ratio": 1.03, "ours/ready": 1.3, "ssh -G ratio": 2.0, "growth": 12.0}
LEAST = {"stock/ours": 5.0}


def main():
    arguments = _arguments()
    if not arguments.inside:
        command = [sys.executable, __file__, "--inside", *sys.argv[1:]]
        return subprocess.run([ROOT / "lab" / "ctl", "sandbox", "--", *command]).returncode
    with tempfile.TemporaryDirectory(prefix="kvmcluster-bench-") as folder:
        report = measure(pathlib.Path(folder), arguments.sizes, arguments.rounds)
    report["missed"] = missed(report)
    print(json.dumps(report, indent=2) if arguments.json else as_text(report))
    return 1 if report["missed"] else 0


def measure(folder, sizes, rounds):
    """Return all figures as plain data, times in seconds."""
    report = {"ping": ping(folder, rounds * 6), "trust": {}}
    for size in sizes:
        print(f"measuring {size} nodes ...", file=sys.stderr)
        report["trust"][size] = trust(folder / str(size), size, rounds)
    return report


def missed(report):
    """Return the limits that were missed: those at 1,000 nodes, and growth from there to 10,000."""
    figures = {"ping ratio": report["ping"]["ratio"], **report["trust"].get(1000, {})}
    if {1000, 10000} <= set(report["trust"]):
        figures["growth"] = report["trust"][10000]["ours"] / report["trust"][1000]["ours"]
    over = {name: bar for name, bar in MOST.items() if figures.get(name, 0) > bar}
    under = {name: bar for name, bar in LEAST.items() if figures.get(name, bar) < bar}
    return {name: [round(figures[name], 3), bar] for name, bar in {**over, **under}.items()}


def ping(folder, rounds):
    """``salt-call --local test.ping`` with the extension installed, and without."""
    with_it = site_packages(folder / "with", with_extension=True)
    without = site_packages(folder / "without", with_extension=False)
    config = minion(folder / "ping", 1)
    times = in_turn(
        {
            "with": lambda: salt_call(config, ["test.ping"], with_it),
            "without": lambda: salt_call(config, ["test.ping"], without),
        },
        rounds,
    )
    return {**times, "ratio": times["with"] / times["without"]}


def trust(folder, size, rounds):
    """The trust states with nothing to change, against ready-made text and the stock states."""
    shutil.rmtree(SSH, ignore_errors=True)
    config = minion(folder, size)
    bare = statistics.median(seconds(lambda: ssh_g()) for _ in range(20))
    salt_call(config, ["state.apply", "kvmcluster.trust"])
    (folder / "mine").write_bytes(msgpack.packb(generated.signed(generated.mine(size))))
    configured = statistics.median(seconds(lambda: ssh_g()) for _ in range(20))
    ready_made(folder)
    runs = {
        "ours": lambda: salt_call(config, ["state.apply", "kvmcluster.trust"]),
        "ready": lambda: salt_call(config, ["state.apply", "ready"]),
    }
    if size <= 1000:
        stock_states(folder, size)
        salt_call(config, ["state.apply", "stock"])
        runs["stock"] = lambda: salt_call(config, ["state.apply", "stock"])
    found = in_turn(runs, rounds)
    found["ours/ready"] = found["ours"] / found["ready"]
    if "stock" in found:
        found["stock/ours"] = found["stock"] / found["ours"]
    return {**found, "ssh -G": configured, "ssh -G bare": bare, "ssh -G ratio": configured / bare}


def minion(folder, size):
    """Write a masterless minion's configuration with the pillar and mine of a cluster."""
    for name in ("pillar", "states", "etc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "mine").write_bytes(msgpack.packb(generated.mine(size)))
    dump(folder / "pillar" / "top.sls", {"base": {"*": ["cluster"]}})
    dump(folder / "pillar" / "cluster.sls", generated.pillar(size))
    options = {
        "id": NODE,
        "file_client": "local",
        "root_dir": str(folder),
        "file_roots": {"base": [str(ROOT / "states"), str(folder / "states")]},
        "pillar_roots": {"base": [str(folder / "pillar")]},
        "module_dirs": [str(HERE)],
        "benchmark_mine": str(folder / "mine"),
        "fips_mode": False,
    }
    dump(folder / "etc" / "minion", options)
    return folder / "etc"


def ready_made(folder):
    """Write states that put the very same files in place from ready-made text."""
    states = {}
    for name in ("authorized_keys2", "kvmcluster_known_hosts", "kvmcluster_config", "config"):
        shutil.copy(SSH / name, folder / "states" / name)
        states[name] = {
            "file.managed": [
                {"name": str(SSH / name)},
                {"source": f"salt://{name}"},
                {"mode": "0600"},
            ]
        }
    dump(folder / "states" / "ready.sls", states)


def stock_states(folder, size):
    """Write the same trust with Salt's own states, in files of their own."""
    identities = generated.mine(size)
    keys = [f"{item['cluster_key']} root@{node}" for node, item in identities.items()]
    states = {
        "keys": {
            "ssh_auth.manage": [
                {"user": "root"},
                {"ssh_keys": keys},
                {"config": "/root/.ssh/authorized_keys_stock"},
            ]
        }
    }
    for node, item in identities.items():
        kind, blob = item["host_keys"][1]["key"].split()
        states[node] = {
            "ssh_known_hosts.present": [
                {"user": "root"},
                {"key": blob},
                {"enc": kind},
                {"config": "/root/.ssh/known_hosts_stock"},
            ]
        }
    dump(folder / "states" / "stock.sls", states)


def site_packages(folder, with_extension):
    """Make a folder of links to all installed packages, with or without the extension."""
    folder.mkdir()
    installed = pathlib.Path(yaml.__file__).resolve().parents[1]
    for entry in installed.iterdir():
        if "saltext_kvmcluster" not in entry.name or (
            with_extension and entry.name.endswith(".dist-info")
        ):
            (folder / entry.name).symlink_to(entry)
    if with_extension:
        (folder / "saltext_kvmcluster").symlink_to(ROOT / "src" / "saltext_kvmcluster")
    return folder


def salt_call(config, arguments, packages=None):
    """Run salt-call as a whole process; its failure ends the benchmark."""
    command = [sys.executable, *(["-S"] if packages else []), "-c", SALT_CALL]
    command += ["--local", "-c", str(config), "--retcode-passthrough", "--out=json", *arguments]
    environment = {**os.environ, "HOME": "/root"}
    if packages:
        environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def ssh_g():
    subprocess.run(["ssh", "-G", "node1-mig"], capture_output=True, check=True, timeout=60)


def in_turn(runs, rounds):
    """Time the runs one after another, round by round, and return each one's median."""
    times = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {name: statistics.median(values) for name, values in times.items()}


def seconds(run):
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def dump(path, data):
    path.write_text(yaml.safe_dump(data, default_flow_style=False), encoding="utf-8")


def as_text(report):
    ping_times = report["ping"]
    lines = [
        f"salt-call --local test.ping: {ping_times['without']:.3f} s without the extension,"
        f" {ping_times['with']:.3f} s with it: {ping_times['ratio']:.3f} x",
        "",
        " nodes   ours  ready-made  ours/ready    stock  stock/ours  ssh -G ratio",
    ]
    for size, found in report["trust"].items():
        stock = f"{found['stock']:8.2f} {found['stock/ours']:10.1f}x" if "stock" in found else ""
        lines.append(
            f"{size:6} {found['ours']:6.2f} {found['ready']:11.2f} {found['ours/ready']:10.2f}x"
            f" {stock:20} {found['ssh -G ratio']:12.2f}x"
        )
    lines += [
        f"MISSED {name}: {got}, the limit is {bar}" for name, (got, bar) in report["missed"].items()
    ]
    return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
