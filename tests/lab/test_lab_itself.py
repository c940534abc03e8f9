"""The lab's own promises. They need nothing of the extension."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from labs import LOGIN

ROOT = Path(__file__).resolve().parents[2]
# By this Python: another may be a wrapper, which costs as much again.
PROGRAM = (sys.executable, str(ROOT / "lab" / "ctl"))
NAME = "self"
STATE = Path("/run/kvmcluster-lab") / NAME
NAMESPACES = ("mnt", "net", "pid", "ipc", "uts")

sys.path.insert(0, str(ROOT / "lab"))

from kvmlab import record  # noqa: E402


def ctl(*words, check=True, timeout=120, **options):
    done = subprocess.run(
        [*PROGRAM, *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "KVMCLUSTER_LAB": NAME},
        **options,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def on(node, script, **options):
    return ctl("exec", node, "--", "sh", "-c", script, **options)


def all_processes():
    """{pid: (its namespaces, when it began)}; pids and namespaces may be used again."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            spaces = {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}
            began = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        except OSError:
            continue
        found[pid] = (spaces, began)
    return found


def named_after_lab(pid):
    """Whether the process got the lab's name through its environment."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"KVMCLUSTER_LAB={NAME}".encode() in environment


def lab_processes():
    """All that share a namespace with a process of the lab, but none with this test."""
    processes = all_processes()
    mine, _ = processes[str(os.getpid())]
    spaces = set()
    for pid, (its, _) in processes.items():
        if named_after_lab(pid):
            spaces |= its - mine
    return {(pid, began) for pid, (its, began) in processes.items() if its & spaces}


def loop_devices():
    """Those that this test's lab has in use, by the files that they stand for."""
    listed = subprocess.run(["losetup", "--list", "--output=BACK-FILE"], capture_output=True)
    return [path for path in listed.stdout.decode().split() if f"/{NAME}-" in path]


@contextlib.contextmanager
def nothing_left():
    """Take the lab down in the end and look whether anything of it is left."""
    ctl("down")
    mounts, loops = Path("/proc/self/mounts").read_text(), loop_devices()
    yield
    processes = lab_processes()
    assert len(processes) > 10
    ctl("down")
    left = {(pid, began) for pid, (_, began) in all_processes().items()}
    assert processes & left == set()
    assert [pid for pid in all_processes() if named_after_lab(pid)] == []
    assert Path("/proc/self/mounts").read_text() == mounts
    assert loop_devices() == loops
    assert not STATE.exists()
    assert "there is no lab" in ctl("down").stdout


@pytest.fixture(scope="module")
def small_lab():
    """A lab of two nodes that trust each other, of which nothing is left."""
    with nothing_left():
        ctl("up", "--nodes", "2")
        trust_each_other("node1", "node2")
        yield


def test_down_after_a_killed_up_leaves_nothing():
    with nothing_left():
        kill_an_up()
        refused = ctl("up", "--nodes", "2", check=False)
        assert refused.returncode != 0
        assert "run lab/ctl down first" in refused.stderr


def kill_an_up():
    up = subprocess.Popen(
        [*PROGRAM, "up", "--nodes", "2"],
        env={**os.environ, "KVMCLUSTER_LAB": NAME},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "starting" in up.stdout.readline()
    time.sleep(1)
    up.kill()
    up.wait()
    up.stdout.close()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["status"], "there is no lab 'self'; run lab/ctl up"),
        (["exec", "node1", "--", "true"], "there is no lab 'self'"),
        (["exec", "node1"], "give the command after --"),
        (["up", "--nodes", "0"], "between 1 and"),
        (["status", "--", "x"], "takes nothing after --"),
    ],
)
def test_plain_complaints(words, complaint):
    ctl("down")
    done = ctl(*words, check=False)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_guest_moves_and_its_record_is_whole(small_lab):
    assert "up already" in ctl("up", "--nodes", "2").stdout

    addresses = on("node1", "ip -brief -4 address").stdout
    assert "192.0.2.11/24" in addresses
    assert "198.51.100.11/24" in addresses
    assert "127.0" not in on("node1", "getent ahosts $(hostname)").stdout

    on("node1", "ssh node2.lab.example true")
    on("node1", "ssh node2-mig true")
    ctl("cut", "node2", "--network", "migration")
    on("node1", "ssh node2.lab.example true")
    assert on("node1", "ssh -o ConnectTimeout=1 node2-mig true", check=False).returncode == 255
    ctl("heal", "node2", "--network", "migration")
    assert on("node1", "yes | head -1").stdout == "y\n"
    assert on("node1", "bash -c 'yes | head -1; echo ${PIPESTATUS[0]}'").stdout == "y\n141\n"

    ctl("guest", "web1", "--on", "node1")
    migrate("web1", "node1", "node2")
    migrate("web1", "node2", "node1")
    time.sleep(1)
    judgement = json.loads(ctl("record", "web1", "--json").stdout)
    assert judgement["whole"], json.dumps(judgement)
    assert judgement["written"] == judgement["last"] > 20
    for node in ("node1", "node2"):
        assert record.PRINTED.search(on(node, "cat /var/log/guests/web1.console").stdout)

    on("node2", "echo first > /srv/guests/note")
    on("node1", "cat /srv/guests/note")
    on("node2", "echo other > /srv/guests/note")
    assert on("node1", "cat /srv/guests/note").stdout == "other\n"

    ctl("kill", "node1", "qemu:web1")
    assert on("node1", "virsh domstate web1", check=False).returncode != 0
    ctl("guest", "web1", "--stop")
    assert "no guest" in ctl("record", "web1", check=False).stderr


def test_disks_elsewhere_are_whole_and_vanish_with_their_guest(small_lab):
    names = {kind: f"{NAME}-{kind}" for kind in ("local", "lun", "nbd")}
    for kind, name in names.items():
        ctl("guest", name, "--on", "node1", "--disk", kind, "--bridge")
    for name in names.values():
        judgement = ctl("record", name, "--json").stdout
        assert json.loads(judgement)["whole"], judgement
    lun = on("node1", f"virsh domblklist {names['lun']} | grep -o '/dev/loop.*'").stdout.strip()
    wwns = [on(node, f"lsblk -dno WWN {lun}").stdout for node in ("node1", "node2")]
    assert wwns[0] == wwns[1] != "\n"
    assert len(on("node1", "ls /sys/class/net/br0/brif").stdout.split()) == 3

    ctl("guest", f"{NAME}-more", "--on", "node2", "--disk", "lun")
    assert len(loop_devices()) == 2
    ctl("guest", names["lun"], "--stop")
    assert len(loop_devices()) == 1
    ctl("guest", f"{NAME}-over", "--on", "node2", "--backing")
    assert "overlay" in ctl("record", f"{NAME}-over", check=False).stderr


def test_what_is_spoilt_or_stands_still_is_put_right(small_lab):

    def login():
        return on("node1", "ssh -o LogLevel=info -o ConnectTimeout=5 node2 echo in", check=False)

    ctl("spoil", "node2", "banner")
    assert "Authorised" in login().stderr and login().stdout == "in\n"
    ctl("mend", "node2", "banner")
    assert "Authorised" not in login().stderr

    ctl("spoil", "node2", "noise")
    assert "Welcome" in login().stdout
    ctl("mend", "node2", "noise")
    assert login().stdout == "in\n"

    ctl("spoil", "node2", "disk")
    for folder in ("/etc", "/var/lib", "/run", "/root"):
        script = f"head -c 100000 /dev/zero > {folder}/some"
        assert "No space left" in on("node2", script, check=False).stderr
    ctl("mend", "node2", "disk")
    on("node2", "head -c 1000000 /dev/zero > /var/lib/some")

    on("node1", "echo known > /root/.ssh/kvmcluster_known_hosts")
    ctl("spoil", "node1", "known-hosts")
    assert on("node1", "ls /root/.ssh").stdout.split().count("kvmcluster_known_hosts") == 0
    for _ in range(2):
        ctl("mend", "node1", "known-hosts")
        assert on("node1", "cat /root/.ssh/kvmcluster_known_hosts").stdout == "known\n"

    ctl("stop", "node1", "libvirtd")
    assert "libvirtd STOPPED" in ctl("status").stdout
    assert on("node1", "timeout 2 virsh list", check=False).returncode == 124
    ctl("cont", "node1", "libvirtd")
    assert "STOPPED" not in ctl("status").stdout
    on("node1", "virsh list")
    assert "job is not running on node1" in ctl("kill", "node1", "job", check=False).stderr
    assert "known: sshd, libvirtd, minion" in ctl("kill", "node1", "x", check=False).stderr


def test_a_killed_sshd_ends_its_connections(small_lab):
    connection = subprocess.Popen(
        [*PROGRAM, "exec", "node1", "--", "ssh", "node2", "echo in; exec sleep 600"],
        env={**os.environ, "KVMCLUSTER_LAB": NAME},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert connection.stdout.readline() == "in\n"
    ctl("kill", "node2", "sshd")
    assert connection.wait(20) == 255
    connection.stdout.close()
    ctl("start", "node2", "sshd")


def trust_each_other(*nodes):
    """One key for all, made by hand: the extension is not part of this test."""
    key = on(nodes[0], "ssh-keygen -q -t ed25519 -N '' -f /tmp/key && cat /tmp/key").stdout
    script = """
        mkdir -p -m 700 ~/.ssh && cd ~/.ssh && umask 077 && cat > id_ed25519
        ssh-keygen -y -f id_ed25519 > authorized_keys
        printf 'StrictHostKeyChecking accept-new\\nLogLevel ERROR\\n' > config
    """
    for node in nodes:
        on(node, script, input=key)


def migrate(guest, source, destination):
    """As labs.Lab.move_by_hand, where this is explained."""
    uri = f"qemu+ssh://{LOGIN}@{destination}/system"
    ctl("exec", source, "--", "virsh", "migrate", "--live", "--p2p", "--suspend", guest, uri)
    on(destination, f"timeout 10 sh -c 'until virsh resume {guest}; do sleep 0.1; done'")


def test_sandbox_is_a_node_of_its_own_and_vanishes(tmp_path):
    before = Path("/etc/hostname").read_text()
    mounts = Path("/proc/self/mounts").read_text()
    script = f"""
        echo changed > /etc/hostname
        ls -A /root > {tmp_path}/root
        ls /sys/class/net > {tmp_path}/devices
        ssh-keyscan -t ed25519 localhost 2>/dev/null > {tmp_path}/host_key
        cat > {tmp_path}/input
        exit 7
    """
    done = ctl("sandbox", "--", "sh", "-c", script, check=False, input="hello")
    assert done.returncode == 7, done.stderr
    assert (tmp_path / "input").read_text() == "hello"
    assert (tmp_path / "devices").read_text().split() == ["lo"]
    assert "ssh-ed25519" in (tmp_path / "host_key").read_text()
    assert ".ssh" not in (tmp_path / "root").read_text()
    assert Path("/etc/hostname").read_text() == before
    assert Path("/proc/self/mounts").read_text() == mounts


def began(node):
    return on(node, "cut -d' ' -f22 /proc/1/stat", check=False).stdout


def reboots(node, act):
    """Act, and wait until the node is in another boot, and all of it is there."""
    before, end = began(node), time.monotonic() + 60
    act()
    while began(node) in ("", before) or "DOWN" in ctl("status").stdout:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_reboot_ends_every_process_and_keeps_the_disks(small_lab):
    ctl("guest", "web2", "--on", "node1")
    on("node1", "for at in /etc /var /root /run /tmp; do echo kept > $at/kept; done")
    on("node1", "setsid sleep 4711 > /dev/null 2>&1 &")
    assert "4711" in on("node1", "ps ax").stdout

    reboots("node1", lambda: ctl("reboot", "node1"))
    on("node1", "cat /etc/kept /var/kept /root/kept")
    on("node1", "test ! -e /run/kept && test ! -e /tmp/kept")
    assert "4711" not in on("node1", "ps ax").stdout
    assert on("node1", "virsh --quiet list --all").stdout.strip() == ""
    assert "web2.img" in on("node1", "ls /srv/guests").stdout

    for command in ("shutdown -r now", "reboot"):
        reboots("node1", lambda command=command: on("node1", command, check=False))
    assert on("node1", "shutdown -h now", check=False).returncode != 0
    ctl("exec", "node1", "--", "salt-call", "test.ping", timeout=60)


@pytest.mark.nightly
def test_a_node_that_is_spoilt_does_not_come_back_until_it_is_mended(small_lab):
    ctl("spoil", "node1", "boot")
    ctl("reboot", "node1")
    assert "GONE" in ctl("status").stdout
    assert "node1 is not running" in ctl("exec", "node1", "--", "true", check=False).stderr
    ctl("mend", "node1", "boot")
    assert "GONE" not in ctl("status").stdout and "DOWN" not in ctl("status").stdout
    ctl("reboot", "node1")
    assert "GONE" not in ctl("status").stdout


@pytest.mark.nightly
def test_fencing_ends_a_node_unless_its_board_is_deaf_and_nothing_is_left():
    with nothing_left():
        ctl("up", "--nodes", "2", "--pacemaker")
        assert ctl("status").stdout.count("corosync, pacemaker") == 2
        assert "a lab with Pacemaker is up" in ctl("up", "--nodes", "2", check=False).stderr
        reboots("node2", lambda: on("node1", "stonith_admin --reboot node2"))
        ctl("spoil", "node2", "power")
        before = began("node2")
        assert on("node1", "stonith_admin --reboot node2 --timeout 40", check=False).returncode
        assert began("node2") == before
        ctl("mend", "node2", "power")
        assert on("node1", "stonith_admin --fence node2").returncode == 0
        assert "GONE" in ctl("status").stdout
        on("node1", "stonith_admin --unfence node2")
        assert "GONE" not in ctl("status").stdout
