"""A strict handover: the copy at the destination runs only when its source is certainly over.

libvirt leaves the copy paused. By its state alone that looks like a guest that its user paused, so
the copy has a mark, until it was observed to run: an element of ours in its metadata.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.pillar.options import BY_LIBVIRT, STRICT, Options
from saltext_kvmcluster.core.text import listed, printable
from saltext_kvmcluster.core.untrusted import Reader
from saltext_kvmcluster.core.verdicts import MIGRATED

NAMESPACE = "urn:saltext-kvmcluster:handover"
"""The namespace of the mark. That of the guest's own element is another: libvirt keeps one each."""

# The phase of libvirt's migration from which the source is ended, whatever happens.
_CONFIRMED = "confirm3"
_LONGEST_MARK = 400
# What libvirt appends to a guest's log when its QEMU starts, before it sends its memory to another
# node, and before it ends it.
_TIME = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: "
_STARTED = re.compile(f"{_TIME}starting up ", re.MULTILINE)
_SENT = re.compile(f"{_TIME}initiating migration$", re.MULTILINE)
_ENDED = re.compile(f"{_TIME}shutting down, reason=([a-z]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Handover:
    """What the journal keeps of a strict handover.

    ``resume``: whether the guest ran, so that its copy is to run. ``sent``: how many times
    libvirt's log said, before it began, that the guest was sent elsewhere in its present run; -1 if
    the log did not know of that run, or the disk may not have had it. A log that lacks the
    beginning of a run ends with an older one, which may have migrated away.
    """

    resume: bool
    sent: int = -1

    def has_left(self, run: LastRun) -> bool:
        """Whether this migration ended the source's run, by what its log says now.

        If the guest was sent once more, another one did, such as an operator's: then this one
        failed, and its copy is out of date.
        """
        return self.sent >= 0 and run == LastRun(MIGRATED, self.sent + 1)


@dataclass(frozen=True)
class LastRun:
    """The last run of a guest on a node, by libvirt's log of it.

    ``ended``: why, empty if the log does not say so: the guest runs, the node lost its power, or
    the log is cut. ``sent``: how many times libvirt began to send it to another node.
    """

    ended: str = ""
    sent: int = 0


@dataclass(frozen=True)
class Status:
    """What libvirt's own status file says of an active guest."""

    pid: int
    phase: str

    @property
    def is_confirmed(self) -> bool:
        """Whether the destination has the guest, by its own answer, and the source is to end."""
        return self.phase == _CONFIRMED


def options_for(options: Options, runs: bool) -> Options:
    """Return the options of one migration: a guest that is paused gains nothing from post-copy.

    libvirt would refuse to move it.
    """
    return options if runs else replace(options, post_copy=False)


def is_strict(options: Options, runs: bool) -> bool:
    """Whether a migration is to have a strict handover, which libvirt refuses for post-copy.

    A guest that its user paused has one in any case: nothing resumes it at either end.
    """
    return not runs or (options.handover == STRICT and not options.post_copy)


def risk(options: Options, runs: bool, unguarded: Sequence[str]) -> tuple[str, str] | None:
    """Return why a migration may run its guest twice, and the remedy; None if it cannot.

    unguarded
        The disks that it writes to, and that nothing keeps a second writer from.
    """
    if not unguarded or not runs:
        return None
    disks = listed(unguarded)
    guard = "or guard its disks (the check guest.guard)"
    if options.handover == BY_LIBVIRT:
        return (
            "handover is libvirt: if an answer is lost at the switch, it runs on both nodes, and"
            f" nothing keeps a second writer from {disks}",
            f"handover=strict, {guard}",
        )
    if options.post_copy and not options.force_post_copy:
        return (
            "post_copy is true: post-copy cannot have a strict handover, since it runs at the"
            " destination before its source is over; if an answer is lost at the switch, it runs"
            f" on both nodes, and nothing keeps a second writer from {disks}",
            f"post_copy=false, {guard}; or take that risk for one call: force_post_copy=true",
        )
    return None


def token(source: str, began: str) -> str:
    """Return what identifies one migration in its mark."""
    return f"{source} {began}"


def marked(definition: str, of: str) -> str:
    """Return a definition with the mark of a migration in its metadata."""
    domain = xmltext.parse_xml(definition)
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = etree.SubElement(domain, "metadata")
    for old in metadata.findall(f"{{{NAMESPACE}}}handover"):
        metadata.remove(old)
    mark = etree.SubElement(metadata, f"{{{NAMESPACE}}}handover", nsmap={"kvmcluster": NAMESPACE})
    mark.set("of", of)
    return etree.tostring(domain, encoding="unicode")


def outdated(copy: str, definition: str) -> str:
    """Return why a copy would get other disks than its source has; empty if it would not.

    libvirt takes the copy's definition as it is given, and compares no sources of disks. It refuses
    changes once a migration is under way, but there is a moment before.

    copy, definition
        The definition that was given, and that of the source during the migration.
    """
    try:
        given, now = (domainxml.parse(text).disks for text in (copy, definition))
    except InputError as error:
        return f"its disks could not be compared with those of its copy: {error}"
    if given == now:
        return ""
    return "its disks were changed as its migration began; migrate it again"


def mark(text: str) -> str:
    """Return which migration a mark is of; ``?`` if it does not say so."""
    try:
        found = xmltext.parse_xml(text)
    except InputError:
        return "?"
    return printable(found.get("of", "")[:_LONGEST_MARK]) or "?"


def mark_of(definition: str) -> str:
    """Return which migration the mark in a definition is of, empty if there is none."""
    found = xmltext.parse_xml(definition).find(f"metadata/{{{NAMESPACE}}}handover")
    return "" if found is None else printable(found.get("of", "")[:_LONGEST_MARK]) or "?"


def status(text: str, uuid: str) -> Status | None:
    """Return what libvirt's status file says of a guest; None if it is not the guest's, or odd."""
    try:
        root = xmltext.parse_xml(text)
    except InputError:
        return None
    if root.tag != "domstatus" or root.findtext("domain/uuid") != uuid:
        return None
    pid, job = root.get("pid", ""), root.find("job")
    if not re.fullmatch(r"[0-9]{1,9}", pid) or int(pid) < 2:
        return None
    return Status(int(pid), job.get("phase", "") if job is not None else "")


def last_run(log: str) -> LastRun:
    """Return what libvirt's log says of the last run; it is not ordered by its times.

    Clocks are set.
    """
    starts = [found.end() for found in _STARTED.finditer(log)]
    begin = starts[-1] if starts else 0
    ends = _ENDED.findall(log, begin)
    # A daemon that was restarted amid the end of a run tells of it twice, and knows less then.
    ended = MIGRATED if MIGRATED in ends else ends[-1] if ends else ""
    return LastRun(ended, len(_SENT.findall(log, begin)))


def parse(kept: Reader) -> Handover | None:
    """Return what a journal keeps of a strict handover, None if it was another."""
    if kept.value is None:
        return None
    return Handover(
        kept.at("resume").flag(),
        kept.at("sent").whole(least=-1),
    )
