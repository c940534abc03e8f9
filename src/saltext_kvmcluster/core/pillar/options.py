"""Options of a migration: their names, defaults and limits, in the pillar or in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pillar.schema import argument, arguments, described, keys_of
from saltext_kvmcluster.core.validate import FLAG, one_of, span, whole

NO_COMPRESSION, XBZRLE = "none", "xbzrle"
PARALLEL_COMPRESSIONS = ("zlib", "zstd")
COMPRESSIONS = (NO_COMPRESSION, XBZRLE, *PARALLEL_COMPRESSIONS)
STRICT, BY_LIBVIRT = "strict", "libvirt"
HANDOVERS = (STRICT, BY_LIBVIRT)
# libvirt keeps MiB/s, QEMU bytes/s as a signed number (QEMU_DOMAIN_MIG_BANDWIDTH_MAX).
MOST_BANDWIDTH = (1 << 63) // (1 << 20) - 1
# MAX_MIGRATE_DOWNTIME in QEMU's migration/options.c.
MOST_DOWNTIME = 2_000_000
# QEMU's multifd-channels is one byte.
MOST_CONNECTIONS = 255
LONGEST = 86400
BANDWIDTH_UNIT, DOWNTIME_UNIT = "MiB/s", "milliseconds"


@dataclass(frozen=True)
class Options:
    """How to migrate a guest, in the pillar (``kvmcluster:migration``) or in one call."""

    live: bool = field(
        default=True,
        metadata=described(FLAG, "false: the guest is paused while its memory is copied."),
    )
    bandwidth: int = field(
        default=0,
        metadata=described(
            whole(0, MOST_BANDWIDTH, BANDWIDTH_UNIT),
            "MiB/s that one guest's memory may take on the network; 0 for no limit.",
        ),
    )
    downtime: int = field(
        default=500,
        metadata=described(
            whole(1, MOST_DOWNTIME, DOWNTIME_UNIT),
            "The milliseconds that sending the last memory may take while a guest is stopped at the"
            " switch. An aim, not a limit: stopping it, its devices and resuming it take time as"
            " well.",
        ),
    )
    timeout: float = field(
        default=3600.0,
        metadata=described(
            span(LONGEST),
            "The seconds after which a migration is ended one way or the other.",
        ),
    )
    parallel: int = field(
        default=0,
        metadata=described(
            whole(0, MOST_CONNECTIONS),
            "Connections for one guest's memory, 2 to 255, if one does not fill the network; 0 for"
            " the usual single one.",
        ),
    )
    compression: str = field(
        default=NO_COMPRESSION,
        metadata=described(
            one_of(COMPRESSIONS),
            "none; xbzrle, which sends only the changed parts of a page; with parallel connections,"
            " zlib or zstd (libvirt 9.4 or later).",
        ),
    )
    auto_converge: bool = field(
        default=False,
        metadata=described(
            FLAG,
            "Whether QEMU may slow a guest's CPUs if it writes memory faster than it can be sent. A"
            " throttled guest is stopped for longer than downtime, again and again.",
        ),
    )
    post_copy: bool = field(
        default=False,
        metadata=described(
            FLAG,
            "Whether a guest may be switched over before all of its memory has arrived, if nothing"
            " else helps. It is lost if the network, or either node, fails before the rest has"
            " arrived.",
        ),
    )
    tls: bool = field(
        default=False,
        metadata=described(
            FLAG,
            "Whether the memory is encrypted, with certificates that are configured in libvirt on"
            " every node; see docs/migrating.md.",
        ),
    )
    tunnelled: bool = field(
        default=False,
        metadata=described(
            FLAG,
            "Whether the memory goes through ssh, like the libvirt connection. Slower.",
        ),
    )
    handover: str = field(
        default=STRICT,
        metadata=described(
            one_of(HANDOVERS),
            "strict: the guest runs at its destination only after it is certain that its run at"
            " the source is over. libvirt: libvirt starts it there; if an answer is lost at that"
            " moment it may run twice, so this is refused unless every disk that it writes is"
            " guarded against a second writer (the check guest.handover).",
        ),
    )
    force_post_copy: bool = field(
        default=False,
        metadata=argument(
            FLAG,
            "true: post_copy may be used in this call although it is refused. It cannot have a"
            " strict handover: if nothing guards a disk of the guest against a second writer, and"
            " an answer is lost at the switch, it runs twice. And libvirt 11.2 and 11.3 cannot"
            " resume it once it broke.",
        ),
    )


KEYS = keys_of(Options)
ARGUMENTS = tuple(key.name for key in arguments(Options))


@dataclass(frozen=True)
class Rule:
    """A rule that options must not break, mostly about combinations of ``keys``."""

    keys: tuple[str, ...]
    broken: Callable[[Options], bool]
    sentence: str


RULES = (
    Rule(
        ("parallel",),
        lambda options: options.parallel == 1,
        "for a single connection use 0; parallel connections are 2 or more",
    ),
    # qemuMigrationSrcBeginPhase: "not supported with non-live or paused migration".
    Rule(
        ("post_copy", "live"),
        lambda options: options.post_copy and not options.live,
        "post_copy needs live: a paused guest gains nothing from it",
    ),
    # qemuMigrationSrcBeginPhase: "post-copy is not supported with tunnelled migration".
    Rule(
        ("post_copy", "tunnelled"),
        lambda options: options.post_copy and options.tunnelled,
        "post_copy needs a return path, which a tunnelled migration does not have",
    ),
    # migrate_caps_check of QEMU 8.0 to 10.0: "Postcopy is not yet compatible with multifd". Older
    # ones let it pass untested.
    Rule(
        ("post_copy", "parallel"),
        lambda options: options.post_copy and options.parallel > 0,
        "few QEMU versions support post_copy over parallel connections; some accept it untested",
    ),
    # Whoever gives it wants post-copy, and would not get it.
    Rule(
        ("force_post_copy", "post_copy"),
        lambda options: options.force_post_copy and not options.post_copy,
        "force_post_copy only permits post_copy; to use it, add post_copy=true",
    ),
    # virDomainMigrateToURI3: exclusive flags.
    Rule(
        ("tunnelled", "parallel"),
        lambda options: options.tunnelled and options.parallel > 0,
        "a tunnelled migration has a single connection, that of ssh",
    ),
    # qemuMigrationSrcRun reads the name to verify from where a tunnelled migration keeps its pipe.
    Rule(
        ("tunnelled", "tls"),
        lambda options: options.tunnelled and options.tls,
        "libvirt cannot verify certificates through a tunnel, so it refuses tls; tunnelled"
        " memory is encrypted by ssh",
    ),
    # qemuMigrationParamsSetCompression: "is only supported with parallel migration".
    Rule(
        ("compression", "parallel"),
        lambda options: options.compression in PARALLEL_COMPRESSIONS and not options.parallel,
        "QEMU supports zlib and zstd on parallel connections only",
    ),
    # qemuMigrationParamsSetCompression: "isn't supported with parallel migration".
    Rule(
        ("compression", "parallel"),
        lambda options: options.compression == XBZRLE and options.parallel > 0,
        "QEMU supports xbzrle on a single connection only",
    ),
)


def of_call(defaults: Options, arguments: Mapping[str, object]) -> Options:
    """Return the options of one migration: the pillar's value where an argument is None.

    InputError names the argument and what is accepted.
    """
    named = {key: value for key, value in arguments.items() if value is not None}
    return parse(validate.section(named, "options", ARGUMENTS), "", defaults)


def parse(raw: Mapping[str, object], path: str, defaults: Options) -> Options:
    """Return the options in a mapping, which may have other keys, too.

    path
        The mapping's place in the pillar, empty for the arguments of a call.
    """
    found = Options(
        live=validate.flag(raw, "live", path, defaults.live),
        bandwidth=validate.number(
            raw, "bandwidth", path, (0, MOST_BANDWIDTH), defaults.bandwidth, BANDWIDTH_UNIT
        ),
        downtime=validate.number(
            raw, "downtime", path, (1, MOST_DOWNTIME), defaults.downtime, DOWNTIME_UNIT
        ),
        timeout=validate.seconds(raw, "timeout", path, LONGEST, defaults.timeout),
        parallel=validate.number(raw, "parallel", path, (0, MOST_CONNECTIONS), defaults.parallel),
        compression=validate.choice(raw, "compression", path, COMPRESSIONS, defaults.compression),
        auto_converge=validate.flag(raw, "auto_converge", path, defaults.auto_converge),
        post_copy=validate.flag(raw, "post_copy", path, defaults.post_copy),
        tls=validate.flag(raw, "tls", path, defaults.tls),
        tunnelled=validate.flag(raw, "tunnelled", path, defaults.tunnelled),
        handover=validate.choice(raw, "handover", path, HANDOVERS, defaults.handover),
        force_post_copy=validate.flag(raw, "force_post_copy", path, defaults.force_post_copy),
    )
    for rule in RULES:
        if rule.broken(found):
            raise InputError(f"{path or ', '.join(rule.keys)}: {_why(rule, found, raw, defaults)}")
    return found


def _why(rule: Rule, found: Options, raw: Mapping[str, object], defaults: Options) -> str:
    """Return what is wrong, with the value of each option concerned and where it comes from."""

    def by(key: str) -> str:
        if key in raw:
            return ""
        is_ours = getattr(defaults, key) == getattr(Options(), key)
        return " by default" if is_ours else " by the pillar"

    values = [f"{key} is {str(getattr(found, key)).lower()}{by(key)}" for key in rule.keys]
    return f"{rule.sentence} ({', '.join(values)})"
