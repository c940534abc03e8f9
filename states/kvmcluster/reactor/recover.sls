#!py
# A migration ended otherwise than moved, or a node or its daemon is back: what is unsettled is
# looked for, and settled.
from saltext_kvmcluster.core import rumours
from saltext_kvmcluster.host.spool import Spool


def run():
    return rumours.low("recover", tag, data, Spool(opts["cachedir"]).heard())
