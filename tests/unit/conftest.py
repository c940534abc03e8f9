"""The rules of this tier: no process, no connection, no file written; hypothesis repeatable."""

import os
import sys

import pytest
from hypothesis import settings

settings.register_profile(
    "unit", deadline=None, database=None, derandomize=True, max_examples=20, print_blob=False
)
# Each night, on new examples; `make nightly` asks for it.
settings.register_profile("nightly", deadline=None, database=None, max_examples=500)
settings.load_profile("unit")

FORBIDDEN = ("subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "socket.connect")
ALLOWED = ".hypothesis"
guarded = []


def _guard(event, args):
    if not guarded:
        return
    if event in FORBIDDEN:
        raise RuntimeError(f"{guarded[-1]}: {event} in the unit tier")
    if event == "open" and _writes(args[2]) and ALLOWED not in str(args[0]):
        raise RuntimeError(f"{guarded[-1]}: {args[0]} is opened for writing in the unit tier")


def _writes(flags):
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _only_thinks(request):
    # A test that imports would have Python write __pycache__, which no guard can tell from the
    # code's own writing. What is imported before the test is still cached.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    guarded.append(request.node.nodeid)
    yield
    guarded.clear()
    sys.dont_write_bytecode = before
