# A node of a cluster with high availability: Corosync and Pacemaker, from pillar kvmcluster:ha.
# By hand it takes an order: first the first node of the pillar, then all; kvmcluster.orch.ha keeps it.
include:
  - kvmcluster.ha.agent
{%- set cluster = pillar.get("kvmcluster") %}
{%- set ha = cluster.get("ha") if cluster is mapping else none %}
{%- set ours = ha is mapping and ha.get("manage", True) %}
{%- set fencing = ha.get("fencing") if ours else none %}
{%- set devices = fencing.get("devices") if fencing is mapping else none %}
{%- set missing = [] %}
{%- for device in (devices if devices is mapping else {}).values() if device is mapping %}
{%- if not salt["file.file_exists"]("/usr/sbin/" ~ device.get("agent")) %}{% do missing.append(1) %}{% endif %}
{%- endfor %}

# What is wrong in the pillar is refused before anything is installed.
kvmcluster-ha-pillar:
  kvmcluster.ha_pillar: []
{%- if ours %}

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
    - require:
      - kvmcluster: kvmcluster-ha-pillar
    - require_in:
      - kvmcluster: kvmcluster-ha-fence-agents
{%- endif %}

kvmcluster-ha-fence-agents:
  kvmcluster.ha_fence_agents:
    - require:
      - kvmcluster: kvmcluster-ha-pillar

kvmcluster-ha-authkey:
  kvmcluster.ha_authkey:
    - require:
      - kvmcluster: kvmcluster-ha-fence-agents

kvmcluster-ha-corosync:
  kvmcluster.ha_corosync:
    - require:
      - kvmcluster: kvmcluster-ha-authkey

kvmcluster-ha-secrets:
  kvmcluster.ha_secrets:
    - require:
      - kvmcluster: kvmcluster-ha-corosync
{%- if ours %}
{%- for service in ["corosync"] + (["corosync-qdevice"] if ha.get("quorum_device") else []) + ["pacemaker"] %}

kvmcluster-ha-{{ service }}-runs:
  service.running:
    - name: {{ service }}
    - enable: true
    - require:
      - kvmcluster: kvmcluster-ha-secrets
{%- endfor %}
{%- endif %}
