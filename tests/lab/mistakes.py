"""Mistakes of administrators, made on real parts, and the remedies that fix them."""

import dataclasses
import shlex
import uuid
from collections.abc import Callable

from labs import HOME

VOLUME = "/srv/guests"
LOCAL = "/var/lib/libvirt/images"
QEMU_CONF = "/etc/libvirt/qemu.conf"
CERTIFICATES = "/etc/pki/qemu"
IDLE = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='KiB'>{memory}</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type>{os}</os>
  <devices>{devices}<memballoon model='none'/></devices>{more}
</domain>"""


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One mistake.

    ``make`` makes it. Then the check says ``words`` of ``who`` (parts of a finding: its guests,
    nodes, destinations), and its remedy holds ``remedy``: as it stands, a shell command for the
    node ``at``; or, where ``cure`` is given, words that ``cure`` follows. ``after`` puts back
    what neither undoes.
    """

    check: str
    words: str
    who: dict
    make: Callable
    remedy: str
    at: str = ""
    cure: Callable | None = None
    after: Callable = lambda lab: None
    outcome: str = "PROBLEM"

    def is_in(self, finding):
        about = all(set(names) <= set(finding[key]) for key, names in self.who.items())
        return finding["id"] == self.check and self.words in finding["sentence"] and about

    def fix(self, lab):
        if self.cure:
            self.cure(lab)
        else:
            lab.exec(self.at, "sh", "-ec", self.remedy)


def on(node, script, **options):
    """Return a deed: run a shell script there."""
    return lambda lab: lab.exec(node, "sh", "-ec", script, **options)


def ctl(*words):
    return lambda lab: lab.ctl(*words)


def each(*deeds):
    def do(lab):
        for deed in deeds:
            deed(lab)

    return do


def restart(node, service):
    return each(ctl("kill", node, service), ctl("start", node, service))


def append(node, path, line):
    return on(node, f"echo {shlex.quote(line)} >> {path}")


def drop(node, path, words):
    return on(node, f"sed -i {shlex.quote(f'/{words}/d')} {path}")


def idle(name, devices="", os="", memory=65536, identity=None, more=""):
    """Return the definition of a guest that is nothing but firmware: it is there, and waits."""
    known = identity or uuid.uuid5(uuid.NAMESPACE_DNS, name)
    parts = {"devices": devices, "os": os, "memory": memory, "more": more}
    return IDLE.format(name=name, uuid=known, **parts)


def disk(path, cache="none", target="vda", form="raw", kind="file", key="file"):
    return (
        f"<disk type='{kind}' device='disk'><driver name='qemu' type='{form}' cache='{cache}'/>"
        f"<source {key}='{path}'/><target dev='{target}' bus='virtio'/></disk>"
    )


def start(node, name, **parts):
    """Return a deed: start a transient idle guest."""
    return on(node, "virsh --quiet create /dev/stdin", stdin=idle(name, **parts))


def define(node, name, **parts):
    return on(node, "virsh --quiet define /dev/stdin", stdin=idle(name, **parts))


def destroy(node, name):
    return on(node, f"virsh --quiet destroy {name}")


def undefine(node, name):
    return on(node, f"virsh --quiet undefine {name}")


# Guests: alike, started by themselves, frozen, changed

USB_PORT = "<serial type='null'><target type='usb-serial' port='0'/></serial>"
ARGUMENTS = (
    "<qemu:commandline><qemu:arg value='-fw_cfg'/>"
    "<qemu:arg value='name=opt/extra,file=/etc/hostname'/></qemu:commandline>"
)
TWIN, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"

GUESTS = [
    Mistake(
        "guest.name",
        "node2 has another guest of this name",
        {"guests": ["web"]},
        define("node2", "web", identity=OTHER),
        remedy="virsh domrename web ANOTHER",
        at="node2",
        after=undefine("node2", "ANOTHER"),
    ),
    Mistake(
        "guest.uuid",
        "node3 has a guest with the same UUID, twin",
        {"guests": ["one"]},
        each(start("node1", "one", identity=TWIN), define("node3", "twin", identity=TWIN)),
        remedy="on node3, where twin is shut off: virsh undefine --keep-nvram",
        cure=undefine("node3", "twin"),
        after=destroy("node1", "one"),
    ),
    Mistake(
        "guest.uuid",
        "node2 has an old definition of it",
        {"guests": ["moved"], "destinations": ["node2"]},
        each(start("node3", "moved"), define("node2", "moved")),
        remedy="virsh undefine --keep-nvram moved",
        at="node2",
        after=destroy("node3", "moved"),
    ),
    Mistake(
        "guest.disk",
        "thief on node2 uses its disk /srv/guests/web.img",
        {"guests": ["web"]},
        define("node2", "thief", devices=disk(f"{VOLUME}/web.img")),
        remedy="virsh undefine --keep-nvram thief",
        at="node2",
    ),
    Mistake(
        "guest.autostart",
        "node1 would start it",
        {"guests": ["early"]},
        each(define("node1", "early"), on("node1", "virsh autostart early && virsh start early")),
        remedy="virsh autostart --disable early",
        at="node1",
        after=each(destroy("node1", "early"), undefine("node1", "early")),
    ),
    Mistake(
        "guest.once",
        "it RUNS TWICE, on node1",
        {"guests": ["twice"]},
        each(start("node1", "twice"), start("node3", "twice")),
        remedy="virsh destroy twice",
        at="node3",
        after=destroy("node1", "twice"),
    ),
    Mistake(
        "guest.blockers",
        "it has a serial port on USB, which QEMU does not migrate",
        {"guests": ["ported"]},
        start("node1", "ported", devices=USB_PORT),
        remedy="virsh edit ported, then restart the guest",
        cure=each(destroy("node1", "ported"), start("node1", "ported")),
        after=destroy("node1", "ported"),
    ),
    Mistake(
        "guest.blockers",
        "it hands QEMU arguments that nothing checks: -fw_cfg name=opt/extra,file=/etc/hostname",
        {"guests": ["extra"]},
        start("node1", "extra", more=ARGUMENTS),
        remedy="kvmcluster:guests:passthrough: [extra]; or remove it: virsh edit extra",
        cure=each(destroy("node1", "extra"), start("node1", "extra")),
        after=destroy("node1", "extra"),
    ),
    Mistake(
        "guest.frozen",
        "the vendor is at it",
        {"guests": ["web"]},
        ctl("salt", "--", "node1", "kvmcluster.freeze", "web", "the vendor is at it"),
        remedy="salt node1 kvmcluster.unfreeze web",
        cure=ctl("salt", "--", "node1", "kvmcluster.unfreeze", "web"),
    ),
    Mistake(
        "guest.definition",
        "differs from the running one",
        {"guests": ["web"]},
        on("node1", f"sed -i.kept 's/<vcpu>1</<vcpu>2</' {VOLUME}/web.xml"),
        remedy="virsh dumpxml --inactive web",
        cure=on("node1", f"virsh dumpxml --inactive web > {VOLUME}/web.xml"),
        after=on("node1", f"mv {VOLUME}/web.xml.kept {VOLUME}/web.xml"),
    ),
]

# Hosts: name, ports, UUID, memory, networks, QEMU

LISTEN = """import socket, time
held = []
for port in range(49152, 49216):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("", port))
    one.listen()
    held.append(one)
print("ready", flush=True)
time.sleep(600)
"""
HOLDER = "echo $$ > /tmp/holder; exec python3 /tmp/listen"
LISTENING = f"""cat > /tmp/listen
setsid --fork sh -c '{HOLDER}' > /tmp/listening 2>&1 < /dev/null
until grep . /tmp/listening; do sleep 0.1; done
grep ^ready /tmp/listening"""
LAN = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"
CARD = "<interface type='{0}'><source {0}='{1}'/><model type='virtio'/></interface>"
NEW_UUID = """cd /etc/libvirt && sed -i /^host_uuid/d libvirtd.conf
echo "host_uuid = \\"$(cat /proc/sys/kernel/random/uuid)\\"" >> libvirtd.conf"""
DRIVERS = "/usr/lib/*/libvirt/connection-driver"
NO_NETWORK_DRIVER = f"""mkdir --parents /run/drivers && cp {DRIVERS}/* /run/drivers
rm /run/drivers/*_network.so && mount --bind /run/drivers {DRIVERS}"""
CAPABILITIES = "/var/cache/libvirt/qemu/capabilities/*.xml"


def too_much(lab):
    """Start a guest whose memory is less than there is, and more than can ever be available."""
    words = lab.read("node1", "/proc/meminfo").split()
    total = int(words[words.index("MemTotal:") + 1])
    start("node1", "huge", memory=total - 128 * 1024)(lab)


def network(node):
    return on(node, "virsh net-define /dev/stdin && virsh net-start lan", stdin=LAN)


def other_qemu(node, change):
    """Let libvirt believe something else of its QEMU than what it found out."""
    edit = f"virsh domcapabilities --virttype qemu >/dev/null && sed -i '{change}' {CAPABILITIES}"
    return each(on(node, edit), restart(node, "libvirtd"))


def this_qemu(node):
    return each(on(node, f"rm {CAPABILITIES}"), restart(node, "libvirtd"))


def same_host(lab):
    line = lab.exec("node1", "grep", "^host_uuid", "/etc/libvirt/libvirtd.conf").strip()
    on("node2", f"sed -i.kept 's/^host_uuid.*/{line}/' /etc/libvirt/libvirtd.conf")(lab)
    restart("node2", "libvirtd")(lab)


CIB = """<cib><configuration><crm_config/><nodes/><resources>
<primitive id="vm" class="ocf" provider="heartbeat" type="VirtualDomain">
<instance_attributes id="i"><nvpair id="n" name="config" value="/srv/guests/web.xml"/>
</instance_attributes>
</primitive>
</resources><constraints/></configuration><status/></cib>"""
KEPT = "/var/lib/pacemaker/cib/cib.xml"
WANTED = "/etc/systemd/system/multi-user.target.wants/pacemaker.service"
AT_REST = (
    f"mkdir -p {KEPT.rpartition('/')[0]} {WANTED.rpartition('/')[0]} && cat >{KEPT}"
    f" && ln -sf /lib/systemd/system/pacemaker.service {WANTED}"
)
NO_PACEMAKER = on("node1", f"rm -f {KEPT} {WANTED}")
SCREEN = "<graphics type='vnc' port='5950' autoport='no' listen='192.0.2.11'/>"
PORT = "<graphics type='vnc' port='5951' autoport='no' listen='0.0.0.0'/>"
KEY = "33333333-3333-3333-3333-333333333333"
SECRET = (
    f"<secret ephemeral='no' private='yes'><uuid>{KEY}</uuid><usage type='volume'>"
    f"<volume>{VOLUME}/luks.img</volume></usage></secret>"
)
LUKS = disk(f"{VOLUME}/luks.img").replace(
    "/><target",
    f"><encryption format='luks'><secret type='passphrase' uuid='{KEY}'/></encryption></source>"
    "<target",
)
# qemu-img measures how fast it derives a key, and gives up on a busy machine.
ENCRYPTED = f"""printf hello > /tmp/key; truncate --size 8M {VOLUME}/luks.img
cryptsetup luksFormat --batch-mode --type luks1 --pbkdf-force-iterations 1000 \\
  --key-file /tmp/key {VOLUME}/luks.img"""


VIDEO = "<video><model type='qxl'/></video><graphics type='vnc'/>"
MODULES = "$(dirname /usr/lib/*/qemu/hw-usb-host.so)"
# libvirt asks QEMU again what it has once the folder of its modules has changed.
WITHOUT_QXL = f"""mkdir /tmp/modules; cp {MODULES}/* /tmp/modules
rm /tmp/modules/hw-display-qxl.so; mount --bind /tmp/modules {MODULES}"""


def secret(node):
    """Let libvirt on a node have the key of the encrypted image."""
    value = f"printf hello > /tmp/key; virsh secret-set-value {KEY} --file /tmp/key --plain"
    return each(on(node, "virsh secret-define /dev/stdin", stdin=SECRET), on(node, value))


HOSTS = [
    Mistake(
        "network.listen",
        "its vnc listens on 192.0.2.11, an address that the destination does not have",
        {"guests": ["screen"], "destinations": ["node2", "node3"]},
        start("node1", "screen", devices=SCREEN),
        remedy="set a listen address that every node has",
        cure=destroy("node1", "screen"),
    ),
    Mistake(
        "network.listen",
        "its vnc listens on tcp port 5951, which is taken on the destination",
        {"guests": ["first"], "destinations": ["node2"]},
        each(start("node1", "first", devices=PORT), start("node2", "second", devices=PORT)),
        remedy="ss -ltnp 'sport = :5951' shows by what",
        cure=destroy("node2", "second"),
        after=destroy("node1", "first"),
    ),
    Mistake(
        "emulator.devices",
        "the destination's QEMU, or its host, has no video qxl (modelType)",
        {"guests": ["shown"], "destinations": ["node2"]},
        each(start("node1", "shown", devices=VIDEO), on("node2", WITHOUT_QXL)),
        remedy="install on the destination the packages of QEMU that the source has",
        cure=on("node2", f"umount {MODULES}"),
        after=destroy("node1", "shown"),
    ),
    Mistake(
        "secret.present",
        f"the secret of disk vda (UUID {KEY}) does not exist on the destination",
        {"guests": ["sealed"], "destinations": ["node2", "node3"]},
        each(on("node1", ENCRYPTED), secret("node1"), start("node1", "sealed", devices=LUKS)),
        remedy="virsh secret-define, from the source's virsh secret-dumpxml",
        cure=each(secret("node2"), secret("node3")),
        after=each(
            destroy("node1", "sealed"),
            *(on(node, f"virsh secret-undefine {KEY}") for node in ("node1", "node2", "node3")),
            on("node1", f"rm {VOLUME}/luks.img"),
        ),
    ),
    Mistake(
        "ha.pacemaker",
        "Pacemaker starts with the node, has guests, and does not run",
        {"nodes": ["node1"]},
        on("node1", AT_REST, stdin=CIB),
        remedy="systemctl disable pacemaker",
        cure=NO_PACEMAKER,
        outcome="UNKNOWN",
    ),
    Mistake(
        "ha.manager",
        "does not run, but starts with the node, and its resource vm is this guest",
        {"guests": ["web"]},
        on("node1", AT_REST, stdin=CIB),
        remedy="systemctl disable pacemaker",
        cure=NO_PACEMAKER,
        outcome="UNKNOWN",
    ),
    Mistake(
        "node.name",
        "its host name node2 resolves to loopback on it: 127.0.1.1",
        {"nodes": ["node2"]},
        on(
            "node2", "sed 's/^192.0.2.12 /127.0.1.1 /' /etc/hosts > /tmp/h; cat /tmp/h > /etc/hosts"
        ),
        remedy="give node2 its real address in /etc/hosts",
        cure=on(
            "node2", "sed 's/^127.0.1.1 /192.0.2.12 /' /etc/hosts > /tmp/h; cat /tmp/h > /etc/hosts"
        ),
    ),
    Mistake(
        "node.ports",
        "no migration port is free on the destination",
        {"nodes": ["node1"], "destinations": ["node3"]},
        on("node3", LISTENING, stdin=LISTEN),
        remedy="ss -ltnp shows what uses them",
        cure=on("node3", "kill $(cat /tmp/holder)"),
    ),
    Mistake(
        "node.uuid",
        "both hosts have the same libvirt host UUID",
        {"nodes": ["node1"], "destinations": ["node2"]},
        same_host,
        remedy="set host_uuid in /etc/libvirt/libvirtd.conf",
        cure=each(on("node2", NEW_UUID), restart("node2", "libvirtd")),
    ),
    Mistake(
        "node.tls",
        f"ca-cert.pem missing in {CERTIFICATES} on the destination",
        {"nodes": ["node1"], "destinations": ["node2"]},
        on("node2", f"mv {CERTIFICATES}/ca-cert.pem /tmp"),
        remedy="install certificates of one authority",
        cure=on("node2", f"mv /tmp/ca-cert.pem {CERTIFICATES}"),
    ),
    Mistake(
        "node.memory",
        "MiB are available on the destination",
        {"guests": ["huge"], "destinations": ["node2"]},
        too_much,
        remedy="stop another guest on the destination",
        cure=destroy("node1", "huge"),
    ),
    Mistake(
        "network.present",
        "bridge br0 is down on the destination",
        {"guests": ["web"], "destinations": ["node2"]},
        on("node2", "ip link set br0 down"),
        remedy="ip link set br0 up",
        at="node2",
    ),
    Mistake(
        "network.present",
        "bridge br0 does not exist on the destination",
        {"guests": ["web"], "destinations": ["node3"]},
        on("node3", "ip link delete br0"),
        remedy="create bridge br0 in the destination's network configuration",
        cure=on("node3", "ip link add br0 type bridge && ip link set br0 up"),
    ),
    Mistake(
        "network.present",
        "network lan is not active on the destination",
        {"guests": ["office"], "destinations": ["node3"]},
        each(network("node1"), start("node1", "office", devices=CARD.format("network", "lan"))),
        remedy="virsh net-define it",
        cure=network("node3"),
        after=each(
            destroy("node1", "office"),
            *(
                on(node, "virsh net-destroy lan && virsh net-undefine lan")
                for node in ("node1", "node2", "node3")
            ),
        ),
    ),
    Mistake(
        "network.present",
        "on the destination, whose libvirt lacks the network driver (this function is not",
        {"guests": ["office"], "destinations": ["node2"]},
        each(on("node2", NO_NETWORK_DRIVER), restart("node2", "libvirtd")),
        remedy="install libvirt-daemon-driver-network",
        cure=each(
            on("node2", f"umount --lazy {DRIVERS}"), restart("node2", "libvirtd"), network("node2")
        ),
    ),
    Mistake(
        "node.versions",
        "does not support machine type pc-i440fx-7",
        {"guests": ["web"], "destinations": ["node3"]},
        other_qemu("node3", "s/pc-i440fx-7/pc-i440fx-6/"),
        remedy="install the source's version of QEMU",
        cure=this_qemu("node3"),
    ),
    Mistake(
        "cpu.model",
        "lahf_lm",
        {"guests": ["web"], "destinations": ["node2"]},
        other_qemu("node2", "/lahf.lm/d"),
        remedy="set a CPU model that all nodes have",
        cure=this_qemu("node2"),
    ),
]

# Ssh: fixed from the last to the first, since the first remedy wants all logins good

SSH, DROP_IN = f"{HOME}/.ssh", "/etc/ssh/sshd_config.d/00-site.conf"
FORMER = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdVDQ4u4AFUBFs7Nn8QTC6bdU1o9eX7Bn6nR7R3Kb5W"
    " kvmcluster/lab/node9"
)
REINSTALLED = "rm /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null"


def trust(node):
    return lambda lab: lab.apply(node, "kvmcluster.trust")


def prepare(lab):
    states = lab.prepare()
    assert all(state["result"] for state in states.values()), states


LOGINS = [
    Mistake(
        "ssh.reach",
        "login by node2-mig: host key changed",
        {"nodes": ["node3"], "destinations": ["node2"]},
        each(on("node2", REINSTALLED), restart("node2", "sshd")),
        remedy="salt-run state.orchestrate kvmcluster.orch.prepare",
        cure=prepare,
    ),
    Mistake(
        "ssh.key",
        f"{SSH}/id_rsa_cluster has mode 0644",
        {"nodes": ["node3"]},
        on("node3", f"chmod 644 {SSH}/id_rsa_cluster"),
        remedy=f"chmod 600 {SSH}/id_rsa_cluster",
        at="node3",
    ),
    Mistake(
        "ssh.authorized",
        "sshd reads .ssh/authorized_keys, not .ssh/authorized_keys2",
        {"nodes": ["node1"]},
        on("node1", f"echo AuthorizedKeysFile .ssh/authorized_keys > {DROP_IN}"),
        remedy="set 'AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2'",
        cure=on("node1", f"rm {DROP_IN}"),
    ),
    Mistake(
        "ssh.config",
        "stricthostkeychecking is false, not true",
        {"nodes": ["node1"]},
        on("node1", "printf 'Host *\\n StrictHostKeyChecking no\\n' > /root/.ssh/config"),
        remedy="apply the state kvmcluster.trust",
        cure=each(on("node1", "rm -f /root/.ssh/config /root/.ssh/known_hosts"), trust("node1")),
    ),
    Mistake(
        "ssh.reach",
        "login by node3-mig: refused",
        {"nodes": ["node1"], "destinations": ["node3"]},
        ctl("kill", "node3", "sshd"),
        remedy="start sshd there",
        cure=ctl("start", "node3", "sshd"),
    ),
    Mistake(
        "ssh.noise",
        "a login prints something: welcome",
        {"nodes": ["node2"], "destinations": ["node1"]},
        append("node1", f"{HOME}/.bashrc", "echo welcome"),
        remedy="silence the login's shell start-up files",
        cure=on("node1", f"rm {HOME}/.bashrc"),
    ),
    Mistake(
        "ssh.stale",
        "the key of node9, which is no longer a member",
        {"nodes": ["node1"]},
        append("node1", f"{SSH}/authorized_keys", FORMER),
        remedy=f"delete line 1 of {SSH}/authorized_keys",
        cure=on("node1", f"sed -i 1d {SSH}/authorized_keys"),
    ),
]

# Storage.

UDEV = "/run/udev/data/b7:*"
OTHER_WWN = "s/^\\(E:ID_WWN.*=0x\\).*/\\160014050000000000000000000000001/"


def wrong_lun(lab):
    """Let node2 have another LUN than node1 at the path of the guest's disk."""
    on(
        "node2",
        f"mkdir -p /tmp/udev && cp /run/udev/data/* /tmp/udev && sed -i '{OTHER_WWN}' {UDEV}",
    )(lab)


DISKS = [
    Mistake(
        "storage.kind",
        "a local file system",
        {"guests": ["loc"]},
        each(
            on("node1", f"mkdir -p {LOCAL} && truncate -s 1M {LOCAL}/loc.img"),
            start("node1", "loc", devices=disk(f"{LOCAL}/loc.img")),
        ),
        remedy="GlusterFS",
        cure=on(
            "node1",
            f"virsh blockcopy loc vda {VOLUME}/loc.img --transient-job --wait --pivot"
            " --format raw >/dev/null",
        ),
        after=destroy("node1", "loc"),
    ),
    Mistake(
        "guest.blockers",
        "block",
        {"guests": ["copied"]},
        each(
            on("node2", f"truncate -s 1M {VOLUME}/copied.img"),
            start("node2", "copied", devices=disk(f"{VOLUME}/copied.img")),
            on(
                "node2",
                f"virsh blockcopy copied vda {VOLUME}/copy.img --transient-job --wait"
                " --format raw >/dev/null",
            ),
        ),
        remedy="virsh blockjob copied vda --abort",
        at="node2",
        after=destroy("node2", "copied"),
    ),
    Mistake(
        "storage.cache",
        "vda has cache mode unsafe",
        {"guests": ["risky"]},
        each(
            on("node1", f"truncate -s 1M {VOLUME}/risky.img"),
            start("node1", "risky", devices=disk(f"{VOLUME}/risky.img", cache="unsafe")),
        ),
        remedy="set <driver cache='none'>",
        cure=each(
            destroy("node1", "risky"), start("node1", "risky", devices=disk(f"{VOLUME}/risky.img"))
        ),
        after=destroy("node1", "risky"),
    ),
    Mistake(
        "storage.visible",
        f"{VOLUME}/base.img is missing on the source",
        {"guests": ["over"]},
        each(
            on(
                "node1",
                f"cd {VOLUME} && truncate -s 1M base.img"
                " && qemu-img create -q -f qcow2 -b base.img -F raw over.img",
            ),
            start("node1", "over", devices=disk(f"{VOLUME}/over.img", form="qcow2")),
            on("node1", f"mv {VOLUME}/base.img {VOLUME}/cleaned-up.img"),
        ),
        remedy=f"find out what removed {VOLUME}/base.img",
        cure=on("node1", f"mv {VOLUME}/cleaned-up.img {VOLUME}/base.img"),
        after=destroy("node1", "over"),
    ),
    Mistake(
        "storage.visible",
        "/root/vmlinuz does not exist on the destination",
        {"guests": ["kernel"], "destinations": ["node1", "node2"]},
        each(
            on("node3", f"cp {VOLUME}/boot/vmlinuz /root/"),
            start("node3", "kernel", os="<kernel>/root/vmlinuz</kernel>"),
        ),
        remedy="copy /root/vmlinuz from the source to the destination",
        cure=each(*(on(node, f"cp {VOLUME}/boot/vmlinuz /root/") for node in ("node1", "node2"))),
        after=destroy("node3", "kernel"),
    ),
    Mistake(
        "storage.same",
        "the destination WWN 60014050000000000000000000000001",
        {"guests": ["lun"], "destinations": ["node2"]},
        wrong_lun,
        remedy="present the same storage to both",
        cure=on("node2", "cp /tmp/udev/* /run/udev/data/"),
    ),
    Mistake(
        "storage.same",
        f"not proven to be the same storage on both nodes: {VOLUME}",
        {"guests": ["web"], "destinations": ["node3"]},
        on("node3", f"mkdir -p {VOLUME}/old && mount --bind {VOLUME}/old {VOLUME}"),
        remedy=f"ls {VOLUME} must show the same on both nodes; if not, mount it again",
        cure=on("node3", f"umount {VOLUME}"),
        outcome="UNKNOWN",
    ),
]
