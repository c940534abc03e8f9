"""The contract with libvirt, kept by the simulation."""

import dataclasses
import importlib.util
import pathlib

import libvirtd
import pytest
import world as sim
from scenario import Run, Scenario, Start
from simulated import Minion, domain_xml

from saltext_kvmcluster.core.migration import migration, plans
from saltext_kvmcluster.core.migration.plans import Plan

pytest.register_assert_rewrite("contract")
import contract  # noqa: E402
from contract import *  # noqa: E402, F403

LAB = pathlib.Path(__file__).resolve().parents[1] / "lab"


class Bench:
    def __init__(self):
        start = Start("node1", memory=160, dirty=0)
        self.run = Run(Scenario((), {contract.GUEST: start}))
        self.world = self.run.world
        self.guest = self.world.guests[contract.GUEST]
        self.uuid = self.guest.uuid
        minions = [
            Minion(self.world, self.run.cluster, node, self.run.shelves)
            for node in self.run.cluster.nodes
        ]
        self.libvirts = {minion.here: minion.libvirts[minion.here] for minion in minions}

    def begin(self, source, destination, *flags, live=True, **parameters):
        ways = ("LIVE", "PEER2PEER") if live else ("PEER2PEER",)
        connection = plans.connection_uri("root", self.run.cluster.node(destination))
        return self.libvirts[source].migrate(
            self.uuid, Plan((*ways, *flags), connection, parameters)
        )

    def words(self, call, seconds=90):
        self.world.until(self.world.now + seconds, call.done)
        assert call.done(), "the migration does not end"
        return str(call.exception() or "")

    def ask(self, node, verb, *arguments):
        if verb == "suspend":
            return self.world.daemons[node].suspend(self.uuid)
        if verb == "resume_copy":
            call = self.libvirts[node].resume(*arguments)
            self.world.until(self.world.now + 30, call.done)
            if error := call.exception():
                raise error
            return None
        found = getattr(self.libvirts[node], verb)(*arguments)
        return dataclasses.asdict(found) if isinstance(found, migration.Run) else found

    def fault(self, words):
        self.run.fault(words.replace("kill qemu", f"kill qemu {contract.GUEST} on"))

    def heal(self):
        self.run.heal()

    def break_post_copy(self, node):
        self.world.daemons[node].find(self.uuid).qemu.outgoing.break_off()

    def alive(self):
        return {qemu.node for qemu in self.guest.alive}

    def wait(self, seconds):
        self.world.advance(seconds)


@pytest.fixture
def bench():
    found = Bench()
    yield found
    assert {kind for kind, _ in found.world.wrong} <= {"owner destroyed"}


def table():
    """libvirt's 16 cases, as the lab asks them of libvirt itself."""
    spec = importlib.util.spec_from_file_location("kept", LAB / "test_definitions_kept.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TABLE


@pytest.mark.parametrize(("before", "after"), table())
def test_which_definition_is_left_where(before, after):
    persistent, known, undefine, persist = before
    found = Bench()
    source, destination = (found.world.daemons[node] for node in ("node1", "node2"))
    here = source.find(found.uuid)
    titles = {title: domain_xml(found.guest, title) for title in ("running", "source", "old")}
    here.live = here.definition = titles["running"]
    if persistent:
        source.define(titles["source"])
    if known:
        destination.define(titles["old"])
    flags = [
        *(["UNDEFINE_SOURCE"] if undefine else []),
        *(["PERSIST_DEST"] if persist else []),
    ]
    assert found.words(found.begin("node1", "node2", *flags)) == ""

    def kept(daemon):
        domain = daemon.domains.get(found.uuid)
        if not domain or not domain.persistent:
            return None
        return next(title for title, text in titles.items() if text == domain.definition)

    there = destination.find(found.uuid)
    assert there.state == libvirtd.RUNNING
    assert (there.persistent, kept(source), kept(destination)) == after
    assert [qemu.node for qemu in found.guest.running] == ["node2"]
    assert found.guest.qemus[0].outgoing.status == sim.COMPLETED
