# Everything a node of the cluster needs, from pillar kvmcluster.
include:
  - kvmcluster.key
  - kvmcluster.trust
