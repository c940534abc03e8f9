# What Pacemaker starts, stops and moves guests with, on each node: ocf:kvmcluster:VirtualDomain.
/usr/lib/ocf/resource.d/kvmcluster/VirtualDomain:
  file.managed:
    - source: salt://kvmcluster/files/VirtualDomain
    - mode: '0755'
    - makedirs: true

# At boot Pacemaker asks for every guest; libvirt and shared storage have to be there before.
# systemd reads it then, so nothing is reloaded.
/etc/systemd/system/resource-agents-deps.target.d/kvmcluster.conf:
  file.managed:
    - source: salt://kvmcluster/files/resource-agents-deps.conf
    - mode: '0644'
    - makedirs: true
