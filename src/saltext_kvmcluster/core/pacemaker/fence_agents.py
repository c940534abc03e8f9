"""What a fence device does to a node, by the name of its agent (ClusterLabs/fence-agents)."""

from __future__ import annotations

from dataclasses import dataclass

PRETENDING = (
    *("fence_dummy", "fence_ack_manual", "fence_manual", "fence_heuristics_ping"),
    *("null", "ssh", "external/ssh", "external/null", "meatware", "suicide"),
)
"""They say that a node is off without having switched it off: tests, and a person's word."""
OTHERWISE = (
    *("fence_scsi", "fence_mpath", "fence_brocade", "fence_cisco_mds", "fence_ifmib"),
    *("fence_sanbox2", "fence_aws_vpc_net", "fence_azure_arm", "fence_compute", "fence_evacuate"),
    *("fence_legacy", "fence_autodetect"),
)
"""They take storage or network from a node (``fabric_fencing`` in lib/fencing.py.py), or may."""
ONE_MACHINE = (
    *("fence_ipmilan", "fence_ipmilanplus", "fence_idrac", "fence_imm", "fence_redfish"),
    *("fence_ilo", "fence_ilo2", "fence_ilo3", "fence_ilo3_ssh", "fence_ilo4", "fence_ilo4_ssh"),
    *("fence_ilo5", "fence_ilo5_ssh", "fence_ilo_ssh", "fence_ilo_mp"),
    *("fence_drac", "fence_rsa", "fence_rsb"),
)
"""They switch the machine that their address belongs to, and not one of many by its port."""


@dataclass(frozen=True)
class FenceDevice:
    """A fence device, and its agent.

    ``unfences``: a node has to be let in again after fencing. ``disabled``: by its target-role.
    """

    id: str
    type: str
    unfences: bool = False
    disabled: bool = False

    @property
    def pretends(self) -> bool:
        """Whether it fences nobody, whatever it says."""
        return self.type in PRETENDING

    @property
    def switches_power(self) -> bool:
        """Whether a node that it fenced has no power, or was reset."""
        return not (self.pretends or self.unfences or self.type in OTHERWISE)

    def __str__(self) -> str:
        return f"{self.id} ({self.type})"


@dataclass(frozen=True)
class FenceLevel:
    """Devices that act together on a node, by its name; see fencing-topology of the CIB."""

    target: str
    devices: tuple[str, ...]
