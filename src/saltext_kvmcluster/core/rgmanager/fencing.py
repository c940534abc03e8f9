"""The fence devices of a cluster.conf, and in which order they are tried, for the pillar."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from saltext_kvmcluster.core.rgmanager.elements import Element, is_in, is_secret
from saltext_kvmcluster.core.rgmanager.fates import (
    FENCER,
    SECRET,
    UNFENCED,
    UNUSED_DEVICE,
    Fate,
    without_agent,
)
from saltext_kvmcluster.core.rgmanager.nodes import Nodes
from saltext_kvmcluster.core.rgmanager.refusals import Pillar, refusal

SECRETS_FOLDER = "/etc/kvmcluster"
_RENAMED = {
    "ipaddr": "ip",
    "ipaddress": "ip",
    "hostname": "ip",
    "login": "username",
    "passwd": "password",
    "passwd_script": "password_script",
    "cmd_prompt": "command_prompt",
    "secure": "ssh",
    "sudo": "use_sudo",
    "ribcl": "ribcl_version",
    "debug": "debug_file",
}
"""What options of fence agents are called today (fence-agents 4.12 takes both, and says which)."""
_PORTS = ("port", "plug", "domain", "blade", "partition")
_TOLD = ("action", "option", "nodename")
_NO_OPTIONS = ("name", "agent", *_TOLD, *_PORTS)

Own = tuple[tuple[str, str], ...]


@dataclass
class _Device:
    """A device of the pillar: one of the file, with the options that some nodes add to it."""

    name: str
    source: Element
    own: Own
    ports: dict[str, str] = field(default_factory=dict)

    def to_pillar(self) -> Pillar:
        options, secrets = {}, {}
        for attribute, value in (*_options(self.source), *self.own):
            option = _RENAMED.get(attribute, attribute)
            if is_secret(attribute):
                secrets[option] = f"{SECRETS_FOLDER}/{self.name}.{option}"
            else:
                options[option] = value
        # Pacemaker gives a node's name for a port that is not known.
        ports = {node: port or node for node, port in self.ports.items()}
        return {
            "agent": self.source.given.get("agent", ""),
            "nodes": ports if any(self.ports.values()) else [*ports],
            **({"options": options} if options else {}),
            **({"secrets": secrets} if secrets else {}),
        }


class _Devices:
    """The imported devices, by what the file says of them."""

    def __init__(self, sources: dict[str, Element], nodes: Nodes) -> None:
        self.sources = sources
        self.nodes = nodes
        self.known: dict[tuple[str, Own], _Device] = {}

    def of(self, method: Element, node: str) -> list[_Device] | str:
        """Import the devices of a node's method, and return them; or why that is impossible."""
        found: dict[tuple[str, Own], list[str]] = {}
        parts = [part for part in method.children if part.tag == "device"]
        for part in parts:
            if part.given.get("name", "") not in self.sources:
                return f"no fence device of the name {part.given.get('name', '')!r} was imported"
            ports = found.setdefault((part.given["name"], _options(part)), [])
            port = next((part.given[key] for key in _PORTS if part.given.get(key)), "")
            if port and port not in ports:
                ports.append(port)
        if not parts:
            return "it has no device"
        devices = []
        for key, ports in found.items():
            device = self._wanted(key, node, ",".join(ports))
            if isinstance(device, str):
                return device
            devices.append(device)
        for key, device in zip(found, devices, strict=True):
            self.known[key] = device
        for part in parts:
            _use(part)
        return devices

    def _wanted(self, key: tuple[str, Own], node: str, port: str) -> _Device | str:
        known = self.known.get(key) or self._new(key, node)
        if known.ports.get(node, port) != port:
            return f"another method of the node uses {known.name} with another port"
        device = replace(known, ports={**known.ports, node: port})
        body = device.to_pillar()
        texts = (device.name, *device.ports.values(), *body.get("options", {}).values())
        fencing = {"devices": {device.name: body}}
        return refusal({"nodes": self.nodes.bodies, "ha": {"fencing": fencing}}, *texts) or device

    def _new(self, key: tuple[str, Own], node: str) -> _Device:
        source, own = key
        name = f"{source}-{node}" if source in self.names else source
        return _Device(name, self.sources[source], own)

    @property
    def names(self) -> set[str]:
        return {device.name for device in self.known.values()}


def take_fencing(parts: list[Element], nodes: Nodes) -> Pillar:
    """Return the pillar's part about fencing, empty if nothing of it can be imported."""
    devices = _Devices(_sources(parts), nodes)
    levels: Pillar = {}
    for part in parts:
        if part.tag == "clusternode" and part.imported:
            node = part.given["name"]
            found = _levels(part, node, devices)
            if not found:
                part.remark(None, None, UNFENCED)
            elif len(found) > 1 or isinstance(found[0], list):
                levels[node] = found
    for name, source in devices.sources.items():
        if any(name == key for key, _ in devices.known):
            source.imported = True
            _use(source)
        else:
            source.drop(UNUSED_DEVICE)
    if not devices.known:
        return {}
    bodies = {device.name: device.to_pillar() for device in devices.known.values()}
    return {"devices": bodies, **({"levels": levels} if levels else {})}


def _sources(parts: list[Element]) -> dict[str, Element]:
    """Return the fence devices of the file that can be imported, by name."""
    sources: dict[str, Element] = {}
    for part in parts:
        if part.tag != "fencedevice" or not is_in(part, "fencedevices"):
            continue
        name = part.given.get("name", "")
        why = without_agent(part.given.get("agent", ""))
        if not name.strip():
            why = "it has no name"
        elif name in sources:
            why = f"{name} is defined twice; the first definition is used"
        if why:
            part.drop(why)
        else:
            sources[name] = part
    return sources


def _levels(clusternode: Element, node: str, devices: _Devices) -> list[str | list[str]]:
    """Import the fencing of a node; return the names of its devices, level by level."""
    levels: list[str | list[str]] = []
    for fence in clusternode.children:
        if fence.tag != "fence":
            continue
        fence.imported = True
        for method in fence.children:
            if method.tag != "method":
                continue
            found = devices.of(method, node)
            if isinstance(found, str):
                method.drop(found)
                continue
            method.imported = True
            method.left.pop("name", None)
            names = [device.name for device in found]
            levels.append(names[0] if len(names) == 1 else names)
    return levels


def _options(part: Element) -> Own:
    """Return what an element says of a device, without what the cluster manager says itself."""
    return tuple(
        (name, value)
        for name, value in part.given.items()
        if name not in _NO_OPTIONS and value.strip()
    )


def _use(part: Element) -> None:
    """Take the attributes of a device out of its element; of a secret it is told that it was."""
    part.imported = True
    for attribute, value in part.given.items():
        if attribute in _TOLD and value.strip():
            part.remark(attribute, value, FENCER)
        elif is_secret(attribute) and value.strip():
            part.remark(attribute, value, Fate(*SECRET))
        else:
            part.take(attribute)
