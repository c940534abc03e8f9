"""A demonstration: each step shows the command that an operator would run."""

import json
import os
import subprocess
import time

from .plan import CHECKOUT

CTL = CHECKOUT / "lab" / "ctl"


class Failed(Exception):
    """A step that did not succeed."""


def perform(title, play):
    """Carry out a play and remove its lab; its last line is the summary. Return the exit code."""
    begun = time.monotonic()
    try:
        summary = play()
        say("Remove the lab", "lab/ctl down")
        print(ctl("down"))
    except (Failed, subprocess.TimeoutExpired) as error:
        ctl("down", check=False)
        print(f"{title}: FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        ctl("down", check=False)
        print(f"{title}: FAILED: interrupted")
        return 130
    print(f"{title}: OK {summary}, {time.monotonic() - begun:.0f} s in all")
    return 0


def say(what, command):
    print(f"\n== {what}\n   $ {command}", flush=True)


def orchestrate(name, *arguments, changes_allowed=True):
    """Run an orchestration and print each step's comment."""
    words = ("salt-run", "--", "--out=json", "state.orchestrate", name, *arguments)
    printed = ctl(*words, check=False, timeout=900)
    try:
        states = next(iter(json.loads(printed)["data"].values()))
        ordered = sorted(states.values(), key=lambda state: state["__run_num__"])
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise Failed(f"the orchestration {name}: {printed}") from None
    for state in ordered:
        print(f"-- {state['__id__']}\n{state['comment']}")
        if state["result"] is False:
            raise Failed(f"step {state['__id__']} of the orchestration")
        if state["changes"] and not changes_allowed:
            raise Failed(f"step {state['__id__']} changed something in a second run")
    return ordered


def ctl(*arguments, check=True, timeout=300):
    done = subprocess.run(
        [CTL, *arguments], capture_output=True, text=True, timeout=timeout, env=os.environ
    )
    if check and done.returncode:
        raise Failed(
            f"lab/ctl {' '.join(arguments)}: exit code {done.returncode}\n"
            f"{done.stdout}{done.stderr}"
        )
    return done.stdout.rstrip()
