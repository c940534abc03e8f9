"""Takes a guest from Pacemaker for as long as we act on it, and gives it back.

Nothing is done to a guest before Pacemaker is seen to leave it alone. Whatever fails from then on
leaves it held, where Pacemaker neither starts nor stops it, until `recover` gives it back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from saltext_kvmcluster.core.errors import KvmclusterError, WorldError
from saltext_kvmcluster.core.facts.nodefacts import ACTIVE
from saltext_kvmcluster.core.ha import holds
from saltext_kvmcluster.core.ha.holds import Hold
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.results import MigrationResult, Step
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.core.verdicts import OFF, Sighting
from saltext_kvmcluster.engine.environment import Environment

POLL = 1.0
TAKING, SETTLING = 60.0, 60.0
"""Seconds for what Pacemaker has begun with a guest to end, and for it to find a guest again."""
UNDISTURBED = 120.0
"""Seconds for what Pacemaker moves itself to arrive, before it is disturbed by a change."""
RELEASING = 20.0
"""Seconds for the end of a hold to be seen."""
GIVE_BACK = "give it back to Pacemaker"


class Held:
    """A guest that is held from Pacemaker.

    by
        The node whose tools drive Pacemaker.
    stays
        Whether it was held before, and is not given back: it is frozen.

    ``touched``: whether something was begun with it, so that what Pacemaker knows of it may be old.
    """

    def __init__(
        self,
        env: Environment,
        guest: str,
        resource: str,
        mark: str,
        by: str,
        stays: bool = False,
    ) -> None:
        self._env, self._guest, self._resource, self._mark = env, guest, resource, mark
        self._by, self._control, self._stays = by, env.control(by), stays
        self.touched = False

    def undisturbed(self) -> str:
        """Wait until Pacemaker moves no guest, which a change would block; return why it does."""
        return self._until(holds.migrating, UNDISTURBED, looks=1)

    def awaited(self) -> str:
        """Wait until Pacemaker is seen to leave it alone; return why that is not so."""
        return self._until(lambda view: holds.not_seen(view, self._resource, self._mark), TAKING)

    def abandon(self) -> str:
        """End the hold of a guest that was not touched; return why it is still held."""
        if self._stays:
            return ""
        try:
            self._control.release(self._resource, self._mark)
        except WorldError as error:
            return f"it may still be held from Pacemaker: {error}; {self._recover}"
        return ""

    def left_by_error(self) -> str:
        """End the hold after an error, if nothing was begun; return why it is still held."""
        if self._stays:
            return ""
        return self._outlook() if self.touched else self.abandon()

    def give_back(
        self, uuid: str, owner: str | None, role: str = "", stays_off: bool = False
    ) -> list[Step]:
        """Give the guest back if Pacemaker sees it where it was seen; return the step if not.

        owner
            The node on which it was seen, and nowhere else; None if it was seen nowhere.
        role
            Its target-role from now on; empty to leave it.
        stays_off
            Whether it must not be started by being given back.
        """
        self.touched = True
        try:
            detail = self._given_back(uuid, owner, role, stays_off)
        except WorldError as error:
            detail = str(error)
        return [self.left(detail)] if detail else []

    def given_back_after(self, done: MigrationResult) -> MigrationResult:
        """Give back a guest that was migrated, if it is certain where it is and nothing is left."""
        left = [step.step for step in done.afterwards if not step.ok]
        if done.owner is None or left:
            steps = [self.left(f"not done: {listed(left) or 'where it runs is not certain'}")]
        elif self._is_unsettled(done.uuid):
            steps = [self.left("not done: a copy may be left on a node that did not respond")]
        else:
            steps = self.give_back(done.uuid, done.owner)
        return replace(done, afterwards=(*done.afterwards, *steps))

    def _is_unsettled(self, uuid: str) -> bool:
        """Whether something of its migration is still to be put right."""
        try:
            return self._env.journal(self._env.here).entries().may_have(uuid)
        except WorldError:
            return True

    def left(self, detail: str) -> Step:
        """Return the step that was not taken, and whether the guest is still held."""
        return Step(GIVE_BACK, self._by, False, f"{detail}; {self._outlook()}")

    def _outlook(self) -> str:
        view = self._env.pacemaker(self._by)
        return holds.outlook(view, self._resource, self._mark, self._recover)

    @property
    def _recover(self) -> str:
        return f"salt-run kvmcluster.recover {self._guest}"

    def _given_back(self, uuid: str, owner: str | None, role: str, stays_off: bool) -> str:
        names = self._names(owner)
        if role:
            self._control.want(self._resource, role)
        if self._stays:
            return ""
        self.undisturbed()
        self._control.refresh(self._resource)
        try:
            self._control.wait(SETTLING)
        except WorldError as error:
            # Of a guest that is seen, it is shown when it is found. One that is not may yet be.
            if not names:
                return str(error)

        def differs(view: Pacemaker | None) -> str:
            return holds.differs(view, self._resource, self._mark, names, stays_off)

        detail = self._until(differs, SETTLING) or self._sight_changed(uuid, owner)
        return detail or self._released()

    def _released(self) -> str:
        """End the hold; return why that is not seen. An answer that fails says nothing of it."""
        error = ""
        try:
            self._control.release(self._resource, self._mark)
        except WorldError as found:
            error = str(found)
        why = self._until(
            lambda view: holds.still_held(view, self._resource, self._mark), RELEASING
        )
        return why and (error or why)

    def _sight_changed(self, uuid: str, owner: str | None) -> str:
        """Return why a guest is no longer as it was seen; its state may have changed meanwhile.

        One that was seen nowhere must be active on no node that responds: Pacemaker's own agent
        takes a copy that waits for its handover for nothing, and would start the guest beside it.
        """
        if not uuid:
            return ""
        nodes = [owner] if owner else self._env.cluster.nodes
        wanted = ACTIVE if owner else (*OFF, Sighting.UNREACHABLE)
        found = self._env.side_by_side(lambda node: self._env.libvirt(node).sight(uuid), nodes)
        for node, one in found.items():
            if one.job:
                return f"{one.job} of it is active on {node}"
            if one.sighting not in wanted:
                return f"on {node} it is now {one.sighting.value}"
        return ""

    def _names(self, owner: str | None) -> Sequence[str]:
        if owner is None:
            return ()
        known = self._env.pacemaker(owner)
        given = (known.name,) if known and known.name else ()
        return (owner, *self._env.cluster.nodes[owner].names, *given)

    def _until(self, why: Callable[[Pacemaker | None], str], seconds: float, looks: int = 2) -> str:
        """Look until nothing is wrong so often in a row; return what is at the end."""
        clock = self._env.clock
        end, well = clock.monotonic() + seconds, 0
        while True:
            # A look may take as long as all of that, and find nothing out.
            is_over = clock.monotonic() >= end
            detail = why(self._env.pacemaker(self._by))
            well = 0 if detail else well + 1
            if well >= looks:
                return ""
            if detail and is_over:
                return detail
            clock.wait(None, POLL)


def take(
    env: Environment, guest: str, verb: str, nodes: Collection[str], where: Collection[str] = ()
) -> Held | None:
    """Take a guest from Pacemaker; None if it is none of its own.

    verb
        What for, one of ``holds.VERBS``.
    nodes
        Those to ask: all that respond.
    where
        The nodes on which it is active.

    WorldError if it cannot be held: it was not touched.
    """
    views = env.side_by_side(env.pacemaker, nodes)
    found = managers.of(guest, views, where)
    if why := holds.forbids(found, guest, verb):
        raise WorldError(why)
    if (frozen := holds.frozen(found)) and verb in holds.BESIDE_FREEZE:
        by = driver(views, env.here)
        return Held(env, guest, frozen.name, frozen.resource.mark, by, stays=True)
    if found.managed is None:
        return None
    by = driver(views, env.here)
    began = env.clock.now().isoformat(timespec="milliseconds")
    hold = Hold(verb, env.here, began, env.process)
    held = Held(env, guest, found.managed.name, hold.mark, by)
    detail = held.undisturbed()
    left = ""
    if not detail:
        detail = _tried(env, by, found.managed.name, hold) or held.awaited()
        left = held.abandon() if detail else ""
    if detail:
        raise WorldError(
            f"Pacemaker, which manages it as its resource {found.managed.name}, could not be kept"
            f" off it: {detail}{f'; {left}' if left else ''}"
        )
    return held


@contextlib.contextmanager
def taken(
    env: Environment,
    guest: str,
    verb: str,
    nodes: Collection[str],
    where: Collection[str] = (),
) -> Iterator[Held | None]:
    """Take a guest as ``take``, and end the hold of one that was not touched in the context.

    One that was touched stays held, unless it was given back.
    """
    held = take(env, guest, verb, nodes, where)
    try:
        yield held
    except KvmclusterError as error:
        if held and (left := held.left_by_error()):
            raise WorldError(f"{error}; {left}") from None
        raise
    if held and not held.touched and (left := held.abandon()):
        raise WorldError(left)


@contextlib.contextmanager
def of_move(env: Environment, move: Move) -> Iterator[Held | None]:
    """Take a guest that is to be migrated, as ``taken``."""
    with contextlib.ExitStack() as stack:
        ends = (move.source, move.destination)
        try:
            held = stack.enter_context(taken(env, move.guest, holds.MIGRATE, ends, [move.source]))
        except WorldError as error:
            raise WorldError(
                f"{move.guest} was not migrated to {move.destination}: {error}"
            ) from None
        yield held


def thaw(env: Environment, guest: str, uuid: str, owner: str | None) -> str:
    """Give a frozen guest back to Pacemaker, if it is held; return why it stays so.

    owner
        The node on which it is active, None if it is not active here.
    """
    views = {env.here: env.pacemaker(env.here)}
    found = managers.of(guest, views, [env.here])
    frozen = holds.frozen(found)
    if frozen is None and found.doubts:
        return managers.refusal(found, *holds.AGAINST[holds.FREEZE])
    if frozen is None:
        return ""
    if owner is None:
        # Only this node was asked: it may run elsewhere.
        return (
            f"it is not active on {env.here}: unfreeze it on the node where it is, or, if it is"
            f" nowhere: salt-run kvmcluster.recover {guest}"
        )
    by = driver(views, env.here)
    held = Held(env, guest, frozen.name, frozen.resource.mark, by)
    steps = held.give_back(uuid, owner)
    return steps[0].detail if steps else ""


def driver(views: dict[str, Pacemaker | None], here: str) -> str:
    """Return the node whose tools are used: this one, if its Pacemaker has quorum."""
    fit = [
        node
        for node, view in views.items()
        if view and view.runs and view.status and view.status.quorum
    ]
    if not fit:
        raise WorldError("no node that responds has a Pacemaker with quorum")
    return here if here in fit else fit[0]


def _tried(env: Environment, by: str, resource: str, hold: Hold) -> str:
    with contextlib.suppress(WorldError):
        return "" if env.control(by).hold(resource, hold) else "another command holds it"
    # It may have been carried out: what is seen decides.
    return ""
