"""Checks of emulators: whether the destination's QEMU has what the guest's is made of."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from saltext_kvmcluster.core.facts import emulators, questions
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, NodeFacts
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.guest.kinds import Kind
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World


class Wanted(NamedTuple):
    """The emulator of a guest, by its key, and the kinds of devices that it has to have."""

    key: str
    kinds: frozenset[Kind]


Offered = frozenset[tuple[str, frozenset[tuple[str, frozenset[str]]]]]


def devices(world: World, asked: Wanted, offered: Offered) -> Iterator[Issue]:
    """Whether the destination's QEMU has each kind of device of the guest.

    Distributions split QEMU into packages, and drop devices: Spice, QXL, a TPM's emulator. libvirt
    on the destination is asked for its domain capabilities, which tell of disks on USB and SATA,
    screens, video cards, random number sources, shared folders, TPMs, USB redirection, passt,
    panic devices and memfd. Other devices they do not list.
    """
    has = dict(offered).get(asked.key)
    if has is None:
        yield unknown(
            "libvirt on the destination does not tell which devices its QEMU has",
            "fix node.versions first, if it has a finding; else on the destination: virsh"
            " domcapabilities",
        )
        return
    for kind in sorted(asked.kinds):
        if emulators.lacks(dict(has), *kind):
            yield Issue(
                f"the destination's QEMU, or its host, has no {kind.device} {kind.value}"
                f" ({kind.enum})",
                "install on the destination the packages of QEMU that the source has: virsh"
                " domcapabilities on both shows the difference",
            )


def wanted(world: World, guest: GuestFacts) -> Hashable:
    if guest.guest is None:
        return UNREAD
    kinds = guest.guest.kinds
    return Wanted(questions.emulator_key(asked_emulator(guest)), kinds) if kinds else None


def asked_emulator(guest: GuestFacts) -> Mapping[str, str]:
    """Return the emulator of a guest that the destination is asked about, empty if it is not."""
    found = guest.guest
    if found is None or not found.kinds:
        return {}
    values = (found.type, found.arch, found.machine, found.emulator)
    return dict(zip(questions.EMULATOR, values, strict=True))


def known(world: World, node: NodeFacts) -> Hashable:
    if node.daemon is None:
        return None
    return frozenset(
        (key, frozenset(found.items())) for key, found in node.daemon.emulators.items()
    )
