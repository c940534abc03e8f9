"""Parsers of what a host's tools print: memory, names, links, ports, QEMU's settings.

Each takes a program's output and returns None where that cannot be relied on.
"""

from __future__ import annotations

import ipaddress
import json
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lxml import etree

from saltext_kvmcluster.core import cordons, xmltext
from saltext_kvmcluster.core.cordons import Cordon
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pacemaker import corosync, pacemaker_tools
from saltext_kvmcluster.core.storage import lock_manager
from saltext_kvmcluster.core.storage.lock_manager import LockManager

PORTS = (49152, 49215)
PKI = "/etc/pki"
SETTINGS = (
    *("lock_manager", "migration_port_min", "migration_port_max"),
    *("migrate_tls_x509_cert_dir", "default_tls_x509_cert_dir"),
    *("auto_shutdown_try_save", "auto_shutdown_try_shutdown"),
    *("auto_shutdown_poweroff", "auto_shutdown_restore"),
    *("migrate_tls_x509_verify", "default_tls_x509_verify", "cgroup_controllers"),
)
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "clock": ("date", "+%s.%N"),
    "memory": ("cat", "/proc/meminfo"),
    "host_name": ("hostname",),
    "resolves": ("hostname", "-i"),
    "bridges": ("ip", "-j", "address", "show"),
    "listening": ("ss", "-Htuln"),
    "nonlocal_bind": (
        *("grep", "-Hs", "1", "/proc/sys/net/ipv4/ip_nonlocal_bind"),
        "/proc/sys/net/ipv6/ip_nonlocal_bind",
    ),
    "possible_cpus": ("cat", "/sys/devices/system/cpu/possible"),
    "hugepages": (
        *("find", "/sys/kernel/mm/hugepages", "-name", "*_hugepages"),
        *("-exec", "grep", "-H", ".", "{}", "+"),
    ),
    "secret_values": (
        *("find", "/etc/libvirt/secrets", "-maxdepth", "1", "-type", "f"),
        *("!", "-name", "*.xml", "-printf", "%f\\n"),
    ),
    "settings": (
        *("grep", "-hE", rf"^[[:space:]]*({'|'.join(SETTINGS)})[[:space:]]*="),
        "/etc/libvirt/qemu.conf",
    ),
    **lock_manager.COMMANDS,
    "certificates": (
        *("find", "-L", PKI, "-mindepth", "1", "-maxdepth", "2"),
        *("(", "-name", "*.pem", "-o", "-name", "libvirt-migrate", ")"),
    ),
    "started": (
        *("find", "/run/libvirt/qemu", "-maxdepth", "1", "-name", "*.pid"),
        *("-printf", "%T@ %f\\n"),
    ),
    "cordoned": (
        *("find", "-L", cordons.PATH, "-maxdepth", "0"),
        *("(", "-type", "f", "-exec", "head", "-c", str(cordons.LONGEST), "{}", ";"),
        *("-o", "-printf", "%p is not a regular file; move it away", ")"),
    ),
    "qemu": ("qemu-system-x86_64", "--version"),
    "qemu_kvm": ("/usr/libexec/qemu-kvm", "--version"),
    **pacemaker_tools.PRESENCE,
    **pacemaker_tools.AGENTS,
    **corosync.COMMANDS,
}
"""What is run on a host to collect its facts, besides storage's own commands."""

OF_PEER = {"minion": ("ps", "-eo", "stat=,args=")}
"""What is run on a peer besides: what runs on a node itself is run by its minion."""

OF_SOURCE = (
    *("host_name", "settings", "certificates"),
    *lock_manager.COMMANDS,
    *pacemaker_tools.PRESENCE,
)
OF_DESTINATION = (
    *("cordoned", "memory", "host_name", "resolves", "bridges", "listening", "nonlocal_bind"),
    *("possible_cpus", "hugepages", "secret_values"),
    *OF_SOURCE[1:],
    *OF_PEER,
)
"""Those of COMMANDS, and of OF_PEER, that the blocking checks of one move need of its two nodes."""

_MISSING = ("No such file or directory", "Not a directory")
_NO_NAME = re.compile(r"Name or service not known|No address associated|Unknown host", re.I)
_SETTING = re.compile(r'\s*(\w+)\s*=\s*"?([^"#\s]*)')
_VERSION = re.compile(r"QEMU emulator version (\d{1,4})\.(\d{1,3})(?:\.(\d{1,3}))?")
_MEMORY = re.compile(r"^(MemTotal|MemAvailable):\s+(\d{1,15}) kB$", re.M)
_MINION = re.compile(r"^\S+\s+(\S*python\S*\s+(-\S+\s+)*)?\S*salt-minion(\s|\Z)")
_STARTED = re.compile(r"^(\d{1,12}(?:\.\d+)?) (.+)\.pid$", re.M)


class CommandOutput(NamedTuple):
    """A program's exit code (None: killed, 127: not installed), output and error output."""

    code: int | None
    out: str
    error: str = ""


NOTHING = CommandOutput(None, "", "it was not run")


def is_missing(output: CommandOutput) -> bool:
    """Whether a program reported that the file to read does not exist."""
    return output.code == 1 and output.error.rstrip().endswith(_MISSING)


def is_there(output: CommandOutput) -> bool | None:
    """Whether a program that looks for a file found it, None where that is not known."""
    if output.code == 0:
        return bool(output.out)
    return False if is_missing(output) else None


def cordoned(output: CommandOutput) -> tuple[Cordon, ...] | None:
    """Return a node's cordon, empty if it has none; None where that is not known."""
    if output.code == 0:
        return (cordons.parse(output.out),)
    return () if is_missing(output) else None


def number(output: CommandOutput) -> float | None:
    """Return the number that a program printed."""
    text = output.out.strip()
    if output.code != 0 or not re.fullmatch(r"\d{1,12}(\.\d{1,12})?", text, re.ASCII):
        return None
    return float(text)


def minion(output: CommandOutput) -> str | None:
    """Return what is wrong with the salt-minion of a host, by ``ps -eo stat=,args=``; see ps(1).

    Empty if it runs, None if that is not known.
    """
    if output.code != 0:
        return None
    states = [line.split()[0] for line in output.out.splitlines() if _MINION.search(line)]
    if not states:
        return "no salt-minion runs there"
    return "its salt-minion is stopped" if all(one[0] in "Tt" for one in states) else ""


def memory(output: CommandOutput) -> tuple[int, int] | None:
    """Return all memory and what is available, in KiB, from /proc/meminfo; see proc(5)."""
    found = {key: int(value) for key, value in _MEMORY.findall(output.out)}
    if output.code != 0 or len(found) != 2:
        return None
    return found["MemTotal"], found["MemAvailable"]


def word(output: CommandOutput) -> str:
    """Return the one word that a program printed, empty if it printed anything else."""
    words = output.out.split()
    return words[0][:253] if output.code == 0 and len(words) == 1 and words[0].isprintable() else ""


def addresses(output: CommandOutput) -> tuple[str, ...] | None:
    """Return the addresses of ``hostname -i``; none if the name has none, None if not known."""
    if output.code != 0:
        return () if output.code is not None and _NO_NAME.search(output.error) else None
    found = tuple(item.partition("%")[0] for item in output.out.split())
    return found if found and all(map(_is_address, found)) else None


def links(output: CommandOutput) -> dict[str, bool] | None:
    """Return of each network device whether it is up, from ``ip -j link show``; see ip-link(8)."""
    try:
        found = json.loads(output.out) if output.code == 0 else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    return {
        item["ifname"]: "UP" in item["flags"]
        for item in found
        if isinstance(item, dict)
        and isinstance(item.get("ifname"), str)
        and isinstance(item.get("flags"), list)
    }


def settings(output: CommandOutput) -> dict[str, str]:
    """Return settings of qemu.conf by name; what it does not set has libvirt's default."""
    found = (_SETTING.match(line) for line in output.out.splitlines())
    return {match.group(1): match.group(2) for match in found if match}


def locks(output: Callable[[str], CommandOutput]) -> LockManager:
    """Return the lock manager by the outputs of several programs."""
    asked = [output(name) for name in ("pids", "holders")]
    known = all(one.code in (0, 1) for one in asked)
    return lock_manager.parse(
        output("settings").out,
        output("leases").out,
        output("settings_age").out,
        {"pids": asked[0].out, "holders": asked[1].out} if known else None,
    )


def ports(set_: Mapping[str, str]) -> tuple[int, int]:
    """Return the first and last migration port; defaults as in libvirt's qemu.conf."""
    chosen = []
    for name, default in zip(("migration_port_min", "migration_port_max"), PORTS, strict=True):
        text = set_.get(name, "")
        chosen.append(int(text) if re.fullmatch(r"\d{1,5}", text, re.ASCII) else default)
    return chosen[0], chosen[1]


def certificates(
    output: CommandOutput, set_: Mapping[str, str]
) -> tuple[str, frozenset[str]] | None:
    """Return the folder of the certificates for migrations, and what it holds; see qemu.conf.

    None where the folder was not searched, as it is elsewhere.
    """
    found = frozenset(output.out.splitlines())
    folder = set_.get("migrate_tls_x509_cert_dir", "")
    if not folder and f"{PKI}/libvirt-migrate" in found:
        folder = f"{PKI}/libvirt-migrate"
    folder = (folder or set_.get("default_tls_x509_cert_dir", "") or f"{PKI}/qemu").rstrip("/")
    if output.code not in (0, 1) or posixpath.dirname(folder) != PKI:
        return None
    files = (posixpath.split(path) for path in found)
    return folder, frozenset(name for where, name in files if where == folder)


def verifies(set_: Mapping[str, str]) -> bool:
    """Whether a destination verifies the source's certificate, as it does by default."""
    default = set_.get("default_tls_x509_verify", "1")
    return set_.get("migrate_tls_x509_verify", default) != "0"


def started(output: CommandOutput) -> dict[str, float]:
    """Return when each active guest's process was started, from its pid file's time."""
    return {name: float(time) for time, name in _STARTED.findall(output.out)}


def qemu(*outputs: CommandOutput) -> int:
    """Return QEMU's version as a number, 7002022 for 7.2.22; 0 where it is not known."""
    for output in outputs:
        match = _VERSION.match(output.out)
        if output.code == 0 and match:
            major, minor, patch = (int(part or 0) for part in match.groups())
            return major * 1000000 + minor * 1000 + patch
    return 0


class Capabilities(NamedTuple):
    """libvirt's capabilities: the host's UUID, its machine types by ``ARCH/TYPE``, and its CPU.

    ``threads`` is the number of its hardware threads, 0 if not known; ``cpus`` and ``nodes`` are
    the CPUs that are online and the NUMA nodes, empty if not known. ``models`` are the names of
    libvirt's security drivers. ``tsc`` is the frequency of a time stamp counter that cannot be
    scaled, else 0.
    """

    uuid: str
    machines: dict[str, frozenset[str]]
    cpu: str
    threads: int
    tsc: int
    cpus: frozenset[int]
    nodes: frozenset[int]
    models: frozenset[str]


def capabilities(xml: str) -> Capabilities | None:
    """Return what libvirt's "Driver capabilities XML" says, None if it cannot be read.

    A domain type without machines of its own has those of its architecture, aliases included.
    """
    try:
        root = xmltext.parse_xml(xml)
    except InputError:
        return None
    machines: dict[str, frozenset[str]] = {}
    for arch in root.findall("guest/arch"):
        common = _machines(arch)
        for domain in arch.findall("domain"):
            own = _machines(domain) or common
            machines[f"{arch.get('name')}/{domain.get('type')}"] = own
    uuid = (root.findtext("host/uuid") or "").strip()
    cpu = root.find("host/cpu")
    tsc = _fixed_tsc(cpu)  # Before the CPU is stripped of it.
    return Capabilities(
        uuid,
        machines,
        _cpu(cpu),
        _threads(root),
        tsc,
        _ids(root, "host/topology/cells/cell/cpus/cpu"),
        _ids(root, "host/topology/cells/cell"),
        frozenset(one.text or "" for one in root.findall("host/secmodel/model")),
    )


def _ids(root: Any, path: str) -> frozenset[int]:
    found = [one.get("id", "") for one in root.findall(path)]
    known = all(re.fullmatch(r"\d{1,5}", one, re.ASCII) for one in found)
    return frozenset(map(int, found)) if known else frozenset()


def _fixed_tsc(element: Any) -> int:
    """Return the frequency of a host's TSC in Hz, 0 if its CPU scales it or that is not known."""
    for counter in element.iterfind("counter") if element is not None else ():
        frequency = counter.get("frequency", "")
        if (counter.get("name"), counter.get("scaling")) == ("tsc", "no"):
            return int(frequency) if re.fullmatch(r"\d{1,15}", frequency, re.ASCII) else 0
    return 0


def _cpu(element: Any) -> str:
    """Return a host's CPU as libvirt compares it, without topology and microcode."""
    if element is None:
        return ""
    for part in list(element):
        if part.tag not in ("arch", "model", "vendor", "feature"):
            element.remove(part)
    element.text, element.tail = None, None
    for part in element:
        part.tail = None
    return str(etree.tostring(element, method="c14n").decode())


def _threads(root: Any) -> int:
    counts = [item.get("num", "") for item in root.findall("host/topology/cells/cell/cpus")]
    known = all(re.fullmatch(r"\d{1,6}", count, re.ASCII) for count in counts)
    return sum(map(int, counts)) if known else 0


def _machines(element: Any) -> frozenset[str]:
    return frozenset(item.text or "" for item in element.findall("machine"))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
