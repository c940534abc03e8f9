"""The resource agent, run as Pacemaker runs it, with a real libvirt and QEMU.

The guests have no system: only what libvirt and the agent say of them counts. Migrations, and a
Pacemaker that uses it, are in the lab.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from lxml import etree
from sandbox import CHECKOUT, sh, until

sys.path.insert(0, str(CHECKOUT / "lab"))
from kvmlab import hypervisor, services

from saltext_kvmcluster.core.migration import handover

AGENT = CHECKOUT / "states" / "kvmcluster" / "files" / "VirtualDomain"
# Seconds of an operation: of one that waits in vain; of a stop, of which the guest uses up most;
# and of any other, which a busy machine may not make to one that waits in vain.
BRIEF, STOP, PATIENT = 5, 20, 60
DTD = pathlib.Path("/usr/share/resource-agents/ra-api-1.dtd")
SUCCESS, ERROR, UNIMPLEMENTED, INSTALLED, CONFIGURED, NOT_RUNNING = 0, 1, 3, 5, 6, 7
CONFIG, DISK = pathlib.Path("/srv/web1.xml"), pathlib.Path("/srv/web1.raw")
LOG = pathlib.Path("/var/log/libvirt/qemu/web1.log")
VOLUME = """volume posix
  type storage/posix
  option directory {}
end-volume
volume locks
  type features/locks
  subvolumes posix
end-volume
"""
UUID = "11111111-1111-1111-1111-111111111111"
DEFINITION = f"""<domain type='qemu'>
  <name>web1</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{DISK}'/><target dev='vda'/>
    </disk>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def pid_of(program):
    return int(sh("pidof", program))


def start_libvirt():
    services.start_here("libvirtd")
    until(lambda: virsh("list", code=None) is not None, "libvirt does not answer")


def virsh(*words, code=0):
    return sh("virsh", "--quiet", *words, code=code)


@pytest.fixture(scope="module", autouse=True)
def libvirt():
    hypervisor.configure()
    start_libvirt()
    yield
    for program in ("libvirtd", "virtlogd"):
        with contextlib.suppress(AssertionError):
            os.kill(pid_of(program), signal.SIGTERM)


@pytest.fixture(autouse=True)
def guest():
    CONFIG.write_text(DEFINITION)
    with open(DISK, "wb") as file:
        file.truncate(1 << 20)
    yield
    with contextlib.suppress(AssertionError):
        os.kill(pid_of("libvirtd"), signal.SIGCONT)
    if not sh("pidof", "libvirtd", code=None).strip():
        start_libvirt()
    virsh("destroy", "web1", code=None)
    virsh("undefine", "web1", "--managed-save", code=None)
    until(lambda: not qemus(), "a guest is left")


def qemus():
    return sh("pidof", "qemu-system-x86_64", code=None).split()


def tries():
    """Return how often libvirt has begun to start the guest, as its log of the guest has it."""
    return LOG.read_text().count("starting up libvirt")


def environment(timeout=5, interval=10, **parameters):
    given = {"guest": "web1", "config": str(CONFIG), **parameters}
    return {
        **os.environ,
        "OCF_RESKEY_CRM_meta_timeout": f"{timeout * 1000}",
        "OCF_RESKEY_CRM_meta_interval": f"{interval * 1000}",
        **{f"OCF_RESKEY_{name}": value for name, value in given.items() if value},
    }


def agent(action, code, word="", **options):
    """Have the agent do something; it has to end so, and to give a reason with a word.

    Returns how long that took. Where it does not heed its timeout it waits for at least 20 s.
    """
    options.setdefault("timeout", STOP if action == "stop" else PATIENT)
    begun = time.monotonic()
    done = subprocess.run(
        [AGENT, action],
        env=environment(**options),
        capture_output=True,
        text=True,
        timeout=options["timeout"] + 14,
    )
    assert (done.returncode, done.stdout) == (code, ""), done
    assert word in done.stderr and "Traceback" not in done.stderr, done.stderr
    return time.monotonic() - begun


def hang():
    os.kill(pid_of("libvirtd"), signal.SIGSTOP)


def die():
    pid = pid_of("libvirtd")
    os.kill(pid, signal.SIGKILL)
    until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "libvirtd does not end")


def test_its_description_is_one():
    text = sh(AGENT, "meta-data", stderr=subprocess.DEVNULL)
    with DTD.open() as dtd:
        assert etree.DTD(dtd).validate(etree.fromstring(text.encode()))
    actions = {one.get("name") for one in etree.fromstring(text.encode()).iter("action")}
    assert {"start", "stop", "monitor", "migrate_to", "migrate_from", "validate-all"} <= actions


def test_a_life():
    agent("validate-all", SUCCESS)
    agent("monitor", NOT_RUNNING)
    agent("monitor", NOT_RUNNING, interval=0)
    agent("stop", SUCCESS)
    agent("start", SUCCESS)
    agent("start", SUCCESS)
    assert len(qemus()) == 1
    agent("monitor", SUCCESS)
    agent("monitor", SUCCESS, interval=0)
    # It has no system that the power button would reach.
    assert agent("stop", SUCCESS) > 3
    assert not qemus()
    agent("monitor", NOT_RUNNING)
    agent("promote", UNIMPLEMENTED)
    agent("", UNIMPLEMENTED)


@pytest.mark.parametrize(
    ("given", "code", "word"),
    [
        ({"guest": ""}, CONFIGURED, "guest is missing"),
        ({"guest": "7"}, CONFIGURED, "digits"),
        ({"guest": " +7"}, CONFIGURED, "digits"),
        ({"guest": "a\nb"}, CONFIGURED, "no name"),
        ({"config": ""}, CONFIGURED, "absolute"),
        ({"hypervisor": "xen:///"}, CONFIGURED, "only qemu:///system"),
        ({"migration_transport": "tls"}, CONFIGURED, "only ssh"),
        ({"guest": "web2"}, CONFIGURED, "defines web1"),
        ({"config": "/srv/none.xml"}, INSTALLED, "No such file"),
        ({"config": "/etc/hostname"}, INSTALLED, "syntax error"),
    ],
)
def test_wrong_parameters(given, code, word):
    agent("validate-all", code, word, **given)
    agent("start", code, word, **given)
    assert not qemus()


def test_a_wrong_parameter_fails_no_stop():
    agent("start", SUCCESS)
    agent("stop", SUCCESS, config="web1.xml")
    assert not qemus()
    for given in ({"config": ""}, {"hypervisor": "xen:///"}, {"migration_transport": "tls"}):
        agent("stop", SUCCESS, timeout=60, **given)


def test_a_process_whose_command_line_ends_early_is_no_guest():
    # Whoever sets its own command line may leave out the NUL at its end.
    code = "import ctypes, time; print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        ["qemu", "-c", code, "-name"], executable=sys.executable, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        agent("monitor", NOT_RUNNING, timeout=60)
        agent("stop", SUCCESS, timeout=60)
        process.kill()


def test_a_definition_that_cannot_be_read_says_nothing():
    agent("start", SUCCESS)
    CONFIG.unlink()
    os.mkfifo(CONFIG)  # As hung storage: whoever opens it waits.
    agent("monitor", SUCCESS)
    agent("stop", SUCCESS)
    assert not qemus()
    agent("monitor", NOT_RUNNING)
    CONFIG.unlink()


def test_storage_that_is_gone_for_good_is_a_failure_of_the_node():
    shared, brick = pathlib.Path("/srv/shared"), pathlib.Path("/run/brick")
    for folder in (shared, brick):
        folder.mkdir()
    pathlib.Path("/run/shared.vol").write_text(VOLUME.format(brick))
    config, disk = shared / "web1.xml", shared / "web1.raw"
    disk.write_bytes(bytes(4096))
    config.write_text(DEFINITION.replace(str(DISK), str(disk)))
    try:
        agent("start", SUCCESS, config=str(config))
        agent("monitor", SUCCESS, config=str(config))
        # Over what QEMU has open: such a volume without a server has no locks for QEMU.
        sh("glusterfs", "--volfile=/run/shared.vol", shared)
        until(lambda: os.path.ismount(shared), "it is not mounted")
        os.kill(pid_of("glusterfs"), signal.SIGKILL)
        until(lambda: "not connected" in sh("ls", shared, code=None), "the storage is not gone")
        agent("monitor", ERROR, "lost its storage", config=str(config))
        agent("monitor", SUCCESS, config=str(config), interval=0)
        assert agent("stop", SUCCESS, config=str(config), timeout=60) < 30
        agent("monitor", NOT_RUNNING, config=str(config))
        agent("start", INSTALLED, "not connected", config=str(config))
    finally:
        sh("umount", "--lazy", shared)


def test_a_definition_that_is_gone_for_good_says_nothing_of_the_disks():
    shared, brick = pathlib.Path("/srv/shared2"), pathlib.Path("/run/brick2")
    for folder in (shared, brick):
        folder.mkdir()
    pathlib.Path("/run/shared2.vol").write_text(VOLUME.format(brick))
    sh("glusterfs", "--volfile=/run/shared2.vol", shared)
    until(lambda: os.path.ismount(shared), "it is not mounted")
    config = shared / "web1.xml"
    config.write_text(DEFINITION)
    try:
        agent("start", SUCCESS, config=str(config))
        os.kill(pid_of("glusterfs"), signal.SIGKILL)
        until(lambda: "not connected" in sh("ls", shared, code=None), "the storage is not gone")
        agent("monitor", SUCCESS, config=str(config))
    finally:
        sh("umount", "--lazy", shared)


def test_a_paused_guest_is_there():
    agent("start", SUCCESS)
    virsh("suspend", "web1")
    agent("monitor", SUCCESS)
    agent("start", SUCCESS)
    assert "paused" in virsh("domstate", "web1")
    agent("migrate_to", ERROR, "resume it first")


def test_a_copy_that_waits_is_neither_there_nor_destroyed():
    agent("start", SUCCESS)
    virsh("suspend", "web1")
    mark = f"<handover xmlns='{handover.NAMESPACE}' of='node2 2026-01-01'/>"
    virsh("metadata", "web1", handover.NAMESPACE, "--key", "k", "--set", mark, "--live")
    assert handover.mark_of(virsh("dumpxml", "web1")) == "node2 2026-01-01"
    agent("monitor", NOT_RUNNING, "waits")
    agent("monitor", NOT_RUNNING, "waits", interval=0)
    agent("start", ERROR, "waits")
    agent("stop", ERROR, "waits")
    agent("migrate_to", NOT_RUNNING)
    assert len(qemus()) == 1
    virsh("resume", "web1")
    agent("monitor", SUCCESS)
    agent("migrate_from", SUCCESS)


def test_one_that_has_come_and_is_paused_is_let_run():
    agent("start", SUCCESS)
    virsh("suspend", "web1")
    agent("migrate_from", SUCCESS)
    assert "running" in virsh("domstate", "web1")


def test_where_libvirt_does_not_answer_nothing_is_said_to_be_stopped():
    agent("start", SUCCESS)
    hang()
    agent("monitor", SUCCESS, "does not tell", timeout=60)
    assert agent("stop", ERROR, "does not tell", timeout=12) < 20
    assert agent("start", ERROR, "does not tell", timeout=12) < 20
    assert len(qemus()) == 1
    os.kill(int(qemus()[0]), signal.SIGKILL)
    until(lambda: not qemus(), "it does not end")
    agent("monitor", ERROR, "does not tell", timeout=BRIEF)
    agent("monitor", ERROR, "does not tell", interval=0, timeout=BRIEF)
    agent("stop", ERROR, "does not tell", timeout=BRIEF)


def test_a_dead_libvirt():
    agent("start", SUCCESS)
    die()
    agent("monitor", SUCCESS, "does not tell", timeout=BRIEF)
    agent("monitor", SUCCESS, "does not tell", interval=0, timeout=BRIEF)
    agent("stop", ERROR, timeout=BRIEF)
    os.kill(int(qemus()[0]), signal.SIGKILL)
    until(lambda: not qemus(), "it does not end")
    agent("monitor", ERROR, timeout=BRIEF)
    agent("monitor", INSTALLED, "no daemon", interval=0, timeout=BRIEF)


def test_a_daemon_that_restarts_is_waited_for():
    die()
    process = subprocess.Popen(
        [AGENT, "monitor"], env=environment(timeout=30, interval=0), stderr=subprocess.PIPE
    )
    time.sleep(1)
    start_libvirt()
    assert process.wait(60) == NOT_RUNNING


def test_a_qemu_that_libvirt_does_not_know():
    command = ["qemu-system-x86_64", "-name", "guest=web1,debug-threads=on", "-S", "-display"]
    qemu = subprocess.Popen([*command, "none", "-m", "16"])
    try:
        until(qemus, "no QEMU")
        agent("monitor", SUCCESS, "does not know")
        agent("stop", ERROR, "does not know")
        agent("start", ERROR, "does not know")
    finally:
        qemu.kill()
        qemu.wait()
    agent("monitor", NOT_RUNNING)


def test_a_lock_that_is_let_go_is_waited_for():
    drive = f"file={DISK},format=raw,if=virtio"
    command = ["qemu-system-x86_64", "-S", "-display", "none", "-m", "16", "-drive", drive]
    # Once it is a daemon it has opened its disk.
    sh(*command, "-daemonize")
    (holder,) = qemus()
    try:
        agent("start", ERROR, "lock", timeout=30)
        begun = tries()
        starting = subprocess.Popen([AGENT, "start"], env=environment(timeout=120))
        until(lambda: tries() > begun + 1, "it does not try again", 60)
        assert starting.poll() is None
    finally:
        os.kill(int(holder), signal.SIGKILL)
    assert starting.wait(60) == SUCCESS
    agent("monitor", SUCCESS)


def test_a_start_that_took_all_the_time_is_one_if_the_guest_runs(tmp_path, monkeypatch):
    slow = tmp_path / "virsh"
    virsh_of_libvirt = shutil.which("virsh")
    slow.write_text(
        f'#!/bin/sh\n{virsh_of_libvirt} "$@"; code=$?\n'
        'case "$*" in *" create "*) sleep 17;; esac\nexit $code\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    agent("start", SUCCESS, timeout=24)
    assert len(qemus()) == 1


def test_another_failure_is_not_waited_for():
    DISK.unlink()
    assert agent("start", ERROR, "No such file", timeout=60) < 30


def test_a_saved_state_is_not_passed_over():
    virsh("define", CONFIG)
    virsh("start", "web1")
    virsh("managedsave", "web1")
    agent("monitor", NOT_RUNNING)
    agent("start", ERROR, "managedsave-remove")
    assert not qemus()


def test_a_guest_that_is_kept_defined_stays_so():
    virsh("define", CONFIG)
    agent("monitor", NOT_RUNNING)
    agent("start", SUCCESS)
    agent("stop", SUCCESS)
    assert "web1" in virsh("list", "--all", "--name")
