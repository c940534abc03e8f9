"""Pacemaker as a node knows it: what its tools print there, on this node or on a peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.pacemaker import (
    corosync,
    discretion,
    fencing,
    pacemaker_facts,
    pacemaker_tools,
)
from saltext_kvmcluster.core.pacemaker.fencing import Fencing
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.pacemaker.pacemaker_facts import Output
from saltext_kvmcluster.host.commands import Outcome
from saltext_kvmcluster.host.ssh import Session

Outcomes = Mapping[str, Outcome]
RunAll = Callable[[Mapping[str, Sequence[str]]], Outcomes]


def observed(shell: Session) -> Pacemaker | None:
    """Return Pacemaker as the node of a shell knows it; None where that is not known."""
    try:
        found = shell.run_all(pacemaker_tools.PRESENCE)
        return pacemaker_facts.parse(_plain({**found, **further(shell.run_all, found)}))
    except WorldError:
        return None


def fenced(shell: Session) -> Fencing | None:
    """Return whom Pacemaker fenced, as the node of a shell knows it; None if it does not tell."""
    try:
        return fencing.parse(_plain(shell.run_all(pacemaker_tools.FENCING)))
    except WorldError:
        return None


def further(run_all: RunAll, outputs: Outcomes) -> Outcomes:
    """Run what has to be run besides to know Pacemaker: nothing where it is not.

    What they print is returned without the passwords in it.

    outputs
        Those of ``pacemaker_tools.PRESENCE``, and perhaps others.
    """
    asked = pacemaker_facts.further_commands(_plain(outputs))
    if not asked:
        return {}
    found = run_all(asked)
    paths = pacemaker_facts.config_paths(_plain({**outputs, **found}))
    more = {
        **pacemaker_tools.config_commands(paths),
        **pacemaker_facts.holder_commands(_plain({**outputs, **found})),
    }
    known = {**found, **(run_all(more) if more else {})}
    return {key: _without_secrets(key, one) for key, one in known.items()}


def membership(run_all: RunAll, outputs: Outcomes) -> Outcomes:
    """Run what has to be run besides to know its quorum, and who can be fenced.

    outputs
        Those of ``further`` included.
    """
    found = pacemaker_facts.parse(_plain(outputs))
    if found is None or not found.runs:
        return {}
    members = found.status.members if found.status else ()
    known = run_all(corosync.RUNNING)
    try:
        # On their own: devices that hang must not take all else that is known of a peer with them.
        return {**known, **run_all(pacemaker_tools.fencers_commands(members))}
    except WorldError:
        return known


def _without_secrets(key: str, one: Outcome) -> Outcome:
    code, text, detail = discretion.without_secrets(key, (one.code, one.stdout, one.stderr))
    return replace(one, code=code, stdout=text, stderr=detail)


def _plain(found: Outcomes) -> dict[str, Output]:
    return {key: (one.code, one.stdout, one.stderr) for key, one in found.items()}
