"""The clusters, as the pillar has them: rendered on the master, where they are asked for.

``functions`` are those that Salt gives a runner as ``__salt__``, ``opts`` the master's options.
"""

import time

import salt.utils.minions

from saltext_kvmcluster.core.pillar import clusters, collection

# Seconds for which the pillar is not read again, however many events come.
MEMBERSHIPS, MEMBERSHIPS_AGE = "kvmcluster.memberships", 10.0


def cluster(name, opts, functions):
    """Return the cluster of that name, or the only one, as the pillar has it now.

    Minions whose cached pillar speaks of a cluster are rendered first; the others only where
    that does not answer the question. InputError if there is no such cluster.
    """
    known = collection.Clusters()
    for minions in _accepted(opts, functions):
        _read(known, minions, functions)
        if known.has(name):
            break
    return known.choose(name)


def memberships(opts, functions, context):
    """Return the nodes of every cluster, as the pillar had them some seconds ago at most.

    context
        ``__context__``, where they are kept for so long.
    """
    at, members = context.get(MEMBERSHIPS, (-MEMBERSHIPS_AGE, {}))
    if time.monotonic() - at > MEMBERSHIPS_AGE:
        known = collection.Clusters()
        likely, others = _accepted(opts, functions)
        _read(known, likely or others, functions)
        members = known.members()
        context[MEMBERSHIPS] = (time.monotonic(), members)
    return members


def _accepted(opts, functions):
    """Return the accepted minions whose cached pillar speaks of a cluster, and the others."""
    accepted = sorted(salt.utils.minions.CkMinions(opts).check_minions("*")["minions"])
    cached = functions["cache.pillar"](tgt="*")
    likely = [minion for minion in accepted if clusters.ROOT in (cached.get(minion) or {})]
    return likely, [minion for minion in accepted if minion not in likely]


def _read(known, minions, functions):
    """Render the pillars of minions, but of each cluster one."""
    for minion in minions:
        if not known.covers(minion):
            known.read(minion, functions["pillar.show_pillar"](minion))
