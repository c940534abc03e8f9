"""Where the extension does not work, said before anything else is imported.

Salt shows the text of an ImportError as the reason why a module is not there. Without this, the
reason would be the first library that is missing, and installing that would lead nowhere.
"""

from __future__ import annotations

import os
import sys

import salt

from saltext_kvmcluster.host import interpreter

NEEDS_A_MINION = "each node needs a salt-minion of its own"
THIN = "code-checksum"
"""A file of what salt-ssh puts on a host, two folders above Salt itself."""


def refusal(platform: str, by_ssh: bool) -> str:
    """Return why the extension does not work here; empty if it does.

    by_ssh
        Whether Salt was sent here by salt-ssh.
    """
    if not platform.startswith("linux"):
        return f"kvmcluster: nodes are Linux hosts with KVM, and this is {platform}"
    if by_ssh:
        return f"kvmcluster: not by salt-ssh; {NEEDS_A_MINION}"
    return ""


def check() -> None:
    """Raise ImportError where the extension does not work, or what the doors import is missing."""
    above = os.path.dirname(os.path.dirname(os.path.dirname(salt.__file__)))
    reason = refusal(sys.platform, os.path.exists(os.path.join(above, THIN)))
    if reason:
        raise ImportError(reason)
    interpreter.need("lxml")


check()
