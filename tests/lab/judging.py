"""What is seen of a guest on all nodes, and what of that contradicts what was returned."""

import dataclasses
import datetime

# Milliseconds by which an event may be late on a busy machine.
HEARD = 500


@dataclasses.dataclass(frozen=True)
class Sight:
    """The guest on one node: libvirt's words for its state and job, its process, its journal.

    ``mark``: whether it is marked as a copy that waits for its handover.
    """

    state: str
    job: str
    process: bool
    journal: bool
    mark: bool = False

    @property
    def runs(self):
        return self.state.startswith("running")

    @property
    def has_no_process(self):
        """Whether libvirt has not noticed yet that there is none any more."""
        return self.state.startswith(("running", "paused")) and not self.process

    @property
    def absent(self):
        return self.state == "absent" and not self.process

    @property
    def waits(self):
        """Whether it is a copy that is resumed once its source is over."""
        return self.state.startswith("paused") and self.mark


def running(observation):
    return [node for node, sight in observation.items() if sight.runs]


def is_clean(observation):
    """Whether the guest runs on one node and nothing of it is on any other."""
    rest = [sight for sight in observation.values() if not sight.runs]
    return len(rest) == len(observation) - 1 and all(sight.absent for sight in rest)


def reported(observation):
    return {node: dataclasses.asdict(sight) for node, sight in observation.items()}


def gone(observation):
    return all(sight.absent for sight in observation.values())


def contradictions(answers, observation, killed, own):
    """Say where the world contradicts what was returned, or what never must be.

    killed
        When a QEMU process of it was killed, by node.
    """
    where, wrong = running(observation), []
    if len(where) > 1:
        wrong.append(f"RUNS TWICE: {where}")
    if gone(observation) and not own:
        wrong.append("LOST: it is nowhere, and its own QEMU was not killed")
    for answer in answers:
        if answer["result"] == "unknown":
            continue
        expected = answer["destination"] if answer["result"] == "moved" else answer["source"]
        if answer["owner"] != expected:
            wrong.append(f"{answer['result']}, but the owner is {answer['owner']}")
        died = gone(observation) and killed.get(answer["owner"], "") > last_seen(answer)
        if where != [answer["owner"]] and not died:
            wrong.append(f"{answer['result']} to {answer['owner']}, but it runs on {where}")
    return wrong


def claims(answer, stood):
    """Say whether a migration is said to have stopped the guest for another time than was seen.

    stood
        The milliseconds that it stood by libvirt's events, None if they were not heard.
    """
    claimed = answer.get("downtime_ms") if isinstance(answer, dict) else None
    if claimed is None or stood is None or abs(claimed - stood) <= HEARD:
        return []
    return [f"downtime {claimed} ms, but it stood {stood} ms"]


def last_seen(answer):
    """When a guest was looked at for an answer, less what may lie between a look and its end."""
    began = datetime.datetime.fromisoformat(answer["started"])
    return stamp(began + datetime.timedelta(seconds=answer["elapsed"] - 2))


def is_for_an_operator(recovered, observation):
    """Whether nobody but a person can know why it stands.

    It waits at its source and is nowhere else, or its copy waits for a source that is gone.
    """
    waiting = [
        sight
        for sight in observation.values()
        if sight.state == "paused (migrating)" or sight.waits
    ]
    absent = [sight for sight in observation.values() if sight.absent]
    only = len(waiting) == 1 and len(absent) == len(observation) - 1
    return only and recovered.get("result") == "unknown"


def left_over(recovered, observation, own):
    """Say what is not settled though all has healed and the guest was recovered."""
    wrong = []
    if own:
        wrong += [] if gone(observation) else ["its QEMU was killed, and it is not gone"]
    elif "refused" in recovered:
        wrong.append(f"recover: {recovered['refused']}")
    elif not is_clean(observation):
        wrong.append("not settled after recover")
    elif [recovered["owner"]] != running(observation):
        wrong.append(f"recover says {recovered['owner']}, but it runs on {running(observation)}")
    for node, sight in observation.items():
        if sight.journal:
            wrong.append(f"{node}'s journal was not cleared")
        if sight.mark:
            wrong.append(f"the mark on {node} was not removed")
    return wrong


def faults_of(record):
    """Say what is wrong by the guest's own record."""
    wrong = [f"{word}: {record[word]}" for word in ("lost", "repeated", "doubled") if record[word]]
    return wrong + ([f"{record['boots']} boots"] if record["boots"] != 1 else [])


def utc():
    return stamp(datetime.datetime.now(datetime.timezone.utc))


def stamp(moment):
    return moment.isoformat(timespec="milliseconds")
