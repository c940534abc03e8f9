"""kill -9 at random moments of applying trust: every file is the old one or the new one, whole.

KVMCLUSTER_KILLS says how many moments (``make nightly``: 200).
"""

import copy
import itertools
import os
import random
import time

from labs import HOME

SSH = "/root/.ssh"
FILES = (
    f"{HOME}/.ssh/authorized_keys2",
    *(f"{SSH}/{name}" for name in ("kvmcluster_known_hosts", "kvmcluster_config", "config")),
)
KILLS = int(os.environ.get("KVMCLUSTER_KILLS", "2"))
APPLY = ("salt-call", "--out=quiet", "state.apply", "kvmcluster")


def contents(lab):
    script = f'for f in {" ".join(FILES)}; do cat "$f"; printf "\\0"; done'
    return tuple(lab.exec("node1", "sh", "-c", script).split("\0")[:-1])


def test_a_kill_at_any_moment_leaves_whole_files_and_ssh_working(lab):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    try:
        with lab.pillar() as pillar:
            texts = []
            for name, extra in (("lab", 0), ("other", 400)):
                further = [f"further-{n}.lab.example" for n in range(extra)]
                pillar.cluster["name"] = name
                pillar.cluster["nodes"]["node3"]["names"] = ["node3.lab.example", *further]
                pillar.save()
                begun = time.monotonic()
                lab.exec("node1", *APPLY)
                length = time.monotonic() - begun
                texts.append((copy.deepcopy(pillar.data), contents(lab)))
            allowed = [set(pair) for pair in zip(texts[0][1], texts[1][1], strict=True)]
            allowed[-1].add("")  # the user's own file is emptied before each run
            assert all(len(states) == 2 for states in allowed)
            hit = 0
            for number in itertools.count():
                if hit == KILLS:
                    break
                assert number < 4 * KILLS, (
                    f"only {hit} of {number} runs were killed before their end"
                )
                pillar.data = texts[number % 2][0]
                pillar.save()
                lab.exec("node1", "truncate", "-s", "0", f"{SSH}/config")
                # Half of the moments fall into the last third of a run, where the writing is.
                earliest = 0.0 if number % 2 else length * 0.6
                moment = chance.uniform(earliest, length * 1.05)
                done = lab.ctl(
                    "exec",
                    "node1",
                    "--",
                    "timeout",
                    "-s",
                    "KILL",
                    f"{moment:.3f}",
                    *APPLY,
                    check=False,
                )
                hit += done.returncode != 0
                if done.returncode == 0:
                    length = min(length, moment)
                where = f"kill {number} after {moment:.3f} s, seed {seed}"
                for name, text, whole in zip(FILES, contents(lab), allowed, strict=True):
                    assert text in whole, f"{name} is neither old nor new: {where}"
                rules = ("-F", f"{SSH}/kvmcluster_config")
                assert lab.exec("node1", "ssh", *rules, "node2-mig", "echo in") == "in\n", where
                assert lab.exec("node2", "ssh", "node1-mig", "echo in") == "in\n", where
    finally:
        applied = lab.apply("node1", "kvmcluster")
    print(f"{hit} runs were killed and {number - hit} ended before it, seed {seed}")
    assert applied["kvmcluster-key"]["result"]
    assert not lab.exec("node1", "find", SSH, f"{HOME}/.ssh", "-name", ".*kvmcluster*").split()
