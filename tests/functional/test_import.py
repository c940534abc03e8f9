"""cluster.conf on the real master: what salt-run prints is a pillar that its minions can have."""

import os

import pytest
import salt.loader
import salt.template
import salt.utils.json
import salt.utils.yaml
from sandbox import CHECKOUT, SALT, sentence

# The unit tier has them all; these have odd letters, migration names, text, and secrets.
FILES = [
    CHECKOUT / "tests" / "cases" / "clusterconf" / f"{name}.xml"
    for name in ("copied_definitions", "marathon", "services", "two_nodes")
]
BILLION = "<!DOCTYPE c [<!ENTITY a0 'lol'>{}]><cluster>&a11;</cluster>".format(
    "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
).encode()
SHORT = '<cluster name="c"><clusternodes><clusternode name="{}"/></clusternodes>{}</cluster>'


@pytest.fixture
def imported(salt_run):
    """Run the import as an administrator types it; return its standard output, in bytes."""

    def run(file, *words, code=0):
        done = salt_run("kvmcluster.import_cluster_conf", file, *words)
        assert done.returncode == code, done.stdout
        return done.stdout

    return run


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_what_is_printed_is_a_pillar_that_renders_and_validates(kvm, imported, file):
    printed = imported(file)
    for node in ("alpha", "beta"):
        (SALT / "pillar" / f"{node}.sls").write_bytes(printed)
    renderers = salt.loader.render(dict(kvm.master.config), {})
    file = str(SALT / "pillar" / "alpha.sls")
    rendered = salt.template.compile_template(file, renderers, "jinja|yaml", None, None)
    assert rendered == salt.utils.yaml.safe_load(printed)
    assert rendered["mine_functions"] == {"kvmcluster.identity": []}
    # alpha is no node of it, and only a pillar that is right as a whole can say so.
    kvm.run("alpha", "saltutil.refresh_pillar", wait=True)
    detail = kvm.run("alpha", "kvmcluster.identity")
    name = rendered["kvmcluster"]["name"]
    assert f"alpha is not a node of cluster {name}; its nodes are" in detail


def test_data_holds_the_pillar_and_every_remark(imported):
    data = salt.utils.json.loads(imported(FILES[0], "--out=json"))
    assert set(data) == {"kind", "file", "ok", "pillar", "yaml", "remarks", "retcode"}
    assert salt.utils.yaml.safe_load(data["yaml"]) == data["pillar"]
    assert all(remark["why"] and remark["line"] for remark in data["remarks"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1"])
def test_a_file_is_read_in_the_encoding_that_it_has(imported, tmp_path, encoding):
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>' if encoding == "iso-8859-1" else ""
    text = head + SHORT.format("n1", '<rm>\r\n<vm name="Bürorechner"/>\r\n</rm>')
    (tmp_path / "cluster.conf").write_bytes(text.encode(encoding))
    pillar = salt.utils.yaml.safe_load(imported(tmp_path / "cluster.conf"))
    assert pillar["kvmcluster"]["guests"]["list"] == {"Bürorechner": {}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<cluster>" + b" " * (1 << 20), "longer than 1024 KiB"),
        (SHORT.format("localhost", "").encode(), "no node in it can be imported"),
        # libxml2 gives up by itself, or we do for the DTD; each version of it in its own way.
        (BILLION, "it "),
    ],
    ids=["size", "nodes", "entities"],
)
def test_what_is_no_cluster_conf_is_a_sentence(imported, tmp_path, content, says):
    (tmp_path / "cluster.conf").write_bytes(content)
    detail = sentence(imported(tmp_path / "cluster.conf", code=1).decode())
    assert detail.startswith(f"ERROR: {tmp_path}/cluster.conf: ") and says in detail
    assert detail.count("\n") == 1


def test_what_is_no_file_is_a_sentence(imported, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").touch()
    for file, says in (
        (tmp_path, "is a folder; name the file in it"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "text" / "none", "no such file"),
        (tmp_path / "pipe", "is not a regular file"),
        ("/dev/zero", "is not a regular file"),
        (tmp_path / "loop", "cannot be read: Too many levels of symbolic links"),
        (tmp_path / ("a" * 300), "cannot be read: File name too long"),
    ):
        detail = sentence(imported(file, code=1).decode())
        assert detail == f"ERROR: {file}: {says}\n"


def test_no_name_gets_out_of_its_line(imported, tmp_path):
    names = [
        "a&#10;b: {c: d}",
        "x #y",
        "{{ grains }}",
        "- z",
        "&#133;q",
        "on",
        "'",
        "&quot;",
        "0x1",
    ]
    vms = "".join(f'<vm name="{name}" snapshot="{name}"/>' for name in names)
    (tmp_path / "a\nkvmcluster: {}").write_text(SHORT.format("n1", f"<rm>{vms}</rm>"))
    printed = imported(tmp_path / "a\nkvmcluster: {}").decode()
    pillar = salt.utils.yaml.safe_load(printed)
    assert set(pillar) == {"kvmcluster", "mine_functions"}
    assert list(pillar["kvmcluster"]["guests"]["list"]) == ["x #y", "on", "'", '"', "0x1"]
