"""What came of all migrations, as tables of text."""

import statistics
from collections import Counter

import conftest
from cases import DISKS
from faults import FAULTS

WRONG, DISORDER = "WRONG", "harness"
OUTCOMES = {
    "moved": "moved",
    "not_moved": "not moved",
    "refused": "refused",
    "unknown": "unknown, then settled",
    "operator": "unknown, settled by a person",
    "no answer": "no answer, then settled",
    "ended": "ended with its own QEMU",
    WRONG: "wrong",
    DISORDER: "harness failed",
}
TWO, MISSED = "two at once", "too late to hit anything"
BEGIN, END = "<!-- written by make faults -->", "<!-- end -->"


def outcome(tale):
    """Return the key of what came of a run."""
    if "disorder" in tale:
        return DISORDER
    if tale["wrong"]:
        return WRONG
    if tale["own_qemu_killed"]:
        return "ended"
    if "operator" in tale:
        return "operator"
    if tale["answer"] is None:
        return "no answer"
    return tale["answer"]["result"] if isinstance(tale["answer"], dict) else "refused"


def row_of(tale):
    """Return the row of the table in which a run is counted."""
    hit = [deed["fault"] for deed in tale.get("begun", ()) if deed["effective"]]
    if not hit:
        return tale["fault"] if "disorder" in tale else MISSED
    return hit[0] if len(hit) == 1 else TWO


def counted(tales, heading, names, name_of):
    """Return names x outcomes as a table of text."""
    counts = {}
    for tale in tales:
        counts.setdefault(name_of(tale), Counter())[outcome(tale)] += 1
    rows = [[heading, "runs", *OUTCOMES.values()], ["---"] * (2 + len(OUTCOMES))]
    for name in filter(counts.get, names):
        count = counts[name]
        rows.append([name, count.total(), *(count[key] or "" for key in OUTCOMES)])
    all_of_them = sum(counts.values(), Counter())
    rows.append(["all", all_of_them.total(), *(all_of_them[key] or "0" for key in OUTCOMES)])
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def tables(tales):
    """Return what came of them by fault, and by the kind of the guest's disk."""
    names = [*(fault.name for fault in FAULTS), TWO, MISSED]
    by_fault = counted(tales, "fault", names, row_of)
    by_disk = counted(tales, "disk", DISKS, lambda tale: tale["disk"])
    return f"{by_fault}\n\n{by_disk}"


def stood(tales):
    """Return how long guests stood after their job was killed, as text; empty without any."""
    times = [tale["runs_after"] for tale in tales if tale.get("runs_after") is not None]
    if not times:
        return ""
    middle, most = statistics.median(times), max(times)
    return f"ran again by itself {len(times)} times: median {middle:.2f} s, at most {most:.2f} s"


def write_document(tales):
    """Put the tables into docs/faults.md, between their marks."""
    path = conftest.ROOT / "docs" / "faults.md"
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{tables(tales)}\n{END}{after}", encoding="utf-8")
