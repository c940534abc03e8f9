# Every node, one after the other, as kvmcluster.orch.maintenance does it; the first failure ends it.
# The same command goes on with the nodes that are not done:
#   salt-run state.orchestrate kvmcluster.orch.rolling pillar='{"sls": "updates"}'
# Further keys: reboot, timeout, home and cluster as there; anew (true: begin with the first node).
{%- from "kvmcluster/orch/steps.jinja" import maintenance with context %}
{%- set run = {
  "sls": pillar.get("sls"),
  "reboot": pillar.get("reboot", "needed"),
  "anew": pillar.get("anew", false),
  "cluster": pillar.get("cluster"),
} %}
{%- set course = salt["saltutil.runner"]("kvmcluster.rolling", test=true, **run)["data"] %}
rolling:
  kvmcluster.rolling:
    - sls: {{ run.sls | json }}
    - reboot: {{ run.reboot | json }}
    - anew: {{ run.anew | json }}
    - cluster: {{ run.cluster | json }}
    - failhard: true
{% if course.ok %}
preflight:
  kvmcluster.preflight:
    - nodes: {{ course.todo | json }}
    - cluster: {{ run.cluster | json }}
    - failhard: true
{% for node in course.todo %}
{{ maintenance(node, "rolling") }}
{{ node }} done:
  kvmcluster.rolling_done:
    - node: {{ node | json }}
    - cluster: {{ run.cluster | json }}
    - failhard: true
{% endfor %}
{% endif %}
