# A highstate of the lab makes every minion a node of the cluster.
base:
  "*":
    - kvmcluster
{%- if pillar.get("started") %}
    - started
{%- endif %}
