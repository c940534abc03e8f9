"""Which definition of a guest is left where: libvirt's own 16 cases, and what we make of them.

What libvirt does here is what the simulated one has to do, too.
"""

import itertools
import re

import pytest

GUEST = "kept"
FLAGS = ("--undefinesource", "--persistent")
# libvirt's table ("Configuration file handling" in its documentation of migration): was it
# persistent, had the destination a definition, --undefinesource, --persistent; what is left then:
# whether it is persistent there, and whose definition the source and the destination keep.
TABLE = [
    ((0, 0, 0, 0), (False, None, None)),
    ((0, 0, 1, 0), (False, None, None)),
    ((0, 0, 0, 1), (True, None, "running")),
    ((0, 0, 1, 1), (True, None, "running")),
    ((0, 1, 0, 0), (True, None, "old")),
    ((0, 1, 1, 0), (True, None, "old")),
    ((0, 1, 0, 1), (True, None, "running")),
    ((0, 1, 1, 1), (True, None, "running")),
    ((1, 0, 0, 0), (False, "source", None)),
    ((1, 0, 1, 0), (False, None, None)),
    ((1, 0, 0, 1), (True, "source", "source")),
    ((1, 0, 1, 1), (True, None, "source")),
    ((1, 1, 0, 0), (True, "source", "old")),
    ((1, 1, 1, 0), (True, None, "old")),
    ((1, 1, 0, 1), (True, "source", "source")),
    ((1, 1, 1, 1), (True, None, "source")),
]


@pytest.fixture(scope="module")
def guest(prepared_lab):
    prepared_lab.guest(GUEST, "node1")
    yield prepared_lab
    clean(prepared_lab)
    prepared_lab.stop_guest(GUEST)


def virsh(lab, node, *arguments, **more):
    return lab.exec(node, "virsh", *arguments, **more)


def names(lab, node, *options):
    return virsh(lab, node, "list", "--name", *options).split()


def where(lab):
    (node,) = [node for node in lab.nodes if GUEST in names(lab, node, "--state-running")]
    return node


def another(lab, source):
    return next(node for node in lab.nodes if node != source)


def clean(lab):
    """Leave the guest transient, and no definition of it anywhere.

    Where it was undefined while it ran, libvirt still has its definition in mind, and would hand
    it on with --persistent: only on another node it is as if it had never had one.
    """
    here = where(lab)
    defined = [node for node in lab.nodes if GUEST in names(lab, node, "--all", "--persistent")]
    for node in defined:
        virsh(lab, node, "undefine", GUEST)
    if here in defined:
        lab.move_by_hand(GUEST, here, another(lab, here))


def titled(definition, title):
    """Return a definition that can be told from others."""
    plain = re.sub(r"\s*<title>.*?</title>", "", definition)
    return plain.replace("</uuid>", f"</uuid><title>{title}</title>", 1)


def prepared(lab, persistent, known):
    """Make the guest what it is to be before, and return where it is and where it is to go."""
    clean(lab)
    source = where(lab)
    destination = another(lab, source)
    virsh(lab, source, "desc", GUEST, "--live", "--title", "running")
    definition = virsh(lab, source, "dumpxml", "--migratable", GUEST)
    for node, title, wanted in ((source, "source", persistent), (destination, "old", known)):
        if wanted:
            virsh(lab, node, "define", "/dev/stdin", stdin=titled(definition, title))
    return source, destination


def kept(lab, node):
    """Return the title of the definition that a node keeps, None if it keeps none."""
    if GUEST not in names(lab, node, "--all", "--persistent"):
        return None
    return virsh(lab, node, "desc", GUEST, "--config", "--title").strip()


def left(lab, source, destination):
    assert where(lab) == destination
    persistent = GUEST in names(lab, destination, "--state-running", "--persistent")
    return persistent, kept(lab, source), kept(lab, destination)


def case(before):
    words = ("persistent", "known", "undefine", "persist")
    return "-".join(word for word, is_so in zip(words, before, strict=True) if is_so) or "nothing"


def test_the_table_has_every_case():
    assert sorted(before for before, _ in TABLE) == sorted(itertools.product((0, 1), repeat=4))


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("before", "after"), [pytest.param(*row, id=case(row[0])) for row in TABLE]
)
def test_what_libvirt_leaves(guest, before, after):
    persistent, known, *wanted = before
    source, destination = prepared(guest, persistent, known)
    flags = [flag for flag, is_wanted in zip(FLAGS, wanted, strict=True) if is_wanted]
    guest.move_by_hand(GUEST, source, destination, *flags)
    assert left(guest, source, destination) == after


# What the pillar says of definitions, was it persistent, had the destination a definition; what is
# left then, or the check that refuses to begin.
OURS = [
    ("shared", (0, 0), (False, None, None)),
    ("shared", (0, 1), "guest.uuid"),
    ("shared", (1, 0), (True, None, "source")),
    ("shared", (1, 1), "guest.uuid"),
    ("defined", (0, 0), (False, None, None)),
    # Definitions are an operator's there, on every node: this one is not taken away.
    ("defined", (0, 1), (True, None, "old")),
    ("defined", (1, 0), (True, "source", "source")),
    ("defined", (1, 1), (True, "source", "source")),
]


@pytest.fixture(scope="module")
def definitions(guest, request):
    """Have the pillar say where definitions are kept."""

    with guest.pillar() as pillar:
        pillar.cluster["guests"] |= {"definitions": request.param}
        pillar.save()
        guest.refresh_pillar()
        yield request.param
    guest.refresh_pillar()


@pytest.mark.parametrize(
    ("definitions", "before", "after"),
    [pytest.param(*row, id=f"{row[0]}-{case((*row[1], 0, 0))}") for row in OURS],
    indirect=["definitions"],
)
def test_what_we_leave(guest, definitions, before, after):
    source, destination = prepared(guest, *before)
    done = guest.salt(source, "kvmcluster.migrate", GUEST, destination)
    if isinstance(after, str):
        assert after in done and where(guest) == source
        assert kept(guest, destination) == "old"
    else:
        assert done["result"] == "moved", done
        assert left(guest, source, destination) == after, done
        for node, kind in itertools.product((source, destination), ((), ("--inactive",))):
            found = guest.exec(node, "virsh", "dumpxml", *kind, GUEST, check=False)
            assert "handover" not in found, "the mark is on the copy alone, and while it waits"
