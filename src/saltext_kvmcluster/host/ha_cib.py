"""Pacemaker's configuration on this node: read, and changed by a patch.

A patch is taken only if nobody has changed anything meanwhile; then it is worked out anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.ha import crm_tools, difference, state_of_resources
from saltext_kvmcluster.core.ha.content import PREFIX
from saltext_kvmcluster.core.ha.difference import Difference
from saltext_kvmcluster.core.ha.state_of_resources import Resources
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import CIB
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.host import commands, files

LIMIT = 64 * 1024 * 1024
DIFFERS = 1
TRIES = 5
ARRIVING = 300.0
"""Seconds for guests that Pacemaker moves to arrive: a change meanwhile would block them."""
PAUSE = 2.0
_RUNS = ("pgrep", "-x", "pacemakerd")
_SECONDS = 30.0


def present(test: bool) -> str:
    """Return the CIB as Pacemaker has it; WorldError if it does not say.

    test
        Whether changes are only planned: then Pacemaker need not run yet.
    """
    if test and not _runs():
        kept = files.read(CIB, most=LIMIT).text
        return kept or difference.EMPTY
    done = commands.run(["cibadmin", "--query"], _SECONDS, LIMIT)
    if done.code != 0:
        raise WorldError(
            "Pacemaker does not tell its configuration:"
            f" {done.stderr.strip()[:300] or 'no answer'}; does it run here? crm_mon -1"
        )
    return done.stdout


def _runs() -> bool:
    try:
        return commands.run(_RUNS).code == 0
    except commands.NotInstalled:
        return False


def change(work_out: Callable[[str], Difference]) -> Difference:
    """Carry out a difference, and return it; WorldError if it is not seen afterwards.

    work_out
        Returns the difference to the CIB that it is given.
    """
    done = work_out(present(False))
    for _ in range(TRIES):
        if not done.changes:
            return done
        if _awaited():
            done = work_out(present(False))
        failed = _patch(done)
        if not failed:
            break
        time.sleep(PAUSE)
        done = work_out(present(False))
    else:
        raise WorldError(f"Pacemaker did not take the changes: {failed}")
    if left := work_out(present(False)).changes:
        raise WorldError(
            f"Pacemaker does not have what was just put in: {listed(left)}; does another tool"
            " change it?"
        )
    return done


def _awaited() -> bool:
    """Wait until Pacemaker moves no guest; return whether it did. WorldError if it still does."""
    end, waited = time.monotonic() + ARRIVING, False
    while (found := resources()) and found.moving:
        if time.monotonic() > end:
            raise WorldError(
                f"Pacemaker still moves {listed(found.moving)}, and would leave it blocked if its"
                " configuration changed now: apply the state again"
            )
        waited = True
        time.sleep(PAUSE)
    return waited


def let_go(timeout: float) -> None:
    """Have Pacemaker forget guests whose resources were taken away: they run on.

    WorldError if it has not in time; then it goes on when this is called again.

    timeout
        Seconds.
    """
    end = time.monotonic() + timeout
    while difference.is_letting_go(present(False)):
        found = resources()
        ours = [name for name in found.orphans if name.startswith(PREFIX)] if found else []
        if found and not ours:
            change(difference.of_letting_go)
            return
        if time.monotonic() > end:
            raise WorldError(
                f"Pacemaker has not forgotten {listed(ours) or 'guests'} that are let go; they run"
                " on: apply the state again"
            )
        for name in ours:
            commands.run(crm_tools.refresh(name), crm_tools.REFRESH)
        time.sleep(PAUSE)


def _patch(wanted: Difference) -> str:
    """Apply a difference; return why it was not taken, empty if it was."""
    with files.workshop() as folder:
        before, after, patch = (os.path.join(folder, name) for name in ("before", "after", "patch"))
        _write(before, wanted.before)
        _write(after, wanted.after)
        made = commands.run(["crm_diff", "--original", before, "--new", after], _SECONDS, LIMIT)
        if made.code != DIFFERS:
            raise WorldError(f"crm_diff: exit code {made.code}: {made.stderr.strip()[:300]}")
        _write(patch, made.stdout)
        done = commands.run(["cibadmin", "--patch", "--xml-file", patch], _SECONDS)
    return "" if done.code == 0 else done.stderr.strip()[:300] or "no answer"


def _write(path: str, text: str) -> None:
    files.apply(FilePlan(path, text, 0o600, "root", {}))


def resources() -> Resources | None:
    """Return what Pacemaker says of its resources; None if it does not."""
    done = commands.run(state_of_resources.COMMAND, _SECONDS, LIMIT)
    try:
        return state_of_resources.parse(done.stdout) if done.code == 0 else None
    except InputError:
        return None


def await_decisions(timeout: float) -> None:
    """Wait until Pacemaker has a leader and quorum; WorldError if it has not in time.

    timeout
        Seconds.
    """
    end = time.monotonic() + timeout
    while not ((found := resources()) and found.decides):
        if time.monotonic() > end:
            raise WorldError(_undecided(found, timeout))
        time.sleep(PAUSE)


def _undecided(found: Resources | None, timeout: float) -> str:
    if found is None:
        return (
            "Pacemaker does not run here, or does not answer: systemctl status pacemaker corosync"
        )
    lacks = "quorum" if found.leader else "leader"
    return (
        f"Pacemaker has no {lacks} after {timeout:.0f} s; of the nodes,"
        f" {listed(found.online) or 'none'} are online: after a start of the whole cluster each"
        " has to come once: crm_mon -1, corosync-cfgtool -s"
    )


def unsettled(names: Iterable[str], timeout: float) -> list[str]:
    """Wait until resources run; return a sentence for each that does not in time."""
    wanted, end = list(names), time.monotonic() + timeout
    while True:
        found = resources()
        left = list(found.unsettled(wanted)) if found else ["Pacemaker does not answer"]
        if not left or time.monotonic() > end:
            return left
        time.sleep(PAUSE)


def definitions(cluster: Cluster) -> dict[str, str]:
    """Return the definitions' paths of guests that have ``ha``; InputError if one has none.

    That they are on shared storage is what the check ha.definitions has seen to.
    """
    guests = cluster.guests
    found = {}
    for guest in guests.list.values():
        if not guest.ha:
            continue
        there = [path for path in store.all_paths(guests, guest.name) if files.exists(path)]
        found[guest.name] = store.find(guests, guest.name, there).path
    return found
