"""Gathers what the checks need to know of a host: this one, or a peer over the cluster's own ssh.

What is sent is raw: what programs printed, definitions as they are. ``core.facts`` reads it where
it is judged. Both ways are alike: argument lists that are run, and one libvirt connection; a peer
needs neither Salt nor this package for it.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from saltext_kvmcluster.core.errors import InputError, KvmclusterError, WorldError
from saltext_kvmcluster.core.facts import nodefacts, parsers, questions
from saltext_kvmcluster.core.facts.nodefacts import NodeFacts
from saltext_kvmcluster.core.facts.parsers import CommandOutput
from saltext_kvmcluster.core.facts.questions import cpu_key
from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.guest import store
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.migration import migration
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.core.pillar.clusters import Cluster, Node
from saltext_kvmcluster.core.readiness.checks.guest import Close, matters
from saltext_kvmcluster.core.storage import inventory, shared_storage
from saltext_kvmcluster.core.trust import keyfile, logins, sshcheck, trust
from saltext_kvmcluster.core.trust.identity import Identities
from saltext_kvmcluster.core.trust.keyfile import KeyFile
from saltext_kvmcluster.core.trust.sshd import Account
from saltext_kvmcluster.host import commands, files, resolver, ssh
from saltext_kvmcluster.host.calls import begun
from saltext_kvmcluster.host.hypervisor import Hypervisor

TOKENS = ".kvmcluster"
# Seconds for shared storage to take a token; where it hangs, a write never comes back.
TOKENS_TIME = 10
LOGIN_TIME = 5.0
PEERS_TIME = 60.0
PORT_TIME = 3.0
PORTS_TRIED = 16
LARGEST_KIB = 10 * 1024
PART = 100_000
"""Bytes of what is run over ssh at once, which is one argument: see MAX_ARG_STRLEN in execve(2)."""
OVERHEAD = 150
"""Bytes that ssh.run_all adds to each program."""

KINDS = {
    "regular file": "file",
    "regular empty file": "file",
    "block special file": "block",
    "directory": "directory",
}

Outputs = Mapping[str, commands.Outcome]
Checks = Mapping[str, Callable[[], list[Issue]]]


@dataclass(frozen=True)
class Way:
    """How a host is asked: by running programs there, and by its libvirt."""

    run_all: Callable[[Mapping[str, Sequence[str]]], Outputs]
    hypervisor: Hypervisor

    def close(self) -> None:
        """Let the connection to libvirt go."""
        self.hypervisor.close()


def here() -> Way:
    """Return the way to this host."""
    return Way(commands.run_all, Hypervisor())


def to_peer(cluster: Cluster, peer: Node) -> Way:
    """Return the way to a peer: its migration name, as a migration dials it."""
    uri = migration.connection_uri(cluster.ssh.login, peer)
    return Way(functools.partial(ssh.run_all, peer.migration), Hypervisor(uri))


def gather(
    cluster: Cluster,
    node: str,
    identities: Identities | None = None,
    login_targets: logins.Targets | None = None,
) -> dict[str, Any]:
    """Return the facts of this node, as plain data for ``core.facts.parse``.

    Writes a fresh token into each shared folder that holds something of its active guests, or
    definitions; whoever reads it there sees the same storage.

    identities
        What the mine holds of the members; None where that is not known.
    dials
        The peers to log in to, by which names, and to try a migration port of. Default: none.
    """
    with contextlib.closing(here()) as way, ThreadPoolExecutor() as pool:
        host = pool.submit(_of_host, way, node, _defined(cluster))
        placed = pool.submit(_placed, cluster, way)
        trusted = pool.submit(_ssh, cluster, node, identities)
        reached = pool.submit(_peers, cluster, login_targets or {})
        reported = host.result()
        texts, said_of = placed.result()
        reported["definitions"].update(texts)
        reported["definitions_said"] = said_of
        reported.update(ssh=trusted.result(), peers=reached.result())
    found = nodefacts.parse(node, reported, 0.0, 0.0)
    written, detail = _write_tokens(_holding(_sources(cluster, found), found), token_name(node))
    return {**reported, "written": written, "written_said": detail}


def of_peer(cluster: Cluster, peer: Node) -> dict[str, Any]:
    """Return the facts of a peer, without what only it can see: its own ssh trust and its peers.

    Definitions on shared storage are not read there: they are the same ones. WorldError if it
    cannot be logged in to.
    """
    with contextlib.closing(to_peer(cluster, peer)) as way:
        return _of_host(way, peer.id, _defined(cluster))


def of_source(
    cluster: Cluster, move: Move, way: Way, guest: Guest | None, login: Future[logins.LoginProbe]
) -> dict[str, Any]:
    """Return those facts of this node that the blocking checks of one move need.

    guest
        The definition of the guest that is to move, None if it cannot be read.
    login
        How the login to the destination went, once that is known.
    """
    peer, account = cluster.node(move.destination), ssh.account(cluster.ssh.login)
    key = functools.cache(lambda: ssh.key_file(keyfile.key_path(cluster, account.home), account))
    with ThreadPoolExecutor() as pool:
        port = pool.submit(_port, peer)
        trusted = pool.submit(_reported, _dialling(cluster, account, key, peer.names))
        reported = _of_one(way, move, guest, parsers.OF_SOURCE)
        found = nodefacts.parse(move.source, reported, 0.0, 0.0)
        folders = _holding(_parts([guest]), found)
        written, detail = _write_tokens(folders, token_name(move.source, move))
        reported.update(ssh=trusted.result(), written=written, written_said=detail)
        cell = logins.cell(peer.id, peer.migration, login.result(), _is_encrypted(key))
        reported["peers"] = {peer.id: {"cells": [cell], "names": [peer.migration], **port.result()}}
        return reported


def of_destination(move: Move, way: Way, guest: Guest | None) -> dict[str, Any]:
    """Return those facts of a peer that the blocking checks of one move to it need."""
    return _of_one(way, move, guest, parsers.OF_DESTINATION)


def token_name(node: str, move: Move | None = None) -> str:
    """Return what the file is called that has a node's token in a folder.

    move
        The one that it is for: each has its own, since moves from one node may be examined at
        the same moment. None for an examination of all.
    """
    return f"{node}.{move.uuid}" if move else node


def remove_tokens(folders: Iterable[str], move: Move) -> None:
    """Remove the tokens of a move, which nobody will look at again."""
    name = token_name(move.source, move)
    paths = [os.path.join(folder, TOKENS, name) for folder in folders]
    wait([begun(functools.partial(files.remove, path)) for path in paths], TOKENS_TIME)


def observe(
    question: Mapping[str, Any], way: Way | None = None, move: Move | None = None
) -> dict[str, Any]:
    """Answer a question of ``core.readiness``: what lies at paths, tokens, whether CPUs can run.

    way
        How to ask; None for this host. What cannot be found out is not in the answer.
    move
        The one whose tokens are meant; see ``token_name``.

    InputError if it is no question.
    """
    if way is None:
        with contextlib.closing(here()) as own:
            return observe(question, own)
    asked = questions.parse(question)
    with ThreadPoolExecutor() as pool:
        cpus = pool.submit(_cpus, way.hypervisor, asked.cpus)
        wanted = {**_path_commands(asked.paths), **_token_commands(asked.tokens, move)}
        found = _run_in_parts(way, wanted)
        return {
            "paths": _paths(asked.paths, found),
            "tokens": _tokens(asked.tokens, found, move),
            "cpus": cpus.result(),
        }


def _run_in_parts(way: Way, wanted: Mapping[str, Sequence[str]]) -> Outputs:
    """Run many programs, as many at once as a peer can be told to in one login."""
    found: dict[str, commands.Outcome] = {}
    for part in _in_parts(wanted, lambda key: _size(shlex.join(wanted[key]))):
        found.update(way.run_all({key: wanted[key] for key in part}))
    return found


def _in_parts(items: Iterable[str], size: Callable[[str], int]) -> Iterator[list[str]]:
    """Yield items in groups whose sizes, with what goes with each, stay below PART together."""
    part: list[str] = []
    left = PART
    for item in items:
        left -= size(item) + OVERHEAD
        if part and left < 0:
            yield part
            part, left = [], PART - size(item) - OVERHEAD
        part.append(item)
    if part:
        yield part


def _size(word: str) -> int:
    return len(shlex.quote(word).encode("utf-8", "replace"))


def of_host(node: str) -> dict[str, Any]:
    """Return the facts of this node that tell of its guests, storage and host alone."""
    with contextlib.closing(here()) as way:
        return _of_host(way, node, ())


def own(node: str) -> NodeFacts:
    """Return this node's guests, storage and host, read."""
    begun = time.time()
    reported = of_host(node)
    return nodefacts.parse(node, reported, begun, time.time())


def _of_host(way: Way, node: str, defined: Collection[str]) -> dict[str, Any]:
    """Return what a host tells; of the guests ``defined`` libvirt's definitions, too."""
    with ThreadPoolExecutor() as pool:
        machine = pool.submit(_libvirt, way.hypervisor, defined)
        outputs = way.run_all({**parsers.COMMANDS, **inventory.COMMANDS})
        reported: dict[str, Any] = {"node": node, "commands": _sent(outputs), **machine.result()}
    paths = [source.path for source in _parts(_running(nodefacts.parse(node, reported, 0.0, 0.0)))]
    reported["commands"]["links"]["out"] += _links(paths, _run_in_parts(way, _real_commands(paths)))
    return reported


def _of_one(way: Way, move: Move, guest: Guest | None, wanted: Iterable[str]) -> dict[str, Any]:
    """Return what a host tells of one guest that is to move, by the programs that are wanted.

    Its devices are asked for only where the guest's disks may lie on them.
    """
    paths = [source.path for source in _parts([guest])]
    disks = [layer for disk in (guest.disks if guest else ()) for layer in disk.layers]
    asked = {key: parsers.COMMANDS[key] for key in wanted}
    asked["mounts"] = inventory.COMMANDS["mounts"]
    with ThreadPoolExecutor() as pool:
        close = matters(guest, move.guest, move.uuid)
        machine = pool.submit(_libvirt, way.hypervisor, (), close)
        outputs = _run_in_parts(way, {**asked, **_real_commands(paths)})
        links, reported = _links(paths, outputs), _sent({key: outputs[key] for key in asked})
        reported["links"] = {"code": 0, "out": links}
        mounted = inventory.parse({key: (one["code"], one["out"]) for key, one in reported.items()})
        if not all(shared_storage.needs_mounts_alone(layer, mounted) for layer in disks):
            reported.update(_sent(way.run_all(inventory.COMMANDS)))
            reported["links"]["out"] += links
        return {"commands": reported, **machine.result()}


def _defined(cluster: Cluster) -> Collection[str]:
    """Return the guests whose definitions libvirt keeps on every node."""
    return cluster.guests.list if cluster.guests.definitions == "defined" else ()


def _sent(outputs: Outputs) -> dict[str, dict[str, Any]]:
    return {
        key: {
            "code": one.code,
            "out": one.stdout,
            **({"detail": one.stderr[:300]} if one.code != 0 else {}),
        }
        for key, one in outputs.items()
    }


def _libvirt(
    libvirt: Hypervisor, defined: Collection[str], close: Close | None = None
) -> dict[str, Any]:
    """Ask libvirt; that its daemon cannot be asked is a fact, too."""
    try:
        return {
            "daemon": libvirt.daemon(),
            "guests": libvirt.guests(close),
            "definitions": {name: libvirt.definition(name) for name in defined},
        }
    except WorldError as error:
        return {"daemon": {"detail": str(error)}, "definitions": {}}


def _placed(cluster: Cluster, way: Way) -> tuple[dict[str, str], dict[str, str]]:
    """Return the text of each listed guest's definition on shared storage, empty if none is there.

    Then, by guest, what is to be said of where it was found. A definition that is there and
    cannot be read is left out of the first: it is not known.
    """
    texts: dict[str, str] = {}
    detail: dict[str, str] = {}
    if cluster.guests.definitions != "shared":
        return texts, detail
    paths_of = {name: store.all_paths(cluster.guests, name) for name in cluster.guests.list}
    paths = dict.fromkeys(path for found in paths_of.values() for path in found)
    contents = way.run_all({path: _reading(path) for path in paths})
    for name, candidates in paths_of.items():
        there = [path for path in candidates if not _is_missing(contents[path])]
        try:
            found = store.find(cluster.guests, name, there)
        except InputError:
            texts[name] = ""
            continue
        if contents[found.path].code != 0:
            detail[name] = contents[found.path].stderr.strip() or f"{found.path} cannot be read"
            continue
        try:
            data = base64.b64decode(contents[found.path].stdout)
            text = store.decoded(data, found.path)
            if not text.lstrip().startswith("<"):
                raise InputError(f"{found.path} holds no XML")
            texts[name] = text
            detail[name] = found.warning
        except InputError as error:
            detail[name] = str(error)
    return texts, {name: words for name, words in detail.items() if words}


def _is_missing(outcome: commands.Outcome) -> bool:
    return parsers.is_missing(CommandOutput(outcome.code, outcome.stdout, outcome.stderr))


def _ssh(
    cluster: Cluster, node: str, identities: Identities | None
) -> dict[str, list[dict[str, str]]]:
    """Return what is wrong with this node's ssh, by the check's id."""
    account = ssh.account(cluster.ssh.login)
    path = keyfile.key_path(cluster, account.home)
    checks = {
        **_dialling(
            cluster, account, lambda: ssh.key_file(path, account), sshcheck.names(cluster, node)
        ),
        "ssh.authorized": lambda: sshcheck.authorized(
            ssh.obstacles(cluster, account, ssh.connections(cluster.peers(node)))
        ),
    }
    if identities is not None:
        known, folder = identities, os.path.join(account.home, ".ssh")
        checks["ssh.stale"] = lambda: sshcheck.stale(cluster, known, _key_files(folder))
    return _reported(checks)


def _dialling(
    cluster: Cluster, account: Account, key: Callable[[], KeyFile], names: Sequence[str]
) -> Checks:
    """Return the checks of what this node needs to dial its peers by their names."""
    root = os.path.join(ssh.account("root").home, ".ssh", trust.KNOWN_HOSTS)
    path = keyfile.key_path(cluster, account.home)
    return {
        "ssh.key": lambda: sshcheck.key(key(), cluster),
        "ssh.config": lambda: sshcheck.config(cluster, ssh.client_settings(names), path, root),
        "ssh.label": lambda: sshcheck.label(ssh.labels(os.path.join(account.home, ".ssh"))),
    }


def _is_encrypted(key: Callable[[], KeyFile]) -> bool:
    """Whether our key has a passphrase; one that cannot be read is what ssh.key tells of."""
    try:
        return key().encrypted
    except KvmclusterError:
        return False


def _reported(checks: Checks) -> dict[str, list[dict[str, str]]]:
    """Return the troubles that checks find; that one cannot look is a trouble, too."""

    def troubles(check: Callable[[], list[Issue]]) -> list[Issue]:
        try:
            return check()
        except KvmclusterError as error:
            return [unknown(str(error), "mend that on this node, then check again")]

    return {
        name: [
            {"sentence": one.sentence, "remedy": one.remedy, "outcome": one.outcome}
            for one in troubles(check)
        ]
        for name, check in checks.items()
    }


def _key_files(folder: str) -> dict[str, str]:
    paths = [os.path.join(folder, name) for name in ("authorized_keys", trust.AUTHORIZED_KEYS)]
    return {path: files.read(path).text or "" for path in paths}


def _peers(cluster: Cluster, login_targets: logins.Targets) -> dict[str, dict[str, Any]]:
    """Return what this node sees of each peer: its logins, its address, and a migration port."""
    if not login_targets:
        return {}
    account = ssh.account(cluster.ssh.login)
    with ThreadPoolExecutor() as pool:
        ports = dict(zip(login_targets, pool.map(_port, login_targets), strict=True))
        encrypted = ssh.key_file(keyfile.key_path(cluster, account.home), account).encrypted
        observed = ssh.probe_peers(login_targets, LOGIN_TIME, PEERS_TIME)
    return {
        peer.id: {
            "cells": [
                logins.cell(peer.id, name, observed.get((peer.id, name)), encrypted)
                for name in names
            ],
            "names": [] if tuple(names) == tuple(peer.names) else list(names),
            **ports[peer],
        }
        for peer, names in login_targets.items()
    }


def _port(peer: Node) -> dict[str, str]:
    """Say what a connection to a free migration port of a peer meets: refused, if all is well.

    Which ports are free there is not known here, so some are tried: the last of the range, since
    libvirt lets QEMU listen at the first free one, and QEMU takes whoever comes first for the
    source. See factparse.PORTS.
    """
    try:
        address = resolver.address(peer.migration)
    except WorldError as error:
        return {"port": str(error)}
    for port in range(parsers.PORTS[1], parsers.PORTS[1] - PORTS_TRIED, -1):
        try:
            socket.create_connection((address, port), PORT_TIME).close()
        except ConnectionRefusedError:
            return {"port": "refused"}
        except TimeoutError:
            return {"port": f"no answer from port {port}"}
        except OSError as error:
            return {"port": f"port {port}: {error.strerror}"}
    return {"port": "taken"}


def _write_tokens(folders: Iterable[str], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Write a token of that name into each folder; return them, and why some were not written."""

    def write(folder: str) -> str:
        token = f"{secrets.token_hex(16)} {int(time.time())}"
        files.leave(os.path.join(folder, TOKENS), name, token)
        return token

    calls = {folder: begun(functools.partial(write, folder)) for folder in sorted(set(folders))}
    wait(calls.values(), TOKENS_TIME)
    written, detail = {}, {}
    for folder, call in calls.items():
        try:
            written[folder] = call.result(0)
        except FutureTimeout:
            detail[folder] = (
                f"{folder} does not answer: nothing could be written in {TOKENS_TIME} s"
            )
        except WorldError as error:
            detail[folder] = str(error)
    return written, detail


def _holding(sources: Iterable[Source], found: NodeFacts) -> set[str]:
    """Return the mount points of shared storage that hold any of these."""
    if found.storage is None:
        return set()
    locations = (shared_storage.locate(source, found.storage) for source in sources)
    return {one.folder for one in locations if one.folder and one.fit}


def _sources(cluster: Cluster, found: NodeFacts) -> list[Source]:
    """Return where the parts of a node's active guests lie, and definitions."""
    sources = _parts(_running(found))
    if cluster.guests.definitions == "shared":
        sources += [
            Source("file", path)
            for guest in cluster.guests.list.values()
            for path in store.paths(cluster.guests, guest.name)
        ]
    return sources


def _running(found: NodeFacts) -> list[Guest]:
    return [guest.guest for guest in found.guests or () if guest.active and guest.guest]


def _parts(guests: Iterable[Guest | None]) -> list[Source]:
    """Return where the parts of guests lie, as far as they are known."""
    known = [guest for guest in guests if guest]
    disks = [disk for guest in known for disk in guest.disks]
    return [
        *(layer for disk in disks for layer in disk.layers if layer.path),
        *(Source("file", file.path) for guest in known for file in guest.files),
    ]


def _real_commands(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return what says where paths lead when every symbolic link is followed."""
    return {f"real {part[0]}": ("realpath", "-m", "--", *part) for part in _lines(paths)}


def _links(paths: Iterable[str], found: Outputs) -> str:
    """Return where those paths lead that are links, as COMMANDS's find tells of links."""
    real = _real(paths, found)
    return "".join(["\n", *(f"{path}\t{to}\n" for path, to in real.items() if path != to)])


def _real(paths: Iterable[str], found: Outputs) -> dict[str, str]:
    real: dict[str, str] = {}
    for part in _lines(paths):
        detail = found[f"real {part[0]}"].stdout.splitlines()
        if len(detail) == len(part):
            real.update(zip(part, detail, strict=True))
    return real


def _lines(paths: Iterable[str]) -> Iterator[list[str]]:
    """Yield the paths that are a line, as many at once as one program is given."""
    lines = dict.fromkeys(path for path in paths if path.startswith("/") and "\n" not in path)
    return _in_parts(lines, lambda path: _size(shlex.quote(path)))


def _path_commands(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    stats = {f"stat {path}": ("stat", "-L", "-c", "%F", "--", path) for path in paths}
    return {**stats, **_real_commands(paths)}


def _paths(paths: Iterable[str], found: Outputs) -> dict[str, dict[str, Any]]:
    observed: dict[str, dict[str, Any]] = {}
    real = _real(paths, found)
    for path in paths:
        outcome = found[f"stat {path}"]
        if outcome.code == 0:
            observed[path] = {"kind": KINDS.get(outcome.stdout.strip(), "other")}
        elif _is_missing(outcome):
            observed[path] = {"kind": "nothing"}
        if path in observed and path in real:
            observed[path]["real"] = real[path]
    return observed


def _token_commands(
    asked: Mapping[str, Sequence[str]], move: Move | None
) -> dict[str, tuple[str, ...]]:
    """Return what reads the tokens of the named writers.

    Each folder is listed first: NFS asks its server anew then, where it would else show a cached
    absence.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for folder, writers in asked.items():
        tokens = os.path.join(folder, TOKENS)
        wanted[f"list {folder}"] = ("ls", "--", tokens)
        for writer in writers:
            path = os.path.join(tokens, token_name(writer, move))
            wanted[f"read {path}"] = (
                *("find", "-P", path, "-maxdepth", "0", "-type", "f"),
                *("-exec", "head", "-c", "100", "{}", ";"),
            )
    return wanted


def _reading(path: str) -> tuple[str, ...]:
    """Return a command that prints a file in base64, and opens nothing that is not a file.

    What lies on shared storage was put there by others: to open a device is to act on it, and a
    named pipe never answers.
    """
    return (
        *("find", "-L", path, "-maxdepth", "0", "-type", "f", "-size", f"-{LARGEST_KIB}k"),
        *("-exec", "base64", "-w0", "{}", ";"),
    )


def _tokens(
    asked: Mapping[str, Sequence[str]], found: Outputs, move: Move | None
) -> dict[str, dict[str, str]]:
    """Return the tokens that were read.

    They lie where others write, so only what is a token is passed on, not what a link leads to.
    """
    tokens: dict[str, dict[str, str]] = {}
    for folder, writers in asked.items():
        for writer in writers:
            path = os.path.join(folder, TOKENS, token_name(writer, move))
            text = found[f"read {path}"].stdout.strip()
            if nodefacts.is_token(text):
                tokens.setdefault(folder, {})[writer] = text
    return tokens


def _cpus(libvirt: Hypervisor, asked: Sequence[Mapping[str, str]]) -> dict[str, str]:
    answers = {}
    with contextlib.suppress(WorldError):
        for cpu in asked:
            trouble = libvirt.cpu_trouble(cpu)
            if trouble is not None:
                answers[cpu_key(cpu)] = trouble
    return answers
