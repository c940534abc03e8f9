#!py
# A migration ended otherwise than moved, or a node or its daemon is back: unsettled migrations are
# found, and settled.
from saltext_kvmcluster.core.events import reactions
from saltext_kvmcluster.master.pending import Pending


def run():
    return reactions.low("recover", tag, data, Pending(opts["cachedir"]).young())
