"""Pacemaker as a node knows it: what its tools print there, on this node or on a peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.pacemaker import fencing, pacemaker_facts, pacemaker_tools
from saltext_kvmcluster.core.pacemaker.fencing import Fencing
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pacemaker.pacemaker_facts import Output
from saltext_kvmcluster.host.ssh import Session


def observed(shell: Session) -> Pacemaker | None:
    """Return Pacemaker as the node of a shell knows it; None where that is not known."""
    try:
        outputs = _run(shell, pacemaker_tools.COMMANDS)
        paths = pacemaker_facts.config_paths(outputs)
        configs = _run(shell, pacemaker_tools.config_commands(paths))
        return pacemaker_facts.parse({**outputs, **configs})
    except WorldError:
        return None


def fenced(shell: Session) -> Fencing | None:
    """Return whom Pacemaker fenced, as the node of a shell knows it; None if it does not tell."""
    try:
        return fencing.parse(_run(shell, pacemaker_tools.FENCING))
    except WorldError:
        return None


def _run(shell: Session, wanted: Mapping[str, Sequence[str]]) -> dict[str, Output]:
    found = shell.run_all(wanted)
    return {key: (one.code, one.stdout, one.stderr) for key, one in found.items()}
