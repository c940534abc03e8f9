"""What is run on a node and killed there, as the series of kills see it; see trust_runner.py."""

import json
import pathlib
import subprocess
import sys

from labs import PROGRAM

RUNNER = pathlib.Path(__file__).with_name("trust_runner.py")


class Disorder(Exception):
    """The lab is not as it has to be before a kill."""


class Runner:
    """Runs the states of trust, or a function, on a node and kills it."""

    def __init__(self, lab, node):
        self._process = subprocess.Popen(
            [*PROGRAM, "exec", node, "--", sys.executable, str(RUNNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=lab.environment,
            text=True,
        )

    def await_ready(self):
        self._read()

    def run(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise Disorder("the runner has ended")
        return json.loads(line)

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
