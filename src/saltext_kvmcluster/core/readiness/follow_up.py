"""The second round of questions: what nodes are asked once their guests are known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.facts.questions import cpu_key, emulator_key, is_path
from saltext_kvmcluster.core.guest.disks import Source
from saltext_kvmcluster.core.readiness.checks.base import World
from saltext_kvmcluster.core.readiness.checks.cpu import asked_cpu
from saltext_kvmcluster.core.readiness.checks.emulator import asked_emulator
from saltext_kvmcluster.core.readiness.checks.network import host_names
from saltext_kvmcluster.core.readiness.checks.storage import in_shared, needed
from saltext_kvmcluster.core.readiness.subjects import guests_in_question, nodes_in_question

WITNESSES = 3


def questions(
    world: World,
    guest: str | None = None,
    source: str | None = None,
    destination: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what to ask of each node, once it is known what guests there are.

    Each guest's own node is asked for all paths that the guest needs; the others only for those
    that are on no shared file system. In each shared file system they read the tokens of some
    nodes. Whether they can run a guest's CPU, what their QEMU has, and what the host names mean
    that it listens on, is asked of the nodes to which it would go.
    Parameters as in ``examine``.
    """
    moving = [found for found in guests_in_question(world, guest, source) if found.active]
    needs: dict[str, dict[str, None]] = {found.node: {} for found in moving}
    alone: dict[str, None] = {}
    for found in moving:
        for need in filter(_is_asked, needed(found)):
            needs[found.node][need.path] = None
            if not in_shared(world, found.node, need):
                alone[need.path] = None
    tokens, cpus = _witnesses(world, needs), _cpus(world, moving)
    emulators = _emulators(moving)
    names = list(dict.fromkeys(name for found in moving for name in host_names(found)))
    away = dict.fromkeys(nodes_in_question(world, destination))
    return {
        node: {
            "paths": list({**needs.get(node, {}), **(alone if node in away else {})}),
            "tokens": tokens,
            "cpus": cpus if node in away else [],
            "names": names if node in away else [],
            "emulators": emulators if node in away else [],
        }
        for node in {**needs, **away}
        if not world.nodes[node].detail
    }


def answered(world: World, answers: Mapping[str, object]) -> World:
    """Return the world with the nodes' answers to their questions."""
    nodes = {
        node: node_report.answered(one, answers.get(node)) for node, one in world.nodes.items()
    }
    return World(world.cluster, nodes)


def _witnesses(world: World, sources: Iterable[str]) -> dict[str, list[str]]:
    """Return in which folders tokens are to be read, and whose: of some nodes for each storage.

    Nodes that read the same fresh token see the same storage, so the tokens of a few are enough,
    the sources' first.
    """
    folders: dict[str, Counter[str]] = {}
    tokens: dict[str, list[str]] = defaultdict(list)
    for node in {**dict.fromkeys(sources), **world.nodes}:
        for folder in world.nodes[node].written:
            storage = world.identity(node, folder)
            counted = folders.setdefault(folder, Counter())
            if counted[storage] < WITNESSES:
                counted[storage] += 1
                tokens[folder].append(node)
    return dict(tokens)


def _is_asked(need: Source) -> bool:
    """Whether a node can be asked; a hostile definition must not spoil the whole question."""
    return is_path(need.path)


def _cpus(world: World, guests: Iterable[GuestFacts]) -> list[Mapping[str, str]]:
    """Return each different CPU of the guests once, as host/collector.py is asked about it."""
    asked = (asked_cpu(world, one) for one in guests)
    return list({cpu_key(cpu): cpu for cpu in asked if cpu}.values())


def _emulators(guests: Iterable[GuestFacts]) -> list[Mapping[str, str]]:
    """Return each different emulator of the guests once."""
    return list({emulator_key(one): one for one in map(asked_emulator, guests) if one}.values())
