"""Kills at random moments of what changes trust, while every node logs in to every other.

As a program (``make trust-kills``) it goes on where the last call stopped: KVMCLUSTER_LAB says
which lab, KVMCLUSTER_TRUST_KILLS_FILE where what came of each kill is appended as a line of JSON.
After each kill all files have to be whole, and every login good; a killed command has to complete
when it is repeated; in between, and during the kills, every node tries its logins in a loop of its
own.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import statistics
import sys
import time
import traceback
from typing import ClassVar

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "lab")]

from labs import Call, Lab, until  # noqa: E402
from rotation_kills import Rotation  # noqa: E402
from series import revision  # noqa: E402
from trust_runs import Disorder, Runner  # noqa: E402

SSH = "/root/.ssh"
FILES = ("authorized_keys2", "kvmcluster_known_hosts", "kvmcluster_config", "config")
NETWORKS = ["192.0.2.0/24", "198.51.100.0/24"]
ADDRESSES = [f"{network}.{10 + k}" for network in ("192.0.2", "198.51.100") for k in (1, 2, 3)]
LOOP = """
rm -f /tmp/tried /tmp/failed
while :; do for name in {names}; do
  ssh -n -T -o BatchMode=yes $name true 2> /tmp/said ||
    echo "$(date +%T) $name $(cat /tmp/said)" >> /tmp/failed
  echo >> /tmp/tried
done; sleep 1; done
"""
EACH = "for n in {names}; do (ssh -n -T -o BatchMode=yes $n true || echo $n failed) & done; wait"


class Logins:
    """A loop of logins on every node, and one login in each direction when it is asked for."""

    def __init__(self, lab):
        self.lab = lab
        self.names = {
            node: [f"{peer}{end}" for end in ("", "-mig") for peer in lab.nodes if peer != node]
            for node in lab.nodes
        }

    def __enter__(self):
        self.loops = []
        for node, names in self.names.items():
            script = f"({LOOP.format(names=' '.join(names))}) > /dev/null 2>&1 & echo $!"
            self.loops.append((node, self.lab.exec(node, "sh", "-c", script).strip()))
        return self

    def __exit__(self, *_):
        for node, pid in self.loops:
            self.lab.exec(node, "kill", pid, check=False)

    def counted(self):
        """Return how many logins the loops have tried, and the failures in ssh's words."""
        tried, failed = 0, []
        for node in self.lab.nodes:
            script = "cat /tmp/tried 2> /dev/null | wc -l; cat /tmp/failed 2> /dev/null; true"
            count, *lines = self.lab.exec(node, "sh", "-c", script).splitlines()
            tried, failed = tried + int(count), failed + [f"{node}: {line}" for line in lines]
        return tried, failed

    def each(self, chance):
        """Log in from each node to each other at once, by one of its names; return what failed."""
        calls = {}
        for node, names in self.names.items():
            half = len(names) // 2
            some = chance.choice((names[:half], names[half:]))
            script = EACH.format(names=" ".join(some))
            calls[node] = Call(self.lab.exec, node, "sh", "-c", script)
        return [
            f"{node}: {line}" for node, call in calls.items() for line in call.end().splitlines()
        ]


def contents(lab, node):
    """Return the trust files of a node by name."""
    script = f'cd {SSH}; for f in {" ".join(FILES)}; do cat "$f"; printf "\\0"; done'
    texts = lab.exec(node, "sh", "-c", script).split("\0")[:-1]
    return dict(zip(FILES, texts, strict=True))


class ChangeOver:
    """``kvmcluster.trust`` from lines without options to ``restrict``, ``from``, another, and back.

    Each node goes through the steps by itself, so that the nodes are mixed in every way.
    """

    SSH: ClassVar = {}
    """What ``kvmcluster:ssh`` is as the lab is prepared."""
    STEPS = (None, [], NETWORKS, ADDRESSES, [])
    """What ``kvmcluster:ssh:from`` is; None: the lines are those of a release without options."""

    def __init__(self, lab, pillar):
        self.lab, self.pillar = lab, pillar
        self.at = dict.fromkeys(lab.nodes, 0)
        self.runners = {node: Runner(lab, node) for node in lab.nodes}
        self.events, self.length = 60, 1.0

    def begin(self):
        for runner in self.runners.values():
            runner.await_ready()

    def close(self):
        for runner in self.runners.values():
            runner.close()

    def run(self, chance):
        """Kill once, and return what there is to tell."""
        node = chance.choice(self.lab.nodes)
        before = contents(self.lab, node)
        if self.STEPS[self.at[node]] is None:
            before["authorized_keys2"] = self.forget_options(node)
            self.at[node] += 1
        wanted = self.STEPS[self.at[node]]
        self.pillar.cluster["ssh"] = {"from": wanted}
        seen = self.runners[node].run(pillar=self.pillar.data, **self.moment(chance))
        if not seen["killed"]:
            self.events, self.length = seen["events"], 0.7 * self.length + 0.3 * seen["after"]
        after = contents(self.lab, node)
        new = {**before, "authorized_keys2": with_options(before["authorized_keys2"], wanted)}
        wrong = [
            f"{name} is neither old nor new"
            for name in FILES
            if after[name] not in (before[name], new[name])
        ]
        if not seen["killed"] and seen["last"] != "ended ":
            wrong.append(seen["last"] or "the run broke off")
        if after == new:
            self.at[node] = (self.at[node] + 1) % len(self.STEPS)
        return {
            **seen,
            "node": node,
            "to": "nothing" if not wanted else wanted[0],
            "written": after == new,
            "wrong": wrong,
        }

    def completed(self, tale, chance):
        """Nothing is repeated: the next run begins where this one was killed."""
        return []

    def moment(self, chance):
        """Half of the kills are at what is done to a file, half at any time."""
        if chance.random() < 0.5:
            return {"event": chance.randint(1, self.events)}
        return {"seconds": round(chance.uniform(0, self.length * 1.05), 4)}

    def forget_options(self, node):
        """Make a node's lines those of a release without options, and return the file."""
        path = f"{SSH}/authorized_keys2"
        self.lab.exec(node, "sed", "-i", "s/^restrict[^ ]* //", path)
        return self.lab.read(node, path)


def with_options(text, entries):
    """Return an authorized_keys2 in which every line has the options for such a ``from``."""
    options = 'restrict,from="' + ",".join(entries) + '"' if entries else "restrict"
    return re.sub(r"(?m)^(restrict\S* )?(?=ssh-)", lambda _: f"{options} ", text)


SERIES = {"change-over": ChangeOver, "rotate": Rotation}


# ---- many of them


def results_file():
    default = "/var/tmp/kvmcluster-trust-kills.jsonl"
    return pathlib.Path(os.environ.get("KVMCLUSTER_TRUST_KILLS_FILE", default))


def results():
    if not results_file().exists():
        return []
    return [json.loads(line) for line in results_file().read_text("utf-8").splitlines()]


def tried(series, logins, chance):
    """Kill once; return what came of it, a lab in disorder included."""
    begun = time.monotonic()
    try:
        tale = series.run(chance)
        failed = logins.each(chance)
        tale["wrong"] += series.completed(tale, chance)
        failed += logins.counted()[1]
        tale["wrong"] += [f"a login failed: {line}" for line in failed]
    except Exception:
        tale = {"disorder": traceback.format_exc()[-2000:]}
    return {**tale, "load": os.getloadavg()[0], "seconds": round(time.monotonic() - begun, 2)}


def work_off(name, count):
    """Kill until there were so many kills, or something was wrong."""
    lab = Lab(os.environ.get("KVMCLUSTER_LAB", "trust-kills"))
    common = {"series": name, "revision": revision()}
    try:
        lab.ctl("down")
        lab.ctl("up", timeout=300)
        with contextlib.ExitStack() as stack:
            pillar = stack.enter_context(lab.pillar())
            pillar.cluster.setdefault("ssh", {}).update(SERIES[name].SSH)
            pillar.save()
            lab.refresh_pillar()
            failed = [step for step, state in lab.prepare().items() if not state["result"]]
            if failed:
                raise Disorder(f"not prepared: {failed}")
            logins = stack.enter_context(Logins(lab))
            series = SERIES[name](lab, pillar)
            stack.callback(series.close)
            series.begin()
            until(lambda: logins.counted()[0] > 0, "no login was tried")
            while killed(name) < count:
                seed = random.randrange(1 << 32)
                tale = {**common, "seed": seed, **tried(series, logins, random.Random(seed))}
                tale["logins"], _ = logins.counted()
                with open(results_file(), "a", encoding="utf-8") as file:
                    file.write(json.dumps(tale) + "\n")
                print(killed(name), outcome(tale), f"({tale['seconds']} s)", flush=True)
                if "disorder" in tale or tale["wrong"]:
                    return
    finally:
        lab.close()
        lab.ctl("down")


def killed(name):
    return sum(tale.get("killed", False) for tale in results() if tale["series"] == name)


def outcome(tale):
    if "disorder" in tale:
        return "the lab is not in order: " + tale["disorder"].strip().splitlines()[-1]
    what = "killed" if tale["killed"] else "over before"
    file = "new" if tale["written"] else "old"
    step = f" {tale['step']} of {tale['of']}" if "step" in tale else ""
    seen = f"{tale['node']}{step} {what} at {tale['after']} s, {tale['last']}, file {file}"
    return "; ".join(tale["wrong"]) or seen


def table(name):
    """Return what came of the kills of a series, in words."""
    tales = [tale for tale in results() if tale["series"] == name and "killed" in tale]
    hit = [tale for tale in tales if tale["killed"]]
    if not hit:
        return f"{name}: no kills"
    deeds = [tale["last"] for tale in hit if ".kvmcluster-new-" in tale["last"]]
    new = sum(tale["written"] for tale in hit)
    # Each call's loops count anew.
    logins = sum(
        one["logins"]
        for one, following in zip(tales, [*tales[1:], {"logins": 0}], strict=True)
        if following["logins"] < one["logins"]
    )
    wrong = sum(bool(tale["wrong"]) for tale in tales)
    middle = statistics.median(tale["seconds"] for tale in tales)
    steps = collections.Counter(tale["step"] for tale in hit if "step" in tale)
    of = "; ".join(f"{count} in {step}" for step, count in sorted(steps.items()))
    return (
        f"{name}: {len(hit)} runs killed, {len(tales) - len(hit)} were over before; {len(deeds)} as"
        f" a file was being written; file old {len(hit) - new}, new {new}; {logins} logins in the"
        f" loops; wrong {wrong}; a kill took {middle} s (median)" + (f"; {of}" if of else "")
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", nargs="*", metavar="SERIES", help=f"{', '.join(SERIES)}; all")
    parser.add_argument("--count", type=int, default=200, help="kills of each (default 200)")
    options = parser.parse_args()
    names = options.series or [*SERIES]
    if unknown := [name for name in names if name not in SERIES]:
        parser.error(f"{unknown[0]}: known are {', '.join(SERIES)}")
    for name in names:
        work_off(name, options.count)
    print(*map(table, names), sep="\n")
    bad = [tale for tale in results() if tale.get("wrong") or "disorder" in tale]
    return 1 if bad or any(killed(name) < options.count for name in names) else 0


if __name__ == "__main__":
    sys.exit(main())
