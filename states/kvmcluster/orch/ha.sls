#!py
# From nothing to guests that start elsewhere when their node dies, from pillar kvmcluster:ha:
#   salt-run state.orchestrate kvmcluster.orch.ha
# Where the master has several clusters: pillar='{"cluster": "NAME"}'
from saltext_kvmcluster.master import orchestrations


def run():
    return orchestrations.states("ha", opts, pillar)
