"""Installs what the lab needs: distribution packages, a guest kernel, a guest program."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .plan import CACHE, CHECKOUT, LabError
from .processes import output, run

PACKAGES = [
    *("attr", "busybox-static", "cpio", "cryptsetup-bin", "dmidecode", "gcc", "iproute2"),
    *("corosync", "pacemaker", "pacemaker-cli-utils", "resource-agents"),
    *("glusterfs-client", "glusterfs-server", "libc6-dev", "openssh-client", "openssh-server"),
    *("libvirt-clients", "libvirt-daemon-driver-qemu", "libvirt-daemon-system", "libvirt-dev"),
    *("pkg-config", "python3-dev", "python3-venv", "qemu-system-x86", "qemu-utils"),
    *("iputils-ping", "kmod", "tcpdump", "sudo", "tini", "util-linux", "xauth", "xz-utils", "zstd"),
    *("prometheus", "prometheus-node-exporter"),
]
# In which nightly tests open the page of a cluster; for nothing else.
BROWSER = ["chromium", "fonts-dejavu-core"]
# The package that depends on the newest kernel image made for virtual machines.
KERNELS = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}
GUEST_MODULES = ["virtio_pci", "virtio_blk", "evdev", "button"]
KERNEL = CACHE / "vmlinuz"
INITRAMFS = CACHE / "initramfs"
RECORDER = CHECKOUT / "lab" / "guest" / "recorder.c"
POLICY = Path("/usr/sbin/policy-rc.d")


def install(say, browser=False):
    need_root()
    distribution = which_distribution()
    missing = missing_packages([*PACKAGES, *(BROWSER if browser else ())])
    say(f"packages: {'installing ' + ' '.join(missing) if missing else 'all installed'}")
    if not missing and guest_is_built():
        say("guest kernel and initramfs: already built")
        return
    run("apt-get", "update", "--quiet", timeout=600)
    if missing:
        install_packages(missing)
    CACHE.mkdir(parents=True, exist_ok=True)
    build_guest(KERNELS[distribution], say)


def guest_is_built():
    newest = RECORDER.stat().st_mtime
    return KERNEL.exists() and INITRAMFS.exists() and INITRAMFS.stat().st_mtime > newest


def need_root():
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes namespaces, mounts and bridges")


def which_distribution():
    """debian or ubuntu; anything else is told what to install by itself."""
    text = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    release = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    name = release.get("ID", "unknown").strip('"')
    if name not in KERNELS or not shutil.which("apt-get"):
        raise LabError(
            f"this is {name}; lab/ctl install knows Debian and Ubuntu. Install what corresponds "
            f"to these packages yourself: {' '.join(PACKAGES)}. Then put a kernel for guests at "
            f"{KERNEL} and an initramfs with lab/guest/recorder.c as /init at {INITRAMFS}"
        )
    return name


def missing_packages(wanted):
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n"]
    answer = subprocess.run([*query, *wanted], capture_output=True, text=True, check=False)
    there = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in wanted if package not in there]


def install_packages(missing):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    with no_services_started():
        run(*command, timeout=1800, env=environment)


@contextmanager
def no_services_started():
    """Keep packages from starting their services; an existing policy is the admin's and stays."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def build_guest(metapackage, say):
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        image = newest_kernel(metapackage)
        say(f"guest kernel: {image}")
        unpacked = unpack_kernel(image, scratch)
        say("guest initramfs: compiling lab/guest/recorder.c")
        INITRAMFS.write_bytes(build_initramfs(unpacked, scratch))
        kernels = ("boot/vmlinuz-*", "lib/modules/*/vmlinuz")
        shutil.copyfile(next(path for at in kernels for path in unpacked.glob(at)), KERNEL)


def newest_kernel(metapackage):
    for line in run("apt-cache", "depends", metapackage).splitlines():
        kind, _, package = line.strip().partition(": ")
        if kind == "Depends" and package.startswith("linux-image-"):
            return package
    raise LabError(f"{metapackage}: unknown package; run apt-get update")


def unpack_kernel(image, scratch):
    """The kernel and all its modules below one directory, without installing anything."""
    # Which of these there are, and what is in which, differs between releases.
    kinds = ("image", "binary", "base", "modules")
    packages = [image.replace("linux-image-", f"linux-{kind}-") for kind in kinds]
    # By exact name: +, which such names have, means something in a regular expression.
    known = [name for name in packages if name in run("apt-cache", "pkgnames", name).split()]
    # The unprivileged account that apt downloads with may not write here.
    run("apt-get", "download", "-o", "APT::Sandbox::User=root", *known, cwd=scratch, timeout=600)
    unpacked = scratch / "kernel"
    for package in scratch.glob("*.deb"):
        run("dpkg-deb", "--extract", package, unpacked)
    modules = unpacked / "lib" / "modules"
    if not modules.exists():
        modules.parent.mkdir(exist_ok=True)
        modules.symlink_to(unpacked / "usr" / "lib" / "modules")
    return unpacked


def build_initramfs(unpacked, scratch):
    """A cpio archive with /init, the recorder, and /modules in the order to load them."""
    root = scratch / "initramfs"
    (root / "modules").mkdir(parents=True)
    run("gcc", "-O2", "-Wall", "-static", "-o", root / "init", RECORDER)
    for number, module in enumerate(modules_to_load(unpacked)):
        put_module(module, root / "modules" / f"{number:02}-{module.name.split('.ko')[0]}.ko")
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    return output("cpio", "--quiet", "--create", "--format=newc", cwd=root, input=names.encode())


def modules_to_load(unpacked):
    version = next((unpacked / "lib" / "modules").iterdir()).name
    run("depmod", "--basedir", unpacked, version)
    lookup = ["modprobe", "--dirname", unpacked, "--set-version", version, "--show-depends"]
    paths = []
    for line in run(*lookup, "--all", *GUEST_MODULES).splitlines():
        kind, path = line.split()[:2]
        # "builtin NAME": that kernel needs no module for it.
        if kind == "insmod" and Path(path) not in paths:
            paths.append(Path(path))
    return paths


def put_module(module, target):
    unpackers = {".zst": ["zstd", "-dc"], ".xz": ["xz", "-dc"], ".gz": ["gzip", "-dc"]}
    command = unpackers.get(module.suffix, ["cat"])
    target.write_bytes(output(*command, module))
