#!py
# An identity changed, trust drifted, or a node is back: the trust is checked, and repaired.
from saltext_kvmcluster.core.events import reactions
from saltext_kvmcluster.master.pending import Pending


def run():
    return reactions.low("trust", tag, data, Pending(opts["cachedir"]).young())
