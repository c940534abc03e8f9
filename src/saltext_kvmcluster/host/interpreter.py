"""The Python that runs this process, which is Salt's."""

import importlib.util
import shutil
import sys

from saltext_kvmcluster.core import installing
from saltext_kvmcluster.core.installing import Interpreter


def this_one() -> Interpreter:
    onedir = getattr(sys, "RELENV", None)
    return Interpreter(
        executable=sys.executable,
        prefix=sys.prefix,
        base_prefix=sys.base_prefix,
        onedir=str(onedir) if onedir else None,
        installers=frozenset(filter(shutil.which, ("apt", "dnf", "zypper"))),
    )


def need(package: str) -> None:
    """Refuse to go on without a package; Salt shows why, where functions of ours are called."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"saltext-kvmcluster needs {package}, which is missing for {sys.executable}:"
            f" {installing.command(package, this_one())}"
        )
