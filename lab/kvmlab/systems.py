"""Which Debian and which virtual environment each place of a lab has: not all need be the same."""

import json
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from . import roots
from .plan import CHECKOUT, MASTER, LabError, clean_environment, venv
from .processes import INSIDE, MACHINE, birth, launch

PYTHON = "/usr/bin/python3"
# What is mounted below these is hidden in a place; see room.py.
HIDING = ("/etc", "/opt", "/usr", "/var")
# As in roots.py, but the checkout is in there where it is on the machine, and the lab's files.
PIVOT = """
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
for path in /dev /sys /proc /run "$2"; do
  mkdir -p ".$path"
  mount --rbind "$path" ".$path"
done
mkdir -p old
pivot_root . old
umount --lazy /old
cd /
shift 2
exec "$@"
"""


@dataclass(frozen=True)
class System:
    """The suite of a Debian, empty for the machine's own system, and where Salt is in there."""

    suite: str = ""
    venv: str = ""

    @property
    def root(self):
        return roots.Root(self.suite) if self.suite else None

    def environment(self):
        default = roots.COPY / ".venv" if self.root else venv()
        return clean_environment(Path(self.venv).absolute() if self.venv else default)

    def python(self):
        """The command that is this system's Python, in its root."""
        if not self.root:
            return [sys.executable]
        return ["sh", "-ec", PIVOT, "sh", str(self.root.path), str(CHECKOUT), PYTHON]

    def check(self, place):
        """Say why the place cannot have it."""
        if self.root and place == MASTER:
            raise LabError(f"--debian: {MASTER} has the machine's system; only nodes have others")
        if self.root and any(CHECKOUT.is_relative_to(path) for path in HIDING):
            raise LabError(f"--debian: a node with another system would not see {CHECKOUT}")
        folder = Path(self.environment()["KVMCLUSTER_VENV"])
        seen = self.root.inside(folder) if self.root else folder
        if not (seen / "bin" / "salt-minion").is_file():
            raise LabError(f"{place}: no Salt in {seen}; install it there, or name another --venv")


@contextmanager
def held(own):
    """Make the systems ready, and keep them as they are; yields what to hand on for that."""
    suites = sorted({system.suite for system in own.values()} - {""})
    with ExitStack() as stack:
        yield [stack.enter_context(roots.ready(roots.Root(suite))).fileno() for suite in suites]


def write(lab, own):
    """Note the systems of those places that have another one than the machine, or another Salt."""
    lab.systems.write_text(json.dumps({place: asdict(system) for place, system in own.items()}))


def read(lab):
    found = json.loads(lab.systems.read_text())
    return {place: System(**system) for place, system in found.items()}


def of(lab, place):
    return read(lab).get(place, System())


def start(lab, place, **options):
    """Start the master; or what of a node outlives its reboots, and boots it."""
    system = of(lab, place)
    if place == MASTER:
        return birth(lab, place, env=system.environment(), **options)
    role = ["-B", INSIDE, "machine", lab.name, str(lab.size), place]
    command = ["unshare", *MACHINE, *system.python(), *role]
    return launch(command, env=system.environment(), **options)
