#!py
# An identity changed, trust drifted, or a node is back: the trust is looked at, and mended.
from saltext_kvmcluster.core import rumours
from saltext_kvmcluster.host.spool import Spool


def run():
    return rumours.low("trust", tag, data, Spool(opts["cachedir"]).heard())
