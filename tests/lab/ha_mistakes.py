"""Mistakes for which guests are not given to Pacemaker, made on real parts, and what undoes them.

GROUPS are made and undone at once; PILLARS is how the pillar is changed for a group meanwhile.
"""

from labs import until
from mistakes import VOLUME, Mistake, ctl, define, disk, each, idle, on, undefine

AGENT = "/usr/lib/ocf/resource.d/kvmcluster/VirtualDomain"
CONF = "/etc/corosync/corosync.conf"
NODES = ("node1", "node2", "node3")
PAIR = NODES[:2]
STATIC = "crm_resource -r fence -p pcmk_host_check -v static-list"
ALL = 'crm_resource -r fence -p pcmk_host_list -v "node1 node2 node3"'
CANNOT = "none of Pacemaker's fence devices can fence it: fence (fence_kvmlab)"
LEVEL = (
    '<fencing-topology><fencing-level id="level" target="node1" index="1" devices="fence,pdu"/>'
    "</fencing-topology>"
)
RESOURCE = "cibadmin --create --scope resources --xml-text '{}'"
REMOVE = "cibadmin --delete --force --xpath \"//primitive[@id='{}']\""
PRETENDING = '<primitive id="false" class="stonith" type="fence_dummy"/>'
DEVICE = (
    '<primitive id="fence" class="stonith" type="fence_kvmlab"><instance_attributes'
    ' id="fence-attributes"><nvpair id="fence-check" name="pcmk_host_check" value="static-list"/>'
    '<nvpair id="fence-list" name="pcmk_host_list" value="node1 node2 node3"/>'
    '</instance_attributes><operations><op id="fence-monitor" name="monitor" interval="60s"/>'
    "</operations></primitive>"
)
OURS = (
    '<primitive id="other" class="ocf" provider="kvmcluster" type="VirtualDomain">'
    '<meta_attributes id="other-meta"><nvpair id="other-role" name="target-role"'
    ' value="Stopped"/></meta_attributes><instance_attributes id="other-at"><nvpair'
    f' id="other-config" name="config" value="{VOLUME}/other.xml"/></instance_attributes>'
    "</primitive>"
)
MEMBER = 'cibadmin --create --scope nodes --xml-text \'<node id="{}" uname="{}"/>\''
MONITOR = ("crm_mon", "-1", "--output-as=xml")
STOP = "pkill -TERM {0}; while pgrep {0}; do sleep 1; done"
NETWORK_DISK = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
    "<source protocol='nbd' name='nbd'><host name='master' port='10809'/></source>"
    "<target dev='vda' bus='virtio'/></disk>"
)
FILE = disk(f"{VOLUME}/ha.img")


def crm(script):
    """Return a deed on one node: what it sets is the whole cluster's."""
    return on("node2", f"{script}\ncrm_resource --wait --timeout=300 || true")


def everywhere(script, nodes=NODES):
    return each(*(on(node, script) for node in nodes))


def of_device(wrong, right, who, words=CANNOT, remedy="stonith_admin --list", check="ha.devices"):
    """Return the group of one mistake of the fence device: one hides the other."""
    return [Mistake(check, words, {"nodes": [*who]}, crm(wrong), remedy, cure=crm(right))]


def of_guest(check, words, guest, make, remedy, cure):
    return Mistake(check, words, {"guests": [guest]}, make, remedy, cure=cure)


def quorum(section):
    """Return a deed: have both nodes of a cluster of two decide by that, from Corosync's start."""
    lines = section.replace("\n", "\\n")
    edit = f"sed -i '/^quorum/,/^}}/d' {CONF}; printf 'quorum {{\\n{lines}}}\\n' >> {CONF}"
    begin = (ctl("start", node, service) for service in ("corosync", "pacemaker") for node in PAIR)
    return each(
        everywhere(STOP.format("pacemakerd"), PAIR),
        everywhere(STOP.format("corosync"), PAIR),
        everywhere(edit, PAIR),
        *begin,
        joined,
    )


def write(name, node="node1", folder=VOLUME, **parts):
    """Return a deed: put the definition of an idle guest into a folder."""
    return on(node, f"cat > {folder}/{name}.xml", stdin=idle(name, **parts))


def remove(name, node="node1", folder=VOLUME):
    return on(node, f"rm {folder}/{name}.xml")


def joined(lab):
    """Wait until Pacemaker has all nodes as members again."""
    shown = 'crm_mon -1 --output-as=xml | grep -c \'online="true".*pending="false"\' || true'
    wanted = str(len(lab.nodes))
    until(lambda: lab.exec("node1", "sh", "-c", shown).strip() == wanted, "all nodes are members")


def undo(lab):
    """Nothing: the pillar is put back, and with it goes the mistake."""


GROUPS = {
    "settings": [
        Mistake(
            "ha.fencing",
            "Pacemaker fences nobody (stonith-enabled=false)",
            {"nodes": [*NODES]},
            crm("crm_attribute -t crm_config -n stonith-enabled -v false"),
            "crm_attribute -t crm_config -n stonith-enabled -v true",
            cure=crm("crm_attribute -t crm_config -n stonith-enabled -v true"),
        ),
        Mistake(
            "ha.quorum",
            "no-quorum-policy=ignore",
            {"nodes": [*NODES]},
            crm("crm_attribute -t crm_config -n no-quorum-policy -v ignore"),
            "crm_attribute -t crm_config -n no-quorum-policy -v stop",
            cure=crm("crm_attribute -t crm_config -n no-quorum-policy -v stop"),
        ),
        Mistake(
            "ha.names",
            "node2 is called node2-mig there",
            {"nodes": [*NODES]},
            crm(MEMBER.format(8, "node2-mig")),
            "name: node2 for this node in the nodelist",
            cure=crm("crm_node --force --remove node2-mig"),
        ),
        Mistake(
            "ha.names",
            "Pacemaker has a node db9; reboot, which is no node of the cluster",
            {"nodes": [*NODES]},
            crm(MEMBER.format(9, "db9; reboot")),
            "crm_node --force --remove 'db9; reboot'",
            cure=crm("crm_node --force --remove 'db9; reboot'"),
        ),
    ],
    "not in the list": of_device(
        'crm_resource -r fence -p pcmk_host_list -v "node1 node2"', ALL, ["node3"]
    ),
    "not in the map": of_device(
        "crm_resource -r fence -d pcmk_host_list\n"
        'crm_resource -r fence -p pcmk_host_map -v "node1:node1;node3:node3"',
        f"crm_resource -r fence -d pcmk_host_map\n{ALL}",
        ["node2"],
    ),
    "listed by nobody": of_device(
        "crm_resource -r fence -p pcmk_list_action -v monitor\n"
        "crm_resource -r fence -p pcmk_host_check -v dynamic-list",
        f"crm_resource -r fence -d pcmk_list_action\n{STATIC}",
        NODES,
    ),
    "banned from all others": of_device(
        "crm_resource -r fence --ban -N node1\ncrm_resource -r fence --ban -N node2",
        "crm_resource -r fence --clear",
        ["node3"],
    ),
    "disabled": of_device(
        "crm_resource -r fence --meta -p target-role -v Stopped",
        "crm_resource -r fence --meta -d target-role",
        NODES,
        "nothing can fence it: Pacemaker's fence device fence (fence_kvmlab) is disabled",
        "crm_resource -r fence --meta -d target-role",
    ),
    "levels": of_device(
        f"cibadmin --create --scope configuration --xml-text '{LEVEL}'",
        "cibadmin --delete --force --xpath //fencing-topology",
        ["node1"],
        "each of its fencing levels has a device that cannot fence it: pdu",
        "they may have: fence",
    ),
    "pretends": of_device(
        RESOURCE.format(PRETENDING),
        REMOVE.format("false"),
        NODES,
        "Pacemaker's fence device false (fence_dummy) only says that it fences",
        "add a fence device for every node",
        "ha.fencing",
    ),
    "no device": of_device(
        REMOVE.format("fence"),
        RESOURCE.format(DEVICE),
        NODES,
        "Pacemaker has no fence device",
        "add a fence device for every node",
        "ha.fencing",
    ),
    "not in the pillar": [
        Mistake(
            "ha.fencing",
            "the pillar has no fence device for it",
            {"nodes": ["node3"]},
            undo,
            "kvmcluster:ha:fencing:devices",
            cure=undo,
        ),
        Mistake(
            "ha.fencing",
            "the pillar's fence device word (fence_ack_manual) only says that it fences",
            {"nodes": ["node2"]},
            undo,
            "stonith_admin --list-installed",
            cure=undo,
        ),
    ],
    "definitions": [
        Mistake(
            "ha.definitions",
            "web1 would be defined on every node (definitions: defined)",
            {"nodes": [*NODES]},
            undo,
            "set guests: definitions: shared",
            cure=undo,
        ),
    ],
    "guests": [
        of_guest(
            "ha.disks",
            "nothing keeps a second copy of it off vda",
            "net1",
            write("net1", devices=NETWORK_DISK),
            "apply the state kvmcluster.disk_leases",
            remove("net1"),
        ),
        of_guest(
            "ha.stored",
            "its definition is looked for in /etc, which is not shared on node1, node2, node3",
            "local1",
            each(*(write("local1", node, "/etc") for node in NODES)),
            "move definitions to a shared file system",
            each(*(remove("local1", node, "/etc") for node in NODES)),
        ),
        of_guest(
            "ha.stored",
            "no definition of it is found on node1, node2, node3",
            "lost1",
            undo,
            "place it with the state kvmcluster.guest_placed",
            undo,
        ),
        of_guest(
            "ha.starts",
            "it has a home in the pillar, node2",
            "home1",
            write("home1"),
            "remove kvmcluster:guests:list:home1:home",
            remove("home1"),
        ),
        of_guest(
            "ha.starts",
            "the highstate of node1, node2, node3 has a state that starts it beside Pacemaker",
            "web1",
            undo,
            "salt node1 state.show_lowstate",
            undo,
        ),
        of_guest(
            "guest.autostart",
            "node3 would start it at the next boot",
            "boot1",
            each(
                write("boot1", devices=FILE),
                define("node3", "boot1", devices=FILE),
                on("node3", "virsh autostart boot1"),
            ),
            "virsh autostart --disable boot1",
            each(undefine("node3", "boot1"), remove("boot1")),
        ),
        of_guest(
            "guest.autostart",
            "node2 starts it at its next boot, wherever it runs by then: it is on the list of"
            " libvirt-guests",
            "list1",
            each(
                write("list1", devices=FILE),
                define("node2", "list1", devices=FILE),
                on(
                    "node2",
                    "mkdir -p /var/lib/libvirt /etc/systemd/system/multi-user.target.wants\n"
                    "ln -sf /lib/systemd/system/libvirt-guests.service"
                    " /etc/systemd/system/multi-user.target.wants/\n"
                    "echo ON_BOOT=start > /etc/default/libvirt-guests\n"
                    'echo "default $(virsh domuuid list1)" > /var/lib/libvirt/libvirt-guests',
                ),
            ),
            "ON_BOOT=ignore",
            each(
                undefine("node2", "list1"),
                remove("list1"),
                on("node2", "rm /etc/default/libvirt-guests /var/lib/libvirt/libvirt-guests"),
            ),
        ),
    ],
    "agent": [
        Mistake(
            "ha.agent",
            f"it has no {AGENT}, the resource agent of other",
            {"nodes": ["node3"]},
            each(
                everywhere(f"mkdir -p $(dirname {AGENT}) && install /bin/true {AGENT}"),
                crm(RESOURCE.format(OURS)),
                on("node3", f"chmod a-x {AGENT}"),
            ),
            "apply the state kvmcluster.ha.agent on that node",
            cure=on("node3", f"chmod a+x {AGENT}"),
            after=crm(REMOVE.format("other")),
        ),
    ],
    "no quorum": [
        Mistake(
            "ha.pacemaker",
            "its Pacemaker has no quorum",
            {"nodes": ["node1"]},
            each(
                everywhere(STOP.format("pacemakerd"), NODES[1:]),
                everywhere(STOP.format("corosync"), NODES[1:]),
                lambda lab: until(
                    lambda: 'with_quorum="false"' in lab.exec("node1", *MONITOR, check=False),
                    "node1 without quorum",
                ),
            ),
            "corosync-quorumtool -s",
            cure=each(
                *(
                    ctl("start", node, service)
                    for service in ("corosync", "pacemaker")
                    for node in NODES[1:]
                ),
                lambda lab: joined(lab),
            ),
        ),
    ],
    "stopped": [
        Mistake(
            "ha.fencing",
            "Pacemaker does not run there, and kvmcluster:ha:manage is false",
            {"nodes": ["node3"]},
            on("node3", STOP.format("pacemakerd")),
            "systemctl enable --now corosync pacemaker",
            cure=each(ctl("start", "node3", "pacemaker"), joined),
        ),
    ],
}


def not_for_all(cluster):
    devices = {
        "board": {"agent": "fence_kvmlab", "nodes": {"node1": "node1"}},
        "word": {"agent": "fence_ack_manual", "nodes": ["node2"]},
    }
    cluster["ha"] = {"fencing": {"devices": devices}}


def defined(cluster):
    cluster["guests"] = {"definitions": "defined", "list": {"web1": {"ha": True}}}


def more_guests(cluster):
    names = ("net1", "lost1", "boot1", "list1")
    cluster["guests"]["list"] |= {name: {"ha": True} for name in names}
    cluster["guests"]["list"]["local1"] = {"ha": True, "xmlfile": "/etc/local1.xml"}
    cluster["guests"]["list"]["home1"] = {"ha": True, "home": "node2"}


ADVICE = {
    "ha.moves": ("without allow-migrate=true Pacemaker stops and starts harmed", "allow-migrate"),
    "ha.stickiness": ("Pacemaker may move harmed at any change", "resource-stickiness -v 100"),
    "ha.start_failure": ("start-failure-is-fatal", "start-failure-is-fatal -v false"),
    "ha.constraints": ("constraints of earlier moves are left", "crm_resource --clear -r"),
    "ha.unmanaged": ("Pacemaker leaves harmed alone", "maintenance-mode -D"),
    "ha.network": ("Pacemaker moves harmed by other names", "migration_network_suffix"),
}
"""By check, what it says of HARMED, and a part of its remedy: what refuses no guest."""
HARMED = (
    '<primitive id="harmed" class="ocf" provider="heartbeat" type="VirtualDomain">'
    '<meta_attributes id="harmed-m"><nvpair id="harmed-r" name="target-role" value="Stopped"/>'
    '</meta_attributes><instance_attributes id="harmed-a"><nvpair id="harmed-c" name="config"'
    f' value="{VOLUME}/harmed.xml"/></instance_attributes></primitive>'
)
HARM = each(
    crm(RESOURCE.format(HARMED)),
    crm("crm_resource -r harmed --ban -N node2"),
    crm("crm_attribute -t crm_config -n maintenance-mode -v true"),
)
UNHARM = each(
    crm("crm_attribute -t crm_config -n maintenance-mode -D"),
    crm("crm_resource -r harmed --clear"),
    crm(REMOVE.format("harmed")),
)

HOSTILE = {
    "a device for two of three": (
        {"fencing": {"devices": {"a": {"agent": "fence_kvmlab", "nodes": [*PAIR]}}}},
        "node3: the pillar has no fence device for it",
    ),
    "one plug for two": (
        {
            "fencing": {
                "devices": {"a": {"agent": "fence_kvmlab", "nodes": dict.fromkeys(NODES, 1)}}
            }
        },
        "node1 and node2 would both be fenced by port 1",
    ),
    "a level of a stranger": (
        {
            "fencing": {
                "devices": {"a": {"agent": "fence_kvmlab", "nodes": [*NODES]}},
                "levels": {"node1": ["pdu"]},
            }
        },
        "kvmcluster:ha:fencing:levels:node1: 'pdu' is not a fence device",
    ),
    "booleans for nodes": (
        {"fencing": {"devices": {"a": {"agent": "fence_kvmlab", "nodes": [True]}}}},
        "True is not a node",
    ),
    "no mapping": (True, "kvmcluster:ha: want a mapping, got True"),
    "a quorum device on a node": (
        {"quorum_device": {"host": "node2-mig"}},
        "node2-mig is a node, node2",
    ),
}
"""Values of ``kvmcluster:ha`` that the orchestration refuses at its first step, with the reason."""

PILLARS = {"not in the pillar": not_for_all, "definitions": defined, "guests": more_guests}
"""By group, how the cluster's pillar is changed while it is made."""

STARTED = {"guests": ["web1"]}
"""By group, which guests an administrator's highstate starts."""

TWO = {
    "neither": (
        "provider: corosync_votequorum\nexpected_votes: 2\n",
        "two nodes without two_node and without a quorum device",
        "two_node: 1",
    ),
    "no wait": (
        "provider: corosync_votequorum\ntwo_node: 1\nwait_for_all: 0\n",
        "two nodes with two_node, and without wait_for_all",
        "wait_for_all: 1",
    ),
    "device that does not vote": (
        "provider: corosync_votequorum\n  device {\n  model: net\n  votes: 1\n    net {\n"
        "    host: master\n    algorithm: ffsplit\n    }\n  }\n",
        "its quorum device is configured, and does not vote",
        "systemctl enable --now corosync-qdevice",
    ),
}
"""The section quorum of two nodes, what is said of it, and a part of the remedy."""
RIGHT = "provider: corosync_votequorum\ntwo_node: 1\n"
