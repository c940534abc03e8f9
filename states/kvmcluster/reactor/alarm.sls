#!py
# A guest may run twice: it is looked for, and told with evidence. No guest is touched.
from saltext_kvmcluster.core import rumours


def run():
    return rumours.low("alarm", tag, data)
