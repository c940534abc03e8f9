# The cluster key exists and is fit.
kvmcluster-key:
  kvmcluster.key_present: []
