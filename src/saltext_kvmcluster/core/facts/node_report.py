"""A node's report of its facts, parsed: what a node sends is hostile until it was parsed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from saltext_kvmcluster.core import cordons
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts import deeds, offers, parsers, starters
from saltext_kvmcluster.core.facts.nodefacts import (
    Daemon,
    GuestFacts,
    HeldSecret,
    Inspection,
    LoginResults,
    NodeFacts,
    silent,
)
from saltext_kvmcluster.core.facts.parsers import NOTHING, CommandOutput
from saltext_kvmcluster.core.facts.questions import is_path
from saltext_kvmcluster.core.findings import PROBLEM, UNKNOWN, Issue
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.migration.migration import Run
from saltext_kvmcluster.core.pacemaker import corosync, pacemaker_facts
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import AGENT
from saltext_kvmcluster.core.storage import inventory
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.core.untrusted import MAX_LINE, Reader
from saltext_kvmcluster.core.verdicts import Observation, Sighting

NO_RETURN = "Minion did not return"
BY_SALT = re.compile(r"\AERROR( executing '[^']*')?: ")
"""What Salt puts before the text of an error."""
MAX_FOLDERS = 1000
MOST_TOKENS = 16
LONGEST_UPTIME = 100 * 366 * 86400.0
TOKEN = re.compile(r"[0-9a-f]{32}( \d{1,12})?\Z", re.ASCII)
KINDS = ("file", "block", "directory", "other", "nothing")
_SIGHTINGS = tuple(sighting.value for sighting in Sighting)
_NO_DAEMON = {"detail": "its report lacks the libvirt daemon"}


def parse(node: str, sent: object, asked: float, answered: float) -> NodeFacts:
    """Return the facts that a node reported, or those of an unreachable node if they are invalid.

    asked, answered
        When the node was asked and when it responded, in seconds by the asking node's clock.
    """
    if not isinstance(sent, Mapping):
        return silent(node, *_no_facts(sent))
    try:
        return _parsed(node, Reader(sent), asked, answered)
    except InputError as error:
        return silent(node, f"invalid facts: {error}", answered=True)


def of_node(answers: Mapping[str, object], node: str) -> dict[str, object]:
    """Return by peer what it reported of a node that it was to ask; its error if it has none."""
    found = {}
    for peer, answer in answers.items():
        nodes = answer.get("nodes") if isinstance(answer, Mapping) else None
        found[peer] = nodes.get(node) if isinstance(nodes, Mapping) else answer
    return found


def by_peers(
    facts: NodeFacts, answers: Mapping[str, object], asked: float, answered: float
) -> NodeFacts:
    """Return the facts of a node without any, as peers collected them over ssh.

    answers
        By peer, what it reported of the node: facts, or an error.
    asked, answered
        As of ``parse``.
    """
    found = {peer: parse(facts.node, sent, asked, answered) for peer, sent in answers.items()}
    there = sorted((one.guests is None, peer) for peer, one in found.items() if not one.detail)
    if not there:
        tried = "; ".join(f"from {peer}: {one.detail}" for peer, one in found.items())
        return replace(facts, detail="; ".join(filter(None, (facts.detail, tried))))
    peer = there[0][1]
    process = "" if facts.answered else found[peer].minion_process
    why = "; ".join(filter(None, (facts.detail, process)))
    return replace(found[peer], by_peer=True, asker=peer, minion=why, answered=facts.answered)


def answered(facts: NodeFacts, answer: object) -> NodeFacts:
    """Return facts with the node's answers to its question; invalid answers are left out."""
    reply = Reader(answer, lenient=True)
    observed, links = {}, {}
    for path, reported in reply.at("paths").fields(optional=True).items():
        kind = reported.at("kind").choice(KINDS, default=None)
        real = reported.at("real").text(default=path)
        if kind:
            observed[path] = Inspection(kind)
        if kind and real != path:
            links[path] = real
    found_tokens = {
        (folder, writer): tokens(token.value)
        for folder, read in reply.at("tokens").fields(optional=True).items()
        for writer, token in read.fields(optional=True).items()
    }
    names = {
        name: tuple(address.line(default="") for address in found.items(optional=True))
        for name, found in reply.at("names").fields(optional=True).items()
    }
    daemon = facts.daemon
    if daemon:
        cpus = {
            cpu: why.line()
            for cpu, why in reply.at("cpus").fields(optional=True).items()
            if isinstance(why.value, str)
        }
        emulators = {key: _enums(one) for key, one in reply.at("emulators").fields(True).items()}
        daemon = replace(daemon, cpus={**daemon.cpus, **cpus}, emulators=emulators)
    found = facts.storage
    if found and links:
        found = replace(found, links={**found.links, **links})
    return replace(
        facts, daemon=daemon, storage=found, observed=observed, tokens=found_tokens, names=names
    )


def _enums(sent: Reader) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(value.line(default="") for value in values.items(optional=True))
        for name, values in sent.fields(optional=True).items()
    }


def tokens(value: object) -> tuple[str, ...]:
    """Return the tokens in a text that was read on shared storage, one a line."""
    lines = value.splitlines() if isinstance(value, str) else ()
    return tuple(filter(is_token, lines[-MOST_TOKENS:]))


def is_token(value: object) -> bool:
    """Whether a value is a token, as nodes write them into shared folders."""
    return isinstance(value, str) and bool(TOKEN.match(value))


def _parsed(node: str, sent: Reader, asked: float, answered: float) -> NodeFacts:
    outputs = _outputs(sent)

    def output(name: str) -> CommandOutput:
        return outputs.get(name, NOTHING)

    reported = sent.at("daemon")
    if reported.value is None:
        reported = Reader(_NO_DAEMON)
    daemon = None if reported.has("detail") else _daemon(reported, output)
    clock, memory = parsers.number(output("clock")), parsers.memory(output("memory"))
    started = parsers.started(output("started"))
    guests, resources = sent.at("guests"), offers.resources(output)
    return NodeFacts(
        node,
        daemon=daemon,
        daemon_detail=reported.at("detail").line(default=""),
        guests=None
        if guests.value is None
        else tuple(_guest(node, guest, started, clock) for guest in guests.items()),
        clock=None if clock is None else clock - (asked + answered) / 2,
        clock_error=max(0.0, (answered - asked) / 2),
        cordoned=parsers.cordoned(output("cordoned")),
        memory_kib=memory[0] if memory else None,
        free_kib=memory[1] if memory else None,
        host_name=parsers.word(output("host_name")),
        resolves=parsers.addresses(output("resolves")),
        bridges=parsers.links(output("bridges")),
        starters=starters.parse(output, parsers.settings(output("settings"))),
        listening=offers.listening(resources.sockets),
        resources=resources,
        storage=inventory.parse({key: (one.code, one.out) for key, one in outputs.items()}),
        ssh={
            check: tuple(_issue(issue) for issue in issues.items())
            for check, issues in sent.at("ssh").fields(optional=True).items()
        },
        peers={
            peer: _logins(found) for peer, found in sent.at("peers").fields(optional=True).items()
        },
        written=_written(sent.at("written")),
        write_errors=_lines(sent.at("write_errors")),
        definitions={
            guest: text.text()
            for guest, text in sent.at("definitions").fields(optional=True).items()
        },
        definition_notes=_lines(sent.at("definition_notes")),
        pacemaker=pacemaker_facts.parse(outputs),
        corosync=corosync.parse(outputs),
        state_starts=frozenset(
            name.text() for name in sent.at("state_starts").items(optional=True)
        ),
        state_detail=sent.at("state_detail").line(default=""),
        agent=parsers.is_there(output(AGENT)),
        # A path may be long, and what is to be done about it comes last.
        journal=tuple(
            one.line(most=4 * MAX_LINE) for one in sent.at("journal").items(optional=True)
        ),
        minion_process=parsers.minion(outputs["minion"]) if "minion" in outputs else "",
        pillar=_lines(sent.at("pillar")),
        shutdowns={
            guest: since
            for guest, since in _lines(sent.at("shutdowns")).items()
            if cordons.is_time(since)
        },
        logged={
            guest: time.number() for guest, time in sent.at("logged").fields(optional=True).items()
        }
        if sent.has("logged")
        else None,
        key_age=sent.at("key_age").number(default=None),
        key_replaced=sent.at("key_replaced").line(default=""),
        deeds=deeds.parse(sent.at("deeds")),
    )


def _outputs(sent: Reader) -> dict[str, CommandOutput]:
    return {
        name: CommandOutput(
            sent_output.at("code").whole(default=None),
            sent_output.at("out").text(default=""),
            _line(sent_output.at("detail").text(default="").strip()),
        )
        for name, sent_output in sent.at("commands").fields(optional=True).items()
    }


def _lines(sent: Reader) -> dict[str, str]:
    return {key: value.line() for key, value in sent.fields(optional=True).items()}


def _written(sent: Reader) -> dict[str, str]:
    """Return the tokens that a node wrote, by folder."""
    written = {}
    for folder, token in sent.fields(optional=True, most=MAX_FOLDERS).items():
        if not is_path(folder):
            raise sent.error("absolute paths of folders")
        if not is_token(token.value):
            raise token.error("a token")
        written[folder] = str(token.value)
    return written


def _daemon(reported: Reader, output: Callable[[str], CommandOutput]) -> Daemon:
    capabilities = parsers.capabilities(reported.at("capabilities").text(default=""))
    if capabilities is None:
        raise InputError("libvirt's capabilities cannot be read")
    settings = parsers.settings(output("settings"))
    networks, filters = (_named(reported, subject) for subject in ("networks", "filters"))
    return Daemon(
        uuid=capabilities.uuid,
        name=parsers.word(output("host_name")),
        qemu=parsers.qemu(output("qemu"), output("qemu_kvm"))
        or reported.at("qemu").whole(default=0),
        machines=capabilities.machines,
        tsc=capabilities.tsc,
        cpu=capabilities.cpu,
        threads=capabilities.threads,
        online=capabilities.cpus,
        numa_nodes=capabilities.nodes,
        models=capabilities.models,
        secrets=_secrets(reported.at("secrets")),
        secret_values=offers.secret_values(output("secret_values")),
        networks=None if networks is None else dict.fromkeys(networks, True),
        filters=None if filters is None else frozenset(filters),
        drivers=_lines(reported.at("drivers")),
        ports=parsers.ports(settings),
        locks=parsers.locks(output),
        certificates=parsers.certificates(output("certificates"), settings),
        verifies=parsers.verifies(settings),
        libvirt=reported.at("libvirt").whole(default=0),
    )


def _named(reported: Reader, subject: str) -> list[str] | None:
    """Return the names that a driver of the daemon listed, None if they are not known."""
    if not reported.has(subject):
        return None
    return [name.line() for name in reported.at(subject).items(optional=True)]


def _secrets(reported: Reader) -> frozenset[HeldSecret] | None:
    if reported.value is None:
        return None
    return frozenset(
        HeldSecret(
            one.at("uuid").text().lower(),
            one.at("kind").text(default=""),
            one.at("usage").text(default=""),
            one.at("ephemeral").flag(default=False),
        )
        for one in reported.items()
    )


def _guest(
    node: str, reported: Reader, started: Mapping[str, float], clock: float | None
) -> GuestFacts:
    name = reported.at("name").text(default="")
    observation = Observation(
        Sighting(reported.at("sighting").choice(_SIGHTINGS)),
        name=name,
        uuid=reported.at("uuid").line(default=""),
        persistent=reported.at("persistent").flag(default=False),
        autostart=reported.at("autostart").flag(default=False),
        job=reported.at("job").line(default=""),
    )
    guest, error = _definition(reported.at("xml").text(default=""))
    kept, kept_error = _definition(reported.at("kept").text(default=""))
    started_at = started.get(name)
    facts = GuestFacts(
        node,
        observation,
        reason=reported.at("reason").line(default=""),
        guest=guest,
        error=reported.at("error").line(default="") or error or kept_error,
        kept=kept,
        disks=tuple(path.text() for path in reported.at("disks").items(optional=True)),
        memory_kib=reported.at("memory_kib").whole(default=0),
        vcpus=reported.at("vcpus").whole(default=0),
        snapshots=reported.at("snapshots").whole(default=0),
        block_jobs=tuple(disk.line() for disk in reported.at("block_jobs").items(optional=True)),
        refusals=_refusals(reported.at("refusals")),
        run=_run(reported.at("run")),
    )
    if not facts.active or started_at is None or clock is None:
        return facts
    uptime = max(0.0, clock - started_at)
    return replace(facts, uptime=uptime if uptime < LONGEST_UPTIME else None)


def _refusals(reported: Reader) -> tuple[str, ...] | None:
    if reported.value is None:
        return None
    return tuple(reason.line() for reason in reported.items())


def _run(reported: Reader) -> Run | None:
    if reported.value is None:
        return None
    return Run(reported.at("stands").flag(), reported.at("qemu").whole())


def _definition(text: str) -> tuple[Guest | None, str]:
    if not text:
        return None, ""
    try:
        return domainxml.parse(text), ""
    except InputError as error:
        return None, _line(str(error))


def _issue(reported: Reader) -> Issue:
    return Issue(
        reported.at("sentence").line(default=""),
        reported.at("remedy").line(default=""),
        PROBLEM if reported.at("outcome").value == PROBLEM else UNKNOWN,
    )


def _logins(reported: Reader) -> LoginResults:
    return LoginResults(
        tuple(logins.cells(reported.at("cells").value)),
        reported.at("port").line(default=""),
        tuple(name.text() for name in reported.at("names").items(optional=True)),
    )


def _line(text: str) -> str:
    return printable(text[:MAX_LINE])


def _no_facts(sent: object) -> tuple[str, bool]:
    """Return why there are no facts, the node's error if it sent one, and whether it answered."""
    if isinstance(sent, str) and sent.startswith(NO_RETURN):
        return _line(sent.split("\n")[0]), False
    if isinstance(sent, str) and sent:
        return _line(" / ".join(BY_SALT.sub("", sent).split("\n")[-3:])), True
    return ("no response", False) if sent in (None, "", False) else ("invalid facts", True)
