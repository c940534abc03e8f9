"""Run on a node: what forbids to move its guests, when all is looked at and when little is.

The pillar comes in as JSON. One line of JSON goes out for each guest that is active here and each
peer: the blocking findings by either way.
"""

import json
import sys

from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.migration import plans
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.core.readiness import move_findings
from saltext_kvmcluster.host import collector, examiner
from saltext_kvmcluster.host.hypervisor import Hypervisor
from saltext_kvmcluster.host.ssh import Session


def main(here):
    cluster = from_pillar(json.load(sys.stdin))
    for guest in collector.own(here).guests:
        for peer in cluster.peers(here):
            if guest.active:
                move = Move(guest.name, guest.uuid, here, peer.id)
                found = {name: blocking(move, way, cluster, peer) for name, way in WAYS.items()}
                print(json.dumps({"guest": guest.name, "to": peer.id, **found}))


def blocking(move, way, cluster, peer):
    try:
        world = way(cluster, move, peer)
    except KvmclusterError as error:
        return [["refused", type(error).__name__, ""]]
    (guest,) = [one for one in world.by_uuid[move.uuid] if one.node == move.source]
    found = move_findings.findings(world, guest, peer.id)
    return sorted([one.id, one.outcome, one.sentence] for one in found if one.blocks)


def by_all(cluster, move, peer):
    return examiner.observe(cluster, move.source, (peer,), move.guest)


def by_few(cluster, move, peer):
    shells = {move.source: Session(), peer.id: Session(peer.migration, cluster.ssh.becomes_root)}
    uri = plans.connection_uri(cluster.ssh.login, peer)
    libvirts = {move.source: Hypervisor(), peer.id: Hypervisor(uri)}
    try:
        return examiner.observe_move(cluster, move, shells, libvirts)
    finally:
        for way in (*shells.values(), *libvirts.values()):
            way.close()


WAYS = {"all": by_all, "few": by_few}

if __name__ == "__main__":
    main(sys.argv[1])
