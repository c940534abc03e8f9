# The last migrations of these guests are settled, as far as the observations of all nodes allow:
#   salt-run state.orchestrate kvmcluster.orch.recover pillar='{"guests": ["web1"]}'
# Where the master has several clusters: pillar='{"cluster": "NAME", "guests": ["web1"]}'
{% for guest in pillar.get("guests", []) %}
{{ ("recover " ~ guest) | json }}:
  kvmcluster.migration_settled:
    - name: {{ guest | json }}
    - cluster: {{ pillar.get("cluster") | json }}
{% endfor %}
