"""Salt's command lines, each in a fork of a process that has Salt imported already.

What runs is what the command would run, from its arguments to its exit code; only Python's start
and Salt's imports, a CPU second each time, are spent once.
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

PRELOADED = [
    *("salt.cli.run", "salt.client", "salt.loader", "salt.minion", "salt.output", "salt.runner"),
    *("salt.scripts", "salt.state", "salt.template", "salt.utils.event", "salt.utils.minions"),
    *("saltext_kvmcluster.output.kvmcluster", "saltext_kvmcluster.runners.kvmcluster"),
]


class CommandLines:
    """A process to fork commands from; ``close`` ends it."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )

    def run(self, command, *words):
        """Run a command of Salt as ``run`` of subprocess does; its standard error is dropped."""
        line = [command, *map(str, words)]
        with tempfile.NamedTemporaryFile() as output:
            print(json.dumps([line, output.name]), file=self._server.stdin, flush=True)
            code = int(self._server.stdout.readline())
            return subprocess.CompletedProcess(line, code, pathlib.Path(output.name).read_bytes())

    def close(self):
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(10)


def serve():
    """Fork for each line on standard input, and print the exit code of what ran."""
    for line in sys.stdin:
        words, output = json.loads(line)
        pid = os.fork()
        if not pid:
            os._exit(run(words, output))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(words, output):
    """Become the command: its output is the file's, its input is empty; return its exit code."""
    for path, flags, number in ((os.devnull, os.O_RDONLY, 0), (output, os.O_WRONLY, 1)):
        os.dup2(os.open(path, flags), number)
    sys.argv = words
    code = 0
    try:
        getattr(sys.modules["salt.scripts"], words[0].replace("-", "_"))()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = 1
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    serve()
