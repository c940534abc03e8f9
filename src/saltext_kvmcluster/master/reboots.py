"""Reboots a node, and waits until it is ready again."""

from __future__ import annotations

from salt.exceptions import SaltException

from saltext_kvmcluster.core.applying import course
from saltext_kvmcluster.core.drain import maintenance
from saltext_kvmcluster.core.drain.maintenance import Boot, Reboot
from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.readiness.report import GroupedFinding
from saltext_kvmcluster.engine import applier
from saltext_kvmcluster.engine.applier import Console
from saltext_kvmcluster.engine.fleet import ASK_AGAIN
from saltext_kvmcluster.master.nodes import SaltNodes, late


def reboot(
    nodes: SaltNodes, console: Console, node: object, when: object, limit: float, test: bool
) -> Reboot:
    """Reboot a node if that is due, and wait until it is ready; see the runner's ``reboot``.

    limit
        Seconds to wait until it is back and ready.
    """
    name, wanted = nodes.cluster.node(str(node)).id, maintenance.when(when)
    before = nodes.boot(name)
    if before is None:
        raise InputError(f"no response from {name}: it was not rebooted")
    due, began = before.is_due(wanted), nodes.clock.monotonic()
    if test:
        return Reboot(nodes.cluster.name, name, wanted, before, due, test=True)
    if due:
        _refuse_while_states_run(nodes, console, name)
        began = nodes.clock.monotonic()
    missing, now = _rebooted(nodes, console, name, before, began + limit) if due else ("", before)
    findings = [] if missing else _unready(nodes, console, name, began + limit)
    return Reboot(
        nodes.cluster.name,
        name,
        wanted,
        before,
        due,
        now=now,
        missing=missing,
        findings=tuple(findings),
        elapsed=nodes.clock.monotonic() - began,
    )


def _refuse_while_states_run(nodes: SaltNodes, console: Console, node: str) -> None:
    """Raise WorldError while Salt's states run or wait on a node, after waiting for them.

    A reboot would cut what runs; what waits in a queue on the disk would begin after it.
    """
    detail = applier.await_idle(nodes, [node], course.WAIT, console).get(node)
    if detail:
        raise WorldError(f"{node} is not rebooted: {detail}")


def _rebooted(
    nodes: SaltNodes, console: Console, node: str, before: Boot, end: float
) -> tuple[str, Boot | None]:
    """Have a node reboot; return what of that was not observed in time, and its boot then.

    end
        When to stop waiting, by the monotonic clock.
    """
    with nodes.client() as client:
        try:
            job = client.run_job([node], "kvmcluster.reboot", [before.id], tgt_type="list")
        except SaltException as error:
            raise WorldError(
                f"it is not known whether {node} was told to reboot, and may do so now: {error}"
            ) from None
        while True:
            now = nodes.boot(node)
            answer = late(client, job, node)
            missing = maintenance.not_back(node, before, now, answer)
            is_refused = now and isinstance(answer, str)
            if missing and console.interrupted():
                return f"interrupted: {missing}", now
            if not missing or is_refused or nodes.clock.monotonic() > end:
                return missing, now
            console.show(f"waits: {missing}")
            nodes.clock.wait(None, ASK_AGAIN)


def _unready(nodes: SaltNodes, console: Console, node: str, end: float) -> list[GroupedFinding]:
    """Wait until nothing keeps a node from taking part; return what still does in the end."""
    while True:
        reported = maintenance.unready(nodes.placeable()[1], [node])
        if not reported or console.interrupted() or nodes.clock.monotonic() > end:
            return reported
        console.show(f"waits for {node} to be ready: {reported[0].id}")
        nodes.clock.wait(None, ASK_AGAIN)
