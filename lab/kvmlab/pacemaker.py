"""Corosync and Pacemaker on the nodes, and the guests that Pacemaker manages."""

import os
import shlex
import shutil
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

from . import fencing, guests, services
from .plan import NETWORKS, LabError, host_number
from .processes import find, run_in, wait_until

CONFIG, KEY = Path("/etc/corosync"), 256
LIBRARY = Path("/var/lib/pacemaker")
# Most of Pacemaker's daemons give up root.
ACCOUNT = ("hacluster", "haclient")
FOLDERS = [LIBRARY / name for name in ("blackbox", "cib", "cores", "pengine")]
LOGS = [Path("/var/log/corosync"), Path("/var/log/pacemaker")]
AT_BOOT = [Path("/run/crm"), Path("/run/resource-agents")]
# Seconds that a machine needs at least to boot. One that is back before its peers have noticed that
# it was gone, after some 8 s, is a case that no real machine makes: it stays "pending" for minutes.
LEAST_BOOT = 12
CLUSTER, FENCE = "lab", "fence"
# wait_for_all: until every node has been there once, none is fenced for not being there.
COROSYNC = """totem {{
    version: 2
    cluster_name: {cluster}
    transport: knet
    crypto_cipher: aes256
    crypto_hash: sha256
    token: 3000
}}
nodelist {{
{nodes}
}}
quorum {{
    provider: corosync_votequorum
    two_node: {two}
    wait_for_all: 1
}}
logging {{
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: /var/log/corosync/corosync.log
    timestamp: on
}}
"""
NODE = """    node {{
        name: {name}
        nodeid: {number}
        ring0_addr: {management}
        ring1_addr: {migration}
    }}"""
# dc-deadtime: a node that starts waits that long for an answer, by default 20 s, before it calls
# for an election.
CIB = """<cib admin_epoch="0" epoch="1" num_updates="0" validate-with="pacemaker-3.0">
  <configuration>
    <crm_config>
      <cluster_property_set id="lab">
        <nvpair id="lab-name" name="cluster-name" value="{cluster}"/>
        <nvpair id="lab-deadtime" name="dc-deadtime" value="3s"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources>
      <primitive id="{fence}" class="stonith" type="{agent}">
        <instance_attributes id="{fence}-attributes">
          <nvpair id="{fence}-check" name="pcmk_host_check" value="static-list"/>
          <nvpair id="{fence}-list" name="pcmk_host_list" value="{nodes}"/>
        </instance_attributes>
        <operations>
          <op id="{fence}-monitor" name="monitor" interval="60s"/>
        </operations>
      </primitive>
    </resources>
    <constraints/>
  </configuration>
</cib>
"""
GUEST = """<primitive id="{name}" class="ocf" provider="heartbeat" type="VirtualDomain">
  <instance_attributes id="{name}-attributes">
    <nvpair id="{name}-config" name="config" value="{path}"/>
    <nvpair id="{name}-hypervisor" name="hypervisor" value="qemu:///system"/>
    <nvpair id="{name}-transport" name="migration_transport" value="ssh"/>
    <nvpair id="{name}-suffix" name="migration_network_suffix" value="-mig"/>
    <nvpair id="{name}-options" name="migrate_options" value="--p2p"/>
  </instance_attributes>
  <meta_attributes id="{name}-meta">
    <nvpair id="{name}-migrate" name="allow-migrate" value="true"/>
    <nvpair id="{name}-stickiness" name="resource-stickiness" value="100"/>
  </meta_attributes>
  <operations>
    <op id="{name}-start" name="start" interval="0s" timeout="120s"/>
    <op id="{name}-stop" name="stop" interval="0s" timeout="30s"/>
    <op id="{name}-monitor" name="monitor" interval="10s" timeout="30s"/>
    <op id="{name}-to" name="migrate_to" interval="0s" timeout="300s" on-fail="block"/>
    <op id="{name}-from" name="migrate_from" interval="0s" timeout="120s"/>
  </operations>
</primitive>
"""


INIT = Path("/etc/init.d")
# What stands for systemd's units, which a node of the lab has not.
SCRIPT = """#!/bin/sh
### BEGIN INIT INFO
# Provides: {name}
# Required-Start: {after}
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
### END INIT INFO
alive() {{ pidof {program} >/dev/null; }}
await() {{ timeout 60 sh -c "until $1; do sleep 0.1; done"; }}
# It is there once it has its name.
begin() {{ alive || {{ {command}; await 'pidof {program}'; }}; }}
end() {{ pkill -TERM -x {program}; await '! pidof {program}'; }}
case "$1" in
    start) begin ;;
    stop) alive && end || ! alive ;;
    restart) {{ ! alive || end; }} && begin ;;
    status) alive || exit 3 ;;
    *) exit 2 ;;
esac
"""


def make_key(lab):
    """Have the nodes of a lab run Pacemaker: by this key they know each other."""
    lab.pacemaker.write_bytes(os.urandom(KEY))


def configure(lab):
    """Furnish a node, before its first boot."""
    (CONFIG / "corosync.conf").write_text(corosync_conf(lab))
    key = CONFIG / "authkey"
    key.write_bytes(lab.pacemaker.read_bytes())
    key.chmod(0o400)
    for folder in [*FOLDERS, *LOGS]:
        folder.mkdir()
        shutil.chown(folder, *ACCOUNT)
    cib = LIBRARY / "cib" / "cib.xml"
    nodes = " ".join(lab.nodes)
    cib.write_text(CIB.format(cluster=CLUSTER, fence=FENCE, agent=fencing.AGENT.name, nodes=nodes))
    cib.chmod(0o600)
    shutil.chown(cib, *ACCOUNT)
    furnish()


def leave_bare():
    """Furnish a node as its packages do: nothing is configured, no service is enabled."""
    for folder in [*FOLDERS, *LOGS]:
        folder.mkdir()
        shutil.chown(folder, *ACCOUNT)
    for service, program, after in (
        ("corosync", "corosync", "$network"),
        ("pacemaker", "pacemakerd", "corosync"),
    ):
        *_, words = services.start_commands(service)
        script = INIT / service
        command = shlex.join(words)
        text = SCRIPT.format(name=service, program=program, after=after, command=command)
        script.write_text(text)
        script.chmod(0o755)
        for link in enabled(service):
            link.unlink()
    furnish()


def furnish():
    """Make what both kinds of labs have: the fence agent."""
    fencing.install()


def enabled(service):
    """The links by which a service starts at boot."""
    return list(Path("/etc/systemd/system").glob(f"*.wants/{service}.service"))


def is_enabled(service):
    return bool(enabled(service))


def corosync_conf(lab):
    nodes = []
    for number, name in enumerate(lab.nodes, 1):
        rings = {net: NETWORKS[net].address(host_number(name)) for net in NETWORKS}
        nodes.append(NODE.format(name=name, number=number, **rings))
    return COROSYNC.format(cluster=CLUSTER, nodes="\n".join(nodes), two=int(lab.size == 2))


def boot():
    """Make what is gone after a reboot, and what systemd would make again."""
    for folder in AT_BOOT:
        folder.mkdir()
        shutil.chown(folder, *ACCOUNT)


def wait_for(lab, nodes):
    """Wait until nodes are members, a controller is elected, and fencing is ready."""
    wait_until(
        lambda: all(is_up(lab, node) for node in nodes),
        150,
        f"Pacemaker on {', '.join(nodes)} is not up; see its logs in /var/log/pacemaker there",
    )


def is_up(lab, node):
    """Whether Pacemaker on this node knows it as a member, and knows where fencing runs."""
    state = monitor(lab, node)
    if state is None:
        return False
    members = {one.get("name"): one for one in state.iterfind("nodes/node")}
    fence = state.find(f"resources/resource[@id='{FENCE}']")
    ready = fence is not None and fence.get("role") == "Started"
    return ready and node in members and members[node].get("online") == "true"


def monitor(lab, node):
    """What crm_mon says on a node, or None where it gets no answer."""
    try:
        text = run_in(lab, node, "crm_mon", "--one-shot", "--output-as=xml", timeout=30)
    except LabError:
        return None
    return ElementTree.fromstring(text)


def manage(lab, name):
    """Put a guest under Pacemaker, and wait until Pacemaker has found it where it runs."""
    if not lab.pacemaker.exists():
        raise LabError("this lab has no Pacemaker; bring it up with: lab/ctl up --pacemaker")
    if not (nodes := guests.where(lab, name)):
        raise LabError(f"guest {name} runs nowhere; start it with: lab/ctl guest {name} --on NODE")
    resource = GUEST.format(name=name, path=guests.definition_path(name))
    run_in(lab, nodes[0], "cibadmin", "--create", "--scope", "resources", "--xml-text", resource)
    wait_until(
        lambda: found_on(lab, nodes[0], name) == nodes,
        60,
        f"Pacemaker does not find {name} on {nodes[0]}; see crm_mon there",
    )


def found_on(lab, node, name):
    """The nodes on which Pacemaker says that a resource runs."""
    state = monitor(lab, node)
    path = f"resources//resource[@id='{name}']/node"
    return [] if state is None else [one.get("name") for one in state.iterfind(path)]


def release(lab, name):
    """Have Pacemaker stop a guest and forget it.

    In this order: what is deleted while it runs is stopped without its parameters, which fails,
    and the node is fenced.
    """
    members = [node for node in lab.nodes if find(lab, node) and monitor(lab, node) is not None]
    if not members:
        return
    # As `manage` calls it, and as kvmcluster.orch.ha does.
    for resource in (name, f"kvmcluster-{name}"):
        one = ["crm_resource", "--resource", resource]
        with suppress(LabError):
            run_in(lab, members[0], *one, "--meta", "-p", "target-role", "-v", "Stopped")
            run_in(lab, members[0], "crm_resource", "--wait", "--timeout=90", timeout=100)
            delete = ["--delete", "--force", "--xpath", f"//primitive[@id='{resource}']"]
            run_in(lab, members[0], "cibadmin", *delete)
