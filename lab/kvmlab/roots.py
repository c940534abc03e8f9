"""Whole Debian systems of any suite beside this machine's own, each made once by debootstrap.

Each is in .cache/debian/SUITE, from the mirror that this machine's apt uses. The checkout is copied
into it at each run, and runs in mount and PID namespaces of its own, which end with the command.
"""

import fcntl
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import install
from .plan import CHECKOUT, LabError
from .processes import run

# What every suite is made by; a debootstrap that is older than a suite knows it by no name.
SCRIPT = Path("/usr/share/debootstrap/scripts/sid")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What the README asks for, and a first process that ends orphans.
PACKAGES = ["ca-certificates", "make", "procps", "python3", "python3-venv", "tini"]
# Not below /root, /home, /srv or /tmp, which the lab's nodes replace.
COPY = Path("/opt/kvmcluster")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# What was installed for the system in there stays from run to run.
KEPT = {".venv", ".nox", ".cache"}


@dataclass(frozen=True)
class Root:
    """One such system."""

    suite: str

    @property
    def folder(self):
        return CHECKOUT / ".cache" / "debian" / self.suite

    @property
    def path(self):
        return self.folder / "root"

    @property
    def unfinished(self):
        """Moved from here to its path when it is whole."""
        return self.folder / "unfinished"

    def inside(self, path):
        """A path in there, as it is reached from here."""
        return self.path / str(path).lstrip("/")


def run_inside(root, command):
    """Run a command in the copy of the checkout; return its exit code."""
    with current(root) as lock:
        return enter(root, command, lock)


@contextmanager
def ready(root):
    """A system in which all is installed that a node of a lab needs."""
    with current(root) as lock:
        if enter(root, ["make", "--no-print-directory", "dev"], lock):
            raise LabError(f"Debian {root.suite}: make dev failed in {root.path}")
        yield lock


@contextmanager
def current(root):
    """The system with the checkout as it is now; for whoever holds the lock."""
    install.need_root()
    with alone(root) as lock:
        if not root.path.exists():
            make(root)
        copy_checkout(root)
        copy_access(root)
        yield lock


def remove(root):
    install.need_root()
    with alone(root):
        remove_folders(root.path, root.unfinished)


@contextmanager
def alone(root):
    """Keep runs apart; the lock's file stays open in all that a run starts."""
    root.folder.mkdir(parents=True, exist_ok=True)
    with open(root.folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run uses {root.path}; waiting until it ends", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def make(root):
    if not shutil.which("debootstrap"):
        run("apt-get", "update", "--quiet", timeout=600)
        install.install_packages(["debootstrap"])
    if not KEYRING.exists():
        raise LabError(f"{KEYRING} is missing; install debian-archive-keyring")
    remove_folders(root.unfinished)
    mirror = debian_mirror()
    print(f"Debian {root.suite}: debootstrap from {mirror}, once", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    # It mounts /proc in there, and what kills it must not leave that behind.
    private = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    run(
        *(*private, *command, f"--keyring={KEYRING}", root.suite, root.unfinished, mirror, SCRIPT),
        title="debootstrap",
        timeout=1800,
        env={**os.environ, **proxies()},
    )
    root.unfinished.rename(root.path)


def debian_mirror():
    """Return the URI of the Debian mirror that apt uses on this machine."""
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian")
    for uri in targets.split():
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise LabError("this machine's apt knows no mirror of Debian; add one to /etc/apt")


def proxies():
    """Return apt's proxies as environment variables, which debootstrap goes by."""
    found = {}
    for scheme in ("http", "https"):
        uri = apt_setting(f"Acquire::{scheme}::Proxy")
        if uri and uri != "DIRECT":
            found[f"{scheme}_proxy"] = uri
    return found


def apt_setting(name):
    return run("apt-config", "shell", "VALUE", name).strip().removeprefix("VALUE=").strip("'")


def remove_folders(*folders):
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for folder in folders:
        for mount in mounts:
            if Path(mount).is_relative_to(folder):
                raise LabError(f"{mount} is mounted; unmount it, then run this again")
        if folder.exists():
            run("rm", "-rf", "--one-file-system", folder, timeout=600)


def copy_checkout(root):
    """Replace the copy by the checkout as it is now, but for what was installed in there."""
    target = root.inside(COPY)
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    listed = run("git", "-C", CHECKOUT, "ls-files", "-z", "-co", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source = CHECKOUT / name
        if source.exists() or source.is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def copy_access(root):
    """Let apt and pip in there reach what this machine's reach, in the same way."""
    dump = run("apt-config", "dump", "Acquire").splitlines()
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-")
    lines = [line for line in dump if line.startswith(wanted)]
    root.inside("/etc/apt/apt.conf.d/50machine").write_text("\n".join([*lines, ""]))
    for path in ("/etc/resolv.conf", CERTIFICATES):
        if Path(path).exists():
            shutil.copyfile(path, root.inside(path))


ENTER = """
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
for path in dev sys; do mount --rbind "/$path" "$path"; done
mount -t proc proc proc
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir -p old
pivot_root . old
umount --lazy /old
cd "$2"
shift 2
exec "$@"
"""


def enter(root, command, lock):
    """Run a command in the root, in the copy of the checkout; return its exit code.

    The PID namespace ends with its first process, and so does all that runs in there; that process
    ends with this one, however this one ends. A lab needs its place to be the root of the mount
    namespace, hence pivot_root.
    """
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "PIP_CERT": CERTIFICATES,
        **proxies(),
    }
    line = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
        *("sh", "-ec", ENTER, "sh", str(root.path), str(COPY)),
        *("tini", "-s", "--", *command),
    ]
    return subprocess.run(line, env=environment, pass_fds=[lock.fileno()]).returncode
