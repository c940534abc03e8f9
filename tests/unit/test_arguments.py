"""Arguments of our commands: what is none of them is refused, before anything else is done."""

import inspect

import pytest
import salt.utils.args
from salt.exceptions import SaltInvocationError

from saltext_kvmcluster import doors
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.validate import Signature
from saltext_kvmcluster.modules import kvmcluster as node
from saltext_kvmcluster.runners import kvmcluster as master

DRAIN = Signature("salt-run kvmcluster.drain", ("node", "reason", "test"), frozenset({"node"}))


def commands(module):
    """Return the functions of a door, by name."""
    return [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and function.__module__ == module.__name__
    ]


@pytest.mark.parametrize(
    ("positional", "named", "detail"),
    [
        (1, ["tset"], "unknown argument 'tset'; did you mean test?"),
        (0, ["xyz"], "unknown argument 'xyz'; usage: salt-run kvmcluster.drain node [reason] ["),
        (0, [], "node is missing; usage: salt-run kvmcluster.drain node [reason] [test]; nothing"),
        (0, ["reason"], "node is missing"),
        (5, [], "2 arguments too many"),
        (4, [], "1 argument too many"),
        (1, ["node"], "node is given twice"),
        (0, ["x\x1b[2J"], r"unknown argument 'x\x1b[2J'"),
    ],
)
def test_what_is_no_argument_is_refused_by_name(positional, named, detail):
    with pytest.raises(InputError) as caught:
        DRAIN.check(positional, named)
    assert str(caught.value).startswith(detail) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(("positional", "named"), [(1, []), (0, ["node"]), (2, ["test"]), (3, [])])
def test_what_is_right_passes(positional, named):
    DRAIN.check(positional, named)


@pytest.mark.parametrize("function", commands(master), ids=lambda one: one.__name__)
def test_a_runner_reports_an_unknown_argument(function):
    data = function(clustre="lab")["data"]
    assert (data["kind"], data["ok"], data["retcode"]) == ("error", False, 1)
    assert "unknown argument 'clustre'" in data["error"]
    assert salt.utils.args.get_function_argspec(function).keywords == doors.OTHERS


@pytest.mark.parametrize("function", commands(node), ids=lambda one: one.__name__)
def test_a_function_of_a_node_reports_an_unknown_argument(function):
    with pytest.raises(SaltInvocationError, match="unknown argument 'tset'"):
        function(tset=True)
    assert salt.utils.args.get_function_argspec(function).keywords == doors.OTHERS


def test_what_salt_adds_to_any_names_is_none():
    @doors.salt_errors
    def take(guest, limit=5):
        return guest, limit

    assert take("web1", __pub_jid="2026", __pub_tgt="*") == ("web1", 5)
    assert take(guest="web1", limit=7) == ("web1", 7)
