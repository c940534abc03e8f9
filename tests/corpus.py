"""Run definitions from anywhere through the reader, the blockers and every check.

    PYTHONPATH=src:tests/unit python tests/corpus.py FOLDER...

Such as the tests of libvirt's and of virt-manager's sources, which are thousands. Nothing but a
refusal in a sentence may come of any file; what is refused is printed, with how many guests have
which blocker. Exit code 1 if something else came of a file.
"""

import sys
import traceback
from collections import Counter
from pathlib import Path

import worlds

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.facts.nodefacts import GuestFacts
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.readiness.examination import examine
from saltext_kvmcluster.core.verdicts import Observation, Sighting
from saltext_kvmcluster.core.xmltext import parse_xml

WORDS = 4
VERSIONS = ((9_000_000, 7_002_000), (11_003_000, 10_000_000))


def main(folders):
    known, broken = Counter(), 0
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.xml")):
        text = path.read_bytes()
        if not is_definition(text):
            known["no definition of a guest"] += 1
            continue
        try:
            known.update(judged(domainxml.parse(text)))
        except InputError as error:
            known["refused"] += 1
            print(f"{path}: {error}")
        except Exception:
            broken += 1
            print(f"{path}:\n{traceback.format_exc()}")
    for what, count in known.most_common():
        print(f"{count:6}  {what}")
    print(f"{broken:6}  broken")
    return 1 if broken else 0


def is_definition(text):
    try:
        return parse_xml(text).tag == "domain"
    except InputError:
        return False


def judged(guest):
    """Judge a guest that runs on a node of two, with old versions and new ones."""
    assert domainxml.differences(guest, guest) == ()
    yield "read"
    for sentence in (*(part.what for part in guest.blockers), *guest.passthrough):
        assert sentence.isprintable() and len(sentence) < 500
        yield " ".join(sentence.split()[:WORDS])
    observation = Observation(Sighting.RUNNING, name=guest.name, uuid=guest.uuid or worlds.UUID)
    facts = GuestFacts("node1", observation, guest=guest, memory_kib=guest.memory_kib)
    for libvirt, qemu in VERSIONS:
        nodes = [
            worlds.node(name, daemon=worlds.daemon(name, libvirt=libvirt, qemu=qemu), guests=guests)
            for name, guests in (("node1", (facts,)), ("node2", ()))
        ]
        for finding in examine(worlds.world(*nodes)).findings:
            assert finding.issue.sentence.isprintable()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
