"""The command that messages name for what is not installed."""

import pytest

from saltext_kvmcluster.core import installing
from saltext_kvmcluster.core.installing import Interpreter

ONEDIR = Interpreter(
    "/opt/saltstack/salt/bin/python3.10",
    *("/opt/saltstack/salt", "/opt/saltstack/salt", "/opt/saltstack/salt"),
    frozenset({"apt"}),
)
VENV = Interpreter("/srv/my salt/bin/python", "/srv/my salt", "/usr", None, frozenset({"apt"}))
LOCAL = Interpreter("/usr/local/bin/python3", "/usr/local", "/usr/local", None, frozenset())


def system(*installers):
    return Interpreter("/usr/bin/python3", "/usr", "/usr", None, frozenset(installers))


@pytest.mark.parametrize(
    ("python", "package", "command"),
    [
        (ONEDIR, "libvirt-python", "/opt/saltstack/salt/salt-pip install libvirt-python"),
        (VENV, "libvirt-python", "'/srv/my salt/bin/python' -m pip install libvirt-python"),
        (LOCAL, "libvirt-python", "/usr/local/bin/python3 -m pip install libvirt-python"),
        (system("apt"), "libvirt-python", "apt install python3-libvirt"),
        (system("dnf"), "prometheus-client", "dnf install python3-prometheus_client"),
        (system("zypper"), "libvirt-python", "zypper install python3-libvirt-python"),
        (system(), "libvirt-python", "/usr/bin/python3 -m pip install libvirt-python"),
    ],
)
def test_it_fits_the_python_that_runs_salt(python, package, command):
    assert installing.command(package, python) == command
