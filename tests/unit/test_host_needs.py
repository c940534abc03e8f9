"""What a definition wants of its host, and what a host says that it has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltext_kvmcluster.core.facts import emulators, offers
from saltext_kvmcluster.core.facts.nodefacts import Socket
from saltext_kvmcluster.core.facts.parsers import CommandOutput, capabilities
from saltext_kvmcluster.core.guest import tuning
from saltext_kvmcluster.core.guest.domainxml import parse
from saltext_kvmcluster.core.guest.secrets import Secret
from saltext_kvmcluster.core.readiness.checks.guest import matters

SECRET = "44444444-4444-4444-4444-444444444444"
DOMAIN = """<domain type='kvm'><name>web1</name><memory unit='MiB'>64</memory>{}
<devices>{}</devices></domain>"""


def read(parts="", devices=""):
    return parse(DOMAIN.format(parts, devices))


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (
            "<disk><source><encryption format='luks'><secret type='passphrase'"
            f" uuid='{SECRET.upper()}'/></encryption></source><target dev='vda'/></disk>",
            [Secret("disk vda", "volume", SECRET)],
        ),
        (
            "<disk type='network'><source protocol='rbd'><auth username='a'><secret type='ceph'"
            " usage='client.admin'/></auth></source><target dev='vda'/></disk>",
            [Secret("disk vda", "ceph", "", "client.admin")],
        ),
        (
            "<disk type='network'><auth username='a'><secret type='iscsi' usage='i'/></auth>"
            "<source protocol='iscsi'/><target dev='sda'/></disk>",
            [Secret("disk sda", "iscsi", "", "i")],
        ),
        (
            "<disk><backingStore><source><encryption><secret type='passphrase' usage='/base'/>"
            "</encryption></source></backingStore><target dev='vda'/></disk>",
            [Secret("disk vda", "volume", "", "/base")],
        ),
        (
            "<hostdev type='scsi'><source protocol='iscsi'><auth><secret type='iscsi' usage='i'/>"
            "</auth></source></hostdev>",
            [Secret("hostdev", "iscsi", "", "i")],
        ),
        (
            f"<tpm><backend type='emulator'><encryption secret='{SECRET}'/></backend></tpm>",
            [Secret("TPM", "vtpm", SECRET)],
        ),
        (
            "</devices><os><nvram type='network'><source protocol='iscsi'><auth><secret"
            " type='iscsi' usage='i'/></auth></source></nvram></os><devices>",
            [Secret("nvram", "iscsi", "", "i")],
        ),
        ("<disk><source><encryption><secret type='passphrase'/></encryption></source></disk>", []),
    ],
)
def test_the_secrets_of_a_definition(device, wanted):
    assert list(read(devices=device).secrets) == wanted


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        ("<graphics type='vnc' port='5901' autoport='yes' listen='1.2.3.4'/>", [("1.2.3.4", 0)]),
        ("<graphics type='vnc' port='5901' autoport='no' listen='1.2.3.4'/>", [("1.2.3.4", 5901)]),
        (
            "<graphics type='spice' port='5901' tlsPort='5902'><listen type='address'"
            " address='::'/></graphics>",
            [("::", 5901), ("::", 5902)],
        ),
        (
            "<graphics type='vnc' port='5901' autoport='yes' websocket='5700'/>",
            [("", 5700)],
        ),
        (
            "<graphics type='vnc' socket='/s'><listen type='socket' socket='/s'/></graphics>",
            [],
        ),
        ("<graphics type='vnc' port='1'><listen type='network' network='lan'/></graphics>", []),
        ("<graphics type='spice'><listen type='none'/></graphics>", []),
        ("<graphics type='vnc' port='99999999999' websocket='x' listen='a'/>", [("a", 0)]),
        (
            "<serial type='tcp'><source mode='bind' host='0.0.0.0' service='2445'/></serial>"
            "<console type='tcp'><source mode='bind' host='0.0.0.0' service='2445'/></console>",
            [("0.0.0.0", 2445)],
        ),
        ("<serial type='tcp'><source mode='connect' host='a' service='1'/></serial>", []),
        (
            "<channel type='udp'><source mode='bind' host='a' service='1'/>"
            "<source mode='connect' host='b' service='2'/></channel>",
            [("a", 1, "udp")],
        ),
        (
            "<rng><backend model='egd' type='tcp'><source mode='bind' host='a' service='7'/>"
            "</backend></rng>",
            [("a", 7)],
        ),
        ("<interface type='server'><source address='a' port='5558'/></interface>", [("a", 5558)]),
        (
            "<interface type='udp'><source address='b' port='1'><local address='a' port='2'/>"
            "</source></interface>",
            [("a", 2, "udp")],
        ),
        (
            "<interface type='user'><portForward proto='tcp'><range start='80' end='81'/>"
            "<range start='90' exclude='yes'/></portForward></interface>",
            [("", 80), ("", 81)],
        ),
    ],
)
def test_what_a_guest_binds(device, wanted):
    found = read(devices=device).binds
    assert [(one.address, one.port, one.protocol) for one in found] == [
        (*one, "tcp")[:3] for one in wanted
    ]


def test_a_device_that_libvirt_is_to_create_may_have_a_name_of_its_own():
    cards = "".join(
        f"<interface type='{kind}'><source network='a'/><target dev='{name}'/></interface>"
        for kind, name in (("bridge", "tap7"), ("bridge", "vnet7"), ("direct", "macvtap0"))
    )
    ethernet = "<interface type='ethernet'><target dev='mine' managed='no'/></interface>"
    found = read(devices=cards + ethernet).interfaces
    assert [card.device for card in found] == ["tap7", "", "", ""]


def test_a_network_that_graphics_listen_on_is_needed():
    listens = "<graphics type='vnc'><listen type='network' network='lan' address='a'/></graphics>"
    assert read(devices=listens).networks == ("lan",)
    assert read(devices=listens).binds == ()


@pytest.mark.parametrize(
    ("parts", "pins"),
    [
        ("<cputune><vcpupin vcpu='0' cpuset='0-3,^2'/></cputune>", {"vCPU 0": {0, 1, 3}}),
        ("<cputune><emulatorpin cpuset='9'/></cputune>", {"the emulator": {9}}),
        ("<cputune><iothreadpin iothread='1' cpuset='4'/></cputune>", {"I/O thread 1": {4}}),
        ("<vcpu cpuset='1'>2</vcpu>", {"what is not pinned by itself": {1}}),
        (
            "<vcpu cpuset='1'>1</vcpu><cputune><vcpupin vcpu='0' cpuset='2'/>"
            "<emulatorpin cpuset='3'/></cputune>",
            {"vCPU 0": {2}, "the emulator": {3}},
        ),
        ("<cputune><vcpupin vcpu='0' cpuset='0-99999999999'/></cputune>", {}),
        ("<cputune><vcpupin vcpu='0' cpuset='x'/><vcpupin/></cputune>", {}),
    ],
)
def test_where_a_guest_is_pinned(parts, pins):
    assert {pin.use: set(pin.cpus) for pin in read(parts).tuning.pins} == pins


CELLS = (
    "<cpu><numa><cell id='0' cpus='0' memory='32' unit='MiB'/>"
    "<cell id='1' cpus='1' memory='16' unit='MiB'/></numa></cpu>"
)


@pytest.mark.parametrize(
    ("parts", "pages"),
    [
        ("", ()),
        ("<memoryBacking><hugepages/></memoryBacking>", ((0, 65536),)),
        (
            "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>",
            ((2048, 65536),),
        ),
        ("<memoryBacking><hugepages><page size='4'/></hugepages></memoryBacking>", ()),
        (
            f"{CELLS}<memoryBacking><hugepages><page size='1' unit='G' nodeset='1'/></hugepages>"
            "</memoryBacking>",
            ((1048576, 16384),),
        ),
        (
            f"{CELLS}<memoryBacking><hugepages><page size='1' unit='G' nodeset='1'/>"
            "<page size='2048' unit='KiB'/></hugepages></memoryBacking>",
            ((2048, 32768), (1048576, 16384)),
        ),
        (
            "<memoryBacking><hugepages><page size='-1' unit='parsec'/></hugepages></memoryBacking>",
            (),
        ),
    ],
)
def test_how_much_memory_is_on_hugepages(parts, pages):
    assert read(parts).tuning.hugepages == pages


def test_a_memory_module_has_pages_of_its_own():
    module = (
        "<memory model='dimm'><source><pagesize unit='MiB'>2</pagesize><nodemask>1</nodemask>"
        "</source><target><size unit='MiB'>8</size></target></memory>"
    )
    found = read(CELLS, module).tuning
    assert (found.hugepages, found.nodes) == (((2048, 8192),), {1})
    assert read("<memoryBacking><source type='memfd'/></memoryBacking>").tuning.mounted is False


def test_numa_nodes_labels_and_the_vsock_address():
    found = read(
        "<numatune><memory mode='strict' nodeset='0-1'/><memnode cellid='0' nodeset='3'/>"
        "</numatune><seclabel type='dynamic' model='apparmor'/><seclabel type='none'/>",
        "<vsock><cid auto='no' address='5'/></vsock>",
    ).tuning
    assert (found.nodes, found.models, found.cid) == ({0, 1, 3}, {"apparmor"}, 5)
    assert read(devices="<vsock><cid auto='yes' address='5'/></vsock>").tuning.cid == 0


def test_a_fixed_vsock_address_is_compared_with_that_of_every_guest():
    fixed = read(devices="<vsock><cid auto='no' address='5'/></vsock>")
    stats = {"block.count": 0}
    assert matters(fixed, "web1", "u")("web2", "v", stats)
    assert not matters(read(), "web1", "u")("web2", "v", stats)


@given(st.text(max_size=40))
def test_no_value_of_a_definition_breaks_the_readers(text):
    safe = "".join(char for char in text if char.isprintable() and char not in "<>&'")
    read(
        f"<vcpu cpuset='{safe}'>1</vcpu><cputune><vcpupin vcpu='{safe}' cpuset='{safe}'/></cputune>"
        f"<numatune><memory nodeset='{safe}'/></numatune><memoryBacking><hugepages>"
        f"<page size='{safe}' unit='{safe}' nodeset='{safe}'/></hugepages></memoryBacking>",
        f"<graphics type='vnc' port='{safe}' listen='{safe}' websocket='{safe}'/>"
        f"<vsock><cid address='{safe}'/></vsock><disk><auth><secret type='{safe}' usage='{safe}'/>"
        f"</auth></disk><interface type='user'><portForward><range start='{safe}' end='{safe}'/>"
        f"</portForward><script path='{safe}'/></interface>",
    )
    tuning.numbers(text)


# As Linux 6.1 prints them.
PAGES = """/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages:16
/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages:4
/sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages:1
/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages:32
/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages:3
/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages:0
"""
SOCKETS = """udp UNCONN 0      0    127.0.0.1%lo:323  0.0.0.0:*
tcp LISTEN 0      128    0.0.0.0:22   0.0.0.0:*
tcp LISTEN 0      128       [::]:22      [::]:*
tcp LISTEN 0      4096         *:111        *:*
udp UNCONN 0      0    [fe80::1]%eth0:546    [::]:*
"""


def test_what_a_host_has():
    assert offers.hugepages(CommandOutput(0, PAGES)) == {2048: 14, 1048576: 0}
    assert offers.sockets(CommandOutput(0, SOCKETS)) == {
        Socket("udp", "127.0.0.1", 323),
        Socket("tcp", "0.0.0.0", 22),
        Socket("tcp", "::", 22),
        Socket("tcp", "*", 111),
        Socket("udp", "fe80::1", 546),
    }
    assert offers.cpus(CommandOutput(0, "0-1\n")) == {0, 1}
    names = f"{SECRET}.base64\n{SECRET.replace('4', '5')}.aes256cbc\nother\n"
    assert offers.secret_values(CommandOutput(0, names)) == {SECRET, SECRET.replace("4", "5")}
    missing = CommandOutput(1, "", "find: '/etc/libvirt/secrets': No such file or directory")
    assert offers.secret_values(missing) == frozenset()
    denied = CommandOutput(1, "", "find: '/etc/libvirt/secrets': Permission denied")
    assert offers.secret_values(denied) is None
    assert offers.confines(CommandOutput(0, 'cgroup_controllers = [ "cpu" ]')) is False
    assert offers.confines(CommandOutput(0, 'cgroup_controllers = [ "cpu", "cpuset" ]'))
    assert offers.confines(CommandOutput(0, "cgroup_controllers = ["))


def test_capabilities_tell_cpus_numa_nodes_and_security_drivers():
    found = capabilities(
        "<capabilities><host><topology><cells num='1'><cell id='0'><cpus num='2'>"
        "<cpu id='0'/><cpu id='3'/></cpus></cell></cells></topology>"
        "<secmodel><model>apparmor</model></secmodel></host></capabilities>"
    )
    assert (found.cpus, found.nodes, found.models) == ({0, 3}, {0}, {"apparmor"})
    odd = capabilities(
        "<capabilities><host><topology><cells><cell id='x'/></cells></topology>"
        "</host></capabilities>"
    )
    assert odd.nodes == frozenset()


def test_secrets_are_named_as_libvirt_names_them():
    assert Secret("disk vda", "ceph", "", "client.admin").name == "usage ceph client.admin"
    assert Secret("TPM", "vtpm", SECRET).name == f"UUID {SECRET}"


def test_the_kinds_of_devices_are_compared_with_what_libvirt_tells_of_its_qemu():
    devices = (
        "<graphics type='spice'/><video><model type='qxl'/></video><serial type='pty'/>"
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
        "<channel type='unix'/><interface type='user'><backend type='passt'/></interface>"
    )
    found = read("<memoryBacking><source type='memfd'/></memoryBacking>", devices).kinds
    told = emulators.parse(
        "<domainCapabilities><memoryBacking supported='no'/><devices><tpm supported='yes'>"
        "<enum name='model'><value>tpm-crb</value></enum><enum name='backendModel'/></tpm>"
        "<graphics supported='yes'><enum name='type'><value>spice</value></enum></graphics>"
        "</devices></domainCapabilities>"
    )
    has = {name: frozenset(values) for name, values in told.items()}
    assert sorted(kind for kind in found if emulators.lacks(has, *kind)) == [
        ("memoryBacking", "sourceType", "memfd"),
        ("tpm", "backendModel", "emulator"),
    ]
    assert {kind.value for kind in found} >= {"spice", "qxl", "tpm-crb", "2.0", "passt"}
    assert emulators.parse("<domain/>") is emulators.parse("x") is None
