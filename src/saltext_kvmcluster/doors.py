"""What the doors share: Salt's data in, our model out; our errors in, Salt's out."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from salt.exceptions import CommandExecutionError, SaltInvocationError

from saltext_kvmcluster import supported
from saltext_kvmcluster.core import validate
from saltext_kvmcluster.core.errors import InputError, KvmclusterError
from saltext_kvmcluster.core.pillar import clusters, options, parser
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.schema import arguments
from saltext_kvmcluster.core.trust import identity
from saltext_kvmcluster.core.trust.identity import Identities

_T = TypeVar("_T")

OTHERS = "unknown"
"""What Salt's documentation shows for the names that a function does not know, and refuses."""


def virtual(opts: Mapping[str, Any]) -> str | tuple[bool, str]:
    """Return the name of our modules on a node, or why Salt is not to load them."""
    if opts.get("proxy"):
        # It would act on the host that the proxy runs on.
        return False, f"kvmcluster: not on a proxy minion; {supported.NEEDS_A_MINION}"
    return "kvmcluster"


def salt_errors(function: Callable[..., _T]) -> Callable[..., _T]:
    """Turn our errors into those that Salt prints as one sentence; check the arguments first."""
    checked = checks_arguments(function, "salt NODE")

    @functools.wraps(checked)
    def wrapped(*args: Any, **kwargs: Any) -> _T:
        try:
            return checked(*args, **kwargs)
        except InputError as error:
            raise SaltInvocationError(str(error)) from None
        except KvmclusterError as error:
            raise CommandExecutionError(str(error)) from None

    return wrapped


def checks_arguments(function: Callable[..., _T], command: str) -> Callable[..., _T]:
    """Have a function that is a command refuse arguments that are not its own, by InputError.

    Salt itself answers an unknown argument of a runner, or a missing one, with the docstring and
    exit code 0. It judges names by the signature: so that one tells it of more names than there
    are. To a function that takes any names, Salt gives some of its own, which begin with ``__``.

    command
        What the command line begins with.
    """
    own = inspect.signature(function)
    known = validate.Signature(
        f"{command} kvmcluster.{function.__name__}",
        tuple(own.parameters),
        frozenset(key for key, one in own.parameters.items() if one.default is one.empty),
    )
    others = inspect.Parameter(OTHERS, inspect.Parameter.VAR_KEYWORD)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> _T:
        named = {key: value for key, value in kwargs.items() if not key.startswith("__")}
        known.check(len(args), named)
        return function(*args, **named)

    # Salt follows __wrapped__ to a function's innermost signature.
    del wrapped.__wrapped__
    wrapped.__dict__["__signature__"] = own.replace(parameters=[*own.parameters.values(), others])
    return wrapped


_OPTIONS_LINE = re.compile(r"^( *)\|options\|\n", re.MULTILINE)


def takes_options(function: Callable[..., _T]) -> Callable[..., _T]:
    """Give a function the options of a migration, each None if it is left out.

    They follow ``destination`` in its signature, which Salt reads, and arrive as keyword arguments.
    Their part of the docstring replaces the line ``|options|``.
    """
    own = list(inspect.signature(function).parameters.values())
    at = 1 + [parameter.name for parameter in own].index("destination")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    added = [inspect.Parameter(name, kind, default=None) for name in options.ARGUMENTS]
    rest = [parameter for parameter in own[at:] if parameter.kind is kind]
    signature = inspect.Signature([*own[:at], *added, *rest])

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> _T:
        return function(**signature.bind(*args, **kwargs).arguments)

    # Salt follows __wrapped__ to a function's innermost signature, which takes anything.
    del wrapped.__wrapped__
    wrapped.__dict__["__signature__"] = signature
    wrapped.__doc__ = _OPTIONS_LINE.sub(_options_text, function.__doc__ or "")
    return wrapped


def _options_text(line: re.Match[str]) -> str:
    """Return what a docstring says of the options, as far from the margin as the line.

    Python takes the indentation of a docstring away since 3.13.
    """
    wrap = textwrap.TextWrapper(width=96, initial_indent="    ", subsequent_indent="    ")
    keys = arguments(options.Options)
    text = "\n".join(f"{key.name}\n{wrap.fill(key.text)}\n" for key in keys)
    return textwrap.indent(text, line[1])


def member_cluster(pillar: Mapping[str, Any], node_id: str, context: dict[str, Any]) -> Cluster:
    """Return the cluster of this minion's pillar; InputError if the minion is no node of it.

    context
        ``__context__``, where the last cluster is kept for as long as the pillar is the same.
    """
    raw = pillar.get(clusters.ROOT)
    last: tuple[object, Cluster] | None = context.get(clusters.ROOT)
    if not last or last[0] != raw:
        last = context[clusters.ROOT] = (raw, parser.from_pillar(pillar))
    last[1].node(node_id)
    return last[1]


def mine_identities(
    cluster: Cluster, mine_get: Callable[..., Any], context: dict[str, Any]
) -> Identities:
    """Read what the mine holds of the members.

    mine_get
        The ``mine.get`` to ask.

    context
        ``__context__``, where the last reading is kept: the states of one run ask again, and
        get the same answer, which need not be read again.
    """
    filed = mine_get(tgt=list(cluster.nodes), fun=identity.MINE_FUNCTION, tgt_type="list")
    last: tuple[Cluster, object, Identities] | None = context.get(identity.MINE_FUNCTION)
    if last and last[:2] == (cluster, filed):
        return last[2]
    read = identity.read_identities(cluster, filed)
    context[identity.MINE_FUNCTION] = (cluster, filed, read)
    return read


def progress(opts: Mapping[str, Any], text: str) -> None:
    """Show how far an orchestration is, on standard error; with ``--out`` nothing is shown."""
    if opts.get("output") in (None, "kvmcluster", "highstate"):
        now = time.strftime("%H:%M:%S")
        print(
            "\n".join(f"{now}  {line}" for line in text.splitlines()), file=sys.stderr, flush=True
        )


def seconds(value: object, name: str) -> float:
    """Return an argument that is a number of seconds above 0; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86400:
        raise InputError(
            f"{name}: want seconds, above 0 and at most 86400, got {validate.shown(value)}"
        )
    return float(value)


def flag(value: object, name: str) -> bool:
    """Return an argument that is true or false; InputError otherwise."""
    if not isinstance(value, bool):
        raise InputError(f"{name}: want true or false, got {validate.shown(value)}")
    return value
