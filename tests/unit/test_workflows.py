"""What others run of the project (public CI, pre-commit) is what the Makefile runs."""

import re
from pathlib import Path

import pytest
import yaml
from matrix import PAIRS

PROJECT = Path(__file__).parent.parent.parent
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z0-9-]+):(?!=)", MAKEFILE, re.M))
WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
}
COMMAND = re.compile(r"(?:sudo )?make((?: [a-z0-9-]+)+)((?: [A-Z]+=\S+)*)")


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def recipe(target):
    """Return the commands of a target, as they are typed."""
    (lines,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    names = {"$(BIN)": ".venv/bin", "$(MAKE)": "make"}
    for name, value in names.items():
        lines = lines.replace(name, value)
    return [line.strip() for line in lines.splitlines()]


def classified():
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_targets_of_the_makefile_only(name):
    commands = [step["run"] for step in steps(WORKFLOWS[name]) if "run" in step]
    assert commands
    matches = {
        command: COMMAND.fullmatch(re.sub(r"\$\{\{.*?\}\}", "x", command)) for command in commands
    }
    assert all(matches.values()), matches
    assert {target for match in matches.values() for target in match[1].split()} <= TARGETS


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_uses_what_cannot_change(name):
    used = [step["uses"] for step in steps(WORKFLOWS[name]) if "uses" in step]
    assert [use for use in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", use)] == []


def test_the_workflow_tests_every_pair():
    include = WORKFLOWS["test.yml"]["jobs"]["tiers"]["strategy"]["matrix"]["include"]
    assert [(one["salt"], one["python"]) for one in include] == [
        (pair.salt, pair.python) for pair in PAIRS
    ]


def test_classifiers_name_the_pythons_of_the_pairs():
    assert set(classified()) == {pair.python for pair in PAIRS}


def test_pre_commit_runs_what_lint_runs():
    config = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == recipe("lint")
    assert not any(hook["pass_filenames"] for hook in hooks)
