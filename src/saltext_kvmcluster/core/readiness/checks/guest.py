"""Checks of guests: unique name, UUID and disks, definition, blockers, freeze, place, guards."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from itertools import islice
from typing import Any

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.facts import starters
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import SEE, Issue, unknown
from saltext_kvmcluster.core.guest import domainxml, store
from saltext_kvmcluster.core.migration.handover import is_strict, risk
from saltext_kvmcluster.core.migration.migration import MOVABLE, UNRUN
from saltext_kvmcluster.core.readiness.checks import devices, guards
from saltext_kvmcluster.core.readiness.checks.base import Use, World, uses
from saltext_kvmcluster.core.text import counted, listed
from saltext_kvmcluster.core.verdicts import Sighting

MAX_NAMED = 5
"""How many others are named for one guest; the rest follow when those are fixed."""

LOCKING_FILES = ("file", "dir", "")
UNREADABLE = "its definition cannot be read"
Close = Callable[[str, str, Mapping[str, Any]], bool]
"""Whether the definition of a guest is needed, by its name, its UUID and libvirt's statistics."""


def matters(guest: domainxml.Guest | None, name: str, uuid: str) -> Close:
    """Return which active guests' definitions are needed to check one guest of this node.

    Those are its own, those of guests of the same name or UUID, and of guests that may use one of
    its disks: by libvirt's statistics, which name every layer by its path. Files have one path;
    any other disk may have several. For a guest with a vsock address of its own it is all.

    guest
        Its definition; None if it is not known.
    """
    layers = [layer for disk in (guest.disks if guest else ()) for layer in disk.layers]
    alone = guest is not None and guest.tuning.cid > 0
    plain = guest is not None and all(layer.kind in LOCKING_FILES for layer in layers)
    own = {layer.path for layer in layers}

    def is_close(other: str, other_uuid: str, stats: Mapping[str, Any]) -> bool:
        count = stats.get("block.count")
        if alone or other == name or other_uuid == uuid or count is None:
            return True
        paths = {stats.get(f"block.{number}.path") for number in range(count)}
        return bool(own & paths if plain else paths)

    return is_close


def name(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether no other guest of any node has its name, unmanaged ones included."""
    others = (other for other in world.by_name[guest.name] if other.uuid != guest.uuid)
    for other in islice(others, MAX_NAMED):
        yield Issue(
            f"{other.node} has another guest of this name, with UUID {other.uuid}",
            f"{_where_at_rest(guest, other)}: virsh domrename {guest.name} ANOTHER",
        )
    yield from world.silence


def uuid(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether no other guest of any node has its UUID, and no node has an old definition of it.

    With ``guests: {definitions: defined}`` every node keeps its definition, shut off. Otherwise a
    definition that was left behind would replace the running one when the guest arrives.
    """
    others = (other for other in world.by_uuid[guest.uuid] if other.name != guest.name)
    for other in islice(others, MAX_NAMED):
        yield Issue(
            f"{other.node} has a guest with the same UUID, {other.name}: {_state(other)}",
            f"{_where_at_rest(guest, other)}: virsh undefine --keep-nvram, if it is not"
            " needed; else virsh dumpxml first, and define it again without its <uuid>",
        )
    for other in world.copies(guest):
        if _is_leftover(world, guest, other):
            yield Issue(
                f"{other.node} has an old definition of it, shut off, that would replace the"
                " running"
                " one",
                f"on {other.node}: virsh undefine --keep-nvram {other.name} (never with"
                " --remove-all-storage or --nvram)",
                destination=other.node,
            )
    yield from world.silence


def disk(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether no other guest uses a disk that it writes, or writes one that it uses.

    Disks that both declare ``<shareable/>`` are shared on purpose. A backing file that another
    guest writes is ruined for all images based on it.
    """
    if guest.active and guest.guest is None:
        yield unknown(f"not known: {UNREADABLE}", f"{SEE}guest.blockers")
    pairs = (
        (use, other)
        for use in uses(guest)
        for key in world.keys(use)
        for other in (world.users if use.writes else world.writers)[key]
        if _clash(use, other)
    )
    clashes = (_clash_issue(world, use, other) for use, other in pairs)
    yield from dict.fromkeys(islice((issue for issue in clashes if issue), MAX_NAMED))
    yield from world.silence


def definition(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether the definition of a listed guest is where the pillar says, valid, and up to date."""
    if guest.name not in world.cluster.guests.list:
        return
    shared = world.cluster.guests.definitions == "shared"
    nodes = [guest.node] if shared else list(world.nodes)
    for node in nodes:
        facts = world.nodes[node]
        text, detail = facts.definitions.get(guest.name), facts.definition_notes.get(guest.name)
        if text is None:
            see = (
                f"on {node}: make its definition readable for root"
                if detail
                else f"{SEE}node.daemon"
            )
            why = f": {detail}" if detail else ""
            yield unknown(f"not known: its definition on {node}{why}", see)
            continue
        if detail:
            yield Issue(
                detail, "remove the definition that is not used, or xmlfile from the pillar"
            )
        if text:
            yield from _compared(world, guest, node, text)
        else:
            yield _undefined(world, guest, node)


def blockers(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether it has nothing that QEMU or libvirt refuses to migrate, and no active job.

    Nor may it have arrived paused and not have run since: QEMU before 10 dies of another migration.

    docs/blockers.md lists what is refused, by whom, and with which versions. Some parts only the
    guest's running QEMU can judge: whether a shared folder (9p) is mounted, and whether the driver
    of a host's PCI, mediated or vDPA device can migrate it. It is asked, past libvirt, which
    notes that in the guest's log (``tainted: custom-monitor``). What a definition hands QEMU past
    libvirt, as ``<qemu:commandline>`` does, is refused, unless the pillar allows it.
    """
    if not guest.active:
        yield unknown("not known for a guest that is not running", f"{SEE}guest.once")
        return
    job = guest.observation.job
    if job:
        yield Issue(f"it has an active job: {job}", devices.job_remedy(guest))
    if guest.observation.sighting not in MOVABLE and job not in verdicts.PASSING:
        waits = guest.observation.sighting in verdicts.WAITING_HALVES
        yield Issue(
            f"it is {_state(guest)}",
            f"kvmcluster.recover {guest.name}"
            if waits
            else f"on {guest.node}: virsh domstate --reason {guest.name}; fix that first",
        )
    yield from _run(guest)
    if guest.snapshots:
        yield Issue(
            f"it has {counted(guest.snapshots, 'snapshot')}, and libvirt does not migrate such a"
            " guest",
            f"virsh snapshot-delete {guest.name} NAME, for each of virsh snapshot-list"
            f" {guest.name}; with --metadata to keep the layers of its disks",
        )
    if guest.guest is None:
        yield unknown(
            f"{UNREADABLE}: {guest.error or 'it was not asked for'}",
            f"on {guest.node}: virsh dumpxml {guest.name}",
        )
    else:
        yield from devices.refused(world, guest, guest.guest)


def _run(guest: GuestFacts) -> Iterator[Issue]:
    """Yield the issue of a paused guest that arrived so, or of which that is not known."""
    if guest.observation.sighting is not Sighting.PAUSED_BY_USER:
        return
    resume = f"on {guest.node}: virsh resume {guest.name}"
    if guest.run is None:
        yield unknown("it is paused, and not known whether it has run since it arrived", resume)
    elif guest.run.dies_of_another:
        yield Issue(f"it arrived {UNRUN}", resume)


def frozen(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether it is not frozen: kept where it is by an administrator."""
    if guest.guest is None:
        yield unknown(f"not known: {UNREADABLE}", f"{SEE}guest.blockers")
        return
    found = guest.guest.frozen or (guest.kept.frozen if guest.kept else None)
    if found:
        yield Issue(
            f"it was frozen {found.since}: {found.reason}",
            f"salt {guest.node} kvmcluster.unfreeze {guest.name}",
        )


def only(world: World, asked: tuple[str, ...], offered: str) -> Iterator[Issue]:
    """Whether the guest's ``only`` in the pillar, if there is one, names the destination.

    It forbids a start there as well. Where a guest runs already it stays, whatever ``only`` says;
    ``kvmcluster.status`` notes it, and ``kvmcluster.balance`` moves it to a node that it names. The
    states of high availability refuse a guest with ``ha`` that runs elsewhere: Pacemaker would move
    it at once, or stop it.
    """
    if offered not in asked:
        yield Issue(f"its only in the pillar names {listed(asked)}, and not the destination")


def allowed(world: World, guest: GuestFacts) -> Hashable:
    """Return the only nodes on which a guest may run, None for all."""
    return world.cluster.guests.only(guest.name) or None


def place(world: World, node: NodeFacts) -> Hashable:
    return node.node if node.daemon else None


def once(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether it is active on exactly one node. During a migration it is on two for a moment."""
    active = [found for found in world.copies(guest) if found.active]
    if not guest.active:
        where = f"; it is on {active[0].node}" if active else ""
        yield Issue(
            f"it is not running on {guest.node}: {_state(guest)} there{where}",
            "run the command on the node where it is running",
        )
    elif double := verdicts.doubled({found.node: found.observation for found in active}):
        which = f"find out which one is current, and stop the other: virsh destroy {guest.name}"
        yield Issue(f"it {double.sentence}", "wait until the job ends" if double.job else which)
    elif len(active) > 1:
        where = " and ".join(f"{_state(found)} on {found.node}" for found in active)
        yield Issue(
            f"it is active {len(active)} times: {where}",
            "if it is being migrated, check again afterwards; if not, a migration left a waiting"
            f" copy behind: virsh domjobinfo {guest.name} on both nodes",
        )
    yield from world.silence


def autostart(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether no node autostarts it: a node that boots would start it a second time.

    Besides libvirt's autostart, always or once, two others start what ran when the node was shut
    down, and of which libvirt keeps a definition: libvirt-guests with ON_BOOT=start, which is its
    default outside of Debian and Ubuntu, and libvirt's daemon where it stops guests itself
    (auto_shutdown_restore, libvirt 11.2 and newer). A guest that is on the list of libvirt-guests
    already, /var/lib/libvirt/libvirt-guests, is started in any case, wherever it runs.
    """
    by_itself = [found.node for found in world.copies(guest) if found.observation.autostart]
    if by_itself:
        yield Issue(
            f"{' and '.join(by_itself)} would start it at the next boot, wherever it runs by then",
            f"on {' and on '.join(by_itself)}: virsh autostart --disable {guest.name}",
        )
    for found in world.copies(guest):
        yield from starters.issues(found.node, found.observation, world.nodes[found.node].starters)
    yield from world.silence


def guard(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether something keeps a second writer on any node off each disk that it writes.

    QEMU's image locks do, on files in a file system whose locks reach the other nodes: NFS without
    nolock and local_lock, GFS2 and OCFS2 without localflocks (OCFS2 not under o2cb), CephFS,
    GlusterFS. A lease of lockd or sanlock does, in a folder on such a file system that is the same
    on all nodes: of this disk, if it is a file or a block device and not shareable; of the whole
    guest, by a ``<lease>`` in its definition, which alone covers network disks. Nothing else does:
    RBD, NBD, iSCSI, LUNs, LVM and DRBD have no lock of their own that QEMU takes. A guest that was
    started before lockd has no lease, and one that it gets by being paused and resumed stays when
    its QEMU ends.
    """
    bare = guards.unguarded(world, guest, world.responding)
    if why := guards.outlives(world, guest):
        yield Issue(why, guards.age_remedy(bare))
    for one, disks in guards.by_cause(bare).items():
        where = f" on {one.node}" if one.node != guest.node else ""
        if one.by == guards.NOT_KNOWN:
            sentence = f"not known whether anything guards {listed(disks)}{where}: {one.why}"
            yield unknown(sentence, one.remedy)
        else:
            sentence = f"nothing keeps a second writer off {listed(disks)}{where}: {one.why}"
            yield Issue(sentence, one.remedy)


def handover(world: World, guest: GuestFacts) -> Iterator[Issue]:
    """Whether its migration cannot run it twice, whatever answer is lost at the switch.

    A strict handover never does. Without one, that takes disks that only one QEMU can write to.
    """
    options = world.cluster.migration.options
    runs = guest.observation.sighting is Sighting.RUNNING
    if is_strict(options, runs):
        return
    bare = guards.unguarded(world, guest, world.responding)
    if why := risk(options, runs, list(dict.fromkeys(disk.target for disk in bare))):
        unread = all(disk.by == guards.NOT_KNOWN for disk in bare)
        yield unknown(*why) if unread else Issue(*why)


def _where_at_rest(guest: GuestFacts, other: GuestFacts) -> str:
    """Return where the one of two guests is that is shut off, or that one has to be shut down."""
    for found in (other, guest):
        if not found.active:
            return f"on {found.node}, where {found.name} is shut off"
    return "shut down one of the two, and on its node"


def _is_leftover(world: World, guest: GuestFacts, other: GuestFacts) -> bool:
    shared = world.cluster.guests.definitions == "shared"
    return shared and other.node != guest.node and not other.active


def _clash(use: Use, other: Use) -> bool:
    """Whether two guests use one path, and one of them writes to it."""
    one, two = use.guest, other.guest
    same_guest = (one.uuid, one.name) == (two.uuid, two.name)
    shared = use.shareable and other.shareable
    return not same_guest and not shared and (use.writes or other.writes)


def _clash_issue(world: World, use: Use, other: Use) -> Issue | None:
    """Return the issue of two guests that use one path; on two nodes it may be two disks."""
    whose = f"{other.guest.name} on {other.guest.node}"
    if use.guest.node != other.guest.node:
        here = world.locate(use.guest.node, use.source)
        there = world.locate(other.guest.node, other.source)
        if here is None or there is None:
            return unknown(
                f"not known whether {whose} uses the same disk {use.source.path}",
                "make sure that findmnt, lsblk and lvs work on both nodes, then check again",
            )
        if not (here.fit and there.fit) or here.identity != there.identity:
            return None
    return Issue(f"{whose} uses its disk {use.source.path}", _separation(other.guest))


def _separation(other: GuestFacts) -> str:
    if other.active:
        return (
            f"shut down one of the two now, and give it another disk: virsh domblklist {other.name}"
        )
    return (
        f"on {other.node}, before {other.name} is started: give it another disk (virsh edit"
        f" {other.name}), or, if it is not needed: virsh undefine --keep-nvram {other.name}"
        " (never with --remove-all-storage)"
    )


def _undefined(world: World, guest: GuestFacts, node: str) -> Issue:
    guests = world.cluster.guests
    if guests.definitions == "defined":
        return Issue(f"{node} has no definition of it", f"on {node}: {_placed(guest)}")
    place = guests.list[guest.name].xmlfile or f"the path {':'.join(guests.path) or '(none)'}"
    return Issue(f"no definition of it at {place}", f"on {node}: {_placed(guest)}")


def _compared(world: World, guest: GuestFacts, node: str, text: str) -> Iterator[Issue]:
    found = world.definition(text)
    if isinstance(found, str):
        yield Issue(f"its definition on {node} is not valid: {found}", _placed(guest))
    elif guest.guest is not None:
        differences = store.differences(found, guest.guest, "defined", "running")
        if differences:
            yield Issue(
                f"its definition on {node} differs from the running one: {listed(differences, 3)}",
                "it takes effect at the guest's next start; to keep the running one, place that:"
                f" virsh dumpxml --inactive {guest.name}",
            )
    elif guest.active:
        yield unknown(f"not known: {UNREADABLE}", f"{SEE}guest.blockers")


def _placed(guest: GuestFacts) -> str:
    return f"place it with the state kvmcluster.guest_placed, from virsh dumpxml {guest.name}"


def _state(guest: GuestFacts) -> str:
    return guest.observation.sighting.value
