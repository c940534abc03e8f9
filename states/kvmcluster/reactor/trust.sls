#!py
# An identity changed, trust drifted, or a node is back: the trust is looked at, and mended.
from saltext_kvmcluster.core import rumours


def run():
    return rumours.low("trust", tag, data)
