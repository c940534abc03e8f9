"""What must hold immediately before something is done to settle a migration."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration.journal import Entry
from saltext_kvmcluster.core.ownership.cases import OWNING, Action, Do, latest
from saltext_kvmcluster.core.verdicts import BROKEN, OFF, Observation, Sighting


def concerned(
    action: Action, owner: str | None, entries: Mapping[str, Entry], nodes: Collection[str]
) -> set[str]:
    """Return the nodes to observe immediately before an action.

    In post-copy both halves are enough: neither of them runs without the other.
    """
    entry = latest(entries)
    if action.do is Do.RESUME_POST_COPY and entry:
        return {entry.move.source, entry.move.destination}
    return {action.node, owner} if owner else set(nodes)


def forbids(action: Action, owner: str | None, nodes: Mapping[str, Observation]) -> str:
    """Return why an action must not be carried out now, empty if nothing forbids it.

    nodes
        Current observations of the nodes that it concerns.
    """
    if action.do is Do.CLEAR:
        return ""
    allowed = ("", BROKEN) if action.do is Do.RESUME_POST_COPY else ("",)
    for node, observation in nodes.items():
        if observation.job not in allowed:
            return f"{observation.job} is active on {node}"
        if observation.sighting is Sighting.UNREACHABLE:
            return f"no response from {node}: {observation.detail}"
    found = nodes[action.node]
    wanted = _WANTED[action.do] if action.node != owner else tuple(OWNING)
    if found.sighting not in wanted:
        return f"on {action.node} it is now {found.sighting.value}"
    if action.do is Do.UNDEFINE and found.saved:
        return f"{action.node} keeps a saved state of it"
    return _owner_changed(action, owner, nodes)


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


_WANTED = {
    Do.DESTROY_COPY: (Sighting.PAUSED_FOR_MIGRATION,),
    Do.UNDEFINE: (Sighting.SHUT_OFF,),
    Do.DEFINE: (),
    Do.AUTOSTART_OFF: (Sighting.SHUT_OFF,),
    Do.RESUME_POST_COPY: (Sighting.PAUSED_IN_POST_COPY,),
}


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
