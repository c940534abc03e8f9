# Leases on all nodes, from pillar kvmcluster:guests:leases:
#   salt-run state.orchestrate kvmcluster.orch.disk_leases
# Where the master has several clusters: pillar='{"cluster": "NAME"}'
disk-leases:
  kvmcluster.applied:
    - sls: kvmcluster.disk_leases
    - cluster: {{ pillar.get("cluster") | json }}
