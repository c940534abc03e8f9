"""The tickets of migrations that wait for their slots, on this node and on peers.

A ticket is a file in the queue's folder on that node, with the next number, and a lock that a
shell there holds: it is abandoned once the shell is gone. The lock of a node that lost its power
stays, so a ticket is also abandoned if it was not touched for a minute.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import threading

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.migration.queues import Queue
from saltext_kvmcluster.host.ssh import Session

# Seconds after which a ticket is touched again.
BEAT = 15.0
# Seconds for a shell to touch or remove a ticket.
SOON = 5.0

_TAKE = r"""
number=
[ -d "$1" ] || mkdir -p -m 700 "$1"
true >>"$1/lock" && exec 8<>"$1/lock" && flock -w 10 8 && {
  number=100000000
  for ticket in "$1"/1????????; do [ -e "$ticket" ] && number=${ticket##*/}; done
  number=$((number + 1))
  exec 9<>"$1/$number" && flock -n 9 && printf '%s\n' "$3" >&9
  exec 8>&-
}
"""
# The time of a ticket is seconds since the node was started: that clock is never set.
_SHOW = r"""
read -r up idle </proc/uptime
up=${up%%.*}
show() { touch -d "@$up" "$1"; }
"""
# Of those before, as many as may go at once are tried, since they count, and the last one: so each
# ticket is tried at little cost. An abandoned one is removed.
_LOOK = (
    _SHOW
    + r"""
abandoned() { [ -n "$(find "$1" ! -newermt "@$((up - 60))")" ] || flock -n 7 7<"$1"; }
[ -n "$number" ] && [ -e "$1/$number" ] && exec 8<>"$1/lock" && flock -w 10 8 && {
  show "$1/$number"
  last=
  for ticket in "$1"/1????????; do
    [ "${ticket##*/}" -lt "$number" ] && last=$ticket
  done
  [ -n "$last" ] && abandoned "$last" && rm -f "$last"
  alive=0
  for ticket in "$1"/1????????; do
    [ "${ticket##*/}" -lt "$number" ] || break
    if [ "$alive" -lt "$2" ]; then
      abandoned "$ticket" && rm -f "$ticket" && continue
      alive=$((alive + 1))
    fi
    words=
    read -r words <"$ticket"
    printf 'before %s %s\n' "${ticket##*/}" "$words"
  done
  exec 8>&-
  echo "here is $number"
}
"""
)
_BEAT = _SHOW + '[ -e "$1/$number" ] && show "$1/$number"'
_RELEASE = 'rm -f "$1/$number"; exec 9>&-'


class Tickets:
    """Our tickets on one node, held by its shell."""

    def __init__(self, shell: Session) -> None:
        self._shell = shell
        self._held: dict[Queue, threading.Event] = {}

    def take(self, queue: Queue, move: Move) -> str:
        """Take a ticket, and keep it valid until it is released; return what `_LOOK` prints."""
        released = self._held[queue] = threading.Event()

        def beat() -> None:
            while not released.wait(BEAT):
                self._tried(_script(queue, _BEAT))

        ticket = json.dumps([move.uuid, move.guest, move.source, move.destination])
        output = self._shell.run(_script(queue, _TAKE + _LOOK, ticket)).stdout
        threading.Thread(target=beat, daemon=True).start()
        return output

    def observe(self, queue: Queue) -> str:
        """Return what `_LOOK` prints: the tickets before ours, and ours if it is still valid."""
        return self._shell.run(_script(queue, _LOOK)).stdout

    def release(self, queue: Queue) -> None:
        """Give the ticket back, if there is one; never raises."""
        if released := self._held.pop(queue, None):
            released.set()
            self._tried(_script(queue, _RELEASE))

    def _tried(self, script: str) -> None:
        """Run a script in a shell that has a ticket; one that is gone has none any more."""
        if self._shell.is_open:
            with contextlib.suppress(WorldError):
                self._shell.run(script, SOON)


def _script(queue: Queue, script: str, ticket: str = "") -> str:
    arguments = shlex.join(["set", "--", queue.folder, str(queue.limit), ticket])
    return f"{{ {arguments}\n{script}\n}} 2>&1"
