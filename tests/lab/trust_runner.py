"""On a node: runs the states of trust, or one function, in a process that is killed amid them.

One line of JSON comes in for each run: the ``pillar``, and when it is killed: at the ``event`` of
that number among what it does to the files of trust, or after so many ``seconds``; for a function
also the ``call`` (its name and arguments) and what the ``mine`` holds. One goes out: whether it was
``killed``, its last event, how many there were, and after how many ``seconds``; of a function its
``answer``, and what it ``published``. Salt is loaded once, and forks for each run.
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
DEEDS = (
    *("os.rename", "os.remove", "os.link", "os.chmod", "os.chown", "os.mkdir"),
    "subprocess.Popen",
)
ANSWER, PUBLISHED = "answer", "published"
OURS = ("/root/.ssh", "/var/lib/kvmcluster", "/run/kvmcluster", ".kvmcluster-new-")


def loaded():
    opts = salt.config.minion_config("/etc/salt/minion")
    opts.update(salt.minion.resolve_dns(opts))
    opts["grains"] = salt.loader.grains(opts)
    opts["pillar"] = {}
    functions = salt.loader.minion_mods(opts)
    states = salt.loader.states(opts, functions, {}, {})
    # Each fork would import them anew.
    functions["kvmcluster.rotation"], states["kvmcluster.known_hosts"]
    return opts["pillar"], functions, states


def run(functions, states, request, told):
    """Do what is asked for; tell each event, and die at the wanted one."""
    count, wanted = 0, request.get("event")

    def watch(event, arguments):
        nonlocal count
        opens = event == "open" and any(part in str(arguments[0]) for part in OURS)
        if event not in DEEDS and not opens:
            return
        count += 1
        tell(event, arguments[0])
        if count == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(word, value):
        os.write(told, f"{word} {value}\n".encode())

    def publish(function):
        tell(PUBLISHED, json.dumps(functions[function]()))
        return True

    call = request.get("call")
    # The mine of Salt comes late now and then; here the series decides when.
    functions["mine.send"] = publish
    functions["mine.get"] = lambda **_: request["mine"]
    sys.addaudithook(watch)
    if call:
        tell(ANSWER, json.dumps(functions[call[0]](*call[1:])))
        tell("ended", "")
        return
    done = [states[f"kvmcluster.{name}"]("it") for name in STATES]
    tell("ended", "; ".join(one["comment"] for one in done if not one["result"]))


def carried_out(functions, states, request):
    """Run in a process of its own, and return what came of it."""
    reading, told = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(reading)
        with contextlib.suppress(BaseException):
            run(functions, states, request, told)
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
    lines = said.decode().splitlines()
    values = dict(line.split(" ", 1) for line in lines if line.startswith((ANSWER, PUBLISHED)))
    events = [line for line in lines if not line.startswith((ANSWER, PUBLISHED))]
    ended = bool(events) and events[-1].startswith("ended ")
    return {
        "killed": os.WIFSIGNALED(status),
        "events": len(events) - ended,
        "last": events[-1] if events else "",
        "after": round(time.monotonic() - begun, 3),
        **{word: json.loads(text) for word, text in values.items()},
    }


def main():
    pillar, functions, states = loaded()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pillar.clear()
        pillar.update(request["pillar"])  # Salt keeps this very dictionary.
        print(json.dumps(carried_out(functions, states, request)), flush=True)


if __name__ == "__main__":
    main()
