#!py
# A guest crashed, or is gone and nobody saw how: those that the pillar wants restarted are.
from saltext_kvmcluster.core.events import reactions
from saltext_kvmcluster.master.pending import Pending


def run():
    return reactions.low("restart", tag, data, Pending(opts["cachedir"]).young())
