"""Print with which versions the figures of this run were measured.

Run first by ``make bench``. What is not installed is said to be so.
"""

import os
import platform
import re
import subprocess
from importlib import metadata

PROGRAMS = {
    "libvirt": ["libvirtd", "--version"],
    "QEMU": ["qemu-system-x86_64", "--version"],
    "OpenSSH": ["ssh", "-V"],
    "Pacemaker": ["pacemakerd", "--version"],
}


def main():
    versions = {
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "Linux": platform.release(),
        "cores": os.cpu_count(),
        "Python": platform.python_version(),
        "Salt": metadata.version("salt"),
        "lxml": metadata.version("lxml"),
        **{name: version(command) for name, command in PROGRAMS.items()},
    }
    print("measured with: " + ", ".join(f"{name} {text}" for name, text in versions.items()))


def version(command):
    """Return the first number with a dot that a program prints of itself."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        return "not installed"
    found = re.search(r"\d+\.\d[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


if __name__ == "__main__":
    main()
