"""Runs on a node and does with libvirt what it is asked for: a line of JSON in, a line out.

Only what a node can do by itself is here: a daemon is asked on its own node, so that what is cut or
killed elsewhere is not in the way.
"""

import dataclasses
import json
import sys
from concurrent import futures

import libvirt

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.migration.migration import Run
from saltext_kvmcluster.core.migration.plans import Plan
from saltext_kvmcluster.core.verdicts import Observation
from saltext_kvmcluster.host.hypervisor import Hypervisor

here = Hypervisor()
calls = []


def begin(uuid, flags, connection, parameters):
    calls.append(here.migrate(uuid, Plan(tuple(flags), connection, parameters)))
    return len(calls) - 1


def ended(number):
    call = calls[number]
    if not call.done():
        return None
    error = call.exception()
    return str(error) if error else ""


def suspend(uuid):
    here._ask(lambda found: found.lookupByUUIDString(uuid).suspend())


def resume_copy(uuid, mark):
    error = futures.wait([call := here.resume(uuid, mark)], 30) and call.exception()
    if error:
        raise error


def break_post_copy(uuid):
    how = libvirt.VIR_DOMAIN_ABORT_JOB_POSTCOPY
    here._ask(lambda found: found.lookupByUUIDString(uuid).abortJobFlags(how))


OWN = {
    "begin": begin,
    "ended": ended,
    "suspend": suspend,
    "resume_copy": resume_copy,
    "break_post_copy": break_post_copy,
}


def answer(verb, *arguments):
    try:
        found = (OWN.get(verb) or getattr(here, verb))(*arguments)
    except WorldError as error:
        return {"error": str(error)}
    if isinstance(found, Run):
        return {"value": dataclasses.asdict(found)}
    if isinstance(found, Observation):
        return {"observation": {**dataclasses.asdict(found), "sighting": found.sighting.value}}
    return {"value": found}


for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
