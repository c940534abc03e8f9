# One node: drained, updated by an SLS, rebooted if that is needed, and open again:
#   salt-run state.orchestrate kvmcluster.orch.maintenance pillar='{"node": "node1", "sls": "updates"}'
# Further keys: reboot (needed, always, never), timeout (seconds for the reboot, 900), home (true:
# guests that live there come back), cluster (where the master has several).
{%- from "kvmcluster/orch/steps.jinja" import maintenance with context %}
preflight:
  kvmcluster.preflight:
    - nodes: {{ [pillar.get("node")] | json }}
    - sls: {{ pillar.get("sls") | json }}
    - cluster: {{ pillar.get("cluster") | json }}
    - failhard: true
{{ maintenance(pillar.get("node"), "maintenance") }}
