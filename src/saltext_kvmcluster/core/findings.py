"""Findings: the one form of every reason for or against a migration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OK, PROBLEM, UNKNOWN = "OK", "PROBLEM", "UNKNOWN"
BLOCK, WARN = "BLOCK", "WARN"
SEE = "see "
"""Begins the remedy of what is UNKNOWN because of another check's finding."""


@dataclass(frozen=True)
class Issue:
    """One reason why a check is not OK; ``outcome`` is PROBLEM or UNKNOWN.

    ``severity`` is that of its check if it is empty. ``destination`` names the one node to which
    it forbids a guest to go, empty if it forbids all.
    """

    sentence: str
    remedy: str = ""
    outcome: str = PROBLEM
    severity: str = ""
    destination: str = ""


@dataclass(frozen=True)
class Finding:
    """One check's outcome for one subject. UNKNOWN blocks as PROBLEM does.

    The subject is a node (``source`` or ``destination`` alone), a pair of nodes, a guest (which
    is at ``source``), or a guest and the node that it would go to; the others are empty.
    """

    id: str
    outcome: str
    sentence: str
    remedy: str = ""
    severity: str = BLOCK
    guest: str = ""
    source: str = ""
    destination: str = ""

    @property
    def blocks(self) -> bool:
        """Whether a guest must not be moved because of it."""
        return self.severity == BLOCK and self.outcome != OK

    def to_dict(self) -> dict[str, str]:
        """Return the finding as plain data."""
        return {
            "id": self.id,
            "severity": self.severity,
            "outcome": self.outcome,
            "sentence": self.sentence,
            "remedy": self.remedy,
            "guest": self.guest,
            "source": self.source,
            "destination": self.destination,
        }


def unknown(sentence: str, remedy: str) -> Issue:
    """Return the issue of a fact that could not be had.

    remedy
        How to get it. The remedy of the check is for a problem that was observed.
    """
    return Issue(sentence, remedy, UNKNOWN)


def sentences(findings: Iterable[Finding]) -> str:
    """Return findings as one line for an error."""
    return "; ".join(
        f"{finding.id}: {finding.sentence}" + (f" ({finding.remedy})" if finding.remedy else "")
        for finding in findings
    )
