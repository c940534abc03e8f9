"""Tokens: files freshly written on shared storage; a node that reads one sees the same storage."""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.host import files
from saltext_kvmcluster.host.calls import begun
from saltext_kvmcluster.host.node_access import Outputs

TOKENS = ".kvmcluster"
# Seconds for shared storage to take a token; where it hangs, a write never comes back.
TOKENS_TIME = 10


def token_name(node: str, move: Move | None = None) -> str:
    """Return what the file is called that has a node's token in a folder.

    move
        The one that it is for: each has its own, since moves from one node may be examined at
        the same moment. None for an examination of all.
    """
    return f"{node}.{move.uuid}" if move else node


def remove_tokens(folders: Iterable[str], move: Move) -> None:
    """Remove the tokens of a move, which nobody will look at again."""
    name = token_name(move.source, move)
    paths = [os.path.join(folder, TOKENS, name) for folder in folders]
    wait([begun(functools.partial(files.remove, path)) for path in paths], TOKENS_TIME)


def write_tokens(folders: Iterable[str], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Write a token of that name into each folder; return them, and why some were not written."""

    def write(folder: str) -> str:
        token = f"{secrets.token_hex(16)} {int(time.time())}"
        files.leave(os.path.join(folder, TOKENS), name, token)
        return token

    calls = {folder: begun(functools.partial(write, folder)) for folder in sorted(set(folders))}
    wait(calls.values(), TOKENS_TIME)
    written, detail = {}, {}
    for folder, call in calls.items():
        try:
            written[folder] = call.result(0)
        except FutureTimeout:
            detail[folder] = (
                f"{folder} does not answer: nothing could be written in {TOKENS_TIME} s"
            )
        except WorldError as error:
            detail[folder] = str(error)
    return written, detail


def token_commands(
    asked: Mapping[str, Sequence[str]], move: Move | None
) -> dict[str, tuple[str, ...]]:
    """Return what reads the tokens of the named writers.

    Each folder is listed first: NFS asks its server anew then, where it would else show a cached
    absence.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for folder, writers in asked.items():
        tokens = os.path.join(folder, TOKENS)
        wanted[f"list {folder}"] = ("ls", "--", tokens)
        for writer in writers:
            path = os.path.join(tokens, token_name(writer, move))
            wanted[f"read {path}"] = (
                *("find", "-P", path, "-maxdepth", "0", "-type", "f"),
                *("-exec", "head", "-c", "100", "{}", ";"),
            )
    return wanted


def tokens_read(
    asked: Mapping[str, Sequence[str]], found: Outputs, move: Move | None
) -> dict[str, dict[str, str]]:
    """Return the tokens that were read.

    They lie where others write, so only what is a token is passed on, not what a link leads to.
    """
    tokens: dict[str, dict[str, str]] = {}
    for folder, writers in asked.items():
        for writer in writers:
            path = os.path.join(folder, TOKENS, token_name(writer, move))
            text = found[f"read {path}"].stdout.strip()
            if node_report.is_token(text):
                tokens.setdefault(folder, {})[writer] = text
    return tokens
