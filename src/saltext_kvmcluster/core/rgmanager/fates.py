"""The fate of RGManager's settings: for each without a counterpart here, the reason.

``ELEMENTS`` has the fates of elements, and of everything in them without a fate of its own.
``ATTRIBUTES`` has those of the attributes of imported elements: by value, None for any other value.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from saltext_kvmcluster.core.pacemaker.fence_agents import FenceDevice


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
    "Corosync counts one vote for each node, and knows by their number when two are enough; for a"
    " vote from outside set kvmcluster:ha:quorum_device",
)
_FENCING = Fate(
    LEFT,
    "Pacemaker has its own times and daemons for fencing; kvmcluster:ha:fencing has what is to be"
    " said of it",
)
_FOR_NOBODY = Fate(LEFT, "no guest was imported that would be started elsewhere after it")
_TRANSPORT = Fate(
    LEFT,
    "Corosync's transport is knet, over the nodes' names and their migration names, encrypted",
)
_LOCKING = Fate(
    LEFT,
    "it configures the lock manager and the file system of the nodes; keep it if you keep GFS2 or"
    " clustered LVM",
)
_LOGGING = Fate(LEFT, "logging is configured in Salt")
UNFENCED = Fate(
    CHANGED,
    "no fencing of it was imported: high availability is refused until kvmcluster:ha:fencing has a"
    " device that switches it off",
)
FENCER = Fate(SAME, "Pacemaker tells the device what to do, and with which node")
SECRET = Fate(
    CHANGED,
    "a secret is in no pillar: write it into the file that the pillar names, on every node,"
    " readable by root alone",
)
UNUSED_DEVICE = "no node's fencing that was imported uses it"

DOMAIN_FLAGS = ("ordered", "restricted", "nofailback")

_NO_SWITCH = "it does not switch a node off: guests would run on, while they are started elsewhere"
_REPLACED = "that fence agent is maintained no more; those that are: stonith_admin --list-installed"
_GONE = {
    **dict.fromkeys(("fence_mcdata", "fence_vixel", "fence_gnbd"), _NO_SWITCH),
    "fence_manual": "a person's word is no fencing; stonith_admin --confirm NODE is for the night"
    " on which a device fails",
    "fence_xvmd": "it is a daemon, and no fence agent; the agent is fence_xvm",
    "fence_zvm": "that fence agent was replaced by fence_zvmip",
    **dict.fromkeys(
        ("fence_na", "fence_bullpap", "fence_cpint", "fence_rackswitch", "fence_baytech"), _REPLACED
    ),
    "fence_egenera": _REPLACED,
    "": "it has no agent",
}


def without_agent(agent: str) -> str | None:
    """Return why there is no fencing by that agent here; None if there is."""
    switches = FenceDevice("", agent).switches_power
    return _GONE.get(agent, None if switches else _NO_SWITCH)


ELEMENTS = {
    "cman": _QUORUM,
    "quorumd": _QUORUM,
    "totem": _TRANSPORT,
    "multicast": _TRANSPORT,
    "altname": Fate(LEFT, "it belongs to no imported node"),
    "fence": _FOR_NOBODY,
    "unfence": Fate(LEFT, "a node that is switched on again needs nothing that lets it back"),
    "fencedevices": _FOR_NOBODY,
    "fence_daemon": _FENCING,
    "fence_virtd": _FENCING,
    "fence_xvmd": _FENCING,
    "dlm": _LOCKING,
    "gfs_controld": _LOCKING,
    "clvmd": _LOCKING,
    "group": _LOCKING,
    "logging": _LOGGING,
    "uidgid": Fate(LEFT, "it granted accounts access to corosync; here Salt controls access"),
    "failoverdomain": Fate(LEFT, "no imported guest with ha is in it"),
    "resources": Fate(LEFT, "of the resources, only guests are imported"),
    "service": Fate(
        LEFT,
        "only guests are managed here. A guest inside is imported by itself: there it could"
        " not migrate, here it can; give its ha what the service had",
    ),
    "events": Fate(LEFT, "kvmcluster sends events of its own, for Salt's reactor"),
    "vm": Fate(
        LEFT,
        "a guest here has no resources of its own: use states for what it needs, such as mounts",
    ),
    "pvevm": Fate(
        LEFT,
        "a guest of Proxmox VE, identified by a number; list it by its name in"
        " kvmcluster:guests:list",
    ),
    "action": Fate(
        LEFT,
        "the times of a guest's operations are those of the resource that Pacemaker gets, and of"
        " kvmcluster:migration",
    ),
}

_IMPORTED = {"cman": _QUORUM, "totem": _TRANSPORT}
"""The fates of other attributes of elements of which something is imported."""

ATTRIBUTES: dict[tuple[str, str], dict[str | None, Fate]] = {
    ("cluster", "alias"): _left("a cluster has one name here"),
    ("cman", "two_node"): {None: Fate(SAME, "Corosync gets two_node where there are two nodes")},
    ("cman", "transport"): {None: _TRANSPORT},
    ("cman", "keyfile"): _left("the nodes' key for Corosync is made by kvmcluster.orch.ha"),
    ("totem", "token"): _left("kvmcluster:ha:token is 1000 to 300000 milliseconds"),
    ("cluster", "config_version"): _left("the pillar has no version; keep it in version control"),
    ("clusternode", "nodeid"): _left("a node's id is its minion id"),
    ("clusternode", "votes"): {None: _QUORUM},
    ("clusternode", "weight"): _left("nodes have no weight; a drain places guests by free memory"),
    ("altname", "port"): {None: _TRANSPORT},
    ("altname", "mcast"): {None: _TRANSPORT},
    ("altname", "ttl"): {None: _TRANSPORT},
    ("rm", "central_processing"): {None: Fate(SAME, "one node of Pacemaker's decides for all")},
    ("rm", "status_poll_interval"): _left("Pacemaker looks at every guest at an interval of ours"),
    ("rm", "log_level"): {None: _LOGGING},
    ("rm", "log_facility"): {None: _LOGGING},
    ("failoverdomain", "restricted"): _flag(
        Fate(SAME, "a guest may run on every node that passes the checks"),
        Fate(SAME, "a guest may run on every node that passes the checks"),
    ),
    ("failoverdomain", "nofailback"): {
        None: Fate(SAME, "a guest moves back to better nodes where its ha has failback true")
    },
    ("failoverdomain", "ordered"): {None: Fate(SAME, "its nodes are equally good")},
    ("failoverdomainnode", "priority"): _left("the failover domain is not ordered"),
    ("vm", "autostart"): _flag(
        Fate(SAME, "Pacemaker starts a guest with ha when the cluster starts"),
        Fate(
            CHANGED,
            "Pacemaker starts a guest with ha when the cluster starts, unless it was shut down by"
            " command: salt NODE kvmcluster.shutdown GUEST",
        ),
    ),
    ("vm", "exclusive"): {None: Fate(SAME, "guests share nodes")},
    ("vm", "hardrecovery"): _flag(
        Fate(SAME, "Pacemaker fences a node on which a guest cannot be stopped"),
        Fate(CHANGED, "Pacemaker fences a node on which a guest cannot be stopped"),
    ),
    ("vm", "recovery"): {
        "restart": Fate(SAME, "it is the default (on_failure)"),
        "restart-disable": Fate(
            CHANGED, "a guest that fails is started again; it is not left off if that fails"
        ),
        None: Fate(CHANGED, "RGManager knew no such policy, and restarted; so does Pacemaker"),
    },
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
    ("vm", "depend_mode"): {
        "soft": Fate(SAME, "a guest is not stopped when one stops after which it was started"),
        None: Fate(
            CHANGED,
            "a guest is not stopped when one stops after which it was started, as with soft",
        ),
    },
    ("vm", "no_kill"): _flag(
        Fate(
            CHANGED,
            "kvmcluster.shutdown kills a guest only where destroy=true says so; Pacemaker, where it"
            " has to stop one, kills it when the time for that is over",
        ),
        Fate(SAME, "where Pacemaker has to stop a guest, it kills it when the time is over"),
    ),
    ("vm", "ref"): _left("a guest is listed once here"),
}


def fate(tag: str, attribute: str, value: str) -> Fate:
    """Return the fate of an attribute with that value, of an imported element."""
    if not value.strip():
        return EMPTY
    known = ATTRIBUTES.get((tag, attribute), {})
    text = value.strip().lower()
    if tag == "failoverdomain" and attribute in DOMAIN_FLAGS:
        if not re.match(r"[+-]?[0-9]", text):
            return NO_NUMBER
        text = YES[0] if is_set(text) else NO[0]
    return known.get(text) or known.get(None) or _IMPORTED.get(tag, UNKNOWN)
