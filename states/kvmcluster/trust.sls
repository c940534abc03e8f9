# Every member may log in; connections to members use the cluster key and pinned host keys.
kvmcluster-authorized-keys:
  kvmcluster.authorized_keys: []

kvmcluster-known-hosts:
  kvmcluster.known_hosts: []

kvmcluster-ssh-config:
  kvmcluster.ssh_config: []
