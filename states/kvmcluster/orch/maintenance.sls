#!py
# One node: drained, updated by an SLS, rebooted if that is needed, and uncordoned again:
#   salt-run state.orchestrate kvmcluster.orch.maintenance pillar='{"node": "node1", "sls": "updates"}'
# Further keys: reboot (needed, always, never), timeout (seconds for the reboot, 900), home (true:
# guests whose home it is come back), stuck (refuse, shutdown, leave: what becomes of guests that
# cannot be moved), drain (always; reboot: only if the node is rebooted), cluster (where the master has several).
from saltext_kvmcluster.master import orchestrations


def run():
    return orchestrations.states("maintenance", opts, pillar)
