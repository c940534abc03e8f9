"""Checks of secrets: whether libvirt on the destination has those that a guest needs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

from saltext_kvmcluster.core.facts.nodefacts import GuestFacts, HeldSecret, NodeFacts
from saltext_kvmcluster.core.findings import UNKNOWN, WARN, Issue, unknown
from saltext_kvmcluster.core.guest.secrets import Secret
from saltext_kvmcluster.core.readiness.checks.base import UNREAD, World


class Secrets(NamedTuple):
    """A node's secrets, and the UUIDs of those whose values are on its disk."""

    held: frozenset[HeldSecret] | None
    values: frozenset[str] | None


def present(world: World, asked: Iterable[Secret], offered: Secrets) -> Iterator[Issue]:
    """Whether libvirt on the destination has each secret of the guest, and a value for it.

    Passphrases of encrypted disks, keys of Ceph and iSCSI, that of an encrypted TPM: libvirt gives
    QEMU the value when the guest arrives (virSecretGetSecretString in src/secret/secret_util.c).
    Values are neither read nor compared; whether an ephemeral secret has one is not known.
    """
    for secret in sorted(asked, key=lambda one: (one.use, one.name)):
        what = f"the secret of {secret.use} ({secret.name})"
        if offered.held is None:
            yield unknown(
                f"not known on the destination: {what}",
                "on the destination: make sure that 'virsh secret-list' works, then check again",
            )
            continue
        found = next((one for one in sorted(offered.held) if _is(secret, one)), None)
        if found is None:
            yield Issue(
                f"{what} does not exist on the destination",
                "on the destination: virsh secret-define, from the source's virsh secret-dumpxml,"
                " then virsh secret-set-value",
            )
        else:
            yield from _without_value(what, found, offered.values)


def needed(world: World, guest: GuestFacts) -> Hashable:
    if guest.guest is None:
        return UNREAD
    return frozenset(guest.guest.secrets) or None


def held(world: World, node: NodeFacts) -> Hashable:
    return Secrets(node.daemon.secrets, node.daemon.secret_values) if node.daemon else None


def _is(secret: Secret, held: HeldSecret) -> bool:
    if secret.uuid:
        return secret.uuid == held.uuid
    return (secret.kind, secret.usage) == (held.kind, held.usage)


def _without_value(what: str, found: HeldSecret, values: frozenset[str] | None) -> Iterator[Issue]:
    set_it = f"on the destination: virsh secret-set-value {found.uuid}"
    if found.ephemeral or values is None:
        why = "it is ephemeral" if found.ephemeral else "/etc/libvirt/secrets cannot be listed"
        yield Issue(
            f"not known whether {what} has a value on the destination: {why}",
            f"{set_it}, if its daemon was restarted since",
            UNKNOWN,
            WARN,
        )
    elif found.uuid not in values:
        yield Issue(f"{what} has no value on the destination", set_it)
