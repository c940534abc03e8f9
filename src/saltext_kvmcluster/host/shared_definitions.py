"""The definitions of guests on shared storage."""

from __future__ import annotations

import base64

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.host.node_access import NodeAccess
from saltext_kvmcluster.host.paths import is_missing

LARGEST_KIB = 10 * 1024


def read_listed(cluster: Cluster, access: NodeAccess) -> tuple[dict[str, str], dict[str, str]]:
    """Return the text of each listed guest's definition on shared storage, empty if there is none.

    Then, by guest, a warning about its path, or why it cannot be read. A definition that cannot be
    read is missing in the first.
    """
    texts: dict[str, str] = {}
    detail: dict[str, str] = {}
    if cluster.guests.definitions != "shared":
        return texts, detail
    paths_of = {name: store.all_paths(cluster.guests, name) for name in cluster.guests.list}
    paths = dict.fromkeys(path for found in paths_of.values() for path in found)
    contents = access.run_all({path: _reading(path) for path in paths})
    for name, candidates in paths_of.items():
        there = [path for path in candidates if not is_missing(contents[path])]
        try:
            found = store.find(cluster.guests, name, there)
        except InputError:
            texts[name] = ""
            continue
        if contents[found.path].code != 0:
            detail[name] = contents[found.path].stderr.strip() or f"{found.path} cannot be read"
            continue
        try:
            data = base64.b64decode(contents[found.path].stdout)
            text = store.decoded(data, found.path)
            if not text.lstrip().startswith("<"):
                raise InputError(f"{found.path} holds no XML")
            texts[name] = text
            detail[name] = found.warning
        except InputError as error:
            detail[name] = str(error)
    return texts, {name: words for name, words in detail.items() if words}


def _reading(path: str) -> tuple[str, ...]:
    """Return a command that prints a file in base64, and opens nothing but regular files.

    Others put files on shared storage: opening a device has side effects, and a named pipe blocks.
    """
    return (
        *("find", "-L", path, "-maxdepth", "0", "-type", "f", "-size", f"-{LARGEST_KIB}k"),
        *("-exec", "base64", "-w0", "{}", ";"),
    )
