"""Which resource of Pacemaker manages a guest, and what follows for whoever wants to touch it.

A resource is matched by the name in the definition that its agent is given, as the agent does it:
its id is any word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from saltext_kvmcluster.core.pacemaker.model import GuestResource, Pacemaker, ResourceState
from saltext_kvmcluster.core.text import listed

OURS = "kvmcluster"
"""The provider of the resource agent of our own."""
START_OR_DISABLE = "systemctl start pacemaker, or for good: systemctl disable pacemaker"
Reports = Mapping[str, "Pacemaker | None"]
"""What nodes know of Pacemaker, by node; None where not even whether it runs is known."""
Names = Mapping[tuple[str, str], Collection[str]]
"""The guests of definitions, by resource and path."""


@dataclass(frozen=True)
class Manager:
    """A resource that manages a guest, and its state."""

    resource: GuestResource
    state: ResourceState

    @property
    def name(self) -> str:
        return self.resource.id

    @property
    def moved(self) -> str:
        """Return how it is moved by Pacemaker."""
        if self.state.fleeting:
            return self._outlasting
        name, live = self.resource.moved, self.resource.allow_migrate
        how = (
            f"crm_resource --move -r {name} -N NODE, and once it is there: crm_resource --clear"
            f" -r {name} (or: pcs resource move {name} NODE)"
        )
        if self.state.blocked:
            how = f"once it is blocked no more: {how}"
        return how if live else f"{how}; without allow-migrate=true that stops and starts it"

    @property
    def started(self) -> str:
        """Return how it is started by Pacemaker."""
        if self.state.fleeting:
            return self._outlasting
        if self.state.target == "Stopped":
            return (
                f"crm_resource -r {self.name} --meta -p target-role -v Started (or: pcs resource"
                f" enable {self.name})"
            )
        return f"crm_mon -1 shows why it does not run; then crm_resource --cleanup -r {self.name}"

    @property
    def stopped(self) -> str:
        """Return how it is stopped by Pacemaker."""
        if self.state.fleeting:
            return self._outlasting
        return (
            f"crm_resource -r {self.name} --meta -p target-role -v Stopped (or: pcs resource"
            f" disable {self.name})"
        )

    @property
    def released(self) -> str:
        """Return how it is taken from Pacemaker, and given back."""
        return f"crm_resource -r {self.name} --meta -p is-managed -v false"

    @property
    def _outlasting(self) -> str:
        return (
            f"first {self.released}, since the maintenance of {listed(self.state.nodes)} keeps"
            " Pacemaker off it only until that node restarts"
        )

    @property
    def given_back(self) -> str:
        """Return what has to be done before Pacemaker may manage it again."""
        return (
            f"before it is managed again: crm_resource --refresh -r {self.name}, then crm_resource"
            " --wait; else Pacemaker may start a second copy"
        )


class Doubt(NamedTuple):
    """Why it is not certain who manages a guest, and what to do about it."""

    sentence: str
    remedy: str


@dataclass(frozen=True)
class Management:
    """Who manages a guest, and why that is not certain."""

    managers: tuple[Manager, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @property
    def managed(self) -> Manager | None:
        """The resource that Pacemaker acts on, None if there is none."""
        return next((one for one in self.managers if one.state.acts), None)

    @property
    def unmanaged(self) -> Manager | None:
        """The resource that Pacemaker leaves alone for now, None if there is none."""
        return None if self.managed else next(iter(self.managers), None)

    def __str__(self) -> str:
        """Return it for a table; empty if nobody manages it."""
        if one := self.managed:
            return f"pacemaker: {one.name}"
        if one := self.unmanaged:
            return f"pacemaker: {one.name}, unmanaged"
        return "?" if self.doubts else ""


def of(guest: str, reports: Reports, where: Collection[str] = ()) -> Management:
    """Return which resource manages a guest; see ``ManagerIndex.of``."""
    return ManagerIndex(reports).of(guest, where)


class ManagerIndex:
    """What nodes know of Pacemaker, by guest."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._doubts = tuple(_unread(reports))
        self._found: dict[str, dict[str, Manager]] = {}
        self._at_rest: dict[str, list[Doubt]] = {}
        self._unread: dict[Doubt, list[tuple[str, ...]]] = {}
        names = _names(reports)
        for node, report in reports.items():
            if report is None:
                continue
            for resource in report.resources:
                self._add_resource(node, report, resource, names)
            for removed in report.status.removed if report.status else ():
                self._doubt(_removed(node, removed), report, removed)

    def of(self, guest: str, where: Collection[str] = ()) -> Management:
        """Return which resource manages a guest.

        where
            The nodes on which it is active: a resource that is active elsewhere alone is another's.
        """
        found = self._found.get(guest, {})
        doubts = [*self._doubts, *self._at_rest.get(guest, ())]
        if self._unread and not found:
            views_there = (self._reports.get(node) for node in where)
            at = {view.name for view in views_there if view and view.name}
            doubts += [
                doubt
                for doubt, views in self._unread.items()
                if not all(nodes and at and at.isdisjoint(nodes) for nodes in views)
            ]
        return Management(tuple(found.values()), tuple(dict.fromkeys(doubts)))

    def _add_resource(
        self, node: str, report: Pacemaker, resource: GuestResource, names: Names
    ) -> None:
        """Note whose resource it is, and which of its definitions no node could read."""
        for path in resource.configs:
            for guest in names[resource.id, path]:
                self._add(guest, node, report, resource)
            if not names[resource.id, path] and resource.is_virtual_domain:
                self._doubt(_unknown(resource, path, report), report, resource.id)
        if not resource.configs:
            self._doubt(_no_definition(resource), report, resource.id)

    def _doubt(self, doubt: Doubt, report: Pacemaker, resource: str) -> None:
        """Note a doubt about every guest, except of those that are active elsewhere."""
        known = report.status.resources.get(resource) if report.status else None
        self._unread.setdefault(doubt, []).append(known.nodes if known else ())

    def _add(self, guest: str, node: str, report: Pacemaker, resource: GuestResource) -> None:
        """Note a resource of a guest; if views differ, one by which Pacemaker acts counts."""
        if not report.runs:
            self._at_rest.setdefault(guest, []).append(_at_rest(node, resource))
            return
        known = self._found.setdefault(guest, {})
        state = report.state(resource)
        if resource.id not in known or (state.acts and not known[resource.id].state.acts):
            known[resource.id] = Manager(resource, state)


def refusal(management: Management, verb: str, asked: str) -> str:
    """Return why a guest must not be touched; empty if it may be.

    verb
        What Pacemaker would do against it.
    asked
        Which property of Manager says how Pacemaker does it.
    """
    if one := management.managed:
        return (
            f"Pacemaker manages it, as its resource {one.name}, and {verb}: {getattr(one, asked)}"
        )
    if management.doubts:
        doubts = [f"{doubt.sentence} ({doubt.remedy})" for doubt in management.doubts]
        return f"not known whether Pacemaker manages it: {listed(doubts)}"
    return ""


def ends_unmanaged(management: Management) -> list[str]:
    """Return what Pacemaker would do to a guest once it manages it again that was started by us.

    Nothing to a guest that is held by us: it is given back as it is seen.
    """
    one = management.unmanaged
    if one is None or one.resource.mark:
        return []
    return [
        f"Pacemaker leaves it alone for now, as its resource {one.name}, and does not know that it"
        f" runs; {one.given_back}"
    ]


def _names(reports: Reports) -> Names:
    """Return the guests that each definition of each resource names, on any node.

    Our own agent is given the guest's name, whether or not a definition can be read.
    """
    names: dict[tuple[str, str], set[str]] = {}
    for report in filter(None, reports.values()):
        for resource in report.resources:
            for path in resource.configs:
                read = {report.guests[path]} if path in report.guests else set()
                if resource.provider == OURS and resource.parameters.get("guest"):
                    read = {resource.parameters["guest"]}
                names.setdefault((resource.id, path), set()).update(read)
    return names


def _unread(reports: Reports) -> Iterator[Doubt]:
    for node, report in reports.items():
        if report is None:
            remedy = f"on {node}: pgrep pacemakerd must run"
            yield Doubt(f"whether Pacemaker runs on {node} is not known", remedy)
        elif report.error:
            sentence = f"Pacemaker on {node} cannot be read: {report.error}"
            yield Doubt(sentence, f"on {node}: crm_mon -1 must show the cluster")


def _at_rest(node: str, resource: GuestResource) -> Doubt:
    return Doubt(
        f"Pacemaker on {node} does not run, but starts with the node, and its resource"
        f" {resource.id} is this guest",
        f"on {node}: {START_OR_DISABLE}",
    )


def _no_definition(resource: GuestResource) -> Doubt:
    return Doubt(
        f"Pacemaker's resource {resource.id} names no definition (config)", _of_no_use(resource)
    )


def _unknown(resource: GuestResource, path: str, report: Pacemaker) -> Doubt:
    why = report.unread.get(path, "it was not read")
    sentence = f"{path}, which Pacemaker's resource {resource.id} names, is not known: {why}"
    return Doubt(sentence, _of_no_use(resource))


def _of_no_use(resource: GuestResource) -> str:
    return f"make it readable; if {resource.id} is of no use: stop it first, then delete it"


def _removed(node: str, resource: str) -> Doubt:
    return Doubt(
        f"Pacemaker still knows its resource {resource}, a guest that is no longer configured, and"
        " stops it",
        f"on {node}: crm_mon -1 shows where it is; configure it again as it was",
    )
