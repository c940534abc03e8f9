"""Odd things that may lie where our files are."""

import os
import shutil
import socket
import stat


def _socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # The kernel allows 107 bytes.
        made.bind(path.name)
        os.chdir(here)


def _link(path):
    target = path.parent.parent / "elsewhere"
    target.write_text("{}")
    path.symlink_to(target)


def _giant(path):
    path.touch()
    os.truncate(path, 1 << 30)


ODD = {
    "folder": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "socket": _socket,
    "device": lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)),
    "link": _link,
    "dangling": lambda path: path.symlink_to(path.parent / "missing"),
    "loop": lambda path: path.symlink_to(path),
    "giant": _giant,
    "empty": lambda path: path.touch(),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "nested": lambda path: path.write_text("[" * 16000),
    "kind": lambda path: path.write_text('["a list", {"version": NaN}]'),
}


def discard(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
