# The guests with ha as resources of Pacemaker, which are the cluster's: one node is enough.
kvmcluster-ha-guests:
  kvmcluster.ha_guests: []
