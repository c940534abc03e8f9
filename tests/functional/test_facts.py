"""What facts are gathered with: programs in a batch, and files left on storage that is shared."""

import concurrent.futures
import os
import secrets
import shlex
import threading

import pytest

from saltext_kvmcluster.core.errors import WorldError
from saltext_kvmcluster.core.pillar.parser import from_pillar
from saltext_kvmcluster.host import (
    collector,
    commands,
    files,
    node_access,
    paths,
    shared_definitions,
    ssh,
    tokens,
)

WANTED = {
    "good": ("printf", "a%sb", "'; \\0 $(touch /tmp/owned) \""),
    "bad": ("cat", "--", "/nowhere"),
    "missing": ("no-such-program",),
    "nul": ("printf", r"\0000 0\0"),
    "both": ("sh", "-c", "echo out; echo err >&2; exit 3"),
    "reader": ("cat",),
}


def over_a_shell(shell):
    """Run a batch as a peer's login shell gets it."""
    mark = secrets.token_hex(8)
    script = ssh._script(WANTED.values(), mark)
    done = commands.run([shell, "-c", f"echo noise of the login; {script}"])
    return dict(zip(WANTED, ssh._split(done.stdout, mark), strict=True))


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_batch_over_a_shell_tells_what_the_same_batch_tells_here(shell):
    there, here = over_a_shell(shell), commands.run_all(WANTED)
    for name in WANTED:
        assert (name, there[name].code, there[name].stdout) == (
            name,
            here[name].code,
            here[name].stdout,
        )
    assert there["both"] == commands.Outcome(3, "out\n", "err")
    assert there["missing"].code == commands.NOT_FOUND
    assert paths.is_missing(there["bad"]) and paths.is_missing(here["bad"])
    assert not os.path.exists("/tmp/owned")


def test_what_the_time_for_a_batch_does_not_allow_is_not_known():
    done = commands.run_all({"slow": ("sleep", "60"), "late": ("true",)}, timeout=0.3)
    assert [outcome.code for outcome in done.values()] == [None, None]


def test_a_file_is_left_in_a_folder_whoever_owns_it(tmp_path):
    os.chown(tmp_path, 1234, 1234)
    for text in ("first", "second"):
        files.leave(str(tmp_path / ".kvmcluster"), "node1", text)
        assert (tmp_path / ".kvmcluster" / "node1").read_text() == text
    assert os.listdir(tmp_path / ".kvmcluster") == ["node1"]


def test_no_link_leads_elsewhere(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".kvmcluster").symlink_to(elsewhere)
    with pytest.raises(WorldError, match="cannot be written"):
        files.leave(str(tmp_path / ".kvmcluster"), "node1", "text")
    assert os.listdir(elsewhere) == []
    (tmp_path / ".kvmcluster").unlink()
    (tmp_path / ".kvmcluster").mkdir()
    target = elsewhere / "precious"
    target.write_text("precious")
    (tmp_path / ".kvmcluster" / "node1").symlink_to(target)
    files.leave(str(tmp_path / ".kvmcluster"), "node1", "text")
    assert target.read_text() == "precious"
    assert (tmp_path / ".kvmcluster" / "node1").read_text() == "text"


def test_checks_at_the_same_time_read_each_their_own_token(tmp_path):
    folder = str(tmp_path)
    old = f"{secrets.token_hex(16)} 1000"
    files.leave(os.path.join(folder, tokens.TOKENS), "node1", old)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: tokens.write_tokens([folder], "node1"), range(8)))
    assert not any(errors for _, errors in runs)
    written = {one[folder] for one, _ in runs}
    read = collector.answer({"tokens": {folder: ["node1"]}})["tokens"][folder]["node1"]
    assert set(read.splitlines()) == written and len(written) == 8


def test_what_a_link_in_place_of_a_token_leads_to_is_not_passed_on(tmp_path):
    folder = tmp_path / tokens.TOKENS
    folder.mkdir()
    (folder / "beta").symlink_to("/etc/shadow")
    token = f"{secrets.token_hex(16)} 1000"
    (folder / "gamma").write_text(token)
    question = {"tokens": {str(tmp_path): ["beta", "gamma", "delta"]}, "paths": [str(folder), "/x"]}
    answer = collector.answer(question)
    assert answer["tokens"] == {str(tmp_path): {"gamma": token}}
    assert answer["paths"][str(folder)]["kind"] == "directory"
    assert answer["paths"]["/x"]["kind"] == "nothing"


def test_many_paths_are_asked_about_in_parts_that_ssh_can_carry():
    paths = [f"/nowhere/{number}/it's" for number in range(3000)]
    parts = []

    def run_all(wanted):
        parts.append(wanted)
        return dict.fromkeys(wanted, commands.Outcome(1, "", "No such file or directory"))

    answer = collector.answer(
        {"paths": paths}, node_access.NodeAccess(run_all, node_access.this_host().hypervisor)
    )
    assert {path: observed["kind"] for path, observed in answer["paths"].items()} == dict.fromkeys(
        paths, "nothing"
    )
    for part in parts:
        assert len(shlex.quote(ssh._script(part.values(), "0" * 16))) < 128 * 1024


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(WorldError, match="No such file"):
        files.leave(str(tmp_path / "gone" / ".kvmcluster"), "node1", "text")


def test_a_definition_is_told_from_where_it_counts_and_in_its_own_encoding(tmp_path):
    guests = {"path": "/shared", "list": {"web1": {"xmlfile": "/shared/x.xml"}, "db": {}}}
    cluster = from_pillar({"kvmcluster": {"name": "lab", "nodes": {"node1": {}}, "guests": guests}})

    def run_all(wanted):
        here = {
            path: [word.replace("/shared", str(tmp_path)) for word in words]
            for path, words in wanted.items()
        }
        return commands.run_all(here)

    access = node_access.NodeAccess(run_all, node_access.this_host().hypervisor)
    text = "<?xml version='1.0' encoding='iso-8859-1'?><domain><title>wéb</title></domain>"
    (tmp_path / "x.xml").write_bytes(text.encode("latin-1"))
    (tmp_path / "web1").write_text("<domain/>")
    texts, detail = shared_definitions.read_listed(cluster, access)
    assert "wéb" in texts["web1"] and texts["db"] == ""
    assert set(detail) == {"web1"} and "/shared/web1 is not" in detail["web1"]
    (tmp_path / "x.xml").write_bytes("<domain>é</domain>".encode("latin-1"))
    texts, detail = shared_definitions.read_listed(cluster, access)
    assert "web1" not in texts and "encoding" in detail["web1"]


def test_a_folder_that_never_answers_is_said_and_the_others_are_written(tmp_path, monkeypatch):
    hangs, answers = str(tmp_path / "hangs"), str(tmp_path / "answers")
    os.mkdir(answers)
    leave, over = files.leave, threading.Event()

    def left(folder, name, text):
        if folder.startswith(hangs):
            over.wait()
        leave(folder, name, text)

    monkeypatch.setattr(files, "leave", left)
    monkeypatch.setattr(tokens, "TOKENS_TIME", 0.3)
    try:
        written, detail = tokens.write_tokens([hangs, answers], "node1")
    finally:
        over.set()
    assert [*written] == [answers] and [*detail] == [hangs]
    assert "nothing could be written" in detail[hangs]
