"""A run of the master's that takes long: what it does, where, and how far it says that it is.

Whoever watches reads it where the run has published it. A run that ends takes it back; what is left
there without its process was killed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from saltext_kvmcluster.core.drain import progress
from saltext_kvmcluster.core.drain.progress import BatchProgress
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.untrusted import Reader


@dataclass(frozen=True)
class Run:
    """A run: the command's name, its node (empty: all), and the identity of its process.

    ``began`` and ``at``, when it was published last, are seconds since 1970. ``line`` is what it
    shows on its terminal; ``progress`` that of its moves, None if it has none yet.
    """

    command: str
    node: str
    process: str
    began: float
    at: float
    line: str = ""
    progress: BatchProgress | None = None

    @property
    def pid(self) -> str:
        return self.process.partition(":")[0]

    @property
    def name(self) -> str:
        """What it is, for a sentence."""
        return printable(f"{self.command} {self.node}" if self.node else self.command)

    def is_same(self, other: Run) -> bool:
        """Whether another run does what this one does."""
        return (self.command, self.node) == (other.command, other.node)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for ``parse`` and for whoever watches."""
        return {**asdict(self), "progress": self.progress.to_dict() if self.progress else None}


def parse(data: object) -> Run | None:
    """Return a run that was published; None if it cannot be read."""
    read = Reader(data)
    try:
        return Run(
            read.at("command").line(),
            read.at("node").line(),
            read.at("process").line(),
            read.at("began").number(),
            read.at("at").number(),
            read.at("line").line(),
            progress.parse(read.at("progress").value),
        )
    except InputError:
        return None
