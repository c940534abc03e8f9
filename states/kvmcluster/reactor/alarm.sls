#!py
# A guest may run twice: it is looked for, and told with evidence. No guest is touched.
from saltext_kvmcluster.core.events import reactions
from saltext_kvmcluster.master.pending import Pending


def run():
    return reactions.low("alarm", tag, data, Pending(opts["cachedir"]).heard())
