"""Accounts that are not root: one that peers log in to, on a node; the master's, as in packages."""

from pathlib import Path

from .plan import home
from .processes import run

# As Debian configures libvirt, without polkit, which the lab has none of.
LIBVIRTD_CONF = """unix_sock_group = "libvirt"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0770"
"""


MASTER_USER = "salt"
# What Salt's packages give it.
OF_MASTER = ["/etc/salt/pki/master", "/run/salt", "/var/cache/salt", "/var/log/salt"]


def make_master():
    """Make the master's account."""
    run("useradd", "--system", "--home-dir", "/var/lib/salt", MASTER_USER)
    for path in OF_MASTER:
        Path(path).mkdir(parents=True, exist_ok=True)
    run("chown", "--recursive", f"{MASTER_USER}:", *OF_MASTER)
    # The Python that it runs may be below.
    run("chmod", "a+x", "/root")


def make(login):
    """Make the account; root may no longer log in over ssh, so that nothing can rely on it."""
    run("useradd", "--create-home", "--shell", "/bin/bash", "--groups", "libvirt", login)
    # As for a cloud image's account: no password, but not locked either.
    run("usermod", "--password", "*", login)
    # Shells of the machine's skeleton may print something.
    for path in home(login).iterdir():
        path.unlink()
    Path("/etc/sudoers.d/kvmcluster").write_text(f"{login} ALL=(root) NOPASSWD: /bin/sh\n")
    with open("/etc/libvirt/libvirtd.conf", "a") as file:
        file.write(LIBVIRTD_CONF)
    Path("/etc/ssh/sshd_config.d/login.conf").write_text("PermitRootLogin no\n")
