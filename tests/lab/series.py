"""Real faults in real migrations, and what came of each.

As a program (``make faults``) it goes on where the last call stopped. What is compared: what
kvmcluster.migrate returned, what libvirt and /proc show on every node once the fault has healed,
what kvmcluster.recover makes of it, and what the guest itself wrote meanwhile.

KVMCLUSTER_LAB says which lab, KVMCLUSTER_FAULTS_FILE where the outcome of each one is appended as a
line of JSON. Salt runs from the checkout's virtual environment, or from KVMCLUSTER_VENV: the same
series shows with an older version what that one did wrong.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "lab")]

import conftest  # noqa: E402
import judging  # noqa: E402
import tables  # noqa: E402
from bench import Bench, Disorder  # noqa: E402
from cases import ALL, DISKS, SERIES, Case  # noqa: E402
from faults import BEFORE, EDGE, GONE  # noqa: E402
from watching import RESUMED, SUSPENDED  # noqa: E402

# Its disk is full after 131,071.
MOST_NUMBERS = 15_000
# Seconds for a guest to run again by itself.
BY_ITSELF = 15


def run(bench, case):
    """Carry a case out; return what there is to tell of it."""
    lab, started = bench.lab, time.monotonic()
    (source,) = judging.running(bench.have_guest(case.disk))
    at = lab.nodes.index(source)
    destination = lab.nodes[(at + 1 + case.leg) % len(lab.nodes)]
    bench.route, bench.pause = (source, destination), case.pause
    lab.exec(source, "virsh", "migrate-setspeed", bench.guest, str(case.speed))

    tale = {"moment": case.moment, "lasting": case.lasting, "source": source}
    tale |= {"destination": destination, "at": judging.utc()}
    begun = with_faults(bench, case, tale)
    effective = [fault for fault, deed in zip(case.faults, begun, strict=True) if deed["effective"]]
    mute = any(fault.mute for fault in effective) and not bench.call_is_over()
    if any(fault.by_itself for fault in effective):
        tale["runs_after"] = runs_after(bench, begun[0]["clock"])
    if case.lasting is not None:
        time.sleep(case.lasting)
        heal(bench, case)
    tale["answer"], tale["from"] = bench.answer(bench.asked, source, tale["at"], mute)
    if bench.second:
        tale["second"], _ = bench.answer(bench.second, source, tale["at"], mute)
    if case.lasting is None:
        heal(bench, case)
    tale["stood_ms"] = stood_ms(bench)
    tale["wrong"] = judged(bench, case, tale)
    tale |= {"took": round(time.monotonic() - started, 1), "heard": bench.watch.told(started)}
    bench.watch.close()
    # virtlogd writes no more of a console that it once could not write: evidence would be missing.
    silent = any("disk full" in fault.name for fault in effective)
    nowhere = all(sight["state"] == "absent" for sight in tale["look_again"].values())
    tale["clean"] = not tale["wrong"] and not silent and not nowhere
    tale["clean"] = tale["clean"] and tale["record"]["last"] < MOST_NUMBERS
    return tale


def with_faults(bench, case, tale):
    """Call for a migration, make its faults at their moments, and return when that was."""
    first, *others = case.faults
    if case.moment == BEFORE:
        begun = [begin(bench, first)]
        bench.migrate(case.patience)
    else:
        bench.migrate(case.patience)
        ready = None
        if case.moment in (EDGE, GONE):
            bench.approach(case)
            ready = readied(bench, first)
        tale["seen"] = bench.wait_for(case)
        begun = [begin(bench, first, ready)]
    for fault in others:
        time.sleep(case.pause)
        begun.append(begin(bench, fault))
    tale["begun"] = begun
    return begun


def readied(bench, fault):
    return [fault.begin(bench, node) for node in bench.nodes_of(fault)]


def begin(bench, fault, ready=None):
    ready = ready or readied(bench, fault)
    deed = {"fault": fault.name, "at": judging.utc(), "clock": time.monotonic()}
    done = [act() for act in ready]
    return {**deed, "effective": any(done)}


def heal(bench, case):
    for fault in case.faults:
        for node in bench.nodes_of(fault):
            fault.end(bench, node)


def runs_after(bench, killed):
    """Return the seconds after which the guest runs at its destination, None if it does not."""
    when = bench.watch.wait(bench.route[1], RESUMED, lambda: False, BY_ITSELF)
    return None if when is None else round(when - killed, 3)


def stood_ms(bench):
    """Return the milliseconds from its last stop at the source to its resume at the destination."""
    source, destination = bench.route
    resumed = bench.watch.at(destination, RESUMED)
    stops = [
        when
        for when, *what in bench.watch.heard
        if what[:2] == [source, SUSPENDED] and when <= (resumed or 0)
    ]
    return round(1000 * (resumed - stops[-1])) if stops else None


def judged(bench, case, tale):
    """Look at all nodes, have one recover, and say what was wrong; keep what was seen."""
    wrong = [
        f"no plain words: {detail}" for detail in map(str, tale.values()) if "Traceback" in detail
    ]
    if tale.get("runs_after", 0) is None:
        wrong.append(f"it did not run again by itself in {BY_ITSELF} s")
    observation = bench.observe()
    tale["look"] = judging.reported(observation)
    killed = {
        node: deed
        for fault, deed in zip(case.faults, tale["begun"], strict=True)
        if fault.kills and deed["effective"]
        for node in bench.nodes_of(fault)
    }
    own = ended_with_its_own(bench, tale, observation, killed)
    answers = [found for found in (tale["answer"], tale.get("second")) if isinstance(found, dict)]
    wrong += judging.claims(tale["answer"], tale["stood_ms"])
    times = {node: deed["at"] for node, deed in killed.items()}
    wrong += judging.contradictions(answers, observation, times, own)
    node = bench.lab.nodes[case.asked]
    bench.wait_for_minions(case)
    tale["recovered"] = bench.recovered(node, wanted=not own)
    observation = bench.observe()
    if judging.is_for_an_operator(tale["recovered"], observation):
        tale["operator"] = bench.operate(tale["recovered"], observation)
        own = ended_with_its_own(bench, tale, bench.observe(), killed)
        tale["recovered"] = bench.recovered(node, wanted=not own)
        observation = bench.observe()
    tale["own_qemu_killed"], tale["look_again"] = own, judging.reported(observation)
    wrong += judging.left_over(tale["recovered"], observation, own)
    record = tale["record"] = bench.record()
    wrong += judging.faults_of(record)
    if judging.is_clean(observation) and not bench.writes_on(record["last"]):
        wrong.append("it does not write any more")
    return wrong


def ended_with_its_own(bench, tale, observation, killed):
    """Whether the guest is nowhere because the QEMU was killed that was the guest."""
    if not judging.gone(observation):
        return False
    source = bench.route[0]
    return any(
        node == bench.last_writer()
        or tale.get("seen", {}).get("state") != 1
        or (bench.watch.last(source, deed["clock"]) == SUSPENDED and not bench.went_on())
        for node, deed in killed.items()
    )


# ---- many of them ----


def carried_out(bench, case):
    """Run a case and put the lab in order again; that it could not be is told, too."""
    tale = {"seed": case.seed, "fault": case.name, "disk": case.disk}
    try:
        tale |= run(bench, case)
        if tale["wrong"]:
            tale["evidence"] = evidence(bench, case)
        bench.put_in_order(case)
        if not tale["clean"]:
            bench.forget_guest()
    except Exception as error:
        tale["disorder"] = f"{type(error).__name__}: {error}"
        with contextlib.suppress(Exception):
            tale.setdefault("evidence", evidence(bench, case))
    return tale


def evidence(bench, case):
    """Keep what daemons, QEMU and guest wrote; return the folder."""
    folder = results_file().with_suffix(".evidence") / f"{case.seed}-{int(time.time())}"
    logs = ("var/log/libvirt", "var/log/guests", "var/log/salt", "var/lib/kvmcluster")
    bench.lab.keep(folder, *logs)
    return str(folder)


def results_file():
    default = pathlib.Path("/var/tmp/kvmcluster-faults.jsonl")
    return pathlib.Path(os.environ.get("KVMCLUSTER_FAULTS_FILE", default))


def results(series):
    """Return what was told so far of one series, the last word on each case."""
    if not results_file().exists():
        return {}
    lines = map(json.loads, results_file().read_text(encoding="utf-8").splitlines())
    told = [tale for tale in lines if tale.get("series", ALL.name) == series.name]
    return {(tale["seed"], tale.get("asked_disk")): tale for tale in told}


def main():
    options = arguments()
    series, keys = SERIES[options.series], range(options.count)
    tales = results(series)
    done = {key for key, tale in tales.items() if "disorder" not in tale}
    todo = [seed for seed in keys if (seed, options.disk) not in done]
    print(f"{len(done)} migrations are in {results_file()}, {len(todo)} are to be done")
    if todo:
        work_off(todo, series, options)
    tales = results(series)
    print(tables.tables(tales.values()), tables.stood(tales.values()), sep="\n")
    if series is ALL and not options.disk:
        tables.write_document(tales.values())
    bad = [tale for tale in tales.values() if tale.get("wrong") or "disorder" in tale]
    return 1 if bad or len(tales) < options.count else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", nargs="?", choices=SERIES, default=ALL.name)
    parser.add_argument("--count", type=int, default=int(os.environ.get("FAULTS", "300")))
    parser.add_argument("--disk", choices=DISKS, help="of each guest; by turns without")
    parser.add_argument("--option", action="append", default=[], help="for kvmcluster.migrate")
    return parser.parse_args()


def work_off(seeds, series, options):
    """Carry out cases, each with its line in the file; a lab in disorder is built anew."""
    lab = conftest.Lab(os.environ.get("KVMCLUSTER_LAB", "faults"))
    common = {"series": series.name, "asked_disk": options.disk, "revision": revision()}
    common |= {"options": options.option} if options.option else {}
    try:
        bench = None
        for seed in seeds:
            bench = bench or built(lab, options.option)
            case = Case.of(seed, series=series, disk=options.disk)
            tale = {**common, **carried_out(bench, case)}
            with open(results_file(), "a", encoding="utf-8") as file:
                file.write(json.dumps(tale) + "\n")
            words = (seed, case.disk, tale["fault"], tables.outcome(tale), tale.get("runs_after"))
            print(
                *filter(lambda word: word is not None, words),
                f"{tale.get('took', 0)} s",
                flush=True,
            )
            if "disorder" in tale:
                bench = None
    finally:
        lab.ctl("down")


def revision():
    """Return which version runs: of the checkout that the virtual environment belongs to."""
    venv = pathlib.Path(os.environ.get("KVMCLUSTER_VENV", conftest.ROOT / ".venv"))
    reported = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=venv.absolute().parent, capture_output=True, text=True
    )
    return reported.stdout.strip()


def built(lab, options):
    lab.ctl("down")
    lab.ctl("up", timeout=300)
    failed = [name for name, state in lab.prepare().items() if not state["result"]]
    if failed:
        raise Disorder(f"not prepared: {failed}")
    bench = Bench(lab, options)
    bench.prepare()
    return bench


if __name__ == "__main__":
    sys.exit(main())
