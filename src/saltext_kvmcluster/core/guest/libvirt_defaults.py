"""What libvirt fills into a definition by itself, and what it generates for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ANY = None
GENERATED = ("vnet", "macvtap", "macvlan")
"""How the names begin that libvirt gives network devices: VIR_NET_GENERATED_*_PREFIX."""
_MADE: Mapping[str, tuple[str, ...]] = {
    "domain@id": ("",),
    "source@index": ("",),
    "backingStore@index": ("",),
    "disk/target@tray": ("",),
    "source@portid": ("",),
    "console@tty": ("",),
    "channel/target@state": ("",),
    "interface/target@dev": GENERATED,
    "source@path": ("/dev/pts/", "/var/lib/libvirt/qemu/", "/run/libvirt/", "/var/run/libvirt/"),
}
"""What libvirt generates for each run, by the beginning of its values."""

MADE_IN = {"graphics", *(key.partition("@")[0].rpartition("/")[2] for key in _MADE)}
FILLED: Mapping[str, Sequence[str] | None] = {
    "domain/uuid": ANY,
    "domain/currentMemory": ANY,
    "domain/vcpu": ("1",),
    "domain/on_poweroff": ("destroy",),
    "domain/on_reboot": ("restart",),
    "domain/on_crash": ("destroy",),
    "devices/emulator": ANY,
    "resource/partition": ("/machine",),
    "vcpu@placement": ("static",),
    "os/type@arch": ANY,
    "os/type@machine": ANY,
    "boot@dev": ("hd",),
    "gic@version": ANY,
    "loader@format": ("raw",),
    "loader@secure": ("no",),
    "nvram@format": ("raw",),
    "nvram@templateFormat": ("raw",),
    "clock@offset": ("utc",),
    "cpu@mode": ("custom",),
    "cpu@match": ("exact",),
    "cpu@check": ANY,
    "cpu@migratable": ANY,
    "cpu/model": ("qemu64", "qemu32"),
    "cpu/model@fallback": ("allow", "forbid"),
    "topology@dies": ("1",),
    "topology@clusters": ("1",),
    "cell@id": ANY,
    "cell/distances": ANY,
    "hyperv@mode": ("custom",),
    "disk@type": ("file",),
    "disk@device": ("disk",),
    "disk/target@bus": ANY,
    "disk/driver@name": ("qemu",),
    "disk/driver@type": ("raw",),
    "disk/driver@cache": ("default",),
    "disk/backingStore": ANY,
    "backingStore/backingStore": ANY,
    "controller@type": ANY,
    "controller@index": ANY,
    "controller@model": ANY,
    "controller/model@name": ANY,
    "controller/target@chassis": ANY,
    "controller/target@chassisNr": ANY,
    "controller/target@index": ANY,
    "master@startport": ANY,
    "interface/mac": ANY,
    "interface/model@type": ("rtl8139",),
    "serial/target": ANY,
    "target@port": ANY,
    "serial/target@type": ANY,
    "target/model@name": ANY,
    "source@mode": ("bind",),
    "protocol@type": ("raw",),
    "tpm@model": ("tpm-tis", "tpm-spapr"),
    "backend@version": ("1.2", "2.0"),
    "filesystem@type": ("mount",),
    "filesystem@accessmode": ("passthrough",),
    "hostdev@managed": ("no",),
    "shmem/model@type": ("ivshmem",),
    "input@type": ("mouse", "keyboard"),
    "input@bus": ("ps2",),
    "graphics@autoport": ("yes",),
    "graphics@port": ("-1",),
    "graphics@listen": ANY,
    "listen@type": ("address", "none"),
    "listen@address": ANY,
    "audio@id": ANY,
    "audio@type": ANY,
    "video/model@type": ("cirrus", "vga", "virtio"),
    "video/model@heads": ANY,
    "video/model@primary": ("yes",),
    "video/model@ram": ANY,
    "video/model@vram": ANY,
    "video/model@vgamem": ANY,
    "encryption@engine": ("qemu",),
    "source@tls": ANY,
    "disk@snapshot": ("no",),
    "vsock@model": ("virtio",),
    "memballoon@model": ("virtio",),
    "panic@model": ("isa", "pseries", "s390", "pvpanic"),
    "watchdog@model": ("itco",),
    "watchdog@action": ("reset",),
    "graphics@passwd": ANY,
    "source/cookies": ANY,
    "reservations/source": ANY,
}
"""What libvirt fills in where a definition omits it: ``[PARENT/]TAG`` or ``[…]TAG@NAME``, with the
values. See its virDomainDefPostParse and qemuDomainDefPostParse, and what it makes of
the definitions of its own tests.

libvirt 9.1 and newer give a q35 machine its itco watchdog. Passwords and cookies are omitted by
whoever did not ask for them (VIR_DOMAIN_XML_SECURE), and the socket of persistent reservations that
libvirt manages is that of the run. ``source@tls`` is set by qemu.conf once the guest runs, of NBD
and VxHS disks and of TCP character devices (qemuDomainPrepareStorageSourceTLS,
qemuDomainPrepareChardevSourceOne)."""

# virStorageSourceNetworkDefaultPort; rbd and nfs have none.
_PORTS = {
    **{"http": "80", "https": "443", "ftp": "21", "ftps": "990", "tftp": "69", "ssh": "22"},
    **{"nbd": "10809", "iscsi": "3260", "gluster": "24007", "sheepdog": "7000", "vxhs": "9999"},
}


def of_source(attributes: dict[str, str]) -> dict[str, str]:
    """Return a disk's source with the LUN that libvirt adds (virDomainPostParseCheckISCSIPath)."""
    name = attributes.get("name", "")
    if attributes.get("protocol") != "iscsi" or not name or "/" in name:
        return attributes
    return {**attributes, "name": f"{name}/0"}


def of_host(protocol: str, attributes: dict[str, str]) -> dict[str, str]:
    """Return a host of a network disk with what libvirt takes where its definition omits it."""
    found = {"transport": "tcp", **attributes}
    if found["transport"] == "tcp" and protocol in _PORTS:
        found = {"port": _PORTS[protocol], **found}
    return found


def is_made(parent: str, tag: str, name: str, attributes: Mapping[str, str]) -> bool:
    """Whether libvirt generates an attribute for each run."""
    if tag == "graphics" and name in ("port", "tlsPort"):
        return attributes.get("autoport") == "yes"
    made = _MADE.get(f"{tag}@{name}", _MADE.get(f"{parent}/{tag}@{name}"))
    return made is not None and attributes[name].startswith(made)


def fills(parent: str, tag: str, name: str, value: str) -> bool:
    """Whether libvirt fills in an attribute with that value if it is omitted."""
    for key in (f"{parent}/{tag}@{name}", f"{tag}@{name}"):
        if key in FILLED:
            known = FILLED[key]
            return known is ANY or value in known
    return tag == "address" and parent != "source"


def same_value(parent: str, tag: str, name: str, here: str, there: str) -> bool:
    """Whether two values of an attribute mean the same: one is omitted, or libvirt's alias."""
    if not here or not there:
        return fills(parent, tag, name, here or there)
    if f"{tag}@{name}" == "type@machine":
        short, long = sorted((here, there), key=len)
        return long.startswith((f"{short}-", f"pc-{short}-", f"{short}-i440fx-"))
    return False
