"""A cluster watched on a real master, with a node that is down: what it shows, and to whom."""

import fcntl
import json
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
import salt.config
import yaml
from sandbox import NODES
from test_master import Master, pillar

from saltext_kvmcluster.master import runs

SALT_RUN = "import sys; from salt.scripts import salt_run; sys.exit(salt_run())"


@pytest.fixture
def master(kvm, salt_run, tmp_path):
    """A master whose cluster has a node that is down."""
    found = Master(kvm, salt_run)
    down = found.pki / "ghost"
    down.write_bytes((found.pki / "beta").read_bytes())
    kvm.pillar(raw=pillar("test", *NODES, "ghost"))
    for node in NODES:
        kvm.run(node, "saltutil.refresh_pillar", wait=True)
    yield found
    down.unlink()


@pytest.fixture
def drain(master):
    """A drain alpha, as far as other processes of the master know."""
    run = runs.Publisher(
        salt.config.master_config(f"{master.config}/master"), "test", "drain", "alpha"
    )
    run.show("waits for web1")
    yield run
    run.close()


class Watching:
    """A watch on a terminal of its own."""

    def __init__(self, master, *words, columns=80, lines=24, **environment):
        self.fd, theirs = pty.openpty()
        command = [sys.executable, "-c", SALT_RUN, "-c", str(master.config), "kvmcluster.watch"]
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [*command, "--log-level=quiet", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **environment},
        )
        os.close(theirs)
        self.text = ""

    def until(self, word, seconds=60):
        """Read until it shows a word."""
        end = time.monotonic() + seconds
        while word not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.fd], [], [], 1.0)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode()
                except OSError:
                    break
        return self.text

    def interrupt(self):
        """Press Ctrl-C; return the exit code and all that was shown."""
        self.process.send_signal(signal.SIGINT)
        while select.select([self.fd], [], [], 30.0)[0]:
            try:
                self.text += os.read(self.fd, 65536).decode()
            except OSError:
                break
        return self.process.wait(30), self.text

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.fd)


def test_one_look_names_who_is_silent_and_what_another_process_is_at(master, drain):
    data = master.data("kvmcluster.watch", "once=true")
    assert data["ok"] and data["cluster"] == "test" and not data["moving"]
    states = {node: row["state"] for node, row in data["nodes"].items()}
    assert states["ghost"] == "silent" and list(states) == [*NODES, "ghost"]
    assert data["nodes"]["ghost"]["detail"].startswith("no answer since ")
    (run,) = data["runs"]
    assert (run["name"], run["alive"], run["line"]) == ("drain alpha", True, "waits for web1")
    assert any("ghost" in one for one in data["problems"])


def test_without_a_terminal_each_change_is_a_line(master, drain):
    lines = master.text("kvmcluster.watch", "time_limit=20").splitlines()
    assert lines[0].endswith("watching cluster test: alpha, beta, ghost")
    assert any("AT WORK  drain alpha" in line for line in lines)
    assert any("ghost: silent: no answer since" in line for line in lines)
    assert lines[-1].startswith("cluster test")
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("columns", "lines", "environment"), [(80, 24, {}), (40, 10, {"NO_COLOR": "1"})]
)
def test_it_fills_a_terminal_and_gives_it_back_at_ctrl_c(
    master, drain, columns, lines, environment
):
    watching = Watching(master, columns=columns, lines=lines, **environment)
    try:
        text = watching.until("silent")
        assert "\x1b[?1049h" in text and "AT WORK" in text
        code, text = watching.interrupt()
    finally:
        watching.close()
    assert code == 0 and "Traceback" not in text, text
    screen, after = text.rsplit("\x1b[?1049l", 1)
    assert "cluster test" in after
    assert ("\x1b[1;31msilent" in screen) is not bool(environment)
    assert ("\x1b[36mAT WORK" in text) is not bool(environment)


def test_a_lost_master_is_told_and_ctrl_c_ends_the_view_all_the_same(kvm, master, tmp_path):
    config = yaml.safe_load(pathlib.Path(kvm.master.config_file).read_text())
    (tmp_path / "master").write_text(yaml.safe_dump({**config, "ret_port": 9}))
    master.config = tmp_path
    watching = Watching(master)
    try:
        watching.until("does not take jobs")
        code, text = watching.interrupt()
    finally:
        watching.close()
    assert code == 1 and "Assertion" not in text and "Traceback" not in text, text


def test_wrong_arguments_are_one_sentence(master):
    for word in ("interval=0", "interval=x", "time_limit=-1", "once=maybe", "cluster=nope"):
        detail = master.text("kvmcluster.watch", word, code=1)
        assert detail.startswith("ERROR: ") and len(detail.splitlines()) == 1
    assert (
        json.loads(master.text("--out=json", "kvmcluster.watch", "once=3", code=1))["ok"] is False
    )
