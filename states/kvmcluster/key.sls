# The cluster key exists and is valid.
kvmcluster-key:
  kvmcluster.key_present: []
