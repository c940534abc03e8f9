"""The house's rules: who may import whom, who may touch what; and this tier's own rules."""

import ast
import functools
import graphlib
import importlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "saltext_kvmcluster"
SRC = Path(__file__).parent.parent.parent / "src" / PACKAGE
STATES = SRC.parent.parent / "states"
STDLIB = sys.stdlib_module_names
CORE_FORBIDDEN = {"os", "subprocess", "socket", "time", "random"}
DOORS = {"modules", "states", "runners", "returners", "beacons", "output", "utils"}
# From the ground up: a part imports itself and what stands before it, never what stands after it.
MAY_IMPORT = {
    "": {"core", "engine", "host", "doors", "supported", "version"},
    "core": {"core"},
    "engine": {"core", "engine"},
    "host": {"core", "engine", "host"},
    "master": {"core", "engine", "host", "master", "doors"},
    "runners": {"core", "engine", "host", "master", "doors"},
}
LONGEST_FILE = 400
IMPORTS_LIBVIRT = "host/libvirt_connection.py"
IMPORTS_PROMETHEUS = "master/exposition.py"
WRITE_FILES = {"host/files.py", "host/locks.py"}
SPEAK_TO_LIBVIRT = {
    "host/hypervisor.py",
    "host/libvirt_cpu.py",
    "host/libvirt_domains.py",
    "host/libvirt_facts.py",
    "host/libvirt_events.py",
}
WRITERS = re.compile(
    r"os\.(rename|replace|renames|link|symlink|truncate|write|unlink|remove|mkdir|makedirs|rmdir)\Z"
    r"|os\.(l?chmod|l?chown|fchmod|fchown|mkfifo|mknod|utime|setxattr)\Z|shutil\.(?!which|disk_usage)"
    r"|tempfile\."
)
READING_FLAGS = {
    *("os.O_RDONLY", "os.O_PATH", "os.O_CLOEXEC", "os.O_NOFOLLOW", "os.O_DIRECTORY"),
    "os.O_NONBLOCK",
}
PATH_WRITERS = {"write_text", "write_bytes", "rename_to", "touch"}
UNDER_TEST = re.compile(
    r"pytest|unittest|hypothesis|\bmock|under_test|in_test|is_test(ing)?\b|\bTESTING\b|_TEST\b"
)


def faults(path, text):
    """Return what in a file, at its path inside the package, breaks a rule of the house."""
    tree = parsed(text)
    part = path.split("/")[0] if "/" in path else ""
    found = [f"speaks of tests: {match.group()}" for match in UNDER_TEST.finditer(text)]
    for name, lazy in imports(tree):
        found += import_faults(path, part, name, lazy)
    if path not in WRITE_FILES:
        found += [f"writes: {call}" for call in writes(tree)]
    return found


@functools.cache
def parsed(text):
    return ast.parse(text)


@functools.cache
def imports(tree):
    """Return every imported module's whole name, and whether only a function imports it."""
    found, waiting = [], [(tree, False)]
    while waiting:
        node, lazy = waiting.pop()
        if isinstance(node, ast.Import):
            found += [(alias.name, lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found += [(f"{base}.{alias.name}", lazy) for alias in node.names]
        elif isinstance(node, ast.Call) and called(node).endswith(("__import__", "import_module")):
            name = node.args[0]
            known = isinstance(name, ast.Constant)
            found.append((name.value if known else f"{PACKAGE}.<computed>", lazy))
        lazy = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        waiting += [(child, lazy) for child in reversed([*ast.iter_child_nodes(node)])]
    return found


def import_faults(path, part, name, lazy):
    top = name.split(".")[0]
    target = name.split(".")[1] if top == PACKAGE else ""
    if top == PACKAGE and target not in MAY_IMPORT.get(part, {"core", "engine", "host", "doors"}):
        yield f"imports {name}"
    if top in ("", "salt") and (part in ("core", "engine", "host") or top == ""):
        yield f"imports {name}"
    known = {"core": {*STDLIB, "lxml", PACKAGE}, "engine": {*STDLIB, PACKAGE}}.get(part)
    if known and (top in CORE_FORBIDDEN or top not in known):
        yield f"{part} imports {name}"
    if part == "host" and top not in {*STDLIB, "libvirt", "libvirt_qemu", PACKAGE}:
        yield f"host imports {name}"
    if top in ("libvirt", "libvirt_qemu") and (path != IMPORTS_LIBVIRT or not lazy):
        yield f"imports {name} {'here' if lazy else 'eagerly'}"
    if top == "prometheus_client" and (path != IMPORTS_PROMETHEUS or not lazy):
        yield f"imports {name} {'here' if lazy else 'eagerly'}"
    if name.endswith(".load_libvirt") and path not in SPEAK_TO_LIBVIRT:
        yield f"speaks to libvirt by {name}"
    if top in ("subprocess", "pty", "multiprocessing") and path != "host/commands.py":
        yield f"imports {name}"
    if path == "doors.py" and target not in ("core", "supported", ""):
        yield f"the doors' common part imports {name}"


def writes(tree):
    """Yield the calls that write, replace or remove files; flags not spelled out count as such."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and writes_by(node):
            yield ast.unparse(node)[:80]


def writes_by(call):
    name = called(call)
    if WRITERS.match(name) or name.rpartition(".")[2] in PATH_WRITERS:
        return True
    if name == "os.open":
        flags = set(ast.unparse(call.args[1]).split(" | "))
        return not flags <= READING_FLAGS
    if name in ("open", "io.open", "os.fdopen") or name.endswith(".open"):
        modes = [*call.args[1:2], *(item.value for item in call.keywords if item.arg == "mode")]
        reported = " ".join(map(ast.unparse, modes))
        return bool(re.search(r"^'.*[wax+]|O_(WRONLY|RDWR|CREAT|TRUNC)", reported))
    return name in ("os.system", "os.popen", "os.fork", "os.posix_spawn") or name.startswith(
        ("os.exec", "os.spawn")
    )


def called(call):
    """Return the dotted name that a call calls; ``ast.unparse`` would do, ten times as slow."""
    parts, node = [], call.func
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else ast.unparse(node))
    return ".".join(reversed(parts))


FILES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_the_rules_of_the_house_are_kept(path):
    assert faults(path, (SRC / path).read_text()) == []


def test_all_parts_of_the_house_were_read():
    assert {
        "core/trust/login_keys.py",
        "host/files.py",
        "modules/kvmcluster.py",
        "doors.py",
    } <= set(FILES)
    rooms = {path.split("/")[0] for path in FILES if "/" in path}
    assert {"engine", "master"} < rooms <= {"core", "engine", "host", "master", *DOORS}


@functools.cache
def modules():
    """Return every module of the package by its dotted name, an ``__init__`` by its package's."""
    named = {}
    for path in FILES:
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        named[name] = parsed((SRC / path).read_text())
    return named


def imported_modules(known, tree):
    """Yield the modules of this package that a module imports, itself or something of theirs."""
    for name, _ in imports(tree):
        if name.startswith(f"{PACKAGE}."):
            inner = name.removeprefix(f"{PACKAGE}.")
            yield inner if inner in known else inner.rpartition(".")[0]


def test_neither_modules_nor_packages_import_in_a_circle():
    known = modules()
    packages = {name.rpartition(".")[0] for name in known}

    def package(name):
        return name if name in packages else name.rpartition(".")[0]

    of_modules = {name: {*imported_modules(known, tree)} for name, tree in known.items()}
    of_packages = {}
    for name, found in of_modules.items():
        others = {package(other) for other in found} - {package(name)}
        of_packages.setdefault(package(name), set()).update(others)
    for graph in (of_modules, of_packages):
        assert list(graphlib.TopologicalSorter(graph).static_order())


def test_no_import_has_to_be_renamed():
    """No module has the name of something that is used beside it, so no import needs an alias."""
    renamed = [
        (name, ast.unparse(node))
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(alias.asname for alias in node.names)
    ]
    assert renamed == []


@pytest.mark.parametrize("path", [path for path in FILES if path.split("/")[0] not in DOORS])
def test_no_file_but_a_door_is_long(path):
    assert len((SRC / path).read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("core/x.py", "import os"),
        ("core/x.py", "import os.path"),
        ("core/x.py", "from os import path"),
        ("core/x.py", "def f():\n    import subprocess"),
        ("core/x.py", "import socket"),
        ("core/x.py", "from time import time"),
        ("core/x.py", "import random"),
        ("core/x.py", "import yaml"),
        ("core/x.py", "import salt.utils"),
        ("core/x.py", "import libvirt"),
        ("core/x.py", f"from {PACKAGE}.host import files"),
        ("core/x.py", f"from {PACKAGE} import doors"),
        ("core/x.py", f"import {PACKAGE}.host.files"),
        ("core/x.py", "from ..host import files"),
        ("core/x.py", "open('x', 'w')"),
        ("host/x.py", "import salt.client"),
        ("host/x.py", "import lxml.etree"),
        ("host/x.py", "import subprocess"),
        ("host/x.py", "def f():\n    from subprocess import run"),
        ("host/x.py", "def f():\n    import libvirt"),
        ("host/x.py", f"from {PACKAGE}.modules import kvmcluster"),
        ("host/x.py", f"from {PACKAGE} import doors"),
        ("host/libvirt_connection.py", "import libvirt"),
        ("host/hypervisor.py", "def f():\n    import libvirt"),
        ("host/x.py", f"from {PACKAGE}.host.libvirt_connection import load_libvirt"),
        ("host/libvirt_connection.py", "try:\n    import libvirt\nexcept ImportError:\n    pass"),
        ("host/x.py", "import os\nos.rename('a', 'b')"),
        ("host/x.py", "import os\nos.replace('a', 'b')"),
        ("host/x.py", "open('x', mode='ab')"),
        ("host/x.py", "open('x', 'r+')"),
        ("host/x.py", "import os\nos.open('x', os.O_RDONLY | os.O_CREAT)"),
        ("host/x.py", "from pathlib import Path\nPath('x').write_text('')"),
        ("host/x.py", "import os\nos.system('ls')"),
        ("host/ssh.py", "def knock():\n    open('x', 'w')"),
        ("host/x.py", "import os\nflags = os.O_RDWR\nos.open('x', flags)"),
        ("host/x.py", "import os\nos.makedirs('x')"),
        ("host/x.py", "import os\nos.unlink('x')"),
        ("host/x.py", "import shutil\nshutil.rmtree('x')"),
        ("host/x.py", "import tempfile\ntempfile.NamedTemporaryFile()"),
        ("core/x.py", f"from {PACKAGE}.engine import migrator"),
        ("engine/x.py", f"from {PACKAGE}.host import files"),
        ("engine/x.py", "import time"),
        ("engine/x.py", "import lxml.etree"),
        ("core/x.py", f"from {PACKAGE}.master import nodes"),
        ("host/x.py", f"from {PACKAGE}.master import nodes"),
        ("master/x.py", f"from {PACKAGE}.runners import kvmcluster"),
        ("master/x.py", "import subprocess"),
        ("master/x.py", "open('x', 'w')"),
        ("modules/x.py", f"from {PACKAGE}.master import nodes"),
        ("modules/x.py", f"from {PACKAGE}.states import kvmcluster"),
        ("states/x.py", f"import {PACKAGE}.modules.kvmcluster"),
        ("runners/x.py", f"from {PACKAGE} import modules"),
        ("output/x.py", f"from {PACKAGE}.runners.kvmcluster import status"),
        ("modules/x.py", "import libvirt"),
        ("modules/x.py", "import subprocess"),
        ("states/x.py", "open('x', 'w')"),
        ("doors.py", f"from {PACKAGE}.host import files"),
        ("doors.py", f"from {PACKAGE}.modules import kvmcluster"),
        ("states/x.py", "import importlib\nimportlib.import_module(name)"),
        ("modules/x.py", "import importlib\ndef f():\n    importlib.import_module('libvirt')"),
        ("host/x.py", "import os\nif os.environ.get('PYTEST_CURRENT_TEST'):\n    pass".lower()),
        ("host/x.py", "def f(under_test=False):\n    pass"),
        ("core/x.py", "from unittest import mock"),
    ],
)
def test_each_rule_catches_its_breach(path, text):
    assert faults(path, text) != []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "core/x.py",
            f"import posixpath, re\nfrom lxml import etree\nfrom {PACKAGE}.core import a",
        ),
        ("core/x.py", "from __future__ import annotations"),
        (
            "host/x.py",
            f"import os\nfrom {PACKAGE}.host import files\nopen('x', 'rb', encoding='ascii')",
        ),
        ("host/libvirt_connection.py", "def f():\n    import libvirt"),
        (
            "host/hypervisor.py",
            f"from {PACKAGE}.host.libvirt_connection import load_libvirt",
        ),
        ("host/commands.py", "import subprocess"),
        ("host/files.py", "import os\nos.rename('a', 'b')\nopen('x', 'w')"),
        ("host/x.py", "import os\nos.open('x', os.O_RDONLY | os.O_CLOEXEC)"),
        (
            "modules/x.py",
            f"import salt.utils\nfrom {PACKAGE} import doors\nfrom {PACKAGE}.host import a",
        ),
        (
            "master/x.py",
            f"import salt.client\nfrom {PACKAGE} import doors\nfrom {PACKAGE}.master import nodes",
        ),
        ("runners/x.py", f"from {PACKAGE}.master import nodes"),
        ("doors.py", f"import salt.exceptions\nfrom {PACKAGE}.core import cluster"),
        ("states/x.py", "result = None if __opts__['test'] else True"),
    ],
)
def test_what_is_allowed_is_not_caught(path, text):
    assert faults(path, text) == []


@pytest.mark.parametrize("path", sorted(STATES.rglob("reactor/*.sls")), ids=lambda path: path.stem)
def test_what_a_reactor_imports_is_there(path):
    statements = ast.parse(path.read_text()).body
    for line in [one for one in statements if isinstance(one, ast.ImportFrom)]:
        for name in line.names:
            try:
                importlib.import_module(f"{line.module}.{name.name}")
            except ModuleNotFoundError:
                assert hasattr(importlib.import_module(line.module), name.name)


@pytest.mark.parametrize(
    "deed",
    [
        lambda: subprocess.run(["true"], check=False),
        lambda: os.fork(),
        lambda: Path("/nowhere/to/be/written").write_text(""),
        lambda: os.open("/nowhere", os.O_CREAT | os.O_RDONLY),
        lambda: socket.create_connection(("127.0.0.1", 9), 0.1),
    ],
)
def test_a_test_of_this_tier_can_neither_start_a_process_nor_write(deed):
    with pytest.raises(RuntimeError, match="in the unit tier"):
        deed()


def test_what_a_test_imports_is_not_cached_on_the_disk():
    assert sys.dont_write_bytecode
