"""Configuration of the lab's salt-master and salt-minions, and the pillar they get.

Configuration files are written as JSON, which is YAML as well.
"""

import json
from pathlib import Path

from .plan import CHECKOUT, NETWORKS, fqdn, host_number, migration_name

MASTER_PILLAR = "/srv/pillar"
SALT = Path("/etc/salt")


def write_config(name, values):
    SALT.mkdir(parents=True, exist_ok=True)
    (SALT / f"{name}.d").mkdir(exist_ok=True)
    (SALT / name).write_text(json.dumps(values, indent=2) + "\n")


def write_master_config(user):
    states = [str(CHECKOUT / "states"), str(CHECKOUT / "lab" / "states")]
    write_config(
        "master",
        {
            "interface": NETWORKS["management"].address(host_number("master")),
            "user": user,
            "auto_accept": True,
            "file_roots": {"base": states},
            "pillar_roots": {"base": [MASTER_PILLAR]},
            "worker_threads": 4,
            "timeout": 10,
            "gather_job_timeout": 5,
            "log_level_logfile": "info",
        },
    )


def write_minion_config(node):
    write_config(
        "minion",
        {
            "id": node,
            "master": "master",
            # A node that was cut off is back soon after its cable is healed.
            "recon_default": 250,
            "recon_max": 1000,
            "tcp_keepalive_idle": 5,
            "tcp_keepalive_cnt": 3,
            "tcp_keepalive_intvl": 2,
            "auth_timeout": 5,
            "acceptance_wait_time": 1,
            "random_reauth_delay": 1,
            # Nothing answers these look-ups in the lab.
            "enable_fqdns_grains": False,
            "enable_gpu_grains": False,
            # There is no systemd to give a program a scope.
            "systemd.scope": False,
            "log_level_logfile": "info",
        },
    )


def write_pillar(lab):
    """The pillar, in the lab's state directory, where tests may edit it."""
    lab.pillar.mkdir(parents=True)
    write_yaml(lab.pillar / "top.sls", {"base": {"*": ["kvmcluster"]}})
    nodes = {node: {"names": [fqdn(node)], "migration": migration_name(node)} for node in lab.nodes}
    write_yaml(
        pillar_file(lab),
        {
            "kvmcluster": {
                "name": "lab",
                "nodes": nodes,
                # The lab's guests get their memory past libvirt (see guests.py).
                "guests": {"definitions": "shared", "passthrough": ["*"]},
                **({} if lab.login == "root" else {"ssh": {"login": lab.login, "sudo": True}}),
            },
            "mine_functions": {"kvmcluster.identity": []},
        },
    )


def pillar_file(lab):
    return lab.pillar / "kvmcluster.sls"


def write_yaml(path, value):
    path.write_text("\n".join(yaml_lines(value)) + "\n")


def yaml_lines(value, indent=""):
    """Block style YAML for dictionaries; what they hold is written as JSON."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield f"{indent}{json.dumps(key) if key == '*' else key}:"
            yield from yaml_lines(item, indent + "  ")
        else:
            yield f"{indent}{json.dumps(key) if key == '*' else key}: {json.dumps(item)}"
