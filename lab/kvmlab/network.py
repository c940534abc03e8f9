"""The switch and its cables. The switch is the network namespace of the lab's root process."""

import json
from pathlib import Path

from .plan import BRIDGE, NETWORKS, host_number, networks_of
from .processes import need, run

SWITCH = "/proc/1/ns/net"


def build_switch():
    for network in NETWORKS.values():
        run("ip", "link", "add", network.device, "type", "bridge")
        run("ip", "link", "set", network.device, "up")


def port(place, network):
    return f"{place}-{network.device}"


def plug_in(place):
    """Give this namespace a device on each of its networks.

    Called inside the place while /proc is still the lab's, whose process 1 is the switch.
    """
    for network in networks_of(place).values():
        device, there = network.device, port(place, network)
        run("ip", "link", "add", device, "type", "veth", "peer", "name", there, "netns", SWITCH)
        switch = ["nsenter", f"--net={SWITCH}", "ip", "link", "set", there]
        run(*switch, "master", device, "up")
        run("ip", "address", "add", network.address(host_number(place)) + "/24", "dev", device)
        run("ip", "link", "set", device, "up")


def set_own_links(place, state):
    """Have this place answer nothing (down), as a machine without power does, or answer (up).

    Its kernel is the machine's, and would refuse connections for it. Its cables stay plugged in.
    """
    for network in networks_of(place).values():
        run("ip", "link", "set", network.device, state)


def reserve_migration_ports():
    """Keep QEMU's migration ports from becoming the local port of some outgoing connection.

    They lie within net.ipv4.ip_local_port_range, and a port with a connection cannot be bound: a
    test that wants to hold them all would fail by chance (ip-sysctl.rst, ip_local_reserved_ports).
    """
    Path("/proc/sys/net/ipv4/ip_local_reserved_ports").write_text("49152-49215")


def build_bridge():
    """A bridge for guests, on every node. It leads nowhere: lab guests have no address."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "link", "set", BRIDGE, "up")


def set_link(lab, place, names, state):
    """Cut (down) or heal (up) a place's cables at the switch."""
    switch = need(lab, "switch")
    for name, network in networks_of(place).items():
        if name in names:
            command = ["ip", "link", "set", port(place, network), state]
            run("nsenter", "--target", switch, "--net", *command)


def cut_networks(lab):
    """{place: [names of its networks that are cut]}"""
    switch = need(lab, "switch")
    links = json.loads(run("nsenter", "--target", switch, "--net", "ip", "-json", "link"))
    up = {link["ifname"] for link in links if "UP" in link["flags"]}
    return {
        place: [name for name, net in networks_of(place).items() if port(place, net) not in up]
        for place in lab.places
    }
