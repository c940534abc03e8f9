#!py
# From nothing to nodes that trust each other; the first step that fails ends it:
#   salt-run state.orchestrate kvmcluster.orch.prepare
# Where the master has several clusters: pillar='{"cluster": "NAME"}'
# While a node is down, the others alone: pillar='{"nodes": ["node1", "node2"]}'
from saltext_kvmcluster.master import orchestrations


def run():
    return orchestrations.states("prepare", opts, pillar)
