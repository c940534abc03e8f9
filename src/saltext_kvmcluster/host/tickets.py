"""The tickets of migrations that wait for their slots, on this node and on peers.

A ticket is a file in the queue's folder on that node. Its name has the next number, and the shell
there that holds it and that shell's parent, each as its process id and start: on this node the
parent is our process, on a peer sshd's for our login. It is abandoned once one of them is gone, or
is another process, or the node was started again. Where a node lost its power, its login stays on
the peer: so a ticket is also abandoned if it was not touched for a minute.
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

# Only regular files with such names are tickets; whatever else lies there is passed over.
_COMMON = r"""
any='[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-*-*-*-*-*'
read -r boot </proc/sys/kernel/random/boot_id
boot=${boot%%-*}
is_file() { [ -f "$1" ] && [ ! -L "$1" ]; }
locked() {
  if is_file "$1/lock" || { [ ! -e "$1/lock" ] && [ ! -L "$1/lock" ]; }; then
    command exec 8<>"$1/lock"
  else
    command exec 8<"$1"
  fi && flock -w 10 8
}
began() {
  began=
  { read -r began <"/proc/$1/stat"; } 2>/dev/null || return
  set -- ${began##*) }
  began=
  case $1 in Z | X) return 1 ;; esac
  shift 19
  began=$1
}
is_held() {
  rest=${1##*/} rest=${rest#*-}
  [ "${rest##*-}" = "$boot" ] || return
  while [ "$rest" != "$boot" ]; do
    pid=${rest%%-*} rest=${rest#*-}
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    began "$pid" && [ "$began" = "${rest%%-*}" ] || return
    rest=${rest#*-}
  done
}
"""
_TAKE = r"""
ticket=
[ -d "$1" ] || mkdir -p -m 700 "$1"
locked "$1" && {
  number=100000000
  for path in "$1"/1$any; do
    is_file "$path" && is_held "$path" && number=${path##*/} number=${number%%-*}
  done
  began $$ && ticket=$((number + 1))-$$-$began && began $PPID && ticket=$ticket-$PPID-$began-$boot
  printf '%s\n' "$3" >"$1/$ticket" || ticket=
  exec 8>&-
}
"""
# The time of a ticket is seconds since the node was started: that clock is never set.
_SHOW = r"""
read -r up idle </proc/uptime
up=${up%%.*}
show() { touch -d "@$up" "$1"; }
"""
# Every ticket before ours is tried, without a process for each; an abandoned one is removed.
_LOOK = (
    _SHOW
    + r"""
[ -n "$ticket" ] && is_file "$1/$ticket" && locked "$1" && {
  show "$1/$ticket"
  find "$1" -maxdepth 1 -type f -name "1$any" ! -newermt "@$((up - 60))" -delete
  for path in "$1"/1$any; do
    is_file "$path" && ! is_held "$path" && printf '%s\0' "$path"
  done | xargs -0 -r rm -f
  for path in "$1"/1$any; do
    [ "${path##*/}" != "$ticket" ] || break
    is_file "$path" && is_held "$path" || continue
    words= number=${path##*/}
    read -r words <"$path"
    printf 'before %s %s\n' "${number%%-*}" "$words"
  done
  odd=0
  for path in "$1"/*; do
    case ${path##*/} in 1$any | lock) is_file "$path" && continue ;; esac
    [ "$odd" -lt 3 ] || break
    odd=$((odd + 1))
    printf 'odd %s\n' "$path"
  done
  exec 8>&-
  echo "here is ${ticket%%-*}"
}
"""
)
_BEAT = _SHOW + 'is_file "$1/$ticket" && show "$1/$ticket"'
_RELEASE = 'rm -f "$1/$ticket"'


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
    return f"{{ {arguments}\n{_COMMON}\n{script}\n}} 2>&1"
