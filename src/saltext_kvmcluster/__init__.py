"""Salt extension: KVM/libvirt hosts as a cluster whose guests move live."""
