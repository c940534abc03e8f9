# A node of a cluster with high availability: Corosync and Pacemaker, from pillar kvmcluster:ha.
# By hand it takes an order: first the first node of the pillar, then all; kvmcluster.orch.ha keeps it.
include:
  - kvmcluster.ha.agent
{%- set ha = pillar.get("kvmcluster", {}).get("ha") or {} %}
{%- if ha and ha.get("manage", True) %}
{%- set missing = [] %}
{%- for device in (ha.get("fencing") or {}).get("devices", {}).values() %}
{%- if not salt["file.file_exists"]("/usr/sbin/" ~ device.agent) %}{% do missing.append(device.agent) %}{% endif %}
{%- endfor %}
kvmcluster-ha-packages:
  pkg.installed:
    - pkgs:
      - corosync
      - pacemaker
{%- if grains["os_family"] == "Debian" %}
      - pacemaker-cli-utils
{%- endif %}
      - resource-agents
{%- if ha.get("quorum_device") %}
      - corosync-qdevice
{%- endif %}
{%- if missing %}
      - {{ "fence-agents" if grains["os_family"] in ("Debian", "Suse") else "fence-agents-all" }}
{%- endif %}
    - require_in:
      - kvmcluster: kvmcluster-ha-authkey
{%- endif %}

kvmcluster-ha-authkey:
  kvmcluster.ha_authkey: []

kvmcluster-ha-corosync:
  kvmcluster.ha_corosync:
    - require:
      - kvmcluster: kvmcluster-ha-authkey

kvmcluster-ha-secrets:
  kvmcluster.ha_secrets:
    - require:
      - kvmcluster: kvmcluster-ha-corosync
{%- if ha and ha.get("manage", True) %}
{%- for service in ["corosync"] + (["corosync-qdevice"] if ha.get("quorum_device") else []) + ["pacemaker"] %}

kvmcluster-ha-{{ service }}-runs:
  service.running:
    - name: {{ service }}
    - enable: true
    - require:
      - kvmcluster: kvmcluster-ha-secrets
{%- endfor %}
{%- endif %}
