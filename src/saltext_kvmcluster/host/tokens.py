"""Tokens: files freshly written on shared storage; a node that reads one sees the same storage."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import wait

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.host import files, locks
from saltext_kvmcluster.host.calls import in_thread
from saltext_kvmcluster.host.node_access import Outputs

TOKENS = ".kvmcluster"
# Seconds for shared storage to take a token; where it hangs, a write never returns.
TOKENS_TIME = 10
KEPT, MOST = 120, node_report.MOST_TOKENS
"""Seconds for which a token stays beside newer ones, and how many there are at most: checks that
run at the same time each need their own."""
LONGEST = 1000
"""Bytes of a file with tokens."""


def token_name(node: str, move: Move | None = None) -> str:
    """Return the name of the file with a node's token.

    move
        The migration that it is for: each has its own, since several from one node may be checked
        at the same time. None for a check of the whole node.
    """
    return f"{node}.{move.uuid}" if move else node


def remove_tokens(folders: Iterable[str], move: Move) -> None:
    """Remove the tokens of a migration, which are not needed again."""
    name = token_name(move.source, move)
    paths = [os.path.join(folder, TOKENS, name) for folder in folders]
    wait([in_thread(functools.partial(files.remove, path)) for path in paths], TOKENS_TIME)


def write_tokens(folders: Iterable[str], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Write a token of that name into each folder; return them, and why some were not written."""

    def write(folder: str) -> str:
        return _written(os.path.join(folder, TOKENS), name)

    calls = {folder: in_thread(functools.partial(write, folder)) for folder in sorted(set(folders))}
    wait(calls.values(), TOKENS_TIME)
    written, detail = {}, {}
    for folder, call in calls.items():
        try:
            written[folder] = call.result(0)
        except concurrent.futures.TimeoutError:
            detail[folder] = f"{folder} hangs: nothing could be written within {TOKENS_TIME} s"
        except WorldError as error:
            detail[folder] = str(error)
    return written, detail


def _written(folder: str, name: str) -> str:
    """Add a token to those of a file that are not old; return it."""
    where = hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    with locks.lock(f"kvmcluster-tokens-{where}", TOKENS_TIME):
        now, before = int(time.time()), ""
        with contextlib.suppress(WorldError):
            before = files.tail(os.path.join(folder, name), LONGEST)
        token = f"{secrets.token_hex(16)} {now}"
        young = [one for one in node_report.tokens(before) if abs(now - _second(one)) <= KEPT]
        files.leave(folder, name, "\n".join([*young[1 - MOST :], token]))
    return token


def _second(token: str) -> int:
    return int(token.partition(" ")[2] or 0)


def token_commands(
    asked: Mapping[str, Sequence[str]], move: Move | None
) -> dict[str, tuple[str, ...]]:
    """Return the commands that read the tokens of the named writers.

    Each folder is listed first, which makes NFS ask its server: it might else report a new file as
    absent from its cache.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for folder, writers in asked.items():
        tokens = os.path.join(folder, TOKENS)
        wanted[f"list {folder}"] = ("ls", "--", tokens)
        for writer in writers:
            path = os.path.join(tokens, token_name(writer, move))
            wanted[f"read {path}"] = (
                *("find", "-P", path, "-maxdepth", "0", "-type", "f"),
                *("-exec", "head", "-c", str(LONGEST), "{}", ";"),
            )
    return wanted


def tokens_read(
    asked: Mapping[str, Sequence[str]], found: Outputs, move: Move | None
) -> dict[str, dict[str, str]]:
    """Return the tokens that were read, one a line.

    Others can write in that folder, so nothing but a token is passed on, such as a link's target.
    """
    tokens: dict[str, dict[str, str]] = {}
    for folder, writers in asked.items():
        for writer in writers:
            path = os.path.join(folder, TOKENS, token_name(writer, move))
            if kept := node_report.tokens(found[f"read {path}"].stdout):
                tokens.setdefault(folder, {})[writer] = "\n".join(kept)
    return tokens
