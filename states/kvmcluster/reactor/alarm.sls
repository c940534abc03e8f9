#!py
# A guest may run twice: all nodes are asked, and it is reported with evidence. No guest is touched.
from saltext_kvmcluster.core.events import reactions
from saltext_kvmcluster.master.pending import Pending


def run():
    return reactions.low("alarm", tag, data, Pending(opts["cachedir"]).young())
