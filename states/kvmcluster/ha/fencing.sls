# Pacemaker's properties and fence devices, which are the cluster's: one node is enough.
kvmcluster-ha-properties:
  kvmcluster.ha_properties: []

kvmcluster-ha-fencing:
  kvmcluster.ha_fencing:
    - require:
      - kvmcluster: kvmcluster-ha-properties
