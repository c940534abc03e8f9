"""Ctrl-C at the master's terminal: noted, and told to whoever would go on with the next step."""

import os
import signal

import pytest

from saltext_kvmcluster.master import terminal
from saltext_kvmcluster.runners import kvmcluster as master


@master._reported
def command(is_interrupted):
    with terminal.attached({}) as console:
        if is_interrupted:
            os.kill(os.getpid(), signal.SIGINT)
        assert console.interrupted() is is_interrupted
        return {"kind": "restored", "ok": True}


@pytest.mark.parametrize("is_interrupted", [True, False])
def test_a_command_tells_that_it_was_interrupted_even_where_it_ended_well(is_interrupted):
    before = signal.getsignal(signal.SIGINT)
    data = command(is_interrupted)["data"]
    assert data["ok"] and data.get("interrupted", False) is is_interrupted
    assert signal.getsignal(signal.SIGINT) is before
    assert "interrupted" not in command(False)["data"], "each command tells of itself alone"
