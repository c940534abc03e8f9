"""The Python that runs this process, which is Salt's."""

import shutil
import sys

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
