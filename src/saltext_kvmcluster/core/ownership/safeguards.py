"""What must hold immediately before something is done to settle a migration."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration.journal import RUNS, Entry
from saltext_kvmcluster.core.ownership.cases import OWNING, Action, Do, latest
from saltext_kvmcluster.core.ownership.handovers import ALIVE, STOPPED
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.managers import Management
from saltext_kvmcluster.core.verdicts import (
    BROKEN,
    COPIES,
    OFF,
    Observation,
    Sighting,
)

# What touches neither a guest nor a definition of it.
_HARMLESS = (Do.CLEAR, Do.UNMARK)
# What may be found on a node, and at the other end of the migration, when it is done.
_HANDOVER = {
    Do.RESUME_COPY: ((Sighting.WAITING, Sighting.RUNNING), OFF),
    Do.RESUME_SOURCE: ((*STOPPED, Sighting.RUNNING), (*OFF, Sighting.WAITING)),
    Do.UNMARK: ((*OWNING, Sighting.WAITING), OFF),
}


def concerned(
    action: Action, owner: str | None, entries: Mapping[str, Entry], nodes: Collection[str]
) -> set[str]:
    """Return the nodes to observe immediately before an action.

    In post-copy both halves are enough: neither of them runs without the other.
    """
    entry = latest(entries)
    if entry and (action.do is Do.RESUME_POST_COPY or action.do in _HANDOVER):
        return {entry.move.source, entry.move.destination}
    return {action.node, owner} if owner else set(nodes)


def forbids(
    action: Action, owner: str | None, nodes: Mapping[str, Observation], entry: Entry | None = None
) -> str:
    """Return why an action must not be carried out now, empty if nothing forbids it.

    nodes
        Current observations of the nodes that it concerns.
    entry
        The journal entry of the migration, if there is one.
    """
    if action.do is Do.CLEAR:
        return ""
    allowed = ("", BROKEN) if action.do is Do.RESUME_POST_COPY else ("",)
    for node, observation in nodes.items():
        if observation.job not in allowed:
            return f"{observation.job} is active on {node}"
        if observation.sighting is Sighting.UNREACHABLE:
            return f"no response from {node}: {observation.detail}"
    if action.do in _HANDOVER and entry:
        return _handover_changed(action, nodes, entry)
    found = nodes[action.node]
    wanted = _WANTED[action.do] if action.node != owner else tuple(OWNING)
    if found.sighting not in wanted:
        return f"on {action.node} it is now {found.sighting.value}"
    if action.do is Do.UNDEFINE and found.saved:
        return f"{action.node} keeps a saved state of it"
    if action.do is Do.DESTROY_COPY and owner and entry and entry.handover:
        alive = nodes[owner].sighting in ALIVE
        return "" if alive else f"on {owner} it is now {nodes[owner].sighting.value}"
    return _owner_changed(action, owner, nodes)


def forbids_beside(action: Action, management: Management) -> str:
    """Return why an action would meet another hand on the guest; empty if it would not."""
    if action.do in _HARMLESS:
        return ""
    return managers.refusal(management, "would act on it as well", "released")


def hazard(definition: str) -> str:
    """Return why libvirt must not destroy a copy of a guest that runs elsewhere; empty if it may.

    libvirt treats it as a guest that ends, not as one that was migrated: it restores the SELinux
    labels of disks that the other one has open (qemuProcessStop without
    VIR_QEMU_PROCESS_STOP_MIGRATED), and removes the state of an emulated TPM
    (qemuTPMEmulatorCleanupHost).
    """
    try:
        domain = xmltext.parse_xml(definition)
    except InputError as error:
        return f"its definition cannot be read: {error}"
    if domain.find("devices/tpm/backend[@type='emulator']") is not None:
        return "libvirt would remove the state of its emulated TPM, which may lie on shared storage"
    if domain.find("seclabel[@model='selinux'][@relabel='yes']") is not None:
        return "libvirt would take the SELinux labels from its disks, which the owner has open"
    return ""


def not_done(error: str) -> str:
    """Return why a step failed, and what follows from that.

    Until QEMU has given up the connection that carried its memory it does not resume (runstate
    finish-migrate, qmp_cont in monitor/qmp-cmds.c). After a cut network that is when TCP's next
    retransmission is due: up to about as long as the cut lasted.
    """
    if "not finalized" not in error:
        return error
    return (
        f"{error}: QEMU has not given up the broken connection yet, which may take as long as the"
        " network was cut; the node's beacon tries again every few seconds"
    )


_WANTED = {
    Do.DESTROY_COPY: COPIES,
    Do.UNDEFINE: (Sighting.SHUT_OFF,),
    Do.DEFINE: (),
    Do.AUTOSTART_OFF: (Sighting.SHUT_OFF,),
    Do.RESUME_POST_COPY: (Sighting.PAUSED_IN_POST_COPY,),
}


def _handover_changed(action: Action, nodes: Mapping[str, Observation], entry: Entry) -> str:
    """Return why a step of a strict handover must not be taken now."""
    other = entry.move.source if action.node == entry.move.destination else entry.move.destination
    wanted, wanted_elsewhere = _HANDOVER[action.do]
    found = nodes[action.node]
    if found.sighting not in wanted:
        return f"on {action.node} it is now {found.sighting.value}"
    if nodes[other].sighting not in wanted_elsewhere:
        return f"on {other} it is now {nodes[other].sighting.value}"
    resumes = entry.handover is not None and entry.handover.resume and entry.stage != RUNS
    waits = found.sighting is Sighting.WAITING
    for node in (action.node, other):
        if nodes[node].sighting is Sighting.WAITING and nodes[node].mark != entry.token:
            return f"the copy on {node} is of another migration"
    if waits and action.do is Do.UNMARK and resumes:
        return f"on {action.node} it was not observed to run"
    return ""


def _owner_changed(action: Action, owner: str | None, nodes: Mapping[str, Observation]) -> str:
    if action.do is Do.RESUME_POST_COPY:
        return ""
    if owner is None:
        others = [node for node, observation in nodes.items() if observation.sighting not in OFF]
        others = [node for node in others if node != action.node]
        return f"it is now on {' and '.join(others)}" if others else ""
    running = nodes[owner].sighting is Sighting.RUNNING
    if running or (action.do is not Do.DESTROY_COPY and nodes[owner].sighting in OWNING):
        return ""
    return f"on {owner} it is now {nodes[owner].sighting.value}"
