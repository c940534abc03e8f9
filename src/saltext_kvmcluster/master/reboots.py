"""Reboots a node, and waits until it takes part again."""

import time

from salt.exceptions import SaltException

from saltext_kvmcluster.core.drain import maintenance
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.engine.fleet import ASK_AGAIN
from saltext_kvmcluster.master.nodes import late


def rebooted(nodes, node, before, end):
    """Have a node reboot; return what of that was not seen in time, and the boot it is in.

    before
        The boot in which it is.
    end
        When to wait no longer, by the monotonic clock.
    """
    with nodes.client() as client:
        try:
            job = client.run_job([node], "kvmcluster.reboot", [before.id], tgt_type="list")
        except SaltException as error:
            raise InputError(f"{node} could not be told to reboot: {error}") from None
        while True:
            now = nodes.boot(node)
            answer = late(client, job, node)
            missing = maintenance.not_back(node, before, now, answer)
            if not missing or (now and isinstance(answer, str)) or time.monotonic() > end:
                return missing, now
            time.sleep(ASK_AGAIN)


def unready(nodes, node, end):
    """Wait until nothing keeps a node from taking part; return what still does in the end."""
    while True:
        reported = maintenance.unready(nodes.examined()[1], [node])
        if not reported or time.monotonic() > end:
            return reported
        time.sleep(ASK_AGAIN)
