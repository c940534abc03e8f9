"""What a lab consists of: its names, addresses and paths. Touches nothing."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache" / "lab"
STATE_ROOT = Path("/run/kvmcluster-lab")
MASTER = "master"
MAX_NODES = 32
GUESTS = Path("/srv/guests")
BRICK = Path("/srv/brick")
CONSOLES = Path("/var/log/guests")
LOCAL = Path("/var/lib/libvirt/images")
STORE = Path("/srv/store")
BRIDGE = "br0"


class LabError(Exception):
    """Something the user of the lab has to know; printed without a traceback."""


@dataclass(frozen=True)
class Network:
    """One of the lab's networks: a bridge in the switch, a device in every node."""

    device: str
    prefix: str

    def address(self, host):
        return f"{self.prefix}.{host}"


NETWORKS = {
    "management": Network("mgmt", "192.0.2"),
    "migration": Network("mig", "198.51.100"),
}


@dataclass(frozen=True)
class Lab:
    """One instance of the lab. Several may exist at once under different names."""

    name: str
    size: int = 0

    @property
    def nodes(self):
        return [f"node{k}" for k in range(1, self.size + 1)]

    @property
    def places(self):
        return [MASTER, *self.nodes]

    @property
    def state(self):
        return STATE_ROOT / self.name

    @property
    def logs(self):
        return self.state / "log"

    @property
    def pillar(self):
        return self.state / "pillar"

    def off(self, node):
        """While it exists, the node does not come up again after a reboot."""
        return self.state / f"{node}.off"

    @property
    def pacemaker(self):
        """Exists in a lab whose nodes run Pacemaker: the key that corosync knows its peers by."""
        return self.state / "pacemaker"

    @property
    def ha(self):
        """Exists in a lab whose nodes are to be set up with Pacemaker, and have fencing."""
        return self.state / "ha"

    @property
    def login(self):
        """The account that nodes log in to on their peers."""
        path = self.state / "login"
        return path.read_text() if path.exists() else "root"

    @property
    def has_fencing(self):
        return self.pacemaker.exists() or self.ha.exists()

    @property
    def board(self):
        """Where fencing asks for a node's end; every node sees it."""
        return self.state / "board"

    def deaf(self, node):
        """While it exists, a node's power cannot be switched by fencing."""
        return self.state / f"{node}.deaf"

    @property
    def systems(self):
        """Which places have another system, or another Salt, than the machine; see systems.py."""
        return self.state / "systems"

    @property
    def ready(self):
        """Exists once the lab is whole."""
        return self.state / "ready"


def home(login):
    return Path("/root" if login == "root" else f"/home/{login}")


def lab_name():
    name = os.environ.get("KVMCLUSTER_LAB", "lab")
    if not re.fullmatch(r"[a-z0-9]{1,8}", name):
        raise LabError(f"KVMCLUSTER_LAB={name!r}: use 1 to 8 of the characters a-z and 0-9")
    return name


def host_number(place):
    """The last part of a place's addresses."""
    return 1 if place == MASTER else 10 + int(place.removeprefix("node"))


def networks_of(place):
    names = ["management"] if place == MASTER else NETWORKS
    return {name: NETWORKS[name] for name in names}


def fqdn(place):
    return f"{place}.lab.example"


def migration_name(node):
    return f"{node}-mig"


def hosts_file(lab):
    """Every name of every place; a node's own name never means loopback."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for place in lab.places:
        number = host_number(place)
        lines.append(f"{NETWORKS['management'].address(number)} {fqdn(place)} {place}")
        if place != MASTER:
            lines.append(f"{NETWORKS['migration'].address(number)} {migration_name(place)}")
    return "\n".join(lines) + "\n"


def venv():
    """The virtual environment that Salt and the extension run from."""
    return Path(os.environ.get("KVMCLUSTER_VENV", CHECKOUT / ".venv")).absolute()


def clean_environment(own_venv=None):
    """What every program of the lab gets, whatever the caller's shell has set.

    own_venv
        The virtual environment of the program's place, where that has another one.
    """
    own_venv = own_venv or venv()
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "PATH": f"{own_venv}/bin:{system}",
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "KVMCLUSTER_LAB": lab_name(),
        "KVMCLUSTER_VENV": str(own_venv),
    }


def kept_paths():
    """Paths that must stay visible where a directory above them is replaced.

    The checkout, the virtual environment and Python itself may live under /root or /home.
    """
    paths = {CHECKOUT, venv(), Path(sys.base_prefix)}
    interpreter = venv() / "bin" / "python3"
    if interpreter.exists():
        paths.add(interpreter.resolve().parents[1])
    return sorted(paths)
