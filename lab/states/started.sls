# What an administrator's highstate starts: the guests of pillar `started`.
{%- for guest in pillar.get("started", []) %}
{{ guest }}:
  kvmcluster.guest_running: []
{%- endfor %}
