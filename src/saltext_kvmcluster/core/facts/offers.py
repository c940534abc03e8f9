"""Parsers of what a host has for a guest that arrives: addresses, ports, CPUs, hugepages, secrets.

Each takes a program's output and returns None where that cannot be relied on.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping

from saltext_kvmcluster.core.facts.nodefacts import Resources, Socket
from saltext_kvmcluster.core.facts.parsers import CommandOutput, is_missing
from saltext_kvmcluster.core.guest import tuning

_PAGES = re.compile(
    r"/hugepages-(\d{1,10})kB/(free|resv|surplus|nr_overcommit)_hugepages:(\d{1,12})$", re.A
)
_NONLOCAL = re.compile(r"/net/ipv([46])/ip_nonlocal_bind:1$", re.M)
_VALUE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.", re.I)


def resources(output: Callable[[str], CommandOutput]) -> Resources:
    """Return a host's resources by the outputs of several programs."""
    return Resources(
        addresses(output("bridges")),
        sockets(output("listening")),
        frozenset(map(int, _NONLOCAL.findall(output("nonlocal_bind").out))),
        cpus(output("possible_cpus")),
        hugepages(output("hugepages")),
        default_page(output("memory")),
        confines(output("settings")),
    )


def addresses(output: CommandOutput) -> frozenset[str] | None:
    """Return a host's addresses, from ``ip -j address show``; see ip-address(8)."""
    try:
        found = json.loads(output.out) if output.code == 0 else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    devices = [one.get("addr_info") for one in found if isinstance(one, dict)]
    entries = [entry for one in devices if isinstance(one, list) for entry in one]
    return frozenset(
        canonical(entry["local"])
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("local"), str)
    )


def canonical(address: str) -> str:
    """Return an IP address in its one form, without a zone; any other text unchanged."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0].strip("[]"))
    except ValueError:
        return address
    return str(getattr(found, "ipv4_mapped", None) or found)


def sockets(output: CommandOutput) -> frozenset[Socket] | None:
    """Return the TCP and UDP ports in use, with their addresses, from ``ss -Htuln``; see ss(8)."""
    if output.code != 0:
        return None
    found = set()
    for line in output.out.splitlines():
        words = line.split()
        protocol, local = (words[0], words[4]) if len(words) > 5 else ("", "")
        address, _, port = local.rpartition(":")
        if protocol not in ("tcp", "udp") or not re.fullmatch(r"\d{1,5}", port, re.A):
            return None
        found.add(Socket(protocol, canonical(address), int(port)))
    return frozenset(found)


def listening(found: frozenset[Socket] | None) -> frozenset[int] | None:
    """Return the TCP ports in use, on whatever address."""
    if found is None:
        return None
    return frozenset(one.port for one in found if one.protocol == "tcp")


def cpus(output: CommandOutput) -> frozenset[int] | None:
    """Return the CPUs that a kernel may ever have, from /sys/devices/system/cpu/possible."""
    return tuning.numbers(output.out) or None if output.code == 0 else None


def confines(output: CommandOutput) -> bool:
    """Whether libvirt confines guests to CPUs by a cgroup, as it does unless set otherwise.

    See ``cgroup_controllers`` in qemu.conf.
    """
    known = re.search(r"^\s*cgroup_controllers\s*=\s*\[([^]\n]*)\]", output.out, re.M)
    return known is None or "cpuset" in known[1]


def hugepages(output: CommandOutput) -> Mapping[int, int] | None:
    """Return how many hugepages a guest can have, by their size in KiB.

    Of /sys/kernel/mm/hugepages: those that are free and not reserved, and those that the kernel may
    yet make; see hugetlbpage.rst of the kernel's documentation.
    """
    if is_missing(output):
        return {}
    if output.code != 0:
        return None
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    for line in output.out.splitlines():
        if found := _PAGES.search(line):
            counts[int(found[1])][found[2]] = int(found[3])
    return {
        size: max(0, of["free"] - of.get("resv", 0))
        + max(0, of.get("nr_overcommit", 0) - of.get("surplus", 0))
        for size, of in counts.items()
        if "free" in of
    }


def default_page(output: CommandOutput) -> int:
    """Return the default size of hugepages in KiB, from /proc/meminfo; 0 if not known."""
    found = re.search(r"^Hugepagesize: +(\d{1,10}) kB$", output.out, re.M | re.A)
    return int(found[1]) if found and output.code == 0 else 0


def secret_values(output: CommandOutput) -> frozenset[str] | None:
    """Return the UUIDs of the secrets whose values libvirt keeps on the host's disk.

    By the names of the files in /etc/libvirt/secrets, which hold them
    (virSecretObjSaveData in libvirt's src/conf/virsecretobj.c).
    """
    if is_missing(output):
        return frozenset()
    if output.code != 0:
        return None
    names = (_VALUE.match(name) for name in output.out.splitlines())
    return frozenset(name[1].lower() for name in names if name)
