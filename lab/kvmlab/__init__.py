"""The lab: a whole KVM/Salt cluster on one Linux machine, made of namespaces."""
