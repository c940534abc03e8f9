"""Checks of memory: whether the destination has the hugepages that a guest needs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World

_UNITS = {"K": 1, "M": 1024, "G": 1024 * 1024}
_MAKE_PAGES = (
    "on the destination: make hugepages of that size (sysctl vm.nr_hugepages, or the kernel's"
    " command line), or free some"
)


class Pages(NamedTuple):
    """Memory in KiB by the size of its hugepages in KiB, 0 for the default.

    ``mounted``: they come from a hugetlbfs.
    """

    wanted: tuple[tuple[int, int], ...]
    mounted: bool


class FreePages(NamedTuple):
    """A node's free hugepages by size, the default size, and the sizes of mounted hugetlbfs."""

    free: frozenset[tuple[int, int]] | None
    default: int
    mounts: frozenset[int] | None


def hugepages(world: World, asked: Pages, offered: FreePages) -> Iterator[Issue]:
    """Whether the destination has enough free hugepages of each size that the guest's memory needs.

    QEMU reserves them all when it starts (``prealloc``), in a mounted hugetlbfs of that size unless
    the memory is a memfd (qemuGetDomainHupageMemPath in libvirt's src/qemu/qemu_conf.c).
    """
    if offered.free is None:
        yield unknown(
            "not known: the free hugepages of the destination",
            "on the destination: check /sys/kernel/mm/hugepages, then check again",
        )
        return
    free = dict(offered.free)
    for size, memory in asked.wanted:
        page = size or offered.default
        wanted = -(-memory // page) if page else 0
        words = f"hugepages of {page} KiB" if page else "hugepages"
        if free and not page:
            yield unknown(
                "not known: the default size of hugepages on the destination",
                "on the destination: check Hugepagesize in /proc/meminfo, then check again",
            )
        elif page not in free:
            yield Issue(f"the destination has no {words}", _MAKE_PAGES)
        elif free[page] < wanted:
            yield Issue(
                f"it needs {wanted} {words}, {free[page]} are free on the destination", _MAKE_PAGES
            )
        elif asked.mounted and offered.mounts is None:
            yield unknown(
                "not known: the mounts of the destination, which a hugetlbfs has to be among",
                "on the destination: make sure that findmnt works, then check again",
            )
        elif asked.mounted and page not in (offered.mounts or ()):
            yield Issue(
                f"no hugetlbfs with pages of {page} KiB is mounted on the destination",
                f"on the destination: mount -t hugetlbfs -o pagesize={page}K hugetlbfs FOLDER, in"
                " /etc/fstab too, then restart libvirt's daemon, which looks for it at its start",
            )


def paged(world: World, guest: GuestFacts) -> Hashable:
    if guest.guest is None:
        return UNREAD
    tuned = guest.guest.tuning
    return Pages(tuned.hugepages, tuned.mounted) if tuned.hugepages else None


def free_pages(world: World, node: NodeFacts) -> Hashable:
    if node.daemon is None:
        return None
    has, mounts = node.resources, node.storage.mounts if node.storage else None
    found = [one for one in mounts or () if one.kind == "hugetlbfs"]
    sizes = {size or has.default_page for one in found for size in [_page_size(one.options)]}
    return FreePages(
        None if has.hugepages is None else frozenset(has.hugepages.items()),
        has.default_page,
        None if mounts is None else frozenset(sizes),
    )


def _page_size(options: Iterable[str]) -> int:
    """Return the size of a hugetlbfs's pages in KiB, 0 for the default."""
    for option in options:
        name, _, value = option.partition("=")
        if name == "pagesize" and value[:-1].isdecimal() and value[-1:] in _UNITS:
            return int(value[:-1]) * _UNITS[value[-1]]
    return 0
