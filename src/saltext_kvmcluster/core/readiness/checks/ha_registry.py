"""The registry's checks of Pacemaker's settings: what of them harms guests."""

from saltext_kvmcluster.core.findings import WARN
from saltext_kvmcluster.core.readiness.checks import ha
from saltext_kvmcluster.core.readiness.checks.base import NODE, Check

CHECKS = (
    Check(
        "ha.fencing",
        "Pacemaker, where it has guests, can fence a node",
        "add a fence device for every node (pcs stonith create, or cibadmin), and try it",
        NODE,
        ha.fencing,
        severity=WARN,
    ),
    Check(
        "ha.quorum",
        "a part of Pacemaker's cluster without quorum starts nothing",
        "crm_attribute -t crm_config -n no-quorum-policy -v stop",
        NODE,
        ha.quorum,
        severity=WARN,
    ),
    Check(
        "ha.moves",
        "Pacemaker moves its guests live, and leaves one alone whose move failed",
        "give the resource: op migrate_to on-fail=block (pcs resource update ID op migrate_to"
        " interval=0s timeout=300s on-fail=block)",
        NODE,
        ha.moves,
        severity=WARN,
    ),
    Check(
        "ha.stickiness",
        "Pacemaker leaves a guest where it is as long as nothing speaks against it",
        "crm_attribute -t rsc_defaults -n resource-stickiness -v 100",
        NODE,
        ha.stickiness,
        severity=WARN,
    ),
    Check(
        "ha.start_failure",
        "Pacemaker tries a start again that failed once",
        "crm_attribute -t crm_config -n start-failure-is-fatal -v false; and crm_attribute -t"
        " rsc_defaults -n failure-timeout -v 60s",
        NODE,
        ha.start_failure,
        severity=WARN,
    ),
    Check(
        "ha.constraints",
        "no constraint of an earlier move or ban is left in Pacemaker",
        "crm_resource --clear -r ID",
        NODE,
        ha.constraints,
        severity=WARN,
    ),
    Check(
        "ha.unmanaged",
        "Pacemaker manages all its guests",
        "crm_resource --refresh, then crm_resource --wait; then delete is-managed (crm_resource -r"
        " ID --meta -d is-managed), maintenance, or maintenance-mode (crm_attribute -t crm_config"
        " -n maintenance-mode -D)",
        NODE,
        ha.unmanaged,
        severity=WARN,
    ),
    Check(
        "ha.definitions",
        "libvirt keeps no definition of a guest that Pacemaker starts",
        "set guests: definitions: shared in the pillar, or take the guest out of guests: list",
        NODE,
        ha.definitions,
        severity=WARN,
    ),
    Check(
        "ha.network",
        "Pacemaker moves guests by the nodes' migration names",
        "set the resource's migration_network_suffix so that it makes them of the nodes' names"
        " (crm_resource -r ID -p migration_network_suffix -v SUFFIX)",
        NODE,
        ha.network,
        severity=WARN,
    ),
)
