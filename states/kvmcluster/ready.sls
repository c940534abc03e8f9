# Every guest of this node can go to every peer; where one cannot, this fails and says why.
kvmcluster-ready:
  kvmcluster.migration_ready: []
