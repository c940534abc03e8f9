"""Every option reaches libvirt and QEMU: seen while a migration runs, on both ends of it."""

import contextlib
import pathlib
import re
import subprocess
import time

import pytest
from labs import Call, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUEST = "opted"
MIB = 1024 * 1024
# MiB/s at which a migration lasts long enough to be looked at.
SLOW = 6
CERTIFICATES = "/etc/pki/qemu"
FIRST_BYTES = """
import socket
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
wire.settimeout(90)
print("listening", flush=True)
while True:
    packet = wire.recv(65535)
    if packet[9] != 6:
        continue
    segment = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
    said = segment[(segment[12] >> 4) * 4 :]
    if said and 49152 <= int.from_bytes(segment[2:4], "big") < 49216:
        print(said[:4].hex())
        break
"""
PLAIN, TLS_HANDSHAKE = "5145564d", "1603"


@pytest.fixture(scope="module")
def guests(prepared_lab):
    prepared_lab.guest(GUEST, "node1")
    yield prepared_lab
    prepared_lab.stop_guest(GUEST)


@pytest.fixture
def lab(guests):
    """The lab with the guest; whatever a test did, it runs once at its end, nothing lost."""
    yield guests
    assert len(running(guests)) == 1
    guests.assert_whole(GUEST)


def running(lab):
    return [
        node
        for node in lab.nodes
        if GUEST in lab.exec(node, "virsh", "list", "--name", "--state-running").split()
    ]


@contextlib.contextmanager
def pillar_says(lab, node, **section):
    """Let the pillar of a node say how to migrate."""
    try:
        with lab.pillar() as pillar:
            pillar.cluster["migration"] = section
            pillar.save()
            lab.salt(node, "saltutil.refresh_pillar", "wait=true")
            yield
    finally:
        lab.salt(node, "saltutil.refresh_pillar", "wait=true")


class Underway:
    """A migration that is slow enough to be looked at, and quick once that was done."""

    def __init__(self, lab, *options):
        self.lab, self.options = lab, options
        (self.source,) = running(lab)
        self.destination = next(node for node in lab.nodes if node != self.source)

    def __enter__(self):
        self.virsh("migrate-setspeed", GUEST, str(SLOW))
        words = ("kvmcluster.migrate", GUEST, self.destination, *self.options)
        self.call = Call(self.lab.salt, self.source, *words)
        try:
            until(self.sent, "a migration under way", pause=0.1, ended=self.call.ended)
        except AssertionError:
            self.hurry()
            raise
        return self

    def sent(self):
        self.job = self.virsh("domjobinfo", GUEST, check=False)
        return re.search(r"Memory processed: +[1-9]", self.job)

    def __exit__(self, *failed):
        self.hurry()
        if not any(failed):
            self.answer = self.call.end()
            assert self.answer["result"] == "moved", self.answer

    def hurry(self):
        """Let it end, and let the guest's next migrations be as quick as they can."""
        self.virsh("migrate-setspeed", GUEST, "10000", check=False)
        self.call.join(150)
        for node in running(self.lab):
            self.lab.exec(node, "virsh", "migrate-setspeed", GUEST, "10000")

    def virsh(self, *arguments, **more):
        return self.lab.exec(self.source, "virsh", *arguments, **more)

    def monitor(self, question):
        """Return what QEMU itself says, as it says it."""
        detail = self.virsh("qemu-monitor-command", GUEST, "--hmp", f"info {question}")
        return dict(line.split(": ", 1) for line in detail.splitlines() if ": " in line)

    def state(self):
        return self.virsh("domstate", "--reason", GUEST).strip()

    def able(self, capability):
        return self.monitor("migrate_capabilities")[capability] == "on"

    def downtime(self):
        return int(self.virsh("migrate-getmaxdowntime", GUEST))

    def connections(self):
        """Return how many connections carry memory to the destination's migration ports."""
        shown = self.lab.exec(self.source, "ss", "-Htnp", "state", "established")
        return len(re.findall(r":49(?:1[5-9]|2[01])\d .*qemu", shown))


def test_what_one_connection_may_have(lab):
    """QEMU's own downtime is 300 ms."""
    wanted = ("bandwidth=5", "downtime=120", "auto_converge=true", "compression=xbzrle")
    with Underway(lab, *wanted) as observed:
        assert observed.monitor("migrate_parameters")["max-bandwidth"] == f"{5 * MIB} bytes/second"
        assert observed.able("auto-converge")
        assert observed.able("xbzrle")
        assert "Compression cache" in observed.job
        assert observed.connections() == 1
        downtime = observed.downtime()
        if downtime == 300:
            until(lambda: observed.downtime() != 300, "the first downtime", seconds=20)
            downtime = observed.downtime()
        assert 0 < downtime <= 120


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compression_of_parallel_connections(lab, kind):
    """libvirt can since 9.4; before, nothing is begun, and the check says so."""
    (source,) = running(lab)
    version = re.search(
        r"against library: libvirt (\d+)\.(\d+)", lab.exec(source, "virsh", "version")
    )
    if tuple(map(int, version.groups())) >= (9, 4):
        with Underway(lab, "parallel=2", f"compression={kind}") as observed:
            assert observed.monitor("migrate_parameters")["multifd-compression"] == kind
        return
    destination = next(node for node in lab.nodes if node != source)
    answer = lab.salt(
        source, "kvmcluster.migrate", GUEST, destination, "parallel=2", f"compression={kind}"
    )
    assert f"compression is {kind}, which takes libvirt 9.4" in answer


def test_post_copy(lab):
    with Underway(lab, "post_copy=true", "force_post_copy=true", "bandwidth=5") as observed:
        assert observed.able("postcopy-ram")
        shown = observed.monitor("migrate_parameters")
        assert int(shown["max-postcopy-bandwidth"].split()[0]) == 5 * MIB


def test_tunnelled(lab):
    with Underway(lab, "tunnelled=true") as observed:
        assert observed.connections() == 0
        ports = lab.exec(observed.destination, "ss", "-Htlnp")
        assert not re.search(r":49(?:1[5-9]|2[01])\d .*qemu", ports), ports


def test_not_live(lab):
    """It stands still while its memory is copied, and goes on afterwards."""
    with Underway(lab, "live=false") as observed:
        assert observed.state() == "paused (migrating)"
        time.sleep(1)
        assert observed.state() == "paused (migrating)"
    # It stood for that second at least.
    assert observed.answer["downtime_ms"] > 1000
    before = lab.record(GUEST)["last"]
    until(lambda: lab.record(GUEST)["last"] > before, "the guest goes on", pause=0.3)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("stranger"))


def certificates(folder):
    """Make a certificate authority, and a certificate of each node by its migration name."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab"),
        *("-addext", "keyUsage=critical,keyCertSign", "-keyout", "ca-key.pem"),
        *("-out", "ca-cert.pem"),
    )
    for node in ("node1", "node2", "node3"):
        (folder / "extensions").write_text(
            f"subjectAltName=DNS:{node}-mig\nextendedKeyUsage=serverAuth,clientAuth\n"
            "keyUsage=critical,digitalSignature,keyEncipherment\n"
        )
        openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={node}-mig"),
            *("-keyout", f"{node}-key.pem", "-out", f"{node}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", f"{node}.csr", "-CA", "ca-cert.pem", "-days", "2"),
            *("-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "extensions"),
            *("-out", f"{node}-cert.pem"),
        )
    return folder


@pytest.fixture
def certified(lab, authority):
    for node in lab.nodes:
        lab.exec(node, "mkdir", "-p", CERTIFICATES)
        lab.write(node, f"{CERTIFICATES}/ca-cert.pem", (authority / "ca-cert.pem").read_text())
        for part in ("key", "cert"):
            text = (authority / f"{node}-{part}.pem").read_text()
            for end in ("server", "client"):
                lab.write(node, f"{CERTIFICATES}/{end}-{part}.pem", text)
    yield lab
    for node in lab.nodes:
        lab.exec(node, "rm", "-r", CERTIFICATES)


@contextlib.contextmanager
def tapped(lab, node):
    """Yield a list that holds afterwards what the memory that a node got began with, in hex."""
    heard = []
    listener = subprocess.Popen(
        [ROOT / "lab" / "ctl", "exec", node, "--", "python3", "-c", FIRST_BYTES],
        env=lab.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listener.stdout.readline().strip() == "listening"
    try:
        yield heard
    finally:
        heard.append(listener.communicate(timeout=120)[0].strip())


def test_nothing_is_switched_on_unasked_and_memory_is_plain(lab):
    under = Underway(lab, "auto_converge=false")
    with tapped(lab, under.destination) as heard, under:
        able = under.monitor("migrate_capabilities")
        names = ("multifd", "xbzrle", "postcopy-ram", "auto-converge")
        assert {name: able[name] for name in names} == dict.fromkeys(names, "off")
        assert under.monitor("migrate_parameters")["tls-creds"] == "''"
    assert heard == [PLAIN]


@pytest.mark.parametrize("connections", [1, 4])
def test_tls(certified, connections):
    """Parallel: three for memory beside the one that migrations always have."""
    parallel = [f"parallel={connections - 1}"] if connections > 1 else []
    under = Underway(certified, "tls=true", *parallel)
    with tapped(certified, under.destination) as heard, under:
        shown = under.monitor("migrate_parameters")
        assert "tls" in shown["tls-creds"]
        assert under.able("multifd") is (connections > 1)
        if parallel:
            assert shown["multifd-channels"] == "3"
        assert under.connections() == connections
    assert heard[0].startswith(TLS_HANDSHAKE), heard


@pytest.mark.parametrize("side", ["source", "destination"])
def test_tls_without_certificates_begins_nothing(certified, side):
    (source,) = running(certified)
    destination = next(node for node in certified.nodes if node != source)
    bare = {"source": source, "destination": destination}[side]
    certified.exec(bare, "rm", f"{CERTIFICATES}/ca-cert.pem")
    answer = certified.salt(source, "kvmcluster.migrate", GUEST, destination, "tls=true")
    assert f"ca-cert.pem missing in {CERTIFICATES} on the {side}" in answer
    assert running(certified) == [source]


def test_tls_with_certificates_of_two_authorities_moves_nothing(certified, stranger):
    (source,) = running(certified)
    destination = next(node for node in certified.nodes if node != source)
    for part in ("key", "cert"):
        text = (stranger / f"{destination}-{part}.pem").read_text()
        certified.write(destination, f"{CERTIFICATES}/server-{part}.pem", text)
    text = (stranger / "ca-cert.pem").read_text()
    certified.write(destination, f"{CERTIFICATES}/ca-cert.pem", text)
    answer = certified.salt(source, "kvmcluster.migrate", GUEST, destination, "tls=true")
    assert (answer["result"], answer["owner"]) == ("not_moved", source), answer
    assert running(certified) == [source]


def test_the_pillar_s_word_reaches_libvirt(lab):
    (source,) = running(lab)
    section = {"bandwidth": 5, "auto_converge": True, "parallel": 2}
    with pillar_says(lab, source, **section), Underway(lab) as observed:
        shown = observed.monitor("migrate_parameters")
        assert shown["max-bandwidth"] == f"{5 * MIB} bytes/second"
        assert shown["multifd-channels"] == "2"
        assert observed.able("auto-converge")


def test_what_does_not_go_together_is_refused_by_name(lab):
    (source,) = running(lab)
    destination = next(node for node in lab.nodes if node != source)
    wanted = ("tunnelled=true", "parallel=2")
    answer = lab.salt(source, "kvmcluster.migrate", GUEST, destination, *wanted)
    assert "tunnelled, parallel: " in answer and "Traceback" not in answer
