"""The process beside a migration that completes its handover if the process that runs it ends.

A shell waits, so that this costs nothing while nothing is wrong. It outlives the job, and the
minion: they may be killed, by Salt as well.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.host import commands, journal

LOOKOUT = "saltext_kvmcluster.host.lookout"
# Reads a request, waits for the end of its input, and gives the request to the program $2 and $3
# if the file $1 is still there.
SCRIPT = (
    "IFS= read -r request; cat >/dev/null;"
    ' [ -e "$1" ] || exit 0; printf "%s\\n" "$request" | "$2" -c "$3"'
)


def keeper(here: str, pillar: Mapping[str, Any] | None, move: Move) -> AbstractContextManager[None]:
    """Keep such a process while the context lasts; none without the pillar."""
    if pillar is None:
        return contextlib.nullcontext()
    # Salt finds this package by its own path, which another Python need not have.
    code = f"# kvmcluster's lookout\nimport sys; sys.path[:] = {sys.path!r}; import runpy;"
    code += f" runpy.run_module({LOOKOUT!r}, run_name='__main__')"
    request = json.dumps({"node": here, "pillar": pillar, "uuid": move.uuid})
    entry = journal.entry_path(move.uuid)
    return commands.outliving(["sh", "-c", SCRIPT, "sh", entry, sys.executable, code], request)
