#!py
# The extension, and libvirt-python on nodes, in the Python that runs this minion:
#   salt '*' state.apply kvmcluster.install
# It needs nothing but Salt, so it works where the extension is missing, and again where an upgrade of
# Salt left it behind. docs/installation.md has the pillar kvmcluster_install and what it prints.
import functools
import importlib.metadata
import platform
import re
import sys
import sysconfig
from pathlib import Path

from packaging.version import Version

SETTINGS = {"wheels": "salt://kvmcluster-wheels", "index": None, "version": None}
EXTENSION = "saltext-kvmcluster"
# With what it depends on; Salt brings Jinja.
PACKAGES = (EXTENSION, "lxml", "libvirt-python")
RESTART = "kvmcluster-minion-restart"
CACHE = "/var/cache/kvmcluster-wheels"


class Refused(Exception):
    pass


def run():
    try:
        return states()
    except Refused as error:
        # The name, since Salt replaces the comment where test=True.
        return {"kvmcluster-install": {"test.fail_without_changes": [{"name": str(error)}]}}


def states():
    settings = checked(pillar.get("kvmcluster_install", {}))
    folder = settings["wheels"].removeprefix("salt://").strip("/") + "/" + distribution()
    files = [] if settings["index"] else offered(folder)
    if is_managed():
        return finished(from_packages(settings, folder, files))
    wanted = wanted_packages(settings, folder, files)
    refuse_while_busy(all(map(is_there, wanted)))
    source = {"index_url": settings["index"]} if settings["index"] else offline()
    installed = {
        "pkgs": wanted,
        # salt-pip of some releases would install a second Salt beside the first.
        "extra_args": ["--no-deps"],
        # An older pip would ask its default index for a newer self.
        "env_vars": {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        "reload_modules": True,
        **source,
    }
    found = {"kvmcluster-installed": {"pip.installed": as_list(installed)}}
    if not settings["index"]:
        fitting = f"E@^({'|'.join(map(file_name, PACKAGES))})-[^/]*-({tags()})\\.whl$"
        copied = {
            "name": CACHE,
            "source": f"salt://{folder}",
            "clean": True,
            "include_pat": fitting,
        }
        found = {"kvmcluster-wheels": {"file.recurse": as_list(copied)}, **found}
        found["kvmcluster-installed"]["pip.installed"] += [{"require": [{"file": CACHE}]}]
    return finished(found)


def checked(settings):
    if not isinstance(settings, dict) or set(settings) - set(SETTINGS):
        raise Refused(f"pillar kvmcluster_install: want a mapping of {', '.join(SETTINGS)}")
    settings = {**SETTINGS, **settings}
    for name, value in settings.items():
        if not isinstance(value, (str, type(None))):
            raise Refused(f"pillar kvmcluster_install:{name}: want text, not {value!r}")
    if not str(settings["wheels"]).startswith("salt://"):
        raise Refused(
            "pillar kvmcluster_install:wheels: want a folder of the file server, salt://…"
        )
    if settings["index"] and not settings["version"]:
        raise Refused(
            "pillar kvmcluster_install: index needs version, the same on master and nodes"
        )
    return settings


def distribution():
    """Name the folder as tools/wheelhouse.py does."""
    lines = Path("/etc/os-release").read_text().splitlines()
    release = {
        name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)
    }
    version = release.get("VERSION_ID", release.get("VERSION_CODENAME", "")).split(".")
    kept = version if release["ID"] == "ubuntu" else version[:1]
    return "-".join([release["ID"], ".".join(kept)])


def offered(folder):
    """Return the names of the files in a folder of the master's file server."""
    paths = __salt__["cp.list_master"](saltenv=__env__, prefix=folder + "/")
    if not paths:
        raise Refused(
            f"the master has no salt://{folder}: run 'make wheelhouse' on a host of this"
            " distribution and put the folder there (docs/installation.md)"
        )
    return [path.rpartition("/")[2] for path in paths]


def is_managed():
    """Whether pip must not install here, PEP 668: this is the distribution's Python."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return not is_onedir() and sys.prefix == sys.base_prefix and marker.exists()


def is_onedir():
    return hasattr(sys, "RELENV")


def is_node():
    return "kvmcluster" in pillar


def from_packages(settings, folder, files):
    """Where Salt runs on the distribution's Python: packages, ours from the file server if there."""
    name, version = "python3-" + EXTENSION, settings["version"]
    ours = [file for file in files if re.fullmatch(f"{name}_[^_]+_all\\.deb", file)]
    debs = {file.split("_")[1]: file for file in ours}
    fitting = [found for found in debs if version in (None, found, upstream(found))]
    if debs and not fitting:
        raise Refused(f"salt://{folder} has {name} {', '.join(sorted(debs))}, and not {version}")
    there = __salt__["pkg.version"](name)
    if fitting:
        best = max(fitting, key=functools.cmp_to_key(__salt__["pkg.version_cmp"]))
        source = {"sources": [{name: f"salt://{folder}/{debs[best]}"}]}
        refuse_while_busy(there == best)
    else:
        source = {"pkgs": [{name: f"{version}-*"} if version else name]}
        refuse_while_busy(bool(there) and version in (None, upstream(there)))
    found = {"kvmcluster-installed": {"pkg.installed": as_list({**source, "reload_modules": True})}}
    if is_node():
        found["kvmcluster-libvirt"] = {"pkg.installed": [{"pkgs": ["python3-libvirt"]}]}
        found["kvmcluster-installed"]["pkg.installed"] += [
            {"require": [{"pkg": "kvmcluster-libvirt"}]}
        ]
    return found


def upstream(version):
    """Return the version of what a package of Debian's holds."""
    return version.rpartition("-")[0]


def wanted_packages(settings, folder, files):
    if settings["index"]:
        wanted = [f"{EXTENSION}=={settings['version']}", "lxml"]
        return wanted + ["libvirt-python"] * is_node()
    return [
        f"{EXTENSION}=={settings['version'] or newest(folder, files, EXTENSION)}",
        *(["lxml"] if is_missing("lxml") else []),
        *([f"libvirt-python=={newest(folder, files, 'libvirt-python')}"] if is_node() else []),
    ]


def newest(folder, files, package):
    """Return the newest version of a package of which the folder has a wheel for this Python."""
    pattern = re.compile(rf"{file_name(package)}-([0-9][^-]*)-({tags()})\.whl")
    versions = [match[1] for match in map(pattern.fullmatch, files) if match]
    if not versions:
        raise Refused(
            f"salt://{folder} has no wheel of {package} for Python {platform.python_version()}"
            f" ({platform.machine()}): build it on a host like this one, make wheelhouse"
            f" PYTHONS={sys.executable}"
        )
    return max(versions, key=Version)


def file_name(package):
    return package.replace("-", "_")


def tags():
    """Return a pattern of what wheels for this Python are marked with."""
    this = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    return f"py3-none-any|{this}-{this}-[^/]*{platform.machine()}"


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_missing(package):
    return version_of(package) is None


def refuse_while_busy(is_settled):
    """Nothing is replaced below a job that is running, since that loads parts of it as it goes.

    is_settled
        Whether all that is wanted is there.
    """
    if is_missing(EXTENSION) or is_settled:
        return
    running = sorted({data["fun"] for data in __salt__["saltutil.is_running"]("kvmcluster.*")})
    if running:
        raise Refused(
            f"nothing was installed, since this node is in the middle of {', '.join(running)}:"
            " apply this again when that has ended"
        )


def is_there(requirement):
    name, _, version = requirement.partition("==")
    return version_of(name) in ({version} if version else {version_of(name)} - {None})


def finished(found):
    """Add what makes the daemons drop the code that they have loaded."""
    (function,) = found["kvmcluster-installed"]
    changed = {"onchanges": [{function.partition(".")[0]: "kvmcluster-installed"}]}
    if __salt__["service.available"]("salt-master"):
        found["kvmcluster-master"] = notice(
            "restart salt-master, too: systemctl restart salt-master", changed
        )
    if Path("/run/systemd/system").is_dir() and __salt__["service.available"]("salt-minion"):
        found["kvmcluster-minion"] = {"cmd.run": as_list({"name": restart(), **changed})}
    else:
        found["kvmcluster-minion"] = notice("restart this minion when it runs no job", changed)
    return found


def restart():
    """A minion that restarts ends its jobs, a migration's among them: wait for all, this one too.

    One that does not run, as where Salt has no master, is not started.
    """
    folder = Path(sys.RELENV) if is_onedir() else Path(sys.executable).parent
    salt_call = f"{folder / 'salt-call'} --config-dir={opts['config_dir']} --local --out=json"
    # The second look is quick, so that no job begins between it and the restart unseen; the first
    # one removes what ended jobs left in the folder.
    idle = f"! ls -A {opts['cachedir']}/proc | grep -q ."
    waits = f"until {salt_call} saltutil.running | grep -q '\\[\\]' && {idle}; do sleep 5; done"
    return (
        f"systemctl is-active --quiet {RESTART} || systemd-run --collect --unit={RESTART}"
        f' sh -c "{waits}; systemctl try-restart salt-minion"'
    )


def notice(text, requisites):
    return {"test.show_notification": as_list({"text": text, **requisites})}


def offline():
    return {"no_index": True, "find_links": CACHE}


def as_list(arguments):
    return [{name: value} for name, value in arguments.items()]
