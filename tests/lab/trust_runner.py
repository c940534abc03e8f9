"""On a node: applies the states of trust in a process that is killed amid them.

One line of JSON comes in for each run: the ``pillar``, and when it is killed: at the ``event`` of
that number among what it does to the files of trust, or after so many ``seconds``. One goes out:
whether it was ``killed``, its last event, how many there were, and after how many ``seconds``.
Salt is loaded once, and forks for each run.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time

import salt.config
import salt.loader
import salt.minion

STATES = ("authorized_keys", "known_hosts", "ssh_config")
DEEDS = ("os.rename", "os.remove", "os.link", "os.chmod", "os.chown", "os.mkdir")
OURS = ("/root/.ssh", "/var/lib/kvmcluster", "/run/kvmcluster", ".kvmcluster-new-")


def loaded():
    opts = salt.config.minion_config("/etc/salt/minion")
    opts.update(salt.minion.resolve_dns(opts))
    opts["grains"] = salt.loader.grains(opts)
    opts["pillar"] = {}
    states = salt.loader.states(opts, salt.loader.minion_mods(opts), {}, {})
    return opts["pillar"], [states[f"kvmcluster.{name}"] for name in STATES]


def run(states, wanted, told):
    """Apply the states; tell each event, and die at the wanted one."""
    count = 0

    def watch(event, arguments):
        nonlocal count
        opens = event == "open" and any(part in str(arguments[0]) for part in OURS)
        if event not in DEEDS and not opens:
            return
        count += 1
        os.write(told, f"{event} {arguments[0]}\n".encode())
        if count == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    done = [state("it") for state in states]
    bad = [one["comment"] for one in done if not one["result"]]
    os.write(told, f"ended {'; '.join(bad)}\n".encode())


def carried_out(states, request):
    """Run in a process of its own, and return what came of it."""
    reading, told = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(reading)
        with contextlib.suppress(BaseException):
            run(states, request.get("event"), told)
        os._exit(0)
    os.close(told)
    handle, said = os.pidfd_open(pid), b""
    if "seconds" in request and not select.select([handle], [], [], request["seconds"])[0]:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(handle)
    while found := os.read(reading, 1 << 16):
        said += found
    os.close(reading)
    events = said.decode().splitlines()
    ended = bool(events) and events[-1].startswith("ended ")
    return {
        "killed": os.WIFSIGNALED(status),
        "events": len(events) - ended,
        "last": events[-1] if events else "",
        "after": round(time.monotonic() - begun, 3),
    }


def main():
    pillar, states = loaded()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pillar.clear()
        pillar.update(request["pillar"])  # Salt keeps this very dictionary.
        print(json.dumps(carried_out(states, request)), flush=True)


if __name__ == "__main__":
    main()
