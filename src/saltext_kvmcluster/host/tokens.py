"""Tokens: files freshly written on shared storage; a node that reads one sees the same storage."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import wait

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.facts import node_report
from saltext_kvmcluster.core.migration.migration import Move
from saltext_kvmcluster.host import files
from saltext_kvmcluster.host.calls import in_thread
from saltext_kvmcluster.host.node_access import Outputs

TOKENS = ".kvmcluster"
# Seconds for shared storage to take a token; where it hangs, a write never returns.
TOKENS_TIME = 10


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
        token = f"{secrets.token_hex(16)} {int(time.time())}"
        files.leave(os.path.join(folder, TOKENS), name, token)
        return token

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
                *("-exec", "head", "-c", "100", "{}", ";"),
            )
    return wanted


def tokens_read(
    asked: Mapping[str, Sequence[str]], found: Outputs, move: Move | None
) -> dict[str, dict[str, str]]:
    """Return the tokens that were read.

    Others can write in that folder, so nothing but a token is passed on, such as a link's target.
    """
    tokens: dict[str, dict[str, str]] = {}
    for folder, writers in asked.items():
        for writer in writers:
            path = os.path.join(folder, TOKENS, token_name(writer, move))
            text = found[f"read {path}"].stdout.strip()
            if node_report.is_token(text):
                tokens.setdefault(folder, {})[writer] = text
    return tokens
