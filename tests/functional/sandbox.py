"""What the tests do in the sandbox: run Salt, look at files, log in, carry out remedies."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import time

import salt.client
import salt.config
import salt.loader
import yaml

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
SALT = pathlib.Path("/run/kvmtest")  # short: sockets lie below it, and the kernel allows 107 bytes
SSH = pathlib.Path("/root/.ssh")
ETC_SSH = pathlib.Path("/etc/ssh")
# Those that are published: OpenSSH 10.6 makes one of a further type, which older ones refuse.
HOST_KEYS = [ETC_SSH / f"ssh_host_{kind}_key.pub" for kind in ("ecdsa", "ed25519", "rsa")]
HOSTS = """127.0.0.1 localhost sandbox alpha alpha.example.com
127.0.0.2 beta beta.example.com
127.0.0.3 beta-mig
::1 localhost
"""
NODES = {
    "alpha": {"names": ["alpha.example.com"]},
    "beta": {"names": ["Beta.example.com"], "migration": "beta-mig"},
}
NOTED = pathlib.Path("/var/lib/kvmcluster/trust.json")
# The master's configuration as docs/reactors.md tells it, without its schedule.
REACTING = yaml.safe_load(
    (CHECKOUT / "docs" / "reactors.md")
    .read_text()
    .split("```yaml\n")[1]
    .split("```")[0]
    .replace("/srv/salt/", f"{CHECKOUT}/states/")
)
del REACTING["schedule"]


def in_sandbox():
    """Whether process 1 is the one that ``lab/ctl sandbox`` starts: then nothing here is real."""
    words = pathlib.Path("/proc/1/cmdline").read_bytes().decode().split("\0")
    return str(CHECKOUT / "lab" / "inside") in words and "sandbox" in words


class Salt:
    """The master as an administrator uses it, and alpha's states without a job for each.

    States and functions are opened by Salt's own loader with alpha's configuration, as its minion
    does it, and speak with the real master; a job for every run would take most of the time.
    """

    def __init__(self, master, minions):
        self.master = master
        self.minions = minions
        self.client = salt.client.LocalClient(mopts=dict(master.config))
        opts = salt.config.minion_config(minions["alpha"].config_file)
        opts["master_uri"] = f"tcp://127.0.0.1:{opts['master_port']}"
        opts["grains"] = salt.loader.grains(opts)
        self.functions = salt.loader.minion_mods(opts)
        self.states = {
            test: salt.loader.states({**opts, "test": test}, self.functions, {}, {})
            for test in (False, True)
        }

    def full(self, node, function, *arguments, **named):
        """Return what a minion answered, with its exit code."""
        answer = self.client.cmd(node, function, arguments, 60, kwarg=named, full_return=True)
        assert answer.get(node), f"{node} did not answer to {function}"
        return answer[node]

    def run(self, node, function, *arguments, **named):
        return self.full(node, function, *arguments, **named)["ret"]

    def state(self, function, test=False):
        """Run one of our states as alpha and return what it returned."""
        return self.states[test][f"kvmcluster.{function}"]("it")

    def call(self, function, *arguments, **named):
        """Run a function as alpha and return what it returned."""
        return self.functions[function](*arguments, **named)

    def pillar(self, *nodes, raw=None, **ssh):
        """Write the pillar: the cluster with these ssh settings, or ``raw`` as it is."""
        data = {"kvmcluster": {"name": "test", "nodes": NODES, "ssh": ssh}} if raw is None else raw
        # Salt 3006 gives each loader a copy of the options, and 3008 one that cannot be cleared.
        for loader in (self.functions, *self.states.values()):
            loader.pack["__pillar__"] = data
        for node in nodes or NODES:
            (SALT / "pillar" / f"{node}.sls").write_text(f"#!json\n{json.dumps(data)}")

    def publish(self, node, data):
        """Put data into the mine as a node's identity; None takes what is there away."""
        if data is None:
            self.run(node, "mine.delete", "kvmcluster.identity")
        else:
            self.run(node, "mine.send", "kvmcluster.identity", mine_function="test.echo", text=data)
        until(lambda: self.filed(node) == data, f"the mine does not hold {data!r} of {node}")

    def filed(self, node):
        """Return what the mine holds as a node's identity."""
        return self.call("mine.get", node, "kvmcluster.identity").get(node)

    def twice(self, function, watched=(SSH, ETC_SSH)):
        """Run a state dry, for real and again; return the real run.

        The dry run writes nothing and foretells the changes; the third finds nothing to do.
        """
        before = world(*watched)
        dry = self.state(function, test=True)
        assert world(*watched) == before, "test=True wrote"
        real = self.state(function)
        assert dry["changes"] == real["changes"]
        foretold = None if real["result"] and real["changes"] else real["result"]
        assert dry["result"] is foretold, (dry["comment"], real["comment"])
        settled = world(*watched)
        again = self.state(function)
        assert (again["changes"], again["result"]) == ({}, real["result"]), again
        assert world(*watched) == settled, "a run without changes wrote"
        return real

    def good(self, function):
        """Run a state like ``twice``; it has to succeed."""
        done = self.twice(function)
        assert done["result"] is True, done["comment"]
        return done

    def bad(self, function):
        """Run a state like ``twice``; it has to fail with a sentence, which is returned."""
        done = self.twice(function)
        assert done["result"] is False, done
        return sentence(done["comment"])


def sentence(text):
    """Return what was said, after making sure that it is for people."""
    assert isinstance(text, str) and text.strip()
    assert "Traceback" not in text and "exception occurred" not in text, text
    return text


def until(condition, complaint, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, complaint
        time.sleep(0.05)


def world(*folders):
    """Return all that is below the folders: kind, mode, owner, inode, mtime and bytes."""
    found = {}
    for folder in folders:
        for path in sorted([folder, *folder.rglob("*")]):
            with contextlib.suppress(FileNotFoundError):
                observed = path.lstat()
                body = path.read_bytes() if stat.S_ISREG(observed.st_mode) else None
                found[str(path)] = (
                    *(observed.st_mode, observed.st_uid, observed.st_gid),
                    *(observed.st_ino, observed.st_mtime_ns, body),
                )
    return found


def sh(*command, code=0, stderr=subprocess.STDOUT, **options):
    """Run a command; return its output, after checking its exit code (None: any)."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=120,
        **options,
    )
    assert code is None or done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def remedy(command):
    """Carry out a remedy as an administrator does: pasted into a shell."""
    return sh("sh", "-ec", command)


def ssh(name, *options, code=0):
    """Log in by a name without any help and return what was said; ``in`` ends a good one."""
    return sh("ssh", "-T", "-o", "BatchMode=yes", *options, name, "echo in", code=code)


def restart_sshd():
    """Make sshd run with its configuration as it is now; it listens when this returns."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pathlib.Path("/run/sshd.pid").read_text())
        if os.readlink(f"/proc/{pid}/exe") == "/usr/sbin/sshd":
            os.kill(pid, signal.SIGTERM)
            until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "sshd does not end")
    sh("/usr/sbin/sshd")


def contents(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def listening():
    return "SSH-2.0" in sh(
        "timeout", "5", "bash", "-c", "head -c 7 < /dev/tcp/127.0.0.1/22", code=None
    )


def clear_mounts():
    for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
        where = line.split()[1]
        if where.startswith((f"{SSH}", "/home/")):
            sh("umount", "--lazy", where)


def put_key(source, path=SSH / "id_rsa_cluster", login="root"):
    """Put a key pair where the cluster key belongs."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(source, path)
    shutil.copyfile(f"{source}.pub", f"{path}.pub")
    path.chmod(0o600)
    for item in (path.parent, path, f"{path}.pub"):
        shutil.chown(item, login, login)
    return path


def published(keys, node, login="root"):
    """Return the identity of a node whose key is the file of its name."""
    host_keys = [{"key": " ".join(path.read_text().split()[:2])} for path in HOST_KEYS]
    data = {
        "node": node,
        "login": login,
        "cluster_key": " ".join((keys / f"{node}.pub").read_text().split()[:2]),
        "host_keys": host_keys,
        "time": "2026-01-01T00:00:00+00:00",
    }
    return signed(data, keys / node)


def signed(data, *paths, cluster="test", namespace="kvmcluster-identity"):
    """Return an identity with the signatures of private keys over what it says."""
    text = "".join(
        f"{line}\n"
        for line in (
            "kvmcluster identity 1",
            f"cluster {cluster}",
            f"node {data['node']}",
            f"login {data['login']}",
            *(f"key {data[name]}" for name in ("cluster_key", "next_key") if name in data),
            *(f"host {one['key']}" for one in data["host_keys"]),
            f"time {data['time']}",
        )
    )
    made = [
        subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(path)],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for path in paths
    ]
    return {**data, "signatures": made}
