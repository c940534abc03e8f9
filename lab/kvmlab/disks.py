"""Where a guest's disk lies: on the shared volume, on one node, on a LUN, on a server."""

import os
import re
import signal
import uuid
from contextlib import suppress
from pathlib import Path

from .plan import BRICK, GUESTS, LOCAL, MASTER, STORE, LabError
from .processes import find, inside_path, is_over, need, processes_in, run, run_in, wait_until

KINDS = ["gluster", "local", "lun", "nbd"]
SIZE = 64 * 1024 * 1024
NBD_PORT = 10809
UDEV = "/run/udev/data"
# A detached loop device lives on as long as it is open, and its keeper dies with the lab.
KEEP_LUN = """set -e; exec 9<>"$1"; losetup --detach "$1"
exec -a "$2" sleep infinity >/dev/null 2>&1 &"""
# A node has a device node of its own: file locks, QEMU's image locks among them, are of that alone.
OWN_NODE = """own=/run/${1##*/}; [ -e "$own" ] || {
mknod -m 660 "$own" b $(stat -c "0x%t 0x%T" "$1") && mount --bind "$own" "$1"; }"""
DISK = """<disk type='{type}' device='disk'>
      <driver name='qemu' type='{format}' cache='{cache}'/>
      {source}
      <target dev='vda' bus='virtio'/>
    </disk>"""


def image(name):
    return f"{name}.img"


def overlay(name):
    return f"{name}.qcow2"


def make(lab, name, node, kind, cache, backing):
    """Make the disk and return its element for the definition."""
    made = {"gluster": make_shared, "local": make_local, "lun": make_lun, "nbd": make_nbd}
    what, source = made[kind](lab, name, node)
    if backing:
        if kind != "gluster":
            raise LabError(f"--backing: an overlay is on the shared volume, not on {kind}")
        source = make_overlay(lab, name)
    form = "qcow2" if backing else "raw"
    return DISK.format(type=what, format=form, cache=cache, source=source)


def make_shared(lab, name, node):
    make_image(lab, MASTER, GUESTS / image(name))
    return "file", f"<source file='{GUESTS / image(name)}'/>"


def make_overlay(lab, name):
    base = ["-b", GUESTS / image(name), "-F", "raw"]
    run_in(lab, MASTER, "qemu-img", "create", "-q", "-f", "qcow2", *base, GUESTS / overlay(name))
    return f"<source file='{GUESTS / overlay(name)}'/>"


def make_local(lab, name, node):
    make_image(lab, node, LOCAL / image(name))
    return "file", f"<source file='{LOCAL / image(name)}'/>"


def make_lun(lab, name, node):
    """A loop device, which every node sees; each node's udev says that it is a LUN."""
    make_image(lab, MASTER, STORE / image(name))
    device = run_in(lab, MASTER, "losetup", "--find", "--show", STORE / image(name)).strip()
    run_in(lab, MASTER, "bash", "-c", KEEP_LUN, "keeper", device, lun_keeper(name))
    number = os.stat(device).st_rdev
    udev, identity = f"{UDEV}/b{os.major(number)}:{os.minor(number)}", lun_identity()
    for place in lab.nodes:
        data = inside_path(need(lab, place), udev)
        data.parent.mkdir(parents=True, exist_ok=True)
        data.write_text(identity)
        run_in(lab, place, *own_node(device))
    return "block", f"<source dev='{device}'/>"


def own_node(device):
    return ["sh", "-ec", OWN_NODE, "sh", device]


def own_nodes():
    """Give a node that boots its own device nodes of all LUNs that its udev knows."""
    for path in Path(UDEV).glob("b*"):
        device = Path("/dev") / Path(f"/sys/dev/block/{path.name[1:]}").resolve().name
        if device.exists():
            run(*own_node(device))


def lun_identity():
    """What udev writes down of a SCSI disk."""
    naa = f"6001405{uuid.uuid4().hex[:25]}"
    properties = {
        "DEVTYPE": "disk",
        "ID_BUS": "scsi",
        "ID_SERIAL": f"3{naa}",
        "ID_SERIAL_SHORT": naa,
        "ID_WWN": f"0x{naa[:16]}",
        "ID_WWN_WITH_EXTENSION": f"0x{naa}",
    }
    return "".join(f"E:{key}={value}\n" for key, value in properties.items())


def lun_keeper(name):
    return f"lun-{name}"


def make_nbd(lab, name, node):
    make_image(lab, MASTER, STORE / image(name))
    taken = [nbd_port(line) for line in processes_in(need(lab, MASTER)).values() if nbd_port(line)]
    port = max(taken, default=NBD_PORT - 1) + 1
    options = ["--format=raw", "--cache=none", "--persistent", "--shared=0", f"--port={port}"]
    export = [f"--export-name={name}", STORE / image(name)]
    run_in(lab, MASTER, "qemu-nbd", "--fork", *options, *export)
    host = f"<host name='{MASTER}' port='{port}'/>"
    return "network", f"<source protocol='nbd' name='{name}'>{host}</source>"


def nbd_port(line):
    """The port of a command line that serves a disk, or None."""
    found = re.search(r" --port=(\d+) ", " ".join(line))
    return int(found[1]) if line[0] == "qemu-nbd" and found else None


def keepers(lab, name):
    """The processes on the master that keep a guest's LUN or serve its disk."""
    return [
        pid
        for pid, line in processes_in(need(lab, MASTER)).items()
        if line[0] == lun_keeper(name) or (nbd_port(line) and f"--export-name={name}" in line)
    ]


def make_image(lab, place, path):
    there = inside_path(need(lab, place), path)
    there.parent.mkdir(parents=True, exist_ok=True)
    with open(there, "xb") as disk:
        disk.truncate(SIZE)


def files(lab, name):
    """Every file of the guest's disk that there is, as seen from here."""
    places = [(MASTER, GUESTS / image(name)), (MASTER, GUESTS / overlay(name))]
    places += [(MASTER, STORE / image(name)), *((node, LOCAL / image(name)) for node in lab.nodes)]
    pids = {place: find(lab, place) for place in lab.places}
    paths = [inside_path(pids[place], path) for place, path in places if pids[place]]
    return [path for path in paths if path.exists()]


def raw_file(lab, name):
    """The file that holds the disk's bytes.

    Of the shared volume, the one that the storage server has, with no client's cache between.
    """
    found = files(lab, name)
    if not found:
        raise LabError(f"there is no guest {name}")
    if any(path.name == overlay(name) for path in found):
        raise LabError(f"guest {name} writes to an overlay, whose record cannot be read")
    shared = inside_path(need(lab, MASTER), GUESTS / image(name))
    return inside_path(need(lab, MASTER), BRICK / image(name)) if shared in found else found[0]


def written(path):
    """What a sparse file holds, up to its last hole."""
    with open(path, "rb") as file:
        end = 0
        with suppress(OSError):  # There is nothing behind the last hole.
            while True:
                end = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), end, os.SEEK_HOLE)
        file.seek(0)
        return file.read(end)


def remove(lab, name):
    """Remove the disk's files, and what serves them."""
    for pid in keepers(lab, name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: is_over(pid), 10, f"process {pid} does not end")
    for path in files(lab, name):
        path.unlink()
