"""SLS files on a node: whether they compile there, by what Salt returns of them."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.text import listed, one_line, printable
from saltext_kvmcluster.core.untrusted import Reader

MOST = 5
"""How many problems of an SLS are reported."""


def missing(slses: Iterable[str], known: Collection[str], saltenv: str) -> list[str]:
    """Return, for each SLS that the file server does not have, a sentence with the nearest name."""
    return [
        f"there is no SLS {printable(sls)} in saltenv {saltenv}{validate.suggestion(sls, known)}"
        for sls in slses
        if not any(fnmatch.fnmatchcase(one, sls) for one in known)
    ]


def problems(compiled: object) -> list[str]:
    """Return why Salt does not compile SLS files; none if it returned their states.

    compiled
        What ``state.show_low_sls`` returned: the states, or sentences.
    """
    if isinstance(compiled, list) and all(isinstance(one, Mapping) for one in compiled):
        return []
    rows = compiled if isinstance(compiled, list) else [compiled]
    wrong = [one_line(_message(str(row))) for row in rows if not isinstance(row, Mapping)]
    return wrong or ["unexpected response of Salt: no list of states"]


def _message(error: str) -> str:
    """Return an error of Salt's without the SLS around it, which has secrets as it is rendered."""
    return error.partition("\n---")[0]


def functions(compiled: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the state functions that SLS files call, each with the first SLS that does.

    None if a state loads modules anew: what is missing now may be there when it is called.
    """
    states = list(compiled)
    if any(state.get("reload_modules") or state.get("state") == "saltutil" for state in states):
        return {}
    found: dict[str, str] = {}
    for state in states:
        found.setdefault(f"{state.get('state')}.{state.get('fun')}", str(state.get("__sls__")))
    return found


def unavailable(called: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return a sentence for each state function that a node does not have."""
    return [
        f"SLS {printable(sls)} calls the state {printable(name)}, which is not available there"
        f"{validate.suggestion(name, known)}"
        for name, sls in called.items()
        if name not in known
    ]


def on_nodes(nodes: Iterable[str], answers: Mapping[str, Any]) -> list[str]:
    """Return why SLS files cannot be applied to nodes: each reason once, with its nodes.

    answers
        What the nodes' ``kvmcluster.sls_check`` returned, if they did. Those that did not are
        ``silent``.
    """
    reasons: dict[str, list[str]] = {}
    for node in nodes:
        if answers.get(node) is None:
            continue
        for reason in _reasons(answers.get(node)):
            reasons.setdefault(reason, []).append(node)
    return [f"{listed(where)}: {reason}" for reason, where in reasons.items()]


def silent(nodes: Iterable[str], answers: Mapping[str, Any]) -> list[str]:
    """Return a sentence if it is not known of nodes whether SLS files can be applied to them."""
    names = [node for node in nodes if answers.get(node) is None]
    if not names:
        return []
    return [f"no response from {listed(names)}: it is not known whether the SLS compiles there"]


def _reasons(answer: object) -> list[str]:
    if isinstance(answer, str):
        return [one_line(answer)]
    try:
        sent = Reader(answer).at("problems")
        return [one_line(row.text()) for row in sent.items()][:MOST]
    except InputError as error:
        return [f"unexpected response: {error}"]
