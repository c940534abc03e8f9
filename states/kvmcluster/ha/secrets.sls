# Secrets of fence devices, on each node; again once Pacemaker's configuration has changed: those that
# it no longer reads are removed.
kvmcluster-ha-secrets-again:
  kvmcluster.ha_secrets: []
