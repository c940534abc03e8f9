# From nothing to nodes that trust each other:
#   salt-run state.orchestrate kvmcluster.orch.prepare
# Where the master has several clusters: pillar='{"cluster": "NAME"}'
keys:
  kvmcluster.applied:
    - sls: kvmcluster.key
    - cluster: {{ pillar.get("cluster") | json }}

identities:
  kvmcluster.identities_published:
    - cluster: {{ pillar.get("cluster") | json }}

trust:
  kvmcluster.applied:
    - sls: kvmcluster.trust
    - cluster: {{ pillar.get("cluster") | json }}

ssh:
  kvmcluster.ssh_ready:
    - cluster: {{ pillar.get("cluster") | json }}
