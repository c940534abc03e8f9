"""Which NVMe devices are over fabrics (TCP, RDMA, Fibre Channel), and so no local disks.

lsblk calls the transport of either ``nvme``. Linux links each controller from the subsystem that it
belongs to (nvme_init_subsystem in drivers/nvme/host/core.c); one over fabrics is a device of the
class nvme-fabrics. A namespace nvmeXnY has the number of its subsystem, or of its controller where
multipath is off in the kernel.
"""

from __future__ import annotations

import re

COMMAND = (
    *("find", "/sys/devices/virtual", "-maxdepth", "3"),
    *("-path", "/sys/devices/virtual/nvme-subsystem/*", "-type", "l", "-printf", "%p\\t%l\\n"),
)
FABRICS = "nvme over fabrics"
_LINK = re.compile(r".*/nvme-subsys(\d{1,5})/nvme(\d{1,5})\t(.*)")
_NAMESPACE = re.compile(r"/dev/nvme(\d{1,5})n\d{1,5}(p\d{1,5})?")


class Controllers:
    """The NVMe controllers of a node, by the output of COMMAND."""

    def __init__(self, listing: str) -> None:
        found = [match for match in map(_LINK.fullmatch, listing.split("\n")) if match]
        self._over = [(set(match.groups()[:2]), "/nvme-fabrics/" in match[3]) for match in found]

    def are_remote(self, device: str) -> bool:
        """Whether every controller that a device may be behind is over fabrics."""
        named = _NAMESPACE.fullmatch(device)
        behind = [over for numbers, over in self._over if named and named[1] in numbers]
        return bool(behind) and all(behind)
