"""What libvirt's answers mean, and what one guest that does not answer hides: nothing else."""

import queue
import re
import threading
from types import SimpleNamespace

import pytest

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.events import transitions
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.verdicts import BOOT, ENDLESS, INCOMING, OUTGOING, Sighting
from saltext_kvmcluster.host import (
    hypervisor,
    libvirt_connection,
    libvirt_cpu,
    libvirt_domains,
    libvirt_events,
)

libvirt = pytest.importorskip("libvirt")
RUNNING, OFF = [libvirt.VIR_DOMAIN_RUNNING, 1], [libvirt.VIR_DOMAIN_SHUTOFF, 1]
STARTING = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP]


class Failure(libvirt.libvirtError):
    """An error of libvirt's with a code of its own."""

    def __init__(self, code):
        super().__init__("libvirt's words")
        self.code = code

    def get_error_code(self):
        return self.code

    def get_error_message(self):
        return "libvirt's words"


class Domain:
    """A guest as libvirt's Python module shows it."""

    def __init__(self, name, state, job=libvirt.VIR_DOMAIN_JOB_NONE, saved=0):
        self.found, self.reported, self.job, self.saved = name, state, job, saved
        self.connection = None

    def name(self):
        return self.found

    def UUIDString(self):
        return f"uuid of {self.found}"

    def ID(self):
        return 1

    def state(self):
        return self.reported

    def isPersistent(self):
        return 1

    def autostart(self):
        return 0

    def hasManagedSaveImage(self):
        return self.saved

    def snapshotNum(self):
        return 0

    def XMLDesc(self, flags=0):
        return "<domain/>"

    def connect(self):
        return self.connection

    def jobStats(self):
        if callable(self.job):
            self.job()
        if self.job in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_OPERATION_TIMEOUT):
            raise Failure(self.job)
        return {"type": self.job, "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT}


@pytest.mark.parametrize(
    ("state", "job", "detail"),
    [
        (RUNNING, libvirt.VIR_DOMAIN_JOB_NONE, ""),
        (RUNNING, libvirt.VIR_ERR_OPERATION_INVALID, INCOMING),
        (OFF, libvirt.VIR_ERR_OPERATION_INVALID, ""),
        (OFF, libvirt.VIR_ERR_OPERATION_TIMEOUT, ENDLESS),
        (STARTING, libvirt.VIR_DOMAIN_JOB_NONE, BOOT),
    ],
)
def test_a_job_that_keeps_libvirt_busy_counts_whatever_the_state(state, job, detail):
    assert libvirt_domains.observe(lambda: Domain("web1", state, job)).job == detail


@pytest.mark.parametrize(
    ("state", "job", "persistent", "sighting"),
    [
        (OFF, libvirt.VIR_ERR_OPERATION_INVALID, 0, Sighting.ABSENT),
        (OFF, libvirt.VIR_ERR_OPERATION_INVALID, 1, Sighting.SHUT_OFF),
        (OFF, libvirt.VIR_ERR_OPERATION_TIMEOUT, 0, Sighting.SHUT_OFF),
        (RUNNING, libvirt.VIR_DOMAIN_JOB_NONE, 0, Sighting.RUNNING),
    ],
)
def test_what_is_neither_active_nor_defined_is_absent(state, job, persistent, sighting):
    domain = Domain("web1", state, job)
    domain.isPersistent = lambda: persistent
    assert libvirt_domains.observe(lambda: domain).sighting is sighting


def test_a_left_over_domain_is_no_guest_and_one_that_starts_is(monkeypatch):
    left, starts = Domain("left", OFF), Domain("starts", RUNNING)
    connected(monkeypatch, left, starts, Domain("defined", OFF), leftovers=(left, starts))
    names = [guest["name"] for guest in hypervisor.Hypervisor().guests(lambda *_: False)]
    assert names == ["starts", "defined"]


def test_a_saved_state_is_seen():
    assert libvirt_domains.observe(lambda: Domain("web1", OFF, saved=1)).saved
    assert not libvirt_domains.observe(lambda: Domain("web1", OFF)).saved


def connected(monkeypatch, *domains, alive=True, leftovers=()):
    """Let all connections lead to a daemon with these guests.

    leftovers
        Those of them that were neither active nor defined when they were listed.
    """
    left = libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE | libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT

    def opened(uri):
        def version():
            if not alive:
                raise Failure(libvirt.VIR_ERR_RPC)
            return 9000000

        named = {domain.UUIDString(): domain for domain in domains}
        connection = SimpleNamespace(
            listAllDomains=lambda flags: list(leftovers) if flags == left else [],
            getLibVersion=version,
            lookupByUUIDString=named.get,
            close=lambda: None,
        )

        def stats(groups, flags):
            for domain in domains:
                domain.connection = connection
            return [(domain, {"state.state": domain.reported[0]}) for domain in domains]

        connection.getAllDomainStats = stats
        return connection

    monkeypatch.setattr(libvirt, "open", opened)
    monkeypatch.setattr(libvirt_connection, "TIME_LIMIT", 0.2)


def test_a_guest_that_does_not_answer_hides_no_other(monkeypatch):
    released = threading.Event()
    hung = Domain("hung", RUNNING, lambda: released.wait(30))
    connected(monkeypatch, hung, Domain("web1", RUNNING))
    first, second = hypervisor.Hypervisor().guests()
    released.set()
    assert (first["name"], first["sighting"]) == ("hung", Sighting.RUNNING.value)
    assert "no response from" in first["error"] and first["job"] == ENDLESS
    assert (second["name"], second["xml"]) == ("web1", "<domain/>")


@pytest.mark.parametrize(
    ("code", "known"),
    [
        (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, True),
        (libvirt.VIR_ERR_XML_ERROR, True),
        (libvirt.VIR_ERR_NO_SUPPORT, False),
        (libvirt.VIR_ERR_ACCESS_DENIED, False),
    ],
)
def test_only_what_a_daemon_says_of_a_definition_speaks_against_it(code, known):
    def refuse(kind, text):
        raise Failure(code)

    why = libvirt_cpu.definition_issue(SimpleNamespace(domainXMLToNative=refuse), "<domain/>")
    assert ("libvirt's words" in why) == known


def test_a_daemon_that_does_not_answer_is_no_guests_trouble(monkeypatch):
    def fail():
        raise Failure(libvirt.VIR_ERR_RPC)

    connected(monkeypatch, Domain("web1", RUNNING, fail), alive=False)
    with pytest.raises(WorldError, match="libvirt's words"):
        hypervisor.Hypervisor().guests()


def test_who_leaves_is_told_whatever_becomes_of_the_others(monkeypatch):
    broken = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED]
    leaving = libvirt.VIR_DOMAIN_JOB_UNBOUNDED
    connected(
        monkeypatch,
        Domain("hangs", RUNNING, libvirt.VIR_ERR_OPERATION_TIMEOUT),
        Domain("broke", broken, leaving),
        Domain("leaves", RUNNING, leaving),
        Domain("stays", RUNNING),
    )
    assert hypervisor.Hypervisor().moving(OUTGOING) == {"uuid of leaves": "leaves"}


def failure_of(way):
    return hypervisor.Hypervisor().migrate("uuid of web1", way).exception(5)


def test_a_libvirt_that_is_too_old_for_an_option_is_named_with_it(monkeypatch):
    connected(monkeypatch, Domain("web1", RUNNING))
    reported = Plan(("LIVE", "OF_TOMORROW"), "qemu+ssh://node2/system", {})
    detail = str(failure_of(reported))
    version = re.search(r"libvirt (\d+)\.(\d+)\.(\d+)", detail)
    major, minor, patch = map(int, version.groups())
    assert major * 1_000_000 + minor * 1000 + patch == libvirt.getVersion()
    assert "has no VIR_MIGRATE_OF_TOMORROW;" in detail
    reported = Plan((), "qemu+ssh://node2/system", {"OF_TOMORROW": 1})
    assert "has no VIR_MIGRATE_PARAM_OF_TOMORROW;" in str(failure_of(reported))


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("End of file while reading data: : Input/output error", "may hide the actual cause"),
        ('internal error: cont: Failed to get "write" lock', "handover=strict waits for"),
        ('internal error: cont: Failed to get shared "write" lock', "handover=strict waits for"),
        ("no such file", ""),
    ],
)
def test_an_error_that_does_not_say_its_cause_is_explained(monkeypatch, words, more):
    def migrate(uri, parameters, flags):
        raise type("Lost", (Failure,), {"get_error_message": lambda self: words})(0)

    domain = Domain("web1", RUNNING)
    domain.migrateToURI3 = migrate
    connected(monkeypatch, domain)
    detail = str(failure_of(Plan(("LIVE",), "qemu+ssh://node2/system", {})))
    assert detail.startswith(words) and more in detail and bool(more) == (detail != words)


SAID = {
    "STARTED": {"BOOTED": "booted", "MIGRATED": "migrated", "RESTORED": "restored"},
    "SUSPENDED": {"PAUSED": "by its user", "IOERROR": "I/O error", "POSTCOPY": "post-copy"},
    "RESUMED": {"UNPAUSED": "unpaused", "MIGRATED": "migrated", "POSTCOPY": "post-copy"},
    "STOPPED": {
        "SHUTDOWN": "shut down",
        "DESTROYED": "destroyed",
        "CRASHED": "crashed",
        "MIGRATED": "migrated",
        "SAVED": "saved",
        "FAILED": "failed",
    },
    "CRASHED": {"PANICKED": "panicked"},
}


@pytest.mark.parametrize("event", SAID)
def test_the_words_for_what_libvirt_tells_stand_at_its_numbers(event):
    _, details = libvirt_events.CHANGES[getattr(libvirt, f"VIR_DOMAIN_EVENT_{event}")]
    for name, words in SAID[event].items():
        assert details[getattr(libvirt, f"VIR_DOMAIN_EVENT_{event}_{name}")] == words


def test_the_words_by_which_a_listing_is_compared_are_those_of_libvirts_reasons():
    reasons = {word for words in libvirt_domains.REASONS.values() for word in words}
    details = {word for _, words in libvirt_events.CHANGES.values() for word in words}
    used = {*transitions._ENDS, *transitions._BEGINNINGS}
    assert used <= details and used <= reasons
    assert {transitions.IO_ERROR, transitions.BY_USER, transitions.MIGRATION} <= reasons
    ours = {transitions.HANDOVER, transitions.MIGRATING}
    assert {*transitions._ON_THE_WAY, *transitions._STANDING} - ours <= reasons
    assert transitions.IO_ERROR in details and transitions.PANICKED in details


PAUSED = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION]
STOPS = {"kind": transitions.CHANGE, "what": transitions.PAUSED}


@pytest.fixture
def reports(monkeypatch):
    """Reports of guests with short waits between two looks, and what they notified."""
    monkeypatch.setattr(libvirt_events, "JOB_INTERVAL", 0.02)
    told = queue.SimpleQueue()
    made = libvirt_events._Reports(told.put)
    yield made, told
    made.close()


def pauses(domain):
    return lambda: {**STOPS, **libvirt_events._named(domain), "how": transitions.MIGRATING}


def test_a_guest_that_its_migrations_job_left_paused_is_reported_once_the_job_is_over(reports):
    made, told = reports
    domain = Domain("web1", PAUSED, job=libvirt.VIR_DOMAIN_JOB_UNBOUNDED)
    made.put(domain, pauses(domain))
    assert told.get(timeout=5)["how"] == transitions.MIGRATING
    with pytest.raises(queue.Empty):
        told.get(timeout=0.2)
    domain.job = libvirt.VIR_DOMAIN_JOB_NONE
    assert told.get(timeout=5)["how"] == transitions.MIGRATION
    with pytest.raises(queue.Empty):
        told.get(timeout=0.2)


def test_a_guest_that_arrives_is_not_taken_for_one_that_was_left_paused(reports):
    made, told = reports
    domain = Domain("web1", PAUSED, job=libvirt.VIR_ERR_OPERATION_INVALID)
    made.follow(domain, pauses(domain)())
    with pytest.raises(queue.Empty):
        told.get(timeout=0.2)


def test_a_guest_that_was_resumed_after_its_job_is_not_reported(reports):
    made, told = reports
    domain = Domain("web1", RUNNING)
    made.follow(domain, pauses(domain)())
    with pytest.raises(queue.Empty):
        told.get(timeout=0.2)


class DriverError(libvirt.libvirtError):
    """An error of libvirt as its network driver has it."""

    def __init__(self, code):
        super().__init__("no such driver")
        self.err = (code, libvirt.VIR_FROM_NETWORK, "no such driver", 2, None, None, None, 0, 0)


def test_a_daemon_without_a_network_driver_is_no_dead_one(monkeypatch):
    raised = [libvirt.VIR_ERR_NO_SUPPORT]

    def networks(flags):
        raise DriverError(raised[0])

    ceph = SimpleNamespace(
        UUIDString=lambda: "uuid", usageType=lambda: 2, usageID=lambda: "client.admin"
    )
    connection = SimpleNamespace(
        getCapabilities=lambda: "<capabilities/>",
        listAllNetworks=networks,
        listAllNWFilters=lambda: [SimpleNamespace(name=lambda: "clean-traffic")],
        listAllSecrets=lambda flags=0: [] if flags else [ceph],
        getVersion=lambda: 7002000,
        getLibVersion=lambda: 9000000,
        close=lambda: None,
    )
    monkeypatch.setattr(libvirt, "open", lambda uri: connection)
    known = {"capabilities": "<capabilities/>", "qemu": 7002000, "libvirt": 9000000}
    secret = {"uuid": "uuid", "kind": "ceph", "usage": "client.admin", "ephemeral": False}
    rest = {**known, "filters": ["clean-traffic"], "secrets": [secret]}
    lacking = {"networks": [], "drivers": {"networks": "no such driver"}}
    assert hypervisor.Hypervisor().daemon() == {**rest, **lacking}
    raised[0] = libvirt.VIR_ERR_SYSTEM_ERROR
    failing = {"drivers": {"networks": "qemu:///system: no such driver"}}
    assert hypervisor.Hypervisor().daemon() == {**rest, **failing}


def test_an_emulator_counts_by_the_daemon_that_is_asked(monkeypatch):
    known, asked = ["<emulator>/old</emulator>"], []
    connection = SimpleNamespace(
        getCapabilities=lambda: known[0],
        listAllNetworks=lambda flags: [],
        listAllSecrets=lambda flags=0: [],
        listAllNWFilters=list,
        getVersion=lambda: 0,
        getLibVersion=lambda: 9000000,
        compareHypervisorCPU=lambda emulator, *others: asked.append(emulator),
        close=lambda: None,
    )
    monkeypatch.setattr(libvirt, "open", lambda uri: connection)
    cpu = {"cpu": "<model/>", "emulator": "/old", "arch": "", "machine": "", "type": ""}
    own = hypervisor.Hypervisor()
    own.daemon()
    own.cpu_issue(cpu)
    known[0] = "<emulator>/new</emulator>"
    own.close()
    own.cpu_issue(cpu)
    assert asked == ["/old", None]
