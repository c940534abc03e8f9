"""Salt extension: KVM/libvirt hosts as a cluster whose guests move live."""

try:
    from saltext_kvmcluster.version import __version__
except ImportError:  # a tree that was neither built nor installed
    __version__ = "0+unknown"
