"""What RGManager did for a guest whose node died, or that failed itself, as its ``ha``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from saltext_kvmcluster.core.pillar.ha import (
    LONGEST_TOKEN,
    LONGEST_WITHIN,
    MOST_RESTARTS,
    PACEMAKER,
    SHORTEST_TOKEN,
)
from saltext_kvmcluster.core.rgmanager.elements import Element
from saltext_kvmcluster.core.rgmanager.failover import Domain, use
from saltext_kvmcluster.core.rgmanager.fates import CHANGED, LEFT, SAME, Fate, is_yes
from saltext_kvmcluster.core.rgmanager.fencing import take_fencing
from saltext_kvmcluster.core.rgmanager.nodes import Nodes
from saltext_kvmcluster.core.rgmanager.refusals import Pillar, refusal

_DAY = 86400
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": _DAY, "w": 7 * _DAY, "y": 365 * _DAY}
_POLICIES = ("relocate", "disable")


def available_guests(
    guests: Mapping[str, Element], domains: Mapping[str, Domain], nodes: Nodes
) -> dict[str, Pillar]:
    """Return of each guest that can have ``ha`` that, and where it runs, by name."""
    able = {name: part for name, part in guests.items() if _able(name, part)}
    alone = [name for name, part in able.items() if is_yes(part.given.get("exclusive"))]
    bodies: dict[str, Pillar] = {}
    for name, part in able.items():
        domain = _domain(part, domains, nodes)
        body = {
            **({"failback": True} if domain and domain.fails_back else {}),
            **_restarts(part),
            **_on_failure(part),
            **_apart(part, name in alone, [other for other in able if other != name]),
            **_after(part, name, able),
        }
        bodies[name] = {**(domain.placement() if domain else {}), "ha": body or True}
    return bodies


def availability(parts: list[Element], nodes: Nodes) -> Pillar:
    """Return the pillar's part about high availability."""
    body: Pillar = {"engine": PACEMAKER}
    if fencing := take_fencing(parts, nodes):
        body["fencing"] = fencing
    for part in parts:
        token = _number(part.given.get("token")) if part.tag == "totem" and part.imported else 0
        if SHORTEST_TOKEN <= token <= LONGEST_TOKEN:
            part.take("token")
            body["token"] = token
    return body


def _able(name: str, part: Element) -> bool:
    why = refusal({"ha": {"engine": PACEMAKER}, "guests": {"list": {name: {"ha": True}}}})
    if why:
        part.remark(None, None, Fate(LEFT, f"it is listed without ha: {why}"))
    return not why


def _domain(part: Element, domains: Mapping[str, Domain], nodes: Nodes) -> Domain | None:
    name = part.given.get("domain", "")
    if not name.strip():
        return None
    domain = domains.get(name.lower())
    if domain is None:
        part.remark("domain", name, Fate(SAME, "the file has no failover domain of that name"))
        return None
    use(domain, nodes)
    if not domain.tiers:
        why = "no node of its failover domain was imported, so it may run on every node"
        part.remark("domain", name, Fate(CHANGED, why))
        return None
    part.take("domain")
    return domain


def _restarts(part: Element) -> Pillar:
    """Return how often a guest may fail on a node: RGManager counted restarts, not failures."""
    most = _number(part.given.get("max_restarts"))
    expires = part.given.get("restart_expire_time", "")
    within = _duration(expires)
    if not most:
        why = "RGManager did not count; here a guest goes elsewhere after 10 failures in 60 seconds"
        for key in ("max_restarts", "restart_expire_time"):
            if part.given.get(key, "").strip():
                part.remark(key, part.given[key], Fate(CHANGED, why))
        return {}
    part.take("max_restarts")
    part.take("restart_expire_time")
    if expires.strip().startswith("-") and within:
        why = (
            f"RGManager ignored the sign, and forgot a restart after {within} s; so does Pacemaker"
        )
        part.remark(
            "restart_expire_time", expires, Fate(SAME, f"{why}; if never was meant: 604800")
        )
    return {
        "restarts": min(most + 1, MOST_RESTARTS),
        "within": min(within or LONGEST_WITHIN, LONGEST_WITHIN),
    }


def _on_failure(part: Element) -> Pillar:
    policy = part.given.get("recovery", "").strip().lower()
    if policy not in _POLICIES:
        return {}
    part.take("recovery")
    return {"on_failure": policy}


def _apart(part: Element, alone: bool, others: list[str]) -> Pillar:
    if not alone:
        return {}
    value = part.take("exclusive")
    if not others:
        part.remark("exclusive", value, Fate(SAME, "no other guest has ha"))
        return {}
    return {"apart": others}


def _after(part: Element, name: str, guests: Mapping[str, Element]) -> Pillar:
    """Return the guest that has to run before this one starts."""
    wanted = part.given.get("depend", "").strip()
    kind, _, other = wanted.partition(":")
    if not wanted:
        return {}
    if kind != "vm" or other not in guests or _depends(other, name, guests):
        why = "it names no other guest with ha, or one that depends on this one"
        part.remark("depend", wanted, Fate(LEFT, why))
        return {}
    part.take("depend")
    return {"after": [other]}


def _depends(name: str, on: str, guests: Mapping[str, Element]) -> bool:
    """Whether a guest depends on another one, directly or not, or is that one."""
    known: set[str] = set()
    while name in guests and name not in known:
        if name == on:
            return True
        known.add(name)
        name = guests[name].given.get("depend", "").strip().partition(":")[2]
    return False


def _number(text: str | None) -> int:
    """Return a number as C's atoi read it, 0 for none."""
    found = re.match(r"\s*\+?([0-9]{1,9})", text or "")
    return int(found.group(1)) if found else 0


def _duration(text: str) -> int:
    """Return a time of RGManager, such as 1h30m, in seconds; 0 for one that does not end.

    As its expand_time (rgmanager/src/daemons/resrules.c) read it: signs are passed over, and a
    number before anything but a unit, or the end, counts as 0.
    """
    pieces = re.findall(r"([0-9]+)(.?)", text.lower(), re.ASCII | re.DOTALL)
    return sum(min(int(number), 10**9) * _SECONDS.get(unit, 0) for number, unit in pieces)
