"""Metrics as text, in the format that node_exporter's textfile collector reads.

That is the Prometheus text format. The collector takes OpenMetrics for the same, and then loses the
type and the help of every counter, whose name differs in the two.
"""

from __future__ import annotations

import os
import posixpath
import pwd
from collections.abc import Iterable, Iterator
from typing import Any

from saltext_kvmcluster.core import installing
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.migration.totals import Spread
from saltext_kvmcluster.core.monitoring import metrics
from saltext_kvmcluster.core.monitoring.metrics import Family
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.host import files, interpreter

ENDING = ".prom"
MODE = 0o644
OURS = f"# HELP {metrics.PREFIX}"
"""What a file of ours has."""


def client_library() -> Any:
    """Return the client library of Prometheus; InputError that says how to get it."""
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as error:
        raise InputError(
            f"kvmcluster.metrics needs prometheus_client in the master's Python ({error}):"
            f" {installing.command('prometheus-client', interpreter.this_one())}; a later call"
            " finds it"
        ) from None
    return prometheus_client


def text(families: Iterable[Family]) -> str:
    """Return metrics as text."""
    library = client_library()
    registry = library.CollectorRegistry(auto_describe=False)
    registry.register(_Collector(library.core, families))
    return str(library.generate_latest(registry).decode())


def checked_path(path: object) -> str:
    """Return the path of a file that the textfile collector reads; InputError for any other."""
    if not isinstance(path, str) or not path.startswith("/") or path != printable(path):
        raise InputError(f"path: want an absolute path that ends in {ENDING}, got {path!r}")
    folder, name = posixpath.split(posixpath.normpath(path))
    if not name.endswith(ENDING) or name == ENDING:
        raise InputError(
            f"path: {path} does not end in {ENDING}: the textfile collector reads no other file"
        )
    if not os.path.isdir(folder):
        raise InputError(
            f"path: there is no folder {folder}; name the one that node_exporter is given by"
            " --collector.textfile.directory, on Debian /var/lib/prometheus/node-exporter"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"path: user {_account()}, as which Salt runs here, may not write to {folder}:"
            f" setfacl -m u:{_account()}:rwx {folder}"
        )
    file = posixpath.join(folder, name)
    found = files.read(file).text
    if found and OURS not in found:
        raise InputError(f"path: {file} has figures of something else; name another file")
    return file


def write(path: str, content: str) -> None:
    """Replace a file as a whole, readable for node_exporter; WorldError if that is not possible."""
    files.apply(FilePlan(path, content, MODE, _account(), {}))


def _account() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


class _Collector:
    """What the library asks for metrics."""

    def __init__(self, core: Any, families: Iterable[Family]) -> None:
        self._core, self._families = core, families

    def collect(self) -> Iterator[Any]:
        kinds = {
            metrics.GAUGE: self._core.GaugeMetricFamily,
            metrics.COUNTER: self._core.CounterMetricFamily,
            metrics.HISTOGRAM: self._core.HistogramMetricFamily,
        }
        for one in self._families:
            family = kinds[one.kind](one.name, one.help, labels=one.labels)
            for labels, value in one.samples:
                if isinstance(value, Spread):
                    family.add_metric(labels, _cumulative(value), value.sum)
                else:
                    family.add_metric(labels, value)
            yield family


def _cumulative(spread: Spread) -> list[tuple[str, float]]:
    """Return how many values are at most each bound."""
    found, total = [], 0
    for bound, count in zip((*spread.bounds, float("inf")), spread.counts, strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
    return found
