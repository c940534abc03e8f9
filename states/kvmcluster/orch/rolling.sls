#!py
# Every node, one after the other, as kvmcluster.orch.maintenance does it; the first failure ends it.
# The same command continues with the nodes that are not done:
#   salt-run state.orchestrate kvmcluster.orch.rolling pillar='{"sls": "updates"}'
# Further keys: reboot, timeout, home, stuck, drain and cluster as there; anew (true: begin with the
# first node).
from saltext_kvmcluster.master import orchestrations


def run():
    return orchestrations.states("rolling", opts, pillar)
