"""The page's first known issue, on real parts: a migration that is reported as failed, and moved.

A node's host key is not known yet, and its sshd greets with a banner. RGManager's agent read the
first line of what virsh said and took the pipe's exit status for the answer; kvmcluster looks.
"""

import pytest
from labs import HOME, LOGIN

GUEST = "marathon"
FOLDER = "/root/rgmanager"

# What RGManager's vm.sh does to move a KVM guest, and by what it decides.
AGENT = r"""
name=$1 target=$2
cmd="virsh migrate --live $name qemu+ssh://$target/system tcp:$target"
err=$($cmd 2>&1 | head -1; exit ${PIPESTATUS[0]})
rv=$?
[ $rv -eq 0 ] || printf 'Migrate %s to %s failed: %s\n' "$name" "$target" "$err"
exit $rv
"""
# The page's own settings for ssh, with known hosts that are empty at first.
CONFIG = f"""Host *
    User {LOGIN}
    StrictHostKeyChecking no
    IdentityFile {HOME}/.ssh/id_rsa_cluster
    UserKnownHostsFile {FOLDER}/known_hosts
"""
# libvirt's client of those days left ssh its own standard error; today's keeps it to itself.
SSH = f"""#!/bin/sh
exec /usr/bin/ssh -F {FOLDER}/config "$@" 2>/proc/$PPID/fd/2
"""


@pytest.fixture
def lab(lab):
    lab.guest(GUEST, "node1")
    lab.ctl("spoil", "node2", "banner")
    yield lab
    lab.ctl("mend", "node2", "banner")
    lab.exec("node1", "rm", "-rf", FOLDER)
    lab.assert_whole(GUEST)
    lab.stop_guest(GUEST)


def rgmanager(lab, node, guest, target):
    """Have RGManager's agent on a node migrate a guest; return its exit code and its words."""
    lab.exec(node, "mkdir", "-p", FOLDER)
    for name, text in (("agent", AGENT), ("config", CONFIG), ("ssh", SSH)):
        lab.write(node, f"{FOLDER}/{name}", text)
    lab.exec(node, "chmod", "+x", f"{FOLDER}/ssh")
    path = lab.exec(node, "printenv", "PATH").strip()
    agent = ("env", f"PATH={FOLDER}:{path}", "bash", f"{FOLDER}/agent", guest, target)
    done = lab.ctl("exec", node, "--", *agent, check=False)
    return done.returncode, done.stdout


def where(lab, guest):
    """Return the nodes on which the guest runs."""
    return [
        node
        for node in lab.nodes
        if guest in lab.exec(node, "virsh", "list", "--name", "--state-running").split()
    ]


def test_rgmanager_reports_failure_for_a_guest_that_moved_and_kvmcluster_reports_moved(lab):
    code, words = rgmanager(lab, "node1", GUEST, "node2-mig")
    assert where(lab, GUEST) == ["node2"]
    assert code != 0
    assert "failed: Warning: Permanently added 'node2-mig'" in words

    back = lab.salt("node2", "kvmcluster.migrate", GUEST, "node1")
    assert back["result"] == "moved", back
    lab.exec("node1", "rm", "-f", "/root/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
    answer = lab.salt("node1", "kvmcluster.migrate", GUEST, "node2")
    assert where(lab, GUEST) == ["node2"]
    assert (answer["result"], answer["owner"]) == ("moved", "node2"), answer
