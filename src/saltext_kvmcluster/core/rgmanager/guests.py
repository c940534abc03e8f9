"""The guests of a cluster.conf, and their definitions."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from saltext_kvmcluster.core.rgmanager.elements import Element
from saltext_kvmcluster.core.rgmanager.fates import CHANGED, LEFT, Fate
from saltext_kvmcluster.core.rgmanager.refusals import ROOT, Pillar, refusal

XEN_FOLDER = "/etc/xen"
INSIDE_A_GUEST = Fate(
    CHANGED,
    "it was inside another guest and started after it; here guests do not depend on each other",
)


def take_guests(vms: Iterable[Element]) -> dict[str, Element]:
    """Return the guests that can be imported, by name; the others get the reason why not."""
    guests: dict[str, Element] = {}
    for part in vms:
        name = part.given.get("name", "")
        twice = f"{name} is defined twice; the first definition is used"
        why = twice if name in guests else _no_guest(part, name)
        if why:
            part.drop(why)
            continue
        part.take("name")
        part.imported = True
        guests[name] = part
        if part.inside("vm"):
            part.remark(None, None, INSIDE_A_GUEST)
    return guests


def _no_guest(part: Element, name: str) -> str | None:
    """Return why a <vm> cannot be a guest here; None if it can."""
    if "ref" in part.given and not name:
        return "it refers to a guest in <resources>, which is imported instead"
    if (
        part.given.get("hypervisor", "").strip().lower() == "xen"
        or part.given.get("use_virsh", "").strip() == "0"
        or part.given.get("hypervisor_uri", "").strip().lower().startswith("xen")
        or part.given.get("migration_uri", "").strip().lower().startswith("xen")
    ):
        return "it is a Xen guest; nodes here run QEMU/KVM"
    return refusal({"guests": {"list": {name: {}}}}, name)


def listed_guests(guests: Mapping[str, Element], available: Mapping[str, Pillar]) -> Pillar:
    """Return the pillar's part about guests, empty if there are none.

    available
        By guest its ``ha``, and where it runs.
    """
    if not guests:
        return {}
    folders: dict[str, None] = {}
    bodies: Pillar = {}
    for name, part in guests.items():
        given = {"xmlfile": _xmlfile(part, name), **available.get(name, {})}
        bodies[name] = {key: value for key, value in given.items() if value}
        folders.update(dict.fromkeys(_folders(part)))
    if not folders and not any("xmlfile" in body for body in bodies.values()):
        return {"definitions": "defined", "list": bodies}
    for name, part in guests.items():
        _remark_on_definition(part, bodies[name], folders)
    path = {"path": ":".join(folders)} if folders else {}
    return {"definitions": "shared", **path, "list": bodies}


def _xmlfile(part: Element, name: str) -> str | None:
    file = part.take("xmlfile")
    why = refusal({"guests": {"list": {name: {"xmlfile": file}}}}, file) if file else None
    if why:
        part.remark("xmlfile", file, Fate(LEFT, why))
    return None if why else file


def _folders(part: Element) -> list[str]:
    """Return the folders of a guest's search path that can be imported."""
    if part.given.get("xmlfile", "").strip():
        if value := part.take("path"):
            part.remark("path", value, Fate(LEFT, "xmlfile overrides it, as in RGManager"))
        return []
    fit = []
    for folder in filter(None, (part.take("path") or "").split(":")):
        if posixpath.normpath(folder) == XEN_FOLDER:
            part.remark("path", folder, Fate(LEFT, "RGManager ignored it for libvirt"))
        elif why := refusal({"guests": {"path": folder}}, folder):
            part.remark("path", folder, Fate(LEFT, why))
        else:
            fit.append(folder)
    return fit


def _remark_on_definition(part: Element, body: Pillar, folders: Mapping[str, None]) -> None:
    """Add a remark if a guest's definition is searched elsewhere than before."""
    if "xmlfile" in body:
        return
    path = part.given.get("path", "")
    own = [folder for folder in path.split(":") if folder in folders]
    if not own:
        why = (
            "its definition was in libvirt or in a folder of one host alone; here definitions"
            f" are shared: set {ROOT}:guests:list:{part.given['name']}:xmlfile, or put it into a"
            " folder of guests:path"
        )
        part.remark(None, None, Fate(CHANGED, why))
    elif len(set(own)) < len(folders) or list(dict.fromkeys(own)) != list(folders):
        why = "all guests have one search path: the folders of all, in the file's order"
        part.remark("path", path, Fate(CHANGED, why))
