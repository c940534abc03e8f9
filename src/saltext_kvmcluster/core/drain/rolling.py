"""A rolling run: what is done to every node, one after the other, and how far it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from saltext_kvmcluster.core.drain import progress
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.clusters import Cluster

MEMORY = 86400
"""Seconds for which a rolling run that stopped can be continued."""


@dataclass(frozen=True)
class Rolling:
    """A rolling run: what is done to every node, and which nodes are done, and when.

    ``process`` is the id of the process that carries it out, which no other process ever has.
    ``reports`` say what was done to the nodes that are done. ``began`` is when this process began,
    ``counted`` how many nodes it has done since; ``at``, when it did the last one.
    """

    sls: tuple[str, ...]
    reboot: str
    done: Mapping[str, str]
    at: float
    process: str = ""
    reports: Mapping[str, str] = field(default_factory=dict)
    began: float = 0.0
    counted: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for ``parse``."""
        return {
            "sls": list(self.sls),
            "reboot": self.reboot,
            "done": dict(self.done),
            "at": self.at,
            "process": self.process,
            "reports": dict(self.reports),
            "began": self.began,
            "counted": self.counted,
        }


def parse(data: object) -> Rolling | None:
    """Return a rolling run that was saved; None if it cannot be read.

    One of an earlier version has not counted its nodes.
    """
    try:
        return Rolling(
            tuple(map(str, data["sls"])),  # type: ignore[index]
            str(data["reboot"]),  # type: ignore[index]
            {str(node): str(when) for node, when in data["done"].items()},  # type: ignore[index]
            float(data["at"]),  # type: ignore[index]
            str(data["process"]),  # type: ignore[index]
            {str(node): str(what) for node, what in data["reports"].items()},  # type: ignore[index]
            float(data.get("began", 0.0)),  # type: ignore[attr-defined]
            int(data.get("counted", 0)),  # type: ignore[attr-defined]
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def continued(wanted: Rolling, last: Rolling | None, anew: bool, nodes: Collection[str]) -> Rolling:
    """Return the run that is wanted with what of it was done before.

    A run that has done all ``nodes`` is over: those that it had left are no longer in the pillar.

    Only the same run is continued, and only within a day: after that, what was done then says
    nothing about what is to be done now. Both times are of the master's clock; if that was set
    meanwhile, nodes are done again, or an older run is continued, which lists when each was done.
    """
    same = last and (last.sls, last.reboot) == (wanted.sls, wanted.reboot)
    if not last or not same or anew or not 0 <= wanted.at - last.at <= MEMORY:
        return wanted
    if set(nodes) <= last.done.keys():
        return wanted
    return replace(wanted, done=last.done, reports=last.reports)


def with_done(run: Rolling, node: str, at: float, report: str = "") -> Rolling:
    """Return a run that is done with one more node; ``report`` says what was done to it."""
    when = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
    reports = {**run.reports, node: report}
    done = {**run.done, node: when}
    return replace(run, done=done, at=at, reports=reports, counted=run.counted + 1)


@dataclass(frozen=True)
class Course:
    """Which nodes are still to be done, and when the others were; ``just``: the last one done.

    ``reports`` say what was done to them. ``rate`` is in nodes a minute, None before one is done.
    """

    cluster: str
    todo: tuple[str, ...]
    done: Mapping[str, str]
    just: str = ""
    reports: Mapping[str, str] = field(default_factory=dict)
    rate: float | None = None

    @property
    def left(self) -> float | None:
        """The seconds that the rest is expected to take, None if that is not known."""
        return len(self.todo) * 60 / self.rate if self.rate else None

    def figures(self) -> str:
        """Return how many nodes are done, the rate and the expected end."""
        done = f"{len(self.done)}/{len(self.done) + len(self.todo)} nodes done"
        rate = "" if self.rate is None else f", {progress.pace(self.rate, 'node')}"
        return f"{done}{rate}, {progress.expected(self.left)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as the runner returns it."""
        data = {
            "kind": "rolling",
            "cluster": self.cluster,
            "ok": True,
            "todo": list(self.todo),
            "done": dict(self.done),
            "reports": dict(self.reports),
            "rate": self.rate,
            "left": self.left,
            "figures": self.figures(),
        }
        return {**data, "just": self.just} if self.just else data


def course(cluster: Cluster, run: Rolling, just: str = "") -> Course:
    """Return which nodes are still to be done."""
    todo = tuple(node for node in cluster.nodes if node not in run.done)
    done = {node: when for node, when in run.done.items() if node in cluster.nodes}
    reports = {node: run.reports.get(node, "") for node in done}
    took = run.at - run.began
    rate = run.counted * 60 / took if run.counted and took > 0 else None
    return Course(cluster.name, todo, done, just, reports, rate)


def refuse_second(cluster: Cluster, own: str, last: Rolling | None, is_alive: bool) -> None:
    """Raise InputError while another process carries out a rolling run.

    is_alive
        Whether the process of the last run is still there.
    """
    if last and last.process != own and is_alive:
        raise InputError(
            f"a rolling run of {cluster.name} is in progress on this master, in process"
            f" {last.process.partition(':')[0]}; wait until it ends"
        )
