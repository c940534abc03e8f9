# From nothing to nodes that trust each other; the first step that fails ends it:
#   salt-run state.orchestrate kvmcluster.orch.prepare
# Where the master has several clusters: pillar='{"cluster": "NAME"}'
# While a node is down, the others alone: pillar='{"nodes": ["node1", "node2"]}'
keys:
  kvmcluster.applied:
    - sls: kvmcluster.key
    - nodes: {{ pillar.get("nodes") | json }}
    - cluster: {{ pillar.get("cluster") | json }}
    - failhard: true

identities:
  kvmcluster.identities_published:
    - nodes: {{ pillar.get("nodes") | json }}
    - cluster: {{ pillar.get("cluster") | json }}
    - failhard: true

trust:
  kvmcluster.applied:
    - sls: kvmcluster.trust
    - nodes: {{ pillar.get("nodes") | json }}
    - cluster: {{ pillar.get("cluster") | json }}
    - failhard: true

ssh:
  kvmcluster.ssh_ready:
    - cluster: {{ pillar.get("cluster") | json }}
