#!py
# A guest may run twice: it is looked for, and told with evidence. No guest is touched.
from saltext_kvmcluster.core import rumours
from saltext_kvmcluster.host.spool import Spool


def run():
    return rumours.low("alarm", tag, data, Spool(opts["cachedir"]).heard())
