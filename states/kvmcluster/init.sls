# Key and trust files of a node, from pillar kvmcluster.
include:
  - kvmcluster.key
  - kvmcluster.trust
