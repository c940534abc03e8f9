"""Mistakes put into the engine: the simulation has to notice each, or it would prove nothing."""

import contextlib
from dataclasses import replace

import pytest
import scenario
import simulate
import simulated
from scenario import Run, Scenario, Start

from saltext_kvmcluster.core import verdicts
from saltext_kvmcluster.core.drain import batch, departures, report
from saltext_kvmcluster.core.ha import holds as core_holds
from saltext_kvmcluster.core.ha import leftovers as core_leftovers
from saltext_kvmcluster.core.migration import handover, queues, results
from saltext_kvmcluster.core.migration.migration import MOVED, NOT_MOVED
from saltext_kvmcluster.core.ownership import handovers, safeguards, settlements, startup
from saltext_kvmcluster.core.ownership.cases import Do
from saltext_kvmcluster.core.ownership.startup import May, NodeAnswer
from saltext_kvmcluster.core.verdicts import Observation, Owner, Sighting, Verdict
from saltext_kvmcluster.engine import (
    dispatcher,
    holding,
    leftovers,
    lifecycle,
    migrator,
    queue,
    stopper,
)
from saltext_kvmcluster.engine.handover import StrictHandover
from saltext_kvmcluster.engine.holding import Held

MOST = 3000


def believing_libvirt(patch):
    """The result is what libvirt's call said."""
    result = results.result

    def believed(move, plan, judged, observations, measured, detail, *more):
        reported = result(move, plan, judged, observations, measured, detail, *more)
        owner = move.source if detail else move.destination
        return replace(reported, result=NOT_MOVED if detail else MOVED, owner=owner)

    patch.setattr(results, "result", believed)


def silence_is_absence(patch):
    settle = settlements.settle

    def settled(guest, entries, observations, *more):
        heard = {
            node: Observation(Sighting.ABSENT) if observation.detail else observation
            for node, observation in observations.items()
        }
        return settle(guest, entries, heard, *more)

    patch.setattr(settlements, "settle", settled)


def waiting_is_owning(patch):
    """A source that waits, and a destination without it: the source owns it."""
    judge = verdicts.judge

    def judged(at_source, at_destination, source, destination):
        if (at_source, at_destination) == (Sighting.PAUSED_FOR_MIGRATION, Sighting.ABSENT):
            return Verdict(Owner.SOURCE, "it waits there")
        return judge(at_source, at_destination, source, destination)

    patch.setattr(verdicts, "judge", judged)


def handed_over_by_libvirt(patch):
    """The way it was: libvirt starts the guest, on whatever disk."""
    patch.setattr(handover, "is_strict", lambda options, runs: False)
    patch.setattr(handover, "risk", lambda *_: None)


def absence_is_proof(patch):
    """A source that no longer has the guest has handed it over."""
    rule = handovers.rule

    def ruled(entry, here, there, fresh=False):
        return rule(entry, replace(here, left=here.sighting in verdicts.OFF), there, fresh)

    patch.setattr(handovers, "rule", ruled)


def resumed_as_it_waits(patch):
    """A copy that waits is resumed, whatever its source does."""
    notice = StrictHandover.notice

    def noticed(self):
        there = self.env.libvirt(self.destination).sight(self.uuid)
        if there.sighting is Sighting.WAITING and not self.is_over:
            self.is_over = True
            self.resume()
        notice(self)

    patch.setattr(StrictHandover, "notice", noticed)


def a_lost_answer_is_success(patch):
    """A call that failed proves as much as one that did not, and nothing need be off."""
    returned = StrictHandover.returned

    def believed(self, failed, here):
        returned(self, False, replace(here, sighting=Sighting.ABSENT))

    patch.setattr(StrictHandover, "returned", believed)


def marks_that_nobody_reads(patch):
    """A copy that waits is taken for a guest that its user paused."""
    observe = simulated.Libvirt._observe

    def observed(self, daemon, domain):
        found = observe(self, daemon, domain)
        if found.sighting is not Sighting.WAITING:
            return found
        return replace(found, sighting=Sighting.PAUSED_BY_USER, mark="")

    patch.setattr(simulated.Libvirt, "_observe", observed)


def jobs_are_nothing(patch):
    """A copy is destroyed by a judgement that heeds neither jobs nor changes."""
    settle = settlements.settle

    def settled(guest, entries, observations, steady, *more):
        idle = {node: replace(observation, job="") for node, observation in observations.items()}
        return settle(guest, entries, idle, True, *more)

    patch.setattr(settlements, "settle", settled)
    patch.setattr(safeguards, "forbids", lambda *found: "")
    patch.setattr(simulated.Libvirt, "destroy_copy", lambda self, uuid, mark: self.destroy(uuid))


def journal_that_is_never_cleared(patch):
    settle = settlements.settle

    def settled(*given):
        found = settle(*given)
        kept = tuple(action for action in found.actions if action.do is not Do.CLEAR)
        return replace(found, actions=kept)

    patch.setattr(settlements, "settle", settled)


def copies_that_stay(patch):
    settle = settlements.settle

    def settled(*given):
        found = settle(*given)
        kept = tuple(action for action in found.actions if action.do is not Do.DESTROY_COPY)
        return replace(found, actions=kept)

    patch.setattr(settlements, "settle", settled)


def error_while_it_runs(patch):
    """What fails while libvirt migrates is handed on as if nothing had begun."""
    patch.setattr(
        migrator._Migration,
        "_asked_to_cancel",
        lambda self: self.journal.asked_to_cancel(self.move.uuid),
    )


def silence_lets_start(patch):
    """A node that does not answer has nothing."""
    decide = startup.decide

    def decided(request, asked):
        heard = {node: NodeAnswer() if one.detail else one for node, one in asked.items()}
        return decide(request, heard)

    patch.setattr(startup, "decide", decided)


def claims_not_looked_at_again(patch):
    """A claim that was taken is held, whatever became of it."""
    decide = startup.last_decision
    patch.setattr(
        startup, "last_decision", lambda decision, lost, is_over: decide(decision, [], is_over)
    )


def claimed_and_not_asked_again(patch):
    """What was answered before the claims were taken still holds."""
    patch.setattr(
        lifecycle, "_last_decision", lambda *_: startup.Decision(May.START, "no node has it")
    )


def no_claims(patch):
    patch.setattr(lifecycle, "_claims", lambda *_: contextlib.nullcontext({}))


def started_as_libvirt_says(patch):
    ending = startup.ending

    def ended(request, asked, detail, returned):
        done = ending(request, asked, detail, returned)
        result, owner = ("not_started", None) if detail else ("started", request.here)
        return replace(done, result=result, owner=owner)

    patch.setattr(startup, "ending", ended)


def stopped_by_what_is_here(patch):
    """What is not active here any more is stopped."""
    stopped = startup.stopped

    def ended(request, asked, steps, stayed):
        return stopped(request, {request.here: asked[request.here]}, steps, stayed)

    patch.setattr(startup, "stopped", ended)


def slots_never_freed(patch):
    @contextlib.contextmanager
    def slots(env, move, within, is_unwanted):
        end = env.clock.monotonic() + within
        wanted = queues.queues(env.cluster, move)
        waited = [queue._waited(env, one, move, within, end, is_unwanted) for one in wanted]
        yield any(waited)

    patch.setattr(queue, "slots", slots)


def everybody_first(patch):
    """Whoever has a ticket goes at once."""
    standing = queues.standing
    patch.setattr(queues, "standing", lambda *given: replace(standing(*given), slot=0))


def never_held(patch):
    """What Pacemaker manages is moved, started and shut down as it is."""
    patch.setattr(holding, "take", lambda *given: None)


def held_without_a_look(patch):
    """What Pacemaker has begun with a guest before it was held is not awaited."""
    patch.setattr(Held, "awaited", lambda held: "")


def given_back_unseen(patch):
    """A guest is given back as soon as it has moved: Pacemaker believes it where it was."""
    patch.setattr(Held, "_given_back", lambda held, *given: held.abandon())


def given_back_wherever_pacemaker_sees_it(patch):
    patch.setattr(core_holds, "differs", lambda *given, **more: "")


def blocked_for_ever(patch):
    end = core_leftovers.end

    def ended(management, result):
        found = end(management, result)
        return found if found and found.mark else None

    patch.setattr(core_leftovers, "end", ended)


@pytest.mark.parametrize(
    ("runs", "mistake", "kinds"),
    [
        ("migrations", believing_libvirt, {"wrong"}),
        ("migrations", silence_is_absence, {"wrong"}),
        ("migrations", journal_that_is_never_cleared, {"untidy"}),
        ("migrations", copies_that_stay, {"untidy", "left"}),
        ("migrations", error_while_it_runs, {"denied"}),
        ("migrations", handed_over_by_libvirt, {"twice"}),
        ("migrations", absence_is_proof, {"forked", "twice"}),
        ("migrations", resumed_as_it_waits, {"twice"}),
        ("migrations", a_lost_answer_is_success, {"twice", "forked"}),
        ("migrations", marks_that_nobody_reads, {"wrong", "left", "untidy", "owner destroyed"}),
        ("starts", silence_lets_start, {"twice"}),
        ("starts", claims_not_looked_at_again, {"twice"}),
        ("starts", claimed_and_not_asked_again, {"twice"}),
        ("starts", no_claims, {"twice"}),
        ("starts", started_as_libvirt_says, {"wrong"}),
        ("starts", stopped_by_what_is_here, {"wrong"}),
        ("queues", slots_never_freed, {"slots"}),
        ("queues", everybody_first, {"slots"}),
        ("managed", never_held, {"fight"}),
        ("managed", held_without_a_look, {"fight"}),
        ("managed", given_back_unseen, {"twice"}),
        ("managed", given_back_wherever_pacemaker_sees_it, {"twice"}),
        ("managed", blocked_for_ever, {"left"}),
    ],
)
def test_a_mistake_of_the_engine_shows(monkeypatch, runs, mistake, kinds):
    mistake(monkeypatch)
    for first in range(0, MOST, 50):
        _, tally = simulate.tallied((runs, range(first, first + 50)))
        found = {kind for _, kind, _ in tally.seeds}
        if found & kinds:
            return
    pytest.fail(f"{MOST} runs did not notice it; they found {found}")


def outcomes(*commands, rate=400):
    run = Run(Scenario(commands, {"web1": Start("node1", rate=rate)}))
    return {kind for kind, _ in run.outcome().wrong}


def test_a_copy_that_is_destroyed_amid_its_migration_shows(monkeypatch):
    """It is the guest, if an answer on the way to that comes late enough."""
    jobs_are_nothing(monkeypatch)
    found = set()
    for call in range(7, 20):
        for late in (0.05, 0.1, 0.2, 0.4, 0.8):
            found |= outcomes(
                "on call 18: die after",
                "migrate web1 from node1 to node2 handover=libvirt",
                f"on call {call}: late {late}",
                "recover web1 on node3",
                rate=130,
            )
    assert "owner destroyed" in found


def test_a_source_that_waits_and_is_taken_for_the_owner_shows(monkeypatch):
    """The destination had run, and was killed."""
    waiting_is_owning(monkeypatch)
    assert outcomes(
        "on step resumed: kill libvirtd node1 for 5",
        "on step resumed + 0.5: kill qemu web1 on node2",
        "migrate web1 from node1 to node2 handover=libvirt",
    ) == {"wrong"}


def at_work(verb, **start):
    """What is wrong if somebody recovers a guest of Pacemaker's while we are at work on it."""
    commands = (*verb, "wait 8", "recover web1 on node3", "join", "wait 60")
    run = Run(Scenario(commands, {"web1": Start("node1", managed=True, **start)}))
    return {kind for kind, _ in run.outcome().wrong}


BEGUN = (
    *("shutdown web1 on node1", "wait 10", "on call 26: early 30"),
    "meanwhile start web1 on node2 timeout=200",
)


def test_a_hold_that_is_given_back_amid_a_start_shows(monkeypatch):
    assert at_work(BEGUN) == set()
    monkeypatch.setattr(leftovers, "_claims", lambda *given: contextlib.nullcontext())
    assert "fight" in at_work(BEGUN)


def test_a_hold_that_is_given_back_amid_a_shutdown_shows(monkeypatch):
    ends = ("meanwhile shutdown web1 on node1 timeout=40 destroy=true",)
    assert at_work(ends, obeys=False) == set()
    monkeypatch.setattr(stopper, "_locked", lambda *given: "")
    assert "fight" in at_work(ends, obeys=False)


def drain_that_takes_silence_for_an_end(patch):
    """A job without a response for a while has done what it was sent for."""

    told = dispatcher.Dispatcher._told

    def believed(self, job, stop=False):
        found = told(self, job, stop)
        ended = {
            guest: {"result": MOVED, "reason": "", "owner": move.destination}
            for guest, move in job.moves.items()
        }
        return found or departures.Reported(True, False, True, {}, ended)

    patch.setattr(dispatcher.Dispatcher, "_told", believed)


def drain_that_believes_any_response(patch):
    """A response about another migration is taken for one about this."""
    patch.setattr(batch, "_about", lambda move, result: result)


def node_that_goes_on_after_a_failure(patch):
    def end(self, move, result):
        del self._batch.in_flight[move.guest]
        self._states[move.guest], self._results[move.guest] = departures.ENDED, result

    patch.setattr(departures.Departures, "end", end)


def interrupted_drain_that_stops_nothing(patch):
    patch.setattr(dispatcher.Dispatcher, "stop", lambda self: {})


def drain_that_takes_unknown_for_empty(patch):
    active = report.active
    patch.setattr(report, "active", lambda facts: active(facts) or [])


def drain_that_forgets_who_was_there(patch):
    """A guest that others moved, and that no history has, is not reported."""
    patch.setattr(report, "_missing", lambda done, has_history: [])


CUT = "at 3: cut both node1 for 100"
OF_MANY = (
    node_that_goes_on_after_a_failure,
    interrupted_drain_that_stops_nothing,
)
NO_HISTORY = scenario.read(simulate.SCENARIOS / "drain-without-a-history")[0].commands


@pytest.mark.parametrize(
    ("mistake", "kind", "commands"),
    [
        (drain_that_takes_silence_for_an_end, "wrong", (CUT, "drain node1")),
        (
            drain_that_believes_any_response,
            "wrong",
            ("at 3: cut data node1 for 4000", "job 1: wrong", "drain node1"),
        ),
        (
            node_that_goes_on_after_a_failure,
            "wrong",
            ("at 6: person cancel more0 on node1", "drain node1"),
        ),
        (interrupted_drain_that_stops_nothing, "wrong", ("at 3: interrupt", "drain node1")),
        (
            drain_that_takes_unknown_for_empty,
            "wrong",
            ("at 3: kill libvirtd node1 for 320", "drain node1"),
        ),
        (drain_that_forgets_who_was_there, "wrong", NO_HISTORY),
    ],
)
def test_a_mistake_of_a_drain_shows(monkeypatch, mistake, kind, commands):
    fast = Start(on="node1", persistent=False, memory=80, rate=400, dirty=5, working_set=20)
    guests = {"web1": fast, "web2": replace(fast, memory=320, rate=20)}
    if mistake in OF_MANY:
        guests |= {f"more{number}": guests["web2"] for number in range(9)}
    drained = Scenario(commands, guests, ("node1", "node2", "node3"), "shared", 4407)
    assert Run(drained).outcome().wrong == []
    mistake(monkeypatch)
    assert kind in {what for what, _ in Run(drained).outcome().wrong}
