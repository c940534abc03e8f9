"""States known_hosts and ssh_config: what ssh makes of them, and what of the user's own stays."""

import contextlib
import os
import pathlib
import socketserver
import subprocess
import threading

import pytest
from sandbox import ETC_SSH, SSH, sh, signed, ssh, world

NAMES = ("alpha", "alpha.example.com", "beta", "Beta.example.com", "beta.example.com", "beta-mig")
CONFIG = SSH / "config"
OURS = SSH / "kvmcluster_config"
HOSTS = SSH / "kvmcluster_known_hosts"


def effective(name):
    """Return what ssh would do for a name, by option; options that repeat are lists."""
    found = {}
    for line in sh("ssh", "-G", name).splitlines():
        option, _, value = line.partition(" ")
        found.setdefault(option, []).append(value)
    return found


@pytest.fixture
def ready(member):
    """A member that lets itself in, so that only the client's side is open."""
    assert member.state("authorized_keys")["result"] is True
    return member


def test_every_host_key_is_pinned_under_every_name(member, filed):
    member.good("known_hosts")
    for name in NAMES:
        found = sh("ssh-keygen", "-F", name.lower(), "-f", HOSTS)
        for entry in filed["beta"]["host_keys"]:
            assert entry["key"] in found
    assert (HOSTS.stat().st_mode & 0o777, HOSTS.stat().st_uid) == (0o600, 0)


def test_every_name_is_dialled_with_our_key_and_pinned_host_keys(member):
    member.good("ssh_config")
    for name in NAMES:
        observed = effective(name)
        assert observed["identityfile"] == [str(SSH / "id_rsa_cluster")], name
        assert observed["user"] == ["root"] and observed["identitiesonly"] == ["yes"]
        assert observed["stricthostkeychecking"] == ["true"]
        assert observed["userknownhostsfile"] == [str(HOSTS)]
        assert observed["globalknownhostsfile"] == ["/dev/null"]
    assert effective("elsewhere.example")["stricthostkeychecking"] == ["ask"]


def test_a_host_key_that_is_not_pinned_is_not_accepted(ready, keys):
    ready.good("ssh_config")
    detail = ssh("beta", code=255)
    assert "Host key verification failed" in detail
    ready.good("known_hosts")
    assert ssh("beta") == "in\n"
    assert not (SSH / "known_hosts").exists()


def test_a_changed_host_key_is_replaced_in_words(member, filed, keys):
    member.good("known_hosts")
    other = " ".join((keys / "other.pub").read_text().split()[:2])
    entries = [e for e in filed["beta"]["host_keys"] if "ed25519" not in e["key"]]
    changed = {**filed["beta"], "host_keys": [*entries, {"key": other}]}
    member.publish("beta", signed(changed, keys / "beta"))
    done = member.good("known_hosts")
    assert any("beta" in line for line in done["changes"][HOSTS.name]["replaced"])
    assert other in sh("ssh-keygen", "-F", "beta", "-f", HOSTS)


def test_the_users_own_files_stay_byte_for_byte(member):
    config = b"# b\xfccher\r\nHost *\n  User some\tone\n\n\nHost odd\n  Port 99"
    known = b"|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA\nbeta ssh-rsa AAAA \xff\n@revoked * ssh-rsa B"
    CONFIG.write_bytes(config)
    CONFIG.chmod(0o640)
    (SSH / "known_hosts").write_bytes(known)
    (SSH / "known_hosts2").write_bytes(b"")
    before = world(SSH / "known_hosts", SSH / "known_hosts2")
    for state in ("known_hosts", "ssh_config"):
        member.good(state)
    assert CONFIG.read_bytes().endswith(b"# END kvmcluster\n" + config)
    assert CONFIG.stat().st_mode & 0o777 == 0o640
    assert world(SSH / "known_hosts", SSH / "known_hosts2") == before


def test_a_huge_config_is_no_trouble(member):
    line = b"Host h%d.example\n  Port 2222\n"
    text = b"".join(line % number for number in range(20000))
    CONFIG.write_bytes(text)
    member.good("ssh_config")
    assert CONFIG.read_bytes().endswith(text)


def test_other_hosts_are_dialled_as_before(member):
    """An option of ours that this ssh does not know would end it for every host."""
    CONFIG.write_text("IgnoreUnknown UseKeychain\nHost *\n  UseKeychain yes\n  Port 77\n")
    before = sh("ssh", "-G", "elsewhere.example")
    member.good("ssh_config")
    assert sh("ssh", "-G", "elsewhere.example") == before and "port 77\n" in before
    CONFIG.write_text("Host *\n  UseKeychain yes\n")
    assert "Bad configuration option: usekeychain" in sh("ssh", "-G", "elsewhere", code=255)


def test_the_users_star_block_does_not_win(ready):
    CONFIG.write_text(
        "Host *\n  User nobody\n  IdentityFile ~/.ssh/id_rsa\n  StrictHostKeyChecking no\n"
        "  UserKnownHostsFile /dev/null\n  IdentitiesOnly no\n  PubkeyAuthentication no\n"
        "  UpdateHostKeys yes\n  CheckHostIP yes\n  ControlMaster auto\n  ControlPath ~/.ssh/%h\n"
    )
    for state in ("known_hosts", "ssh_config"):
        ready.good(state)
    observed = effective("beta")
    assert (observed["user"], observed["identityfile"][0]) == (
        ["root"],
        str(SSH / "id_rsa_cluster"),
    )
    assert (observed["stricthostkeychecking"], observed["updatehostkeys"]) == (["true"], ["false"])
    assert ssh("beta") == "in\n"
    assert effective("elsewhere.example")["user"] == ["nobody"]


@pytest.mark.parametrize(
    "line",
    [
        "ProxyCommand /bin/false",
        "ProxyJump elsewhere.example",
    ],
)
def test_nodes_dial_each_other_directly_whatever_the_users_star_block_says(ready, line):
    CONFIG.write_text(f"Host *\n  {line}\n")
    for state in ("known_hosts", "ssh_config"):
        ready.good(state)
    assert sh("ssh", "-T", "-o", "BatchMode=yes", "beta", "true") == ""


# What a file of the user's own may hold, and what then came of a login that ran a command.
OWN_SETTINGS = (
    *("RemoteCommand tmux attach", "RequestTTY force", "RequestTTY yes", "SessionType none"),
    *("SessionType subsystem", "StdinNull yes", "ForkAfterAuthentication yes", "BatchMode no"),
    *("HostName elsewhere.example", "HostName 192.0.2.1", "HostKeyAlias elsewhere"),
    *("User nobody", "IdentitiesOnly no", "IdentityAgent /nowhere", "PubkeyAuthentication no"),
    *("PreferredAuthentications password", "StrictHostKeyChecking no", "UserKnownHostsFile /x"),
    *("GlobalKnownHostsFile /x", "KnownHostsCommand /bin/false", "VerifyHostKeyDNS yes"),
    *("ProxyCommand /bin/false", "ProxyJump elsewhere.example", "ProxyUseFdpass yes"),
    "ControlMaster auto\n  ControlPath /nowhere/%C\n  ControlPersist 60",
    "ControlMaster yes\n  ControlPath ~/.ssh/mux",
    "LocalForward 22 localhost:1\n  ExitOnForwardFailure yes",
    "RemoteForward 22 localhost:1\n  ExitOnForwardFailure yes",
    "DynamicForward 22\n  ExitOnForwardFailure yes",
    "Tunnel yes\n  ExitOnForwardFailure yes",
    "PermitLocalCommand yes\n  LocalCommand echo noise",
    "CanonicalizeHostname yes\n  CanonicalDomains elsewhere.example",
    *("LogLevel QUIET", "LogLevel DEBUG3", "VisualHostKey yes", "ConnectionAttempts 0"),
    *("ConnectTimeout 1", "ServerAliveInterval 1", "NoSuchOption yes", "ChannelTimeout *=1"),
    *("ForwardX11 yes", "ForwardAgent yes", "EscapeChar none", "UpdateHostKeys yes"),
)
LIBVIRTS = ("ssh", "-l", "root", "-T", "-o", "BatchMode=yes", "-e", "none", "--")
"""What libvirt's virNetSocketNewConnectSSH begins with for a URI with no_tty=1."""


def dialled(name="beta"):
    """Log in as libvirt does, with something to read; return all that came back."""
    line = [*LIBVIRTS, name, "sh -c 'cat; echo in'"]
    try:
        done = subprocess.run(line, input="out\n", capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "", "it does not end", None
    return done.stdout, done.stderr, done.returncode


def settled(member):
    """Apply our states; return the user's configuration, which is our block alone."""
    for state in ("known_hosts", "ssh_config"):
        assert member.state(state)["result"] is True
    return CONFIG.read_text()


def test_no_setting_of_the_users_or_the_systems_breaks_a_login(ready):
    ours = settled(ready)
    broken = {}
    for lines in OWN_SETTINGS:
        for path, before in ((CONFIG, ours), (ETC_SSH / "ssh_config", "")):
            path.write_text(f"{before}Host *\n  {lines}\n")
            answer = dialled("Beta.example.com" if before else "beta-mig")
            path.write_text(before)
            if answer != ("out\nin\n", "", 0):
                broken[lines, path] = answer
    assert broken == {}


@pytest.mark.parametrize(
    "text",
    [
        "Host beta beta-mig\n  HostName elsewhere.example\n",
        "Match final host *\n  RemoteCommand tmux\n  User nobody\n",
        "Match canonical all\n  HostName elsewhere.example\n",
        "CanonicalizeHostname always\nMatch final all\n  HostKeyAlias x\n  User a\n",
        "Match exec true\n  RemoteCommand tmux\n",
        "Match originalhost beta\n  ProxyJump elsewhere.example\n",
        "RemoteCommand tmux\nHost *\n  RequestTTY force\n",
        "Include other/*\n",
        "IgnoreUnknown Nothing\nNoSuchOption 1\n",
    ],
)
def test_no_rule_of_the_users_for_that_node_breaks_a_login(ready, text):
    (SSH / "other").mkdir()
    (SSH / "other" / "one").write_text("Host *\n  SessionType none\n  RemoteCommand tmux\n")
    CONFIG.write_text(text)
    settled(ready)
    assert dialled() == ("out\nin\n", "", 0)


def cell(member, name="beta"):
    """Return the login's cell in what ``kvmcluster.ssh_check`` returns as alpha."""
    cells = member.call("kvmcluster.ssh_check", timeout=2)["cells"]
    return next(cell for cell in cells if cell["name"] == name)


@pytest.mark.parametrize(
    ("lines", "cause", "blamed"),
    [
        ("Port 2222", "refused", "port is 2222"),
        ("BindAddress 127.9.9.9\n  Port 1", "refused", "port is 1"),
        ("BindAddress 192.0.2.1", "failed", "bindaddress is 192.0.2.1"),
        ("AddressFamily inet6", "no such name", "addressfamily is inet6"),
        ("Ciphers 3des-cbc", "no common algorithm", "ciphers is set"),
        ("MACs hmac-md5\n  Ciphers aes128-ctr", "no common algorithm", "macs is set"),
        ("KexAlgorithms diffie-hellman-group1-sha1", "no common algorithm", "kexalgorithms is"),
        ("HostKeyAlgorithms ssh-dss", "no common algorithm", "hostkeyalgorithms is set"),
        ("PubkeyAcceptedAlgorithms ssh-ed25519", "key not accepted", "pubkeyacceptedalgorithms"),
        ("RequiredRSASize 8192", "key not accepted", "requiredrsasize is 8192"),
        ("Ciphers nonsense", "bad configuration", "line 4"),
        ("Port none", "bad configuration", "line 4"),
    ],
)
def test_a_setting_that_is_left_to_the_user_is_named_with_its_file(ready, lines, cause, blamed):
    settled(ready)
    system = ETC_SSH / "ssh_config"
    system.write_text(f"# a note\nHost *\n  IPQoS none\n  {lines}\n")
    observed = cell(ready)
    assert observed["cause"] == cause, observed
    assert blamed in observed["detail"] and f"{system}" in observed["detail"], observed


def test_a_command_in_the_configuration_that_hangs_is_named(ready):
    settled(ready)
    CONFIG.write_text(f'{CONFIG.read_text()}\nMatch host beta exec "sleep 60"\n  Port 1\n')
    observed = cell(ready)
    assert observed["cause"] == "timed out"
    assert f"it runs a command: {CONFIG}, line 5" in observed["detail"], observed


def test_a_setting_above_our_block_is_named_with_its_file_and_mended_by_the_remedy(ready):
    settled(ready)
    CONFIG.write_text(f"Host *\n  RemoteCommand tmux\n  HostName x\n{CONFIG.read_text()}")
    found = config_issue(ready)
    assert "hostname is x, not beta" in found["sentence"]
    assert f"remotecommand is tmux, not none ({CONFIG}, line 2)" in found["sentence"]
    assert found["remedy"].startswith("apply the state kvmcluster.trust here")
    assert ready.state("ssh_config")["result"] is True
    assert config_issue(ready) is None and dialled()[0] == "out\nin\n"


def test_an_sshd_that_refuses_for_now_is_told_from_a_broken_one(ready):
    """What sshd of OpenSSH 9.8 and newer sends to an address with a penalty; see its sshd.c."""
    settled(ready)
    causes = []
    for greeting in (b"Not allowed at this time\r\n", b"Exceeded MaxStartups\r\n", b""):
        with answering(greeting) as port:
            (ETC_SSH / "ssh_config").write_text(f"Host beta\n  Port {port}\n")
            found = cell(ready)
            causes.append(found["cause"])
            assert found["cause"] != "refused for now" or "PerSourcePenalties" in found["remedy"]
            assert f"port is {port}" in found["detail"] or found["cause"] == "refused for now"
    assert causes == ["refused for now", "dropped", "dropped"]


@contextlib.contextmanager
def answering(greeting):
    """A listener on loopback that sends something and closes; yields its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(greeting)

    with socketserver.ThreadingTCPServer(("127.0.0.2", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def config_issue(member):
    """Return the first issue of the check ssh.config among alpha's own facts."""
    found = member.call("kvmcluster.facts", targets=False)["ssh"]["ssh.config"]
    return found[0] if found else None


def test_a_block_that_slid_down_is_put_first_again(ready):
    ready.good("ssh_config")
    ready.good("known_hosts")
    CONFIG.write_text(f"Host *\n  User nobody\n{CONFIG.read_text()}")
    assert effective("beta")["user"] == ["nobody"]
    ready.good("ssh_config")
    assert ssh("beta") == "in\n"
    assert CONFIG.read_text().count("Include") == 1


def test_a_config_in_a_folder_of_dotfiles_is_followed(member):
    dotfiles = SSH / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "ssh").write_text("Host x\n")
    CONFIG.symlink_to("dotfiles/ssh")
    member.good("ssh_config")
    assert CONFIG.is_symlink() and "Include" in (dotfiles / "ssh").read_text()
    assert effective("beta")["user"] == ["root"]


def test_a_link_to_somebody_elses_file_is_refused(member, outsider):
    theirs = f"/home/{outsider}/config"
    sh("runuser", "-u", outsider, "--", "sh", "-c", f"echo Host x > {theirs}")
    CONFIG.symlink_to(theirs)
    detail = member.bad("ssh_config")
    assert theirs in detail and pathlib.Path(theirs).read_text() == "Host x\n"
    assert not OURS.exists(), "nothing is written where not all can be"


@pytest.mark.parametrize("name", ["authorized_keys2", "kvmcluster_known_hosts", "config"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling link"])
def test_what_is_no_file_is_refused_without_waiting(member, name, kind):
    path = SSH / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    state = {"authorized_keys2": "authorized_keys", "config": "ssh_config"}.get(name, "known_hosts")
    assert str(path) in member.bad(state)


def test_an_ssh_folder_that_is_a_link_is_refused(member):
    SSH.rename("/root/elsewhere")
    SSH.symlink_to("elsewhere")
    try:
        for state in ("key_present", "authorized_keys", "known_hosts", "ssh_config"):
            assert "/root/.ssh" in member.bad(state)
    finally:
        SSH.unlink()
        sh("rm", "-r", "/root/elsewhere")
