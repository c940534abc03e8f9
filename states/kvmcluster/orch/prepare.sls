# From nothing to nodes that trust each other:
#   salt-run state.orchestrate kvmcluster.orch.prepare
# Where the master has several clusters: pillar='{"cluster": "NAME"}'
{%- set found = salt["saltutil.runner"]("kvmcluster.members", cluster=pillar.get("cluster"))["data"] %}
{%- set members = found["members"] if found["ok"] else raise(found["error"]) %}

keys:
  salt.state:
    - tgt: {{ members | json }}
    - tgt_type: list
    - sls: kvmcluster.key

identities:
  kvmcluster.identities_published:
    - name: {{ found["cluster"] }}

trust:
  salt.state:
    - tgt: {{ members | json }}
    - tgt_type: list
    - sls: kvmcluster.trust

ssh:
  kvmcluster.ssh_ready:
    - name: {{ found["cluster"] }}
