"""The fate of RGManager's settings: for each without a counterpart here, the reason.

``ELEMENTS`` has the fates of elements, and of everything in them without a fate of its own.
``ATTRIBUTES`` has those of the attributes of imported elements: by value, None for any other value.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Fate(NamedTuple):
    """The result for a piece of the file, and why."""

    became: str
    why: str


CHANGED, SAME, LEFT = "changed", "the same here", "left out"
BECAME = (CHANGED, LEFT, SAME)
"""The most important ones first."""

YES, NO = ("1", "yes", "true", "on"), ("0", "no", "false", "off")


def is_yes(value: str | None) -> bool:
    """Whether RGManager took a value for yes."""
    return value is not None and value.strip().lower() in YES


def is_set(value: str | None) -> bool:
    """Whether RGManager took a failover domain's flag for set: it expected a number."""
    return value is not None and re.match(r"\s*[+-]?0*[1-9]", value) is not None


def _left(why: str) -> dict[str | None, Fate]:
    return {None: Fate(LEFT, why)}


def _flag(yes: Fate, no: Fate, other: Fate | None = None) -> dict[str | None, Fate]:
    return {**dict.fromkeys(YES, yes), **dict.fromkeys(NO, no), None: other or yes}


UNKNOWN = Fate(LEFT, "unknown to this import")
EMPTY = Fate(SAME, "it is empty, which is the same as missing")
NO_NUMBER = Fate(SAME, "RGManager expected a number, and read this as 0")
TEXT = Fate(LEFT, "text between elements has no meaning in cluster.conf")

_QUORUM = Fate(
    LEFT,
    "there is no quorum here: membership comes from the pillar, and a guest starts once every node"
    " has reported that it does not have it",
)
_FENCING = Fate(
    LEFT,
    "there is no fencing here; an unreachable node blocks a start until it is declared offline"
    " (force_unreachable)",
)
_TRANSPORT = Fate(LEFT, "nodes communicate by Salt and ssh; there is no transport to configure")
_LOCKING = Fate(
    LEFT,
    "it configures the lock manager and the file system of the nodes; keep it if you keep GFS2 or"
    " clustered LVM",
)
_LOGGING = Fate(LEFT, "logging is configured in Salt")
_RESTARTS = (
    "guests are not restarted automatically, so nothing is counted; the state"
    " kvmcluster.guest_running in a highstate starts one that runs nowhere"
)
_AUTOSTART = (
    "a guest starts by the state kvmcluster.guest_running in a highstate, or by"
    " 'salt NODE kvmcluster.start GUEST'"
)

FLAGS_OF_A_DOMAIN = ("ordered", "restricted", "nofailback")

ELEMENTS = {
    "cman": _QUORUM,
    "quorumd": _QUORUM,
    "totem": _TRANSPORT,
    "multicast": _TRANSPORT,
    "altname": Fate(LEFT, "it belongs to no imported node"),
    "fence": _FENCING,
    "unfence": _FENCING,
    "fencedevices": _FENCING,
    "fence_daemon": _FENCING,
    "fence_virtd": _FENCING,
    "fence_xvmd": _FENCING,
    "dlm": _LOCKING,
    "gfs_controld": _LOCKING,
    "clvmd": _LOCKING,
    "group": _LOCKING,
    "logging": _LOGGING,
    "uidgid": Fate(LEFT, "it granted accounts access to corosync; here Salt controls access"),
    "failoverdomain": Fate(LEFT, "no imported guest is in it"),
    "resources": Fate(LEFT, "of the resources, only guests are imported"),
    "service": Fate(
        LEFT,
        "only guests are managed here. A guest inside is imported by itself: there it could"
        " not migrate, here it can; set its home by hand",
    ),
    "events": Fate(LEFT, "kvmcluster sends events of its own, for Salt's reactor"),
    "vm": Fate(
        LEFT,
        "a guest here has no resources of its own: use states for what it needs, such as"
        " mounts, before kvmcluster.guest_running",
    ),
    "pvevm": Fate(
        LEFT,
        "a guest of Proxmox VE, identified by a number; list it by its name in"
        " kvmcluster:guests:list",
    ),
    "action": Fate(
        LEFT, "time limits and intervals are set by call, or for all in kvmcluster:migration"
    ),
}

ATTRIBUTES: dict[tuple[str, str], dict[str | None, Fate]] = {
    ("cluster", "alias"): _left("a cluster has one name here"),
    ("cluster", "config_version"): _left("the pillar has no version; keep it in version control"),
    ("clusternode", "nodeid"): _left("a node's id is its minion id"),
    ("clusternode", "votes"): {None: _QUORUM},
    ("clusternode", "weight"): _left("nodes have no weight; a drain places guests by free memory"),
    ("altname", "port"): {None: _TRANSPORT},
    ("altname", "mcast"): {None: _TRANSPORT},
    ("altname", "ttl"): {None: _TRANSPORT},
    ("rm", "log_level"): {None: _LOGGING},
    ("rm", "log_facility"): {None: _LOGGING},
    ("failoverdomain", "restricted"): _flag(
        Fate(
            LEFT,
            "its guests could run on its nodes alone; here a guest may move to every node that"
            " passes the checks. To keep it on a node: salt NODE kvmcluster.freeze GUEST REASON",
        ),
        Fate(SAME, "a guest may move to every node that passes the checks"),
    ),
    ("failoverdomain", "nofailback"): _flag(
        Fate(SAME, "no guest is moved back automatically"),
        Fate(
            LEFT,
            "its guests moved back when a better node returned; here guests are not moved"
            " automatically: salt-run kvmcluster.migrate GUEST NODE",
        ),
    ),
    ("failoverdomain", "ordered"): _flag(
        Fate(LEFT, "no node of it can be the home of its guests"),
        Fate(SAME, "its nodes have no order, so its guests get no home"),
    ),
    ("failoverdomainnode", "name"): _left(
        "only the first node of an ordered failover domain has a counterpart, home"
    ),
    ("failoverdomainnode", "priority"): _left(
        "only the first node of an ordered failover domain has a counterpart, home"
    ),
    ("vm", "autostart"): _flag(
        Fate(LEFT, f"no guest starts automatically with the cluster: {_AUTOSTART}"),
        Fate(SAME, f"no guest starts automatically: {_AUTOSTART}"),
    ),
    ("vm", "exclusive"): _flag(
        Fate(LEFT, "guests share nodes here; give it a home, and the others another one"),
        Fate(SAME, "guests share nodes"),
    ),
    ("vm", "hardrecovery"): _flag(
        Fate(LEFT, "no node is rebooted because of a guest"),
        Fate(SAME, "no node is rebooted because of a guest"),
    ),
    ("vm", "recovery"): {
        "disable": Fate(SAME, "a guest that ended stays off until it is started"),
        None: Fate(
            LEFT,
            "a guest that ended stays off until it is started, by a person or by the state"
            " kvmcluster.guest_running",
        ),
    },
    ("vm", "max_restarts"): {"0": Fate(SAME, _RESTARTS), None: Fate(LEFT, _RESTARTS)},
    ("vm", "restart_expire_time"): {"0": Fate(SAME, _RESTARTS), None: Fate(LEFT, _RESTARTS)},
    ("vm", "migrate"): {"live": Fate(SAME, "live is the default (kvmcluster:migration:live)")},
    ("vm", "migrate_options"): _left(
        "no options are handed to virsh; kvmcluster:migration has keys for what libvirt can do"
        " (bandwidth, downtime, parallel, compression, auto_converge, post_copy, tls)"
    ),
    ("vm", "tunnelled"): {None: Fate(SAME, "migrations are not tunnelled by default")},
    ("vm", "use_virsh"): {None: Fate(SAME, "libvirt is always used, never xm")},
    ("vm", "hypervisor"): {
        "auto": Fate(SAME, "there is one hypervisor, QEMU/KVM"),
        "qemu": Fate(SAME, "there is one hypervisor, QEMU/KVM"),
        "kvm": Fate(SAME, "there is one hypervisor, QEMU/KVM"),
        None: Fate(LEFT, "there is one hypervisor here, QEMU/KVM"),
    },
    ("vm", "hypervisor_uri"): {
        "auto": Fate(SAME, "qemu:///system is always used"),
        "qemu:///system": Fate(SAME, "it is always used"),
        None: Fate(LEFT, "qemu:///system is always used"),
    },
    ("vm", "migration_uri"): {
        "auto": Fate(SAME, "qemu+ssh://LOGIN@NAME/system is always used"),
        "qemu+ssh://%s/system": Fate(SAME, "it is always used, with the login of kvmcluster:ssh"),
        None: Fate(
            LEFT,
            "qemu+ssh://LOGIN@NAME/system is always used; kvmcluster:ssh:login and the node's"
            " migration name are its parts",
        ),
    },
    ("vm", "snapshot"): _left(
        "a guest is shut down, never saved to a file when it stops and restored when it starts"
    ),
    ("vm", "status_program"): _left("services inside a guest are not checked here; use monitoring"),
    ("vm", "depend"): _left("guests do not depend on each other here; order states by 'require'"),
    ("vm", "depend_mode"): _left(
        "guests do not depend on each other here; order states by 'require'"
    ),
    ("vm", "no_kill"): _flag(
        Fate(SAME, "kvmcluster.shutdown kills a guest only where destroy=true says so"),
        Fate(LEFT, "kvmcluster.shutdown kills a guest only where destroy=true says so"),
    ),
    ("vm", "ref"): _left("a guest is listed once here"),
}


def fate(tag: str, attribute: str, value: str) -> Fate:
    """Return the fate of an attribute with that value, of an imported element."""
    if not value.strip():
        return EMPTY
    known = ATTRIBUTES.get((tag, attribute), {})
    text = value.strip().lower()
    if tag == "failoverdomain" and attribute in FLAGS_OF_A_DOMAIN:
        if not re.match(r"[+-]?[0-9]", text):
            return NO_NUMBER
        text = YES[0] if is_set(text) else NO[0]
    return known.get(text) or known.get(None) or UNKNOWN
