"""What is advised where nothing keeps a second writer off a disk: what is left to be done."""

from dataclasses import replace

import pytest
import worlds
from test_guards import AUTO, KNOWS_WEB, LEASES, LUN, NBD, OWN, both, of, only, storage
from worlds import IMAGES

from saltext_kvmcluster.core.readiness.checks.guards import NOTHING
from saltext_kvmcluster.core.readiness.checks.guest import guard
from saltext_kvmcluster.core.storage import disk_guards
from saltext_kvmcluster.core.storage.lock_manager import SANLOCK, LockManager

APPLY = "apply the state kvmcluster.disk_leases on every node"
LEASED = f"""<domain type='kvm'><name>web1</name><uuid>{worlds.UUID}</uuid><devices>
<lease><lockspace>leases</lockspace><key>{worlds.UUID}</key><target path='{IMAGES}'/></lease>
</devices></domain>"""
BARE = "<domain type='kvm'><name>web1</name></domain>"


def wanted(one, text=BARE, listed=("web1",)):
    """Return a world whose pillar wants leases, with the definition of the guest's next start."""
    settings = {"leases": True, "lease_folder": LEASES, "list": {name: {} for name in listed}}
    nodes = {name: replace(facts, definitions={"web1": text}) for name, facts in one.nodes.items()}
    return replace(one, cluster=worlds.cluster(guests={"path": IMAGES, **settings}), nodes=nodes)


OLDER = replace(AUTO, holders=frozenset())


@pytest.mark.parametrize(
    ("one", "remedy"),
    [
        (wanted(both(of(NBD))), f"{APPLY}, then {disk_guards.START_ANEW}"),
        (wanted(both(of(NBD)), LEASED), f"{APPLY}, then {disk_guards.START_ANEW}"),
        (wanted(both(of(NBD), manager=OLDER)), f"{APPLY}, then {disk_guards.START_ANEW}"),
        (wanted(both(of(NBD), manager=OLDER), LEASED), disk_guards.START_ANEW),
        (
            wanted(both(of(NBD), manager=OLDER), LEASED, ()),
            f"add it to guests: list in the pillar, then {APPLY}, then {disk_guards.START_ANEW}",
        ),
        (wanted(both(of(NBD, (OWN,)), manager=OLDER), LEASED), disk_guards.MOVE_ONCE),
        (wanted(both(of(NBD, (OWN,))), LEASED), f"{APPLY}, then {disk_guards.MOVE_ONCE}"),
        (wanted(both(of(NBD, (OWN,)), manager=AUTO, there=LockManager()), LEASED), APPLY),
        (wanted(both(of(LUN))), f"{APPLY}, then {disk_guards.MOVE_ONCE}"),
        (wanted(both(of(LUN), manager=OLDER), LEASED), disk_guards.MOVE_ONCE),
        (
            wanted(both(of(LUN), manager=replace(AUTO, folder="")), LEASED),
            f"{APPLY}, then {disk_guards.MOVE_ONCE}",
        ),
        (both(of(NBD), manager=OLDER), disk_guards.LEASES),
    ],
)
def test_a_remedy_is_what_is_left_to_do_for_that_kind_of_disk(one, remedy):
    assert only(one).by == NOTHING and only(one).remedy == remedy


def test_an_older_guest_is_to_be_migrated_only_where_that_is_enough():
    for text, remedy in ((LEASED, disk_guards.START_ANEW), (BARE, f"{APPLY}, then ")):
        one = wanted(both(of(NBD), manager=OLDER), text)
        (web,) = one.nodes["node1"].guests
        age, bare = guard(one, web)
        assert "started without lockd" in age.sentence and "off vda" in bare.sentence
        assert age.remedy == bare.remedy and age.remedy.startswith(remedy)
        assert disk_guards.MOVE_ONCE not in age.remedy
    one = wanted(both(of(), manager=OLDER), LEASED)
    (age,) = guard(one, one.nodes["node1"].guests[0])
    assert age.remedy == disk_guards.MOVE_ONCE


def test_what_sanlock_and_an_unfit_folder_need_is_not_the_state():
    """The state configures lockd alone, and moves no folder."""
    manager = LockManager(SANLOCK, False, LEASES, holders=KNOWS_WEB)
    for source in (NBD, LUN):
        assert "add a <lease> of sanlock" in only(both(of(source), manager=manager)).remedy
    for kind, options in (("ocfs2", "rw,cluster_stack=o2cb"), ("9p", "rw")):
        found = only(wanted(both(of(LUN), storage(kind, options), AUTO)))
        assert found.remedy.startswith("while all guests are shut down, move the folder")
