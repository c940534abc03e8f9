"""A master that runs as an account of its own, as packages have it: what it may not do is named."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ACCOUNT = 65534
CODE = """
import json, os, sys
from saltext_kvmcluster.core.errors import KvmclusterError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.host import bootid, files
from saltext_kvmcluster.master.pending import Pending
os.setgid({0})
os.setuid({0})
def tried(deed):
    try:
        return deed()
    except KvmclusterError as error:
        return str(error)

pending = Pending(sys.argv[1])
print(json.dumps([
    tried(lambda: pending.leave("key")),
    tried(lambda: pending.answer("key", lambda last: "done")),
    tried(lambda: files.apply(FilePlan(sys.argv[2], "text", 0o644, "nobody", {{}}))),
    tried(lambda: bootid.is_alive(bootid.process({1}))),
]))
"""


@pytest.fixture
def as_nobody(tmp_path):
    """Return what the account gets: a mark, a reaction, a file, whether a process is alive."""
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)

    def found(cache, path):
        code = CODE.format(ACCOUNT, os.getpid())
        done = subprocess.run(
            [sys.executable, "-c", code, str(cache), str(path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return found


def test_in_its_own_folders_it_does_all(as_nobody, tmp_path):
    os.chown(tmp_path, ACCOUNT, ACCOUNT)
    assert as_nobody(tmp_path, tmp_path / "x.html") == [None, None, None, True]
    assert (tmp_path / "x.html").read_text() == "text"


def test_what_is_of_root_is_named_with_the_account(as_nobody, tmp_path):
    kept = tmp_path / "kvmcluster"
    kept.mkdir(mode=0o700)
    left, answered, written, alive = as_nobody(tmp_path, tmp_path / "x.html")
    for sentence, path in ((left, kept / "key.pending"), (written, tmp_path / "x.html")):
        assert str(path) in sentence, sentence
        assert "Permission denied to account nobody, as which this runs" in sentence
    assert alive and not pathlib.Path(tmp_path / "x.html").exists()
    assert "to account nobody" in answered
    assert "to account nobody" in as_nobody(tmp_path, kept / "x.html")[2]
