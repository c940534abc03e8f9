"""The secrets of libvirt that a guest needs, by its definition: their names, never their values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

_KINDS = {"passphrase": "volume"}
"""The kind of a secret's usage, where ``<secret type=>`` has another word for it."""


@dataclass(frozen=True)
class Secret:
    """A secret, by its UUID or else by its kind (volume, ceph, iscsi, vtpm) and usage.

    ``use`` is what it is for, in words.
    """

    use: str
    kind: str
    uuid: str = ""
    usage: str = ""

    @property
    def name(self) -> str:
        """Its name, as libvirt's errors call it."""
        return f"UUID {self.uuid}" if self.uuid else f"usage {self.kind} {self.usage}"


def find(root: etree._Element) -> tuple[Secret, ...]:
    """Return the secrets whose values libvirt gives QEMU or swtpm when the guest arrives.

    Of devices, and of an nvram on a server. See libvirt's qemuDomainSecretInfoSetup and
    qemuTPMSetupEncryption, "Secret XML format".
    """
    return tuple(dict.fromkeys(_secrets(root)))


def _secrets(root: etree._Element) -> Iterator[Secret]:
    for device in (*root.iterfind("devices/*"), *root.iterfind("os/nvram")):
        target = device.find("target")
        name = target.get("dev", "") if target is not None else ""
        for secret in device.iter("secret"):
            kind = secret.get("type", "")
            uuid, usage = secret.get("uuid", "").lower(), secret.get("usage", "")
            if uuid or usage:
                use = f"{device.tag} {name}".strip()
                yield Secret(use, _KINDS.get(kind, kind), uuid, "" if uuid else usage)
        if device.tag == "tpm":
            for encryption in device.iterfind("backend/encryption"):
                yield Secret("TPM", "vtpm", encryption.get("secret", "").lower())
