"""The registry's checks of Pacemaker's settings: what of them harms guests."""

from saltext_kvmcluster.core.findings import WARN
from saltext_kvmcluster.core.readiness.checks import ha
from saltext_kvmcluster.core.readiness.checks.base import GUEST, NODE, Check

CHECKS = (
    Check(
        "ha.fencing",
        "fencing is on, and there is a device for it",
        "add a fence device for every node (pcs stonith create, or cibadmin), and try it",
        NODE,
        ha.fencing,
        severity=WARN,
    ),
    Check(
        "ha.devices",
        "the other nodes have a fence device that can fence the node",
        "name it in pcmk_host_list or pcmk_host_map of a fence device, or add one for it",
        NODE,
        ha.devices,
        severity=WARN,
    ),
    Check(
        "ha.two_nodes",
        "two nodes alone can decide which of them goes on",
        "two_node: 1 under quorum in corosync.conf, or a quorum device",
        NODE,
        ha.two_nodes,
        severity=WARN,
    ),
    Check(
        "ha.names",
        "the nodes of Pacemaker are those of the cluster, by the names that they have here",
        "name each node in corosync.conf by its minion id",
        NODE,
        ha.names,
        severity=WARN,
    ),
    Check(
        "ha.agent",
        "the resource agent of our own is where Pacemaker has guests of it",
        "apply the state kvmcluster.ha.agent on that node",
        NODE,
        ha.agent,
        severity=WARN,
    ),
    Check(
        "ha.disks",
        "the disks of a guest with ha are shared, and a second copy of it is kept off them",
        "move it to shared storage; there, set guests: leases: true in the pillar, and apply the"
        " state kvmcluster.disk_leases",
        GUEST,
        ha.disks,
        severity=WARN,
        resting=True,
    ),
    Check(
        "ha.starts",
        "nobody but Pacemaker starts a guest with ha",
        "leave its start to Pacemaker",
        GUEST,
        ha.starts,
        severity=WARN,
        resting=True,
    ),
    Check(
        "ha.stored",
        "the definition of a guest with ha is on storage that all its nodes share",
        "set guests: path in the pillar to shared storage, and move the definitions there",
        GUEST,
        ha.stored,
        severity=WARN,
        resting=True,
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
