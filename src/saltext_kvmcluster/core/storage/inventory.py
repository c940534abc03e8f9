"""A node's storage by its tools' output: mounts, devices, volumes, replicas, multipath maps.

Each parser takes a tool's output, and raises InputError with the reason where that cannot be relied
on: the output comes from another node, and may be anything.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.storage import drbd, nvme
from saltext_kvmcluster.core.storage.outputs import NOT_INSTALLED, Output, Outputs, items, text

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "mounts": ("cat", "/proc/self/mountinfo"),
    # Only columns that util-linux 2.27 knows: lsblk refuses to run with one that it does not.
    "devices": ("lsblk", "-J", "-p", "-o", "NAME,KNAME,MAJ:MIN,TYPE,UUID,PARTUUID,WWN,TRAN"),
    "controllers": nvme.COMMAND,
    "links": (
        *("find", "/dev", "(", "-path", "/dev/char", "-o", "-path", "/dev/block", ")", "-prune"),
        *("-o", "-type", "l", "-printf", "%p\\t%l\\n"),
    ),
    "volumes": (
        *("lvs", "--reportformat", "json"),
        *("-o", "lv_path,lv_dm_path,lv_uuid,vg_name,vg_attr,lv_attr"),
    ),
    "maps": ("multipathd", "show", "maps", "json"),
    **drbd.COMMANDS,
}
"""What is run on a node to collect its storage facts."""

MAX_PATH = 4096
"""PATH_MAX of Linux, in bytes; anything longer is not a path."""

_HOPS = 40
_T = TypeVar("_T")
# Zeros, and what Linux's tgt and iscsitarget give to target N, LUN M on any server.
_NO_WWN = re.compile(r"(naa\.|eui\.)?(0*|60000000000000000e0000000[0-9a-f]{7})")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One mounted file system. ``device`` is its source, ``number`` its MAJOR:MINOR."""

    folder: str
    kind: str
    device: str
    number: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device:
    """One block device, by lsblk and udev; unknown values are empty.

    ``path`` is the kernel's name for it, ``name`` the usual one, ``parents`` the paths of the
    devices that it is made of, ``partition`` its PARTUUID, ``uuid`` that of its file system.
    """

    path: str
    type: str
    name: str = ""
    number: str = ""
    wwn: str = ""
    transport: str = ""
    uuid: str = ""
    partition: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume:
    """One logical volume. ``shared``: its group is clustered or under lvmlockd."""

    path: str
    mapped: str
    uuid: str
    group: str
    shared: bool
    active: bool


@dataclass(frozen=True)
class Map:
    """One multipath map: the LUN's identity, and how many of its paths work."""

    path: str
    wwn: str
    working: int
    paths: int


@dataclass(frozen=True)
class StorageFacts:
    """A node's storage facts; None where an installed tool failed.

    ``links`` holds the targets of symbolic links, of /dev and of the paths that were asked about.
    ``detail`` holds the reason of each part that is None.
    """

    mounts: tuple[Mount, ...] | None = None
    devices: tuple[Device, ...] | None = None
    volumes: tuple[Volume, ...] | None = None
    replicas: tuple[drbd.Replica, ...] | None = None
    maps: tuple[Map, ...] | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    detail: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def mount_at(self) -> Mapping[str, Mount]:
        return {mount.folder: mount for mount in self.mounts or ()}

    @cached_property
    def device_at(self) -> Mapping[str, Device]:
        found = {device.name: device for device in self.devices or () if device.name}
        return found | {device.path: device for device in self.devices or ()}

    @cached_property
    def device_numbered(self) -> Mapping[str, Device]:
        return {device.number: device for device in self.devices or ()}

    @cached_property
    def volume_at(self) -> Mapping[str, Volume]:
        found = {volume.mapped: volume for volume in self.volumes or ()}
        return found | {volume.path: volume for volume in self.volumes or ()}

    @cached_property
    def replica_numbered(self) -> Mapping[int, drbd.Replica]:
        return {replica.minor: replica for replica in self.replicas or ()}

    @cached_property
    def map_at(self) -> Mapping[str, Map]:
        return {one.path: one for one in self.maps or ()}

    @cached_property
    def names_of(self) -> Mapping[str, tuple[str, ...]]:
        """The links in /dev, by the path that they lead to."""
        found: dict[str, tuple[str, ...]] = {}
        for link in sorted(self.links):
            if link.startswith("/dev/"):
                real = self.real(link)
                found[real] = (*found.get(real, ()), link)
        return found

    def real(self, path: str) -> str:
        """Return a path with its known links resolved; see path_resolution(7)."""
        found, ahead, hops = "/", path.split("/")[::-1], 0
        while ahead:
            part = ahead.pop()
            here = posixpath.join(found, part)
            if part == "..":
                found = posixpath.dirname(found)
            elif part in ("", "."):
                continue
            elif here in self.links and hops < _HOPS:
                hops += 1
                target = self.links[here]
                found = "/" if target.startswith("/") else found
                ahead += target.split("/")[::-1]
            else:
                found = here
        return found


def parse(outputs: Mapping[str, Output]) -> StorageFacts:
    """Return the facts by the outputs of COMMANDS; invalid ones are None, with the reason."""
    reported, detail = Outputs(COMMANDS, outputs), dict[str, str]()

    def read(part: str, reader: Callable[[Outputs], _T]) -> _T | None:
        try:
            return reader(reported)
        except InputError as error:
            detail[part] = str(error)
            return None

    return StorageFacts(
        mounts=read("mounts", _mounts),
        devices=read("devices", _devices),
        volumes=read("volumes", _volumes),
        replicas=read("replicas", drbd.replicas),
        maps=read("maps", _maps),
        links=read("links", _links) or {},
        detail=detail,
    )


def _mounts(outputs: Outputs) -> tuple[Mount, ...]:
    """Parse /proc/self/mountinfo; see proc(5). Hidden mounts are left out."""
    rows = [_mount(line) for line in outputs.text("mounts").split("\n") if line]
    by_id = {row.id: row for row in rows}
    if len(by_id) != len(rows):
        raise InputError("the list of mounts has a duplicate number")
    over = {(row.parent, row.mount.folder): row for row in rows if row.parent != row.id}
    roots = [
        row
        for row in rows
        if row.mount.folder == "/" and (row.parent == row.id or row.parent not in by_id)
    ]
    if not roots:
        raise InputError("the list of mounts has no root")
    return tuple(row.mount for row in rows if _reached(row.mount.folder, roots[0], over) is row)


class _Row(NamedTuple):
    id: str
    parent: str
    mount: Mount


def _mount(line: str) -> _Row:
    before, dash, after = line.partition(" - ")
    fields, rest = before.split(" "), after.split(" ", 2)
    if not dash or len(fields) < 6 or len(rest) < 3:
        raise InputError("the list of mounts has an invalid line")
    number, parent, device = fields[:3]
    kind, source, options = rest
    folder = _unescaped(fields[4])
    if len(folder) > MAX_PATH:
        raise InputError("the list of mounts has a path longer than PATH_MAX")
    mount = Mount(folder, kind, _unescaped(source), device, tuple(options.split(",")))
    return _Row(number, parent, mount)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


def _reached(folder: str, root: _Row, over: Mapping[tuple[str, str], _Row]) -> _Row:
    """Return the mount that holds a folder, found by a walk from the root."""
    here = root
    for step in _steps(folder):
        while (here.id, step) in over:
            here = over[here.id, step]
    return here


def _steps(folder: str) -> Iterator[str]:
    yield "/"
    at = 1
    while folder != "/":
        at = folder.find("/", at)
        if at < 0:
            yield folder
            return
        yield folder[:at]
        at += 1


def _devices(outputs: Outputs) -> tuple[Device, ...]:
    """Parse ``lsblk -J``, which lists a device below each device that it is made of."""
    found: dict[str, Device] = {}
    parents: dict[str, set[str]] = {}
    ahead = [(item, "") for item in items(outputs.document("devices"), "blockdevices")]
    while ahead:
        item, parent = ahead.pop()
        device = _device(item)
        found[device.path] = device
        parents.setdefault(device.path, set()).update({parent} if parent else ())
        ahead += [(child, device.path) for child in items(item, "children")]
    controllers = nvme.Controllers(_controllers(outputs))
    return tuple(
        replace(
            device,
            parents=tuple(sorted(parents[path])),
            transport=nvme.FABRICS if controllers.are_remote(path) else device.transport,
        )
        for path, device in found.items()
    )


def _controllers(outputs: Outputs) -> str:
    """Return the list of NVMe controllers; without it each of their devices counts as local."""
    return outputs.text("controllers") if outputs.code("controllers") == 0 else ""


def _device(item: Mapping[str, Any]) -> Device:
    return Device(
        path=_full(text(item, "kname"), "/dev/"),
        type=text(item, "type"),
        name=_full(text(item, "name"), "/dev/mapper/"),
        number=text(item, "maj:min").strip(),
        wwn=_wwn(text(item, "wwn")),
        transport=text(item, "tran"),
        uuid=text(item, "uuid"),
        partition=text(item, "partuuid"),
    )


def _full(name: str, folder: str) -> str:
    return name if name.startswith("/") else folder + name


def _wwn(text: str) -> str:
    """Return a WWN in canonical form, empty for one that identifies nothing."""
    wwn = text.strip().lower().removeprefix("0x")
    return "" if _NO_WWN.fullmatch(wwn) else wwn


def _volumes(outputs: Outputs) -> tuple[Volume, ...]:
    """Parse lvs's report; see lvs(8) and vgs(8) for the letters of the two attr fields.

    lvs exits with 5 where it had to skip a group, and reports the others nevertheless.
    """
    if outputs.code("volumes") == NOT_INSTALLED:
        return ()
    reports = items(outputs.document("volumes", 5), "report", wanted=True)
    return tuple(_volume(item) for report in reports for item in items(report, "lv"))


def _volume(item: Mapping[str, Any]) -> Volume:
    return Volume(
        path=text(item, "lv_path"),
        mapped=text(item, "lv_dm_path"),
        uuid=text(item, "lv_uuid"),
        group=text(item, "vg_name"),
        shared=text(item, "vg_attr")[5:6] in ("c", "s"),
        active=text(item, "lv_attr")[4:5] == "a",
    )


def _maps(outputs: Outputs) -> tuple[Map, ...]:
    """Parse ``multipathd show maps json``; see multipathd(8)."""
    if outputs.code("maps") == NOT_INSTALLED:
        return ()
    return tuple(_map(item) for item in items(outputs.document("maps"), "maps", wanted=True))


def _map(item: Mapping[str, Any]) -> Map:
    paths = [path for group in items(item, "path_groups") for path in items(group, "paths")]
    working = [path for path in paths if text(path, "dm_st") == "active"]
    # The map's WWID begins with the kind of number, 3 for the NAA and 2 for the EUI-64 that
    # udev takes for the WWN; see scsi_id(8).
    wwid = re.fullmatch(r"[23]([0-9a-f]{16}|[0-9a-f]{32})", text(item, "uuid"))
    return Map(
        _full(text(item, "sysfs"), "/dev/"), wwid[1] if wwid else "", len(working), len(paths)
    )


def _links(outputs: Outputs) -> dict[str, str]:
    """Parse the symbolic links; find exits with 1 if one of them vanished in the meantime."""
    lines = [line.split("\t") for line in outputs.text("links", 1).split("\n")]
    return {
        line[0]: line[1] for line in lines if len(line) == 2 and max(map(len, line)) <= MAX_PATH
    }
