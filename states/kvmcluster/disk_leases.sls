# Each guest of the list has a lease, if pillar kvmcluster:guests:leases is true.
{%- set found = [] %}
{%- for folder in ["/usr/lib64", "/usr/lib", "/usr/lib/" ~ grains["cpuarch"] ~ "-linux-gnu"] %}
{%- if salt["file.file_exists"](folder ~ "/libvirt/lock-driver/lockd.so") %}{% do found.append(folder) %}{% endif %}
{%- endfor %}
{%- if pillar.get("kvmcluster", {}).get("guests", {}).get("leases") and not found %}
kvmcluster-lockd:
  pkg.installed:
    - pkgs: [libvirt-daemon-lock, libvirt-daemon-plugin-lockd]
    - require_in:
      - kvmcluster: kvmcluster-disk-leases
{% endif %}
kvmcluster-disk-leases:
  kvmcluster.disk_leases: []
