#!py
# The last migrations of these guests are settled, as far as the observations of all nodes allow:
#   salt-run state.orchestrate kvmcluster.orch.recover pillar='{"guests": ["web1"]}'
# Where the master has several clusters: pillar='{"cluster": "NAME", "guests": ["web1"]}'
from saltext_kvmcluster.master import orchestrations


def run():
    return orchestrations.states("recover", opts, pillar)
