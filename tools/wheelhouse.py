"""make wheelhouse: the wheels that nodes install from, built for a distribution and its libvirt.

    tools/wheelhouse.py [--into FOLDER] [--extension WHEEL] [PYTHON...]
    tools/wheelhouse.py [--into FOLDER] --suite SUITE

For each PYTHON, that which runs Salt on the nodes (default: python3): this extension,
libvirt-python built against this distribution's libvirt, lxml and what the extras need. Salt itself
is left out. All share FOLDER/DISTRIBUTION-VERSION: pip takes what fits the Python it runs in. With
a SUITE, the same for that Debian and its python3, in a system of its own (lab/debian).
"""

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

CHECKOUT = Path(__file__).resolve().parent.parent
INTO = CHECKOUT / "dist" / "wheelhouse"
EXTRAS = ("libvirt", "metrics", "watch")
NEEDED = (
    "Debian: apt install gcc pkg-config libvirt-dev; RHEL: dnf install gcc pkgconf libvirt-devel"
)
LOADS = "import libvirt; print(libvirt.getVersion())"
# In a suite's copy of the checkout, a folder that stays from run to run.
KEPT = Path(".cache", "wheelhouse")
IN_SUITE = """
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
packages="gcc libc6-dev libvirt-dev pkg-config python3-dev"
apt-get install -qq --no-install-recommends $packages >/dev/null
python3 tools/wheelhouse.py --into "$1/built" --extension "$1"/*.whl
"""


class Unbuildable(Exception):
    """What is missing here, and how to get it."""


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Wheels that nodes install from.")
    parser.add_argument("--into", type=Path, default=INTO)
    parser.add_argument("--extension", type=Path, metavar="WHEEL")
    parser.add_argument("--suite")
    parser.add_argument("pythons", nargs="*", default=["python3"], metavar="PYTHON")
    given = parser.parse_args(words)
    if given.suite:
        return build_in_suite(given.suite, given.into)
    folder = (given.into / distribution(Path("/etc/os-release").read_text())).resolve()
    for python in given.pythons:
        print(f"{python}: {build(python, folder, given.extension)}", flush=True)
    print(f"{folder}:", *sorted(wheel.name for wheel in folder.glob("*.whl")), sep="\n  ")
    return 0


def build_in_suite(suite: str, into: Path) -> int:
    sys.path.insert(0, str(CHECKOUT / "lab"))
    sys.dont_write_bytecode = True
    roots = importlib.import_module("kvmlab.roots")
    root = roots.Root(suite)
    if not root.path.exists():
        roots.run_inside(root, ["true"])
    kept = root.inside(roots.COPY) / KEPT
    if kept.exists():
        shutil.rmtree(kept)
    kept.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        # The copy of the checkout has no history, from which the version comes.
        build_extension(pip_of(sys.executable, Path(scratch)), kept)
    failed = roots.run_inside(root, ["sh", "-ec", IN_SUITE, "sh", str(KEPT)])
    if not failed:
        shutil.copytree(kept / "built", into, dirs_exist_ok=True)
    return int(failed)


def distribution(os_release: str) -> str:
    """Name the folder as states/kvmcluster/install.sls does: debian-12, almalinux-9."""
    lines = (line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    release = {name: value.strip("\"'") for name, value in lines}
    # Debian's unreleased suites have no version; their code name is all there is.
    version = release.get("VERSION_ID", release.get("VERSION_CODENAME", "")).split(".")
    # Ubuntu's libvirt differs between 24.04 and 24.10; elsewhere minor releases keep theirs.
    kept = version if release["ID"] == "ubuntu" else version[:1]
    return "-".join([release["ID"], ".".join(kept)])


def build(python: str, folder: Path, extension: Path | None = None) -> str:
    """Put the wheels for a Python into the folder; return what libvirt-python was tried with."""
    check(python)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = pip_of(python, Path(scratch))
        if extension:
            shutil.copy2(extension, folder)
        else:
            extension = build_extension(pip, folder)
        # A wheel that was built against an earlier libvirt may be in the cache.
        fresh = ("--no-cache-dir", "--wheel-dir", folder)
        run(*pip, "wheel", "--quiet", *fresh, *requirements(extension))
        target = Path(scratch, "target")
        offline = ("--no-index", "--find-links", folder, "--target", target)
        run(*pip, "install", "--quiet", *offline, "libvirt-python")
        version = run(python, "-c", LOADS, env={**os.environ, "PYTHONPATH": str(target)})
    number = int(version)
    return f"libvirt-python loads, libvirt {number // 10**6}.{number // 1000 % 1000}"


def build_extension(pip: Sequence[str | Path], folder: Path) -> Path:
    for old in folder.glob("saltext_kvmcluster-*.whl"):
        old.unlink()
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, CHECKOUT)
    (extension,) = folder.glob("saltext_kvmcluster-*.whl")
    return extension


def check(python: str) -> None:
    """Say what a build would fail for, in one line instead of a compiler's hundred."""
    try:
        header = run(
            python, "-c", "import sysconfig; print(sysconfig.get_path('include') + '/Python.h')"
        ).strip()
        run("gcc", "--version")
        run("pkg-config", "--exists", "libvirt")
    except (OSError, Unbuildable) as error:
        raise Unbuildable(f"{error}; {NEEDED}") from None
    if not Path(header).exists():
        raise Unbuildable(
            f"{header} is missing; Debian: apt install python3-dev; RHEL: python3-devel"
        )


def pip_of(python: str, scratch: Path) -> Sequence[str | Path]:
    """Return the command of a pip that builds for a Python: its own, or one of an environment."""
    own = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    if own.returncode == 0:
        return [python, "-m", "pip"]
    run(python, "-m", "venv", scratch / "venv")
    return [scratch / "venv" / "bin" / "python", "-m", "pip"]


def requirements(wheel: Path) -> list[str]:
    """Return what a wheel requires, with the extras that are of use where Salt runs; no Salt."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    lines = [line.partition(";") for line in metadata.get_all("Requires-Dist", [])]
    wanted = [
        line.strip().replace(" ", "")
        for line, _, marker in lines
        if not marker or any(re.search(rf"extra == ['\"]{extra}['\"]", marker) for extra in EXTRAS)
    ]
    return [line for line in wanted if re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] != "salt"]


def run(*words: str | Path, env: Mapping[str, str] | None = None) -> str:
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Unbuildable(f"{' '.join(command)} failed{': ' + said if said else ''}")
    return done.stdout


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Unbuildable as error:
        sys.exit(f"wheelhouse: {error}")
