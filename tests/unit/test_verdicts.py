"""Every pair of sightings, judged against the table as the design states it."""

import itertools

import pytest

from saltext_kvmcluster.core.verdicts import (
    BACKUP,
    OUTGOING,
    Observation,
    Owner,
    Sighting,
    doubled,
    judge,
)

CERTAIN = {
    "running / paused for migration": Owner.SOURCE,
    "running / a copy that waits for its handover": Owner.SOURCE,
    "running / shut off": Owner.SOURCE,
    "running / absent": Owner.SOURCE,
    "paused by its user / shut off": Owner.SOURCE,
    "paused by its user / absent": Owner.SOURCE,
    "shut off / running": Owner.DESTINATION,
    "absent / running": Owner.DESTINATION,
    "paused for migration / running": Owner.DESTINATION,
    "a copy that waits for its handover / running": Owner.DESTINATION,
    "paused, since it could not resume / running": Owner.DESTINATION,
    "shut off / paused by its user": Owner.DESTINATION,
    "absent / paused by its user": Owner.DESTINATION,
    "shut off / shut off": Owner.NOBODY,
    "shut off / absent": Owner.NOBODY,
    "absent / shut off": Owner.NOBODY,
    "running / running": Owner.CONFLICT,
}
PAIRS = list(itertools.product(Sighting, Sighting))


@pytest.mark.parametrize(
    ("source", "destination"), PAIRS, ids=[f"{a.value} / {b.value}" for a, b in PAIRS]
)
def test_pair(source, destination):
    verdict = judge(source, destination, "node1", "node2")
    expected = CERTAIN.get(f"{source.value} / {destination.value}", Owner.UNKNOWN)
    assert verdict.owner is expected
    assert "node1" in verdict.sentence and "node2" in verdict.sentence


def test_every_certain_pair_is_a_pair():
    assert set(CERTAIN) <= {f"{a.value} / {b.value}" for a, b in PAIRS}


@pytest.mark.parametrize("observed", [Sighting.UNREACHABLE, Sighting.PAUSED_IN_POST_COPY])
def test_silence_and_split_memory_are_never_certain(observed):
    for other in Sighting:
        assert judge(observed, other, "a", "b").owner is Owner.UNKNOWN
        assert judge(other, observed, "a", "b").owner is Owner.UNKNOWN


def test_conflict_is_said_loudly():
    assert "RUNS TWICE" in judge(Sighting.RUNNING, Sighting.RUNNING, "a", "b").sentence


def test_two_copies_are_an_alarm_unless_one_waits_or_is_on_its_way():
    def twice(observation, job=""):
        return doubled({"a": Observation(Sighting.RUNNING), "b": Observation(observation, job=job)})

    for observation in (Sighting.RUNNING, Sighting.PAUSED_BY_USER, Sighting.PAUSED_OTHERWISE):
        assert twice(observation).sentence.startswith("RUNS TWICE, on a and on b")
        assert twice(observation, BACKUP).job == ""
        assert "check again" in twice(observation, OUTGOING).sentence
    for observation in (Sighting.ABSENT, Sighting.SHUT_OFF, Sighting.PAUSED_FOR_MIGRATION):
        assert twice(observation) is None
