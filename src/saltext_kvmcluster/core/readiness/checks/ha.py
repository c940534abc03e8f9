"""Checks of Pacemaker, where it runs on the nodes: whose guests are whose, and what harms them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import SEE, Issue, unknown
from saltext_kvmcluster.core.ha import content, refusals
from saltext_kvmcluster.core.pacemaker import managers
from saltext_kvmcluster.core.pacemaker.managers import OURS
from saltext_kvmcluster.core.pacemaker.model import (
    Configuration,
    GuestResource,
    Pacemaker,
    is_true,
)
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import AGENT_PATH
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.ha import GuestHa
from saltext_kvmcluster.core.readiness.checks import guards, managed, storage, stores
from saltext_kvmcluster.core.readiness.checks.base import World, unreported
from saltext_kvmcluster.core.storage.location import quoted
from saltext_kvmcluster.core.text import listed

READ = "on that node: crm_mon -1 must show the cluster, and cibadmin --query its configuration"


def pacemaker(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether Pacemaker can be read where it runs, or starts with the node and has guests.

    By ``crm_mon`` and ``cibadmin``. Pacemaker starts a guest again that it misses, and stops one
    that it does not want to run, so what it would do has to be known before anything is moved.
    Without quorum it may stop what runs there, and the node may be about to be fenced.
    """
    found = node.pacemaker
    if found is None:
        yield unreported("whether Pacemaker runs there", node)
    elif found.error:
        yield unknown(f"not known what Pacemaker would do: {found.error}", READ)
    elif found.resources and not found.runs:
        sentence = "Pacemaker starts with the node, has guests, and does not run: not known what it"
        yield unknown(f"{sentence} would do", managers.START_OR_DISABLE)
    elif found.status and not found.status.quorum:
        yield Issue(
            "its Pacemaker has no quorum: it may stop its guests, and the node may be fenced",
            "on that node: corosync-quorumtool -s shows which nodes are missing",
        )


def manager(world: World, guest: GuestFacts) -> Iterable[Issue]:
    """Whether Pacemaker leaves the guest alone, or can be kept off it while it is moved.

    A guest is Pacemaker's if a definition that a resource names has its name: ``config`` of the
    agent VirtualDomain, or any parameter of another one. Its monitor would miss the guest at the
    source, and start it there again, so it is held meanwhile: ``is-managed=false``. That cannot be
    done to a part of a group or clone, to one that failed and is blocked, where rules decide about
    its meta attributes, or where others depend on it and would be stopped. One that somebody has
    made unmanaged may be moved, but not one that another command of ours holds. From a node that
    is on standby Pacemaker would move it on, and where it does not run it would not find it.
    """
    return managed.issues(world, guest)


def fencing(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether the node can be fenced: ``stonith-enabled`` is not false, and a device is for it.

    Without fencing a node that is only cut off keeps its guests, and Pacemaker starts them once
    more. The same with agents that only say that they fence, such as ``fence_dummy``. A watchdog
    (``stonith-watchdog-timeout``) counts as a device. Where the pillar has the devices (``ha:
    fencing``), one of them has to be for the node. Nobody fences a node that is the only one.
    """
    yield from _unread(node)
    if world.cluster.ha:
        yield from refusals.alone(world.cluster)
    yield from _fenced_by_pillar(world, node)
    for found, configured in _concerned(world, node):
        options = found.status.options if found.status else {}
        enabled = options.get("fencing-enabled", options.get("stonith-enabled", "true"))
        pretending = [str(device) for device in configured.fencing if device.pretends]
        if not is_true(enabled):
            yield Issue(
                "Pacemaker fences nobody (stonith-enabled=false): it starts guests of a node that"
                " is only cut off a second time",
                "crm_attribute -t crm_config -n stonith-enabled -v true, with a fence device",
            )
        elif not (configured.fencing or configured.has_watchdog or _awaited(world, found)):
            yield Issue("Pacemaker has no fence device, so it recovers nothing of a lost node")
        if pretending:
            yield Issue(
                f"Pacemaker's fence device {listed(pretending)} only says that it fences: Pacemaker"
                " starts guests of a node that is only cut off a second time"
            )


def devices(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether one of Pacemaker's fence devices can fence the node.

    The fencers of the *other* nodes are asked (``stonith_admin --list``): they know lists, maps,
    lists that an agent makes, bans, and devices that are disabled. If the node has fencing levels,
    all devices of one of them have to be able to.
    """
    yield from _unread(node)
    for found, configured in _concerned(world, node):
        if configured.fencing and not (configured.has_watchdog or _awaited(world, found)):
            others = (one.pacemaker for other, one in world.nodes.items() if other != node.node)
            yield from refusals.unfenced(found.name or node.node, configured, others)


def _awaited(world: World, found: Pacemaker) -> bool:
    """Whether Pacemaker is still to be set up by the pillar: without its devices, or guests."""
    devices = found.configuration.fencing if found.configuration else ()
    own = any(one.id.startswith(content.PREFIX) for one in devices)
    managed = world.cluster.ha is not None and world.cluster.ha.manage
    return managed and not own and not found.resources


def _fenced_by_pillar(world: World, node: NodeFacts) -> Iterable[Issue]:
    ha = world.cluster.ha
    if ha and ha.manage:
        return refusals.unfenced_by_pillar(node.node, ha)
    known = node.pacemaker if ha else None
    return refusals.not_running(known) if known and not known.error else ()


def two_nodes(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether two nodes alone can decide which of them goes on.

    Of two nodes neither has a majority. With ``two_node`` one is enough, and whoever fences first
    goes on; with ``wait_for_all`` a node that boots while it is cut off fences nobody. A quorum
    device decides as well. What is in force counts (``corosync-quorumtool``).
    """
    yield from _unread(node)
    for found, _ in _concerned(world, node):
        if _awaited(world, found):
            continue  # Corosync is still to be configured.
        members = found.status.members.values() if found.status else ()
        count = sum(not one.guest for one in members)
        yield from refusals.tied(node.corosync, count, found.runs)


def names(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether Pacemaker's names of nodes are minion ids, and its nodes those of the cluster.

    A node that was fenced, or is put on standby, is named by one name for both.
    """
    yield from _unread(node)
    if node.pacemaker and (node.pacemaker.resources or world.cluster.ha):
        yield from refusals.misnamed(world.cluster, node.node, node.pacemaker, node.corosync)


def agent(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether the resource agent of our own is installed where Pacemaker has guests of it.

    A node without it cannot start them, and answers "not installed" where they may be running.
    """
    yield from _unread(node)
    for _, configured in _with_guests(node):
        of_it = [one.id for one in configured.guests if one.provider == OURS]
        if of_it and node.agent is None:
            yield unreported(f"whether it has {AGENT_PATH}", node)
        elif of_it and not node.agent:
            yield Issue(f"it has no {AGENT_PATH}, the resource agent of {listed(of_it)}")


def disks(world: World, guest: GuestFacts) -> Iterable[Issue]:
    """Whether the disks of a guest with ``ha`` are shared, and something keeps a second writer off.

    On all nodes on which it may run, as guest.guard judges it. Fencing alone does not: a person may
    have confirmed it, and a guest may be started by hand. A lease does not bring a local disk to
    another node: what is there under the same path would be started, or nothing.
    """
    if not _wanted(world, guest):
        return
    local = dict(storage.private(world, guest))
    yield from local.values()
    named = {quoted(source.path) for source in local}
    only = world.cluster.guests.only(guest.name)
    nodes = {*only} & world.responding if only else world.responding
    shared = [one for one in guards.unguarded(world, guest, nodes) if one.name not in named]
    for bare, targets in guards.by_cause(shared).items():
        where = f" on {bare.node}" if bare.node and bare.node != guest.node else ""
        if bare.by == guards.NOT_KNOWN:
            sentence = f"not known whether anything guards {listed(targets)}{where}: {bare.why}"
            yield unknown(sentence, bare.remedy)
        else:
            sentence = f"nothing keeps a second copy of it off {listed(targets)}{where}"
            yield Issue(f"{sentence}: {bare.why}", bare.remedy)


def starts(world: World, guest: GuestFacts) -> Iterable[Issue]:
    """Whether nobody but Pacemaker starts a guest with ``ha``.

    A ``home`` in the pillar, or a state in the highstate of a node (``kvmcluster.guest_running``,
    ``virt.running``), starts it where it is missed. Autostart and libvirt-guests are a matter of
    guest.autostart.
    """
    listed_guest = world.cluster.guests.list.get(guest.name)
    if listed_guest is None or not listed_guest.ha:
        return
    yield from refusals.homed(listed_guest)
    starting = [one.node for one in world.nodes.values() if guest.name in one.state_starts]
    yield from refusals.started_by_states(starting)
    for node in world.nodes.values():
        if node.state_detail:
            yield unknown(
                f"not known whether the highstate of {node.node} starts it: {node.state_detail}",
                f"salt {node.node} state.show_lowstate must succeed",
            )


def stored(world: World, guest: GuestFacts) -> Iterable[Issue]:
    """Whether the definition of a guest with ``ha`` is on storage that all its nodes have.

    Pacemaker starts it from there on any of them. Each folder of ``guests: path`` counts, unless
    the pillar gives the guest's ``xmlfile``: the first one that has a definition is used.
    """
    if _wanted(world, guest) and world.cluster.guests.definitions == "shared":
        only = world.cluster.guests.only(guest.name)
        yield from stores.unshared(world, guest.name, only or tuple(world.nodes))


def quorum(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether a part of Pacemaker's cluster without quorum starts nothing.

    With ``no-quorum-policy=ignore`` each part of a cluster that was split starts all guests.
    """
    yield from _unread(node)
    for found, _ in _concerned(world, node):
        policy = found.status.options.get("no-quorum-policy", "") if found.status else ""
        if policy == "ignore":
            yield Issue("no-quorum-policy=ignore: each part of a split cluster starts all guests")


def moves(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether Pacemaker moves its guests live, and leaves one alone whose move failed.

    Without meta ``allow-migrate=true`` it stops and starts a guest instead of moving it. If the
    operation ``migrate_to`` fails without ``on-fail=block``, it stops the guest, which runs, and
    starts it anew.
    """
    yield from _unread(node)
    for _, configured in _with_guests(node):
        stopped = [one.id for one in configured.guests if not one.allow_migrate]
        if stopped:
            yield Issue(
                f"without allow-migrate=true Pacemaker stops and starts {listed(stopped)} instead"
                " of moving it",
                f"crm_resource -r {stopped[0]} --meta -p allow-migrate -v true",
            )
        fragile = [one.id for one in configured.guests if one.on_fail != "block"]
        if fragile:
            yield Issue(
                f"if a move of {listed(fragile)} fails, Pacemaker stops it and starts it anew:"
                " migrate_to lacks on-fail=block"
            )


def stickiness(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether a guest stays where it is as long as nothing speaks against it.

    With ``resource-stickiness`` 0, the default, Pacemaker may move guests whenever a node joins or
    a resource is added.
    """
    yield from _unread(node)
    for _, configured in _with_guests(node):
        loose = [one.id for one in configured.guests if not one.sticks]
        if loose:
            names = listed(loose)
            yield Issue(f"Pacemaker may move {names} at any change: its resource-stickiness is 0")


def start_failure(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether a start that fails once is tried again on the same node.

    The image lock of a node that was fenced lasts until the storage drops its client, a minute or
    so. A start that fails meanwhile bars the guest from that node for good, unless
    ``start-failure-is-fatal`` is false; ``failure-timeout`` then forgets the failures.
    """
    yield from _unread(node)
    for _, configured in _with_guests(node):
        if is_true(configured.options.get("start-failure-is-fatal", "true")):
            yield Issue(
                "start-failure-is-fatal: a start that the image lock of a dead node refuses once is"
                " not tried there again"
            )


def constraints(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether no constraint of ``crm_resource --move`` or ``--ban`` is left.

    It stays until ``--clear``: one bars a guest from a node, or draws it back there.
    """
    yield from _unread(node)
    for _, configured in _with_guests(node):
        if configured.moves:
            left = listed(configured.moves)
            yield Issue(f"constraints of earlier moves are left in Pacemaker: {left}")


def unmanaged(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether Pacemaker manages its guests: none is unmanaged, nothing is left in maintenance.

    What it does not manage it does not start again when its node dies.
    """
    yield from _unread(node)
    for found, configured in _with_guests(node):
        idle = [one.id for one in configured.guests if found.state(one).idle]
        if not idle:
            continue
        options = found.status.options if found.status else {}
        whole = is_true(options.get("maintenance-mode", ""))
        why = "maintenance-mode" if whole else listed(configured.unmanaged) or "its defaults"
        yield Issue(f"Pacemaker leaves {listed(idle)} alone, also when its node dies ({why})")


def definitions(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether libvirt keeps no definition of a guest that Pacemaker starts.

    The agent ocf:heartbeat:VirtualDomain undefines a guest before it creates it (verify_undefined),
    so what ``guests: {definitions: defined}`` places on each node goes at every start, the state
    places it again, and a node would start an old one. Ours undefines nothing.
    """
    yield from _unread(node)
    guests = world.cluster.guests
    with_ha = [name for name, one in guests.list.items() if one.ha]
    if with_ha and guests.definitions == "defined":
        yield Issue(
            f"{listed(with_ha)} would be defined on every node (definitions: defined), and"
            " Pacemaker starts what has ha from one definition for all"
        )
    for found, configured in _with_guests(node):
        others = [one for one in configured.guests if one.provider != OURS]
        named = {found.guests.get(path, "") for one in others for path in one.configs}
        both = [name for name in world.cluster.guests.list if name in named]
        if both and world.cluster.guests.definitions == "defined":
            yield Issue(
                f"Pacemaker's agent undefines {listed(both)} at each start, and the pillar wants"
                " definitions: defined"
            )


def network(world: World, node: NodeFacts) -> Iterable[Issue]:
    """Whether Pacemaker moves guests over the network that the pillar means for migrations.

    Its agent connects to the destination's name with ``migration_network_suffix`` before the first
    dot, or ours to the name that ``migration_hosts`` has for it, and sends the memory there.
    """
    yield from _unread(node)
    for _, configured in _with_guests(node):
        astray = [one.id for one in configured.guests if _is_astray(world.cluster, one)]
        if astray:
            yield Issue(
                f"Pacemaker moves {listed(astray)} by other names than the nodes' migration names:"
                " migration_network_suffix (or migration_hosts) does not fit them"
            )


def _wanted(world: World, guest: GuestFacts) -> GuestHa | None:
    known = world.cluster.guests.list.get(guest.name)
    return known.ha if known else None


def _is_astray(cluster: Cluster, resource: GuestResource) -> bool:
    """Whether an agent makes another name of a node's than its migration name."""
    told = any(key in resource.parameters for key in ("remoteuri", "migrateuri"))
    if told or not resource.is_virtual_domain:
        return False
    given = resource.parameters.get
    suffix = given("migration_network_suffix", "")
    hosts = dict(pair.partition("=")[::2] for pair in given("migration_hosts", "").split())
    for node in cluster.nodes.values():
        first, dot, rest = node.id.partition(".")
        suffixed = (f"{first}{suffix}{dot}{rest}", f"{node.id}{suffix}")
        if node.migration not in ((hosts[node.id],) if node.id in hosts else suffixed):
            return True
    return False


def _with_guests(node: NodeFacts) -> Iterator[tuple[Pacemaker, Configuration]]:
    """Yield what is known of a Pacemaker that has guests, where it runs."""
    found = node.pacemaker
    if found and found.runs and found.configuration and found.resources:
        yield found, found.configuration


def _concerned(world: World, node: NodeFacts) -> Iterator[tuple[Pacemaker, Configuration]]:
    """Yield what is known of a Pacemaker that has guests, or is to have some by the pillar."""
    yield from _with_guests(node)
    found = node.pacemaker
    is_empty = found and found.runs and not found.resources
    if world.cluster.ha and is_empty and found and found.configuration:
        yield found, found.configuration


def _unread(node: NodeFacts) -> Iterator[Issue]:
    if node.pacemaker is None:
        yield unreported("what Pacemaker does", node)
    elif node.pacemaker.error:
        yield unknown("not known: Pacemaker cannot be read", f"{SEE}ha.pacemaker")
