# Every guest of this node can move to every peer; otherwise this fails and says why.
kvmcluster-ready:
  kvmcluster.migration_ready: []
