"""What ``crm_mon --output-as=xml`` prints: the cluster's members, and the state of its resources.

By Pacemaker's schemas ``crm_mon``, ``nodes`` and ``resources`` (xml/api).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pacemaker.cib import AGENT, LONGEST
from saltext_kvmcluster.core.pacemaker.model import Member, ResourceState, Status, is_true
from saltext_kvmcluster.core.text import one_line, printable

_MOVING = "Migrating"
_BUSY = ("Starting", "Stopping", _MOVING, "Promoting", "Demoting")
"""Roles that crm_mon shows while an action is under way (native_pending_state)."""
_INSTANCE = re.compile(r":\d+\Z", re.ASCII)


def parse(text: str) -> Status:
    """Return the state that was printed; InputError if it is none."""
    root = xmltext.parse_xml(text)
    summary, nodes = root.find("summary"), root.find("nodes")
    if summary is None or nodes is None:
        raise InputError(why(text) or "it shows no cluster")
    dc = summary.find("current_dc")
    options = summary.find("cluster_options")
    members = [_member(node) for node in nodes.iterfind("node")]
    resources = root.findall("resources//resource")
    return Status(
        quorum=dc is not None and _flag(dc, "present") and _flag(dc, "with_quorum"),
        members={member.name: member for member in members},
        resources=_states(resources),
        options={}
        if options is None
        else {str(key): printable(str(value)[:LONGEST]) for key, value in options.items()},
        removed=tuple(_text(one, "id") for one in resources if _is_removed(one)),
    )


def why(text: str) -> str:
    """Return the error that one of Pacemaker's tools printed as XML; empty if there is none."""
    try:
        root = xmltext.parse_xml(text)
    except InputError:
        return ""
    errors = [one.text or "" for one in root.iterfind("status/errors/error")]
    status = root.find("status")
    message = status.get("message", "") if status is not None else ""
    return one_line("; ".join(errors) or (message if message != "OK" else ""))


def _member(node: etree._Element) -> Member:
    return Member(
        _text(node, "name"),
        online=_flag(node, "online"),
        standby=_flag(node, "standby"),
        pending=_flag(node, "pending"),
        unclean=_flag(node, "unclean"),
        maintenance=_flag(node, "maintenance"),
        guest=node.get("id_as_resource") is not None,
    )


def _states(found: Iterable[etree._Element]) -> dict[str, ResourceState]:
    """Return the states by id; the instances of a clone are one."""
    states: dict[str, ResourceState] = {}
    for one in found:
        name = _INSTANCE.sub("", _text(one, "id"))
        known = states.get(name)
        state = ResourceState(
            # Without the attribute it is managed, which forbids more.
            managed=is_true(one.get("managed", "true")),
            nodes=tuple(_text(node, "name") for node in one.iterfind("node")),
            # As somebody wrote it: Pacemaker takes stopped for Stopped.
            target=_text(one, "target_role").capitalize(),
            blocked=_flag(one, "blocked"),
            busy=one.get("role", "") in _BUSY or one.get("pending", "") in _BUSY,
            moving=_MOVING in (one.get("role"), one.get("pending")),
        )
        if known:
            state = ResourceState(
                known.managed or state.managed,
                tuple(dict.fromkeys((*known.nodes, *state.nodes))),
                known.target or state.target,
                known.blocked or state.blocked,
                busy=known.busy or state.busy,
                moving=known.moving or state.moving,
            )
        states[name] = state
    return states


def _is_removed(resource: etree._Element) -> bool:
    is_guest = AGENT in resource.get("resource_agent", "").lower()
    # Since 3.0.2 it is called removed.
    return is_guest and (_flag(resource, "orphaned") or _flag(resource, "removed"))


def _flag(element: etree._Element, name: str) -> bool:
    return is_true(element.get(name, ""))


def _text(element: etree._Element, name: str) -> str:
    return printable(element.get(name, "")[:LONGEST])
