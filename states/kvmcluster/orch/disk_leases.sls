#!py
# Leases on all nodes, from pillar kvmcluster:guests:leases:
#   salt-run state.orchestrate kvmcluster.orch.disk_leases
# Where the master has several clusters: pillar='{"cluster": "NAME"}'
from saltext_kvmcluster.master import orchestrations


def run():
    return orchestrations.states("disk_leases", opts, pillar)
