# Guests leave a host by themselves when somebody simply reboots it:
#   salt 'node*' state.apply kvmcluster.leave
/etc/systemd/system/kvmcluster-leave.service:
  file.managed:
    - source: salt://kvmcluster/files/kvmcluster-leave.service
    - mode: '0644'

kvmcluster-leave.service:
  service.running:
    - enable: true
    - require:
      - file: /etc/systemd/system/kvmcluster-leave.service
