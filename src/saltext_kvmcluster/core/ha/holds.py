"""Holds: a resource of Pacemaker's that we take for as long as we act on its guest.

A hold is a set of meta attributes of our own, with ``is-managed=false`` and a mark that says who
holds it, since when and what for. It is created at once or not at all, beside what others have set,
and outlives whoever made it: that a guest is held is the safe state, in which Pacemaker neither
starts nor stops it. It is given back only once Pacemaker's view is what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from xml.sax.saxutils import quoteattr

from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.cib import HOLD_MARK, HOLD_SET, STANDBY_MARK, STANDBY_SET
from saltext_kvmcluster.core.pacemaker.managers import Management, Manager
from saltext_kvmcluster.core.pacemaker.model import Pacemaker
from saltext_kvmcluster.core.text import listed

MIGRATE, START, SHUTDOWN, FREEZE = "migrate", "start", "shutdown", "freeze"
VERBS = (MIGRATE, START, SHUTDOWN, FREEZE)
AGAINST = {
    MIGRATE: ("would start it again", "moved"),
    START: ("would stop it again, or start it as well", "started"),
    SHUTDOWN: ("would start it again", "stopped"),
    FREEZE: ("may move it", "released"),
}
"""What Pacemaker would do against each verb, and which property of Manager is its own way."""
BESIDE_FREEZE = (START, SHUTDOWN, FREEZE)
"""What may be done with a frozen guest."""
STARTED, STOPPED = "Started", "Stopped"
_WORD = re.compile(r"[A-Za-z0-9_][\w.:+-]{0,252}", re.ASCII)
_FIELDS = (3, 4)


@dataclass(frozen=True)
class Hold:
    """Who holds a resource.

    ``verb``: what for, one of VERBS. ``node``: on which node that was begun, by its minion id.
    ``began``: ISO 8601, UTC, in milliseconds, so that no two holds of a node are alike.
    ``process``: the one that holds it there, which is at work on the guest for as long as it runs;
    empty if that is not known.
    """

    verb: str
    node: str
    began: str
    process: str = ""

    @property
    def mark(self) -> str:
        """The text that is kept in the CIB."""
        return f"{self.verb} {self.node} {self.began} {self.process}".rstrip()

    def __str__(self) -> str:
        return f"{self.verb} on {self.node}, begun {self.began}"


def parse(mark: str) -> Hold | None:
    """Return who holds a resource by its mark; None if it is no mark of this version's.

    The resource is held all the same.
    """
    words = mark.split(" ")
    if len(words) not in _FIELDS or words[0] not in VERBS or not all(map(_WORD.fullmatch, words)):
        return None
    return Hold(*words)


def describe(mark: str) -> str:
    """Return who holds a resource, for a sentence."""
    return str(parse(mark) or f"an unknown command ({mark})")


# ---- edits of the CIB ----


@dataclass(frozen=True)
class Edit:
    """A change of the CIB: of the one element that an XPath finds, or of none.

    ``xml``: what is merged into it; empty if it is deleted.
    """

    xpath: str
    xml: str = ""


def created(resource: str, hold: Hold) -> Edit:
    """Return the edit that holds a resource; it finds nothing if it is held already.

    Of a hold that somebody has ended by hand the set may be left: it is used anew.
    """
    name = f"{HOLD_SET}{resource}"
    is_held = f"meta_attributes[@id={_literal(name)}]/nvpair[@name='is-managed' and @value='false']"
    return Edit(
        f"{_primitive(resource)}[not({is_held})]",
        f"<primitive id={quoteattr(resource)}><meta_attributes id={quoteattr(name)}"
        f' score="INFINITY">{_pair(name, "is-managed", "false")}'
        f"{_pair(name, HOLD_MARK, hold.mark)}</meta_attributes></primitive>",
    )


def deleted(resource: str, mark: str) -> Edit:
    """Return the edit that ends the hold of that mark, and no other one."""
    name = f"{HOLD_SET}{resource}"
    return Edit(
        f"{_primitive(resource)}/meta_attributes[@id={_literal(name)}]"
        f"[nvpair[@name='{HOLD_MARK}' and @value={_literal(mark)}]]"
    )


def standby_on(node: str, number: str, mark: str) -> Edit:
    """Return the edit that puts a node on standby, unless it is by us already.

    number
        The node's id in the CIB.
    """
    name = f"{STANDBY_SET}{node}"
    is_on = f"instance_attributes[@id={_literal(name)}]/nvpair[@name='standby' and @value='on']"
    return Edit(
        f"{_node(number)}[not({is_on})]",
        f"<node id={quoteattr(number)}><instance_attributes id={quoteattr(name)}"
        f' score="INFINITY">{_pair(name, "standby", "on")}'
        f"{_pair(name, STANDBY_MARK, mark)}</instance_attributes></node>",
    )


def standby_off(node: str, number: str) -> Edit:
    """Return the edit that ends our own standby of a node; that of others stays."""
    name = _literal(f"{STANDBY_SET}{node}")
    return Edit(f"{_node(number)}/instance_attributes[@id={name}]")


def _primitive(resource: str) -> str:
    return f"/cib/configuration/resources/primitive[@id={_literal(resource)}]"


def _node(number: str) -> str:
    return f"/cib/configuration/nodes/node[@id={_literal(number)}]"


def _pair(name: str, key: str, value: str) -> str:
    return f'<nvpair id={quoteattr(f"{name}-{key}")} name="{key}" value={quoteattr(value)}/>'


def _literal(text: str) -> str:
    """Return text for an XPath, which has no escapes."""
    if "'" not in text:
        return f"'{text}'"
    parts = ', "\'", '.join(f"'{part}'" for part in text.split("'"))
    return f"concat({parts})"


# ---- may it be held ----


def obstacle(management: Management, guest: str) -> str:
    """Return why a guest that Pacemaker manages cannot be held by itself; empty if it can.

    guest
        Its name, for what is to be typed.
    """
    acting = [one for one in management.managers if one.state.acts]
    if len(acting) > 1:
        return f"several resources manage it: {listed(one.name for one in acting)}"
    return "".join(_obstacle(one, guest) for one in acting)


def _obstacle(manager: Manager, guest: str) -> str:
    resource = manager.resource
    if manager.state.blocked:
        # No cleanup: Pacemaker may take it for active on two nodes, and would stop it on both.
        nodes = manager.state.nodes
        where = f", taken for active on {listed(nodes)}" if len(nodes) > 1 else ""
        by_hand = f"once it runs on one node and no other: crm_resource --refresh -r {resource.id}"
        plain = resource.moved == resource.id and resource.is_virtual_domain
        remedy = f"salt-run kvmcluster.recover {quote(guest)}" if plain else by_hand
        return f"it is blocked{where}; first: {remedy}"
    if resource.moved != resource.id:
        return f"it is part of {resource.moved}"
    if not resource.is_virtual_domain:
        return "its agent is not VirtualDomain"
    if not _WORD.fullmatch(resource.id):
        return "its id is none of plain letters and digits"
    if len(resource.configs) != 1 or resource.ruled:
        return "rules, or sets of the highest score, decide about it"
    if resource.bound:
        return f"others depend on it by {listed(resource.bound)}, and would be stopped"
    return ""


def forbids(management: Management, guest: str, verb: str) -> str:
    """Return why a guest must not be touched, not even held; empty if it may be.

    guest
        Its name, for what is to be typed.
    verb
        What for, one of VERBS.
    """
    if why := held(management, guest, verb):
        return why
    why = managers.refusal(management, *AGAINST[verb])
    if management.managed is None or management.doubts:
        return why
    cannot = obstacle(management, guest)
    return f"{why}; it cannot be held meanwhile: {cannot}" if cannot else ""


def held(management: Management, guest: str, verb: str = MIGRATE) -> str:
    """Return by whom a guest is held already, and what to do; empty if it may be held.

    One that is frozen may be started and shut down all the same.
    """
    if verb in BESIDE_FREEZE and frozen(management):
        return ""
    for one in management.managers:
        if mark := one.resource.mark:
            found = parse(mark)
            command = f"salt-run kvmcluster.recover {guest}"
            if found and found.verb == FREEZE:
                command = f"salt {found.node} kvmcluster.unfreeze {guest}"
            return (
                f"it is held from Pacemaker, as its resource {one.name}, by {describe(mark)};"
                f" once that has ended: {command}"
            )
    return ""


def frozen(management: Management) -> Manager | None:
    """Return the resource of a guest that is held since it was frozen, None if there is none."""
    for one in management.managers:
        found = parse(one.resource.mark)
        if found and found.verb == FREEZE and one.state.idle:
            return one
    return None


# ---- is it held, may it be given back ----


def not_seen(view: Pacemaker | None, resource: str, mark: str) -> str:
    """Return why it is not certain yet that Pacemaker leaves a resource alone; empty if it is.

    An action that was begun before it was held goes on, and has to end.
    """
    if view is None or view.status is None or view.error:
        return _unread(view)
    found = next((one for one in view.resources if one.id == resource), None)
    if found is None or found.mark != mark:
        by = f"it is held by {describe(found.mark)}" if found and found.mark else "it is not held"
        return f"{by}, by the configuration"
    state = view.state(found)
    if not view.status.quorum:
        return "its partition has no quorum"
    if not state.idle:
        return "crm_mon shows it as managed"
    return "crm_mon shows that an action on it is under way" if state.busy else ""


def migrating(view: Pacemaker | None) -> str:
    """Return which guests Pacemaker moves now; empty if none, or that cannot be read.

    A change of its configuration, or a refresh, has it plan anew. A guest whose ``migrate_to`` is
    done then, and its ``migrate_from`` not, counts as active on both nodes, and is blocked
    (``multiple-active``; unpack_migrate_to_success in lib/pengine/unpack.c).
    """
    states = view.status.resources if view and view.status else {}
    found = sorted(name for name, state in states.items() if state.moving)
    return f"Pacemaker still moves {listed(found)}, and would leave it blocked" if found else ""


def still_held(view: Pacemaker | None, resource: str, mark: str) -> str:
    """Return why a hold may not have ended; empty if the configuration has it no more."""
    if view is None or view.configuration is None or view.error:
        return _unread(view)
    return "the configuration still has it" if _has(view, resource, mark) else ""


def outlook(view: Pacemaker | None, resource: str, mark: str, remedy: str) -> str:
    """Return what follows for a guest that was not given back."""
    if view is None or view.configuration is None or view.error:
        return f"it may still be held from Pacemaker: {remedy}"
    if _has(view, resource, mark):
        return f"it stays held from Pacemaker: {remedy}"
    return "it is held no more: crm_mon -1 shows what Pacemaker does with it"


def differs(
    view: Pacemaker | None, resource: str, mark: str, names: Sequence[str], stays_off: bool = False
) -> str:
    """Return why a resource must not be given back; empty if Pacemaker's view is what was seen.

    names
        What the node is called on which the guest was seen, and nowhere else, its minion id first;
        empty if it was seen nowhere.
    stays_off
        Whether it is to stay off.
    """
    if why := not_seen(view, resource, mark):
        return why
    assert view and view.status
    state = view.status.resources.get(resource)
    if state is None:
        return "crm_mon does not show it"
    known = listed(state.nodes) or "no node"
    if not names and state.nodes:
        return f"Pacemaker takes it for active on {known}, and it was seen nowhere"
    if names and (len(state.nodes) != 1 or state.nodes[0] not in names):
        return f"Pacemaker takes it for active on {known}, not on {names[0]}"
    if stays_off and state.target != STOPPED:
        return f"its target-role is not {STOPPED}: Pacemaker would start it"
    if names and state.target == STOPPED:
        return f"its target-role is {STOPPED}: Pacemaker would stop it"
    return ""


def _has(view: Pacemaker, resource: str, mark: str) -> bool:
    return any(one.id == resource and one.mark == mark for one in view.resources)


def _unread(view: Pacemaker | None) -> str:
    return f"Pacemaker cannot be read{f': {view.error}' if view and view.error else ''}"
