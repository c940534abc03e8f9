"""A plan is a value: what it says under test=True is what the real run does."""

from saltext_kvmcluster.core.fileplan import Changes, FileState, Wanted, merged_changes, plan_file
from saltext_kvmcluster.core.text import printable

WANTED = Wanted("new\n", Changes(("a",), ("b",), ("c -> d",)))
RIGHT = FileState("new\n", 0o600, "root")


def changes(found, wanted=WANTED):
    return plan_file("/root/.ssh/file", found, wanted, 0o600, "root").changes


def test_a_file_that_is_right_has_no_changes():
    assert changes(RIGHT) == {}


def test_another_text_is_told_in_words():
    found = FileState("old\n", 0o600, "root")
    assert changes(found) == {"file": {"added": ["a"], "removed": ["b"], "replaced": ["c -> d"]}}


def test_another_layout_without_another_entry_is_a_change_too():
    found = FileState("old\n", 0o600, "root")
    assert changes(found, Wanted("new\n"))["file"]["replaced"] == ["layout, no entry"]


def test_a_missing_file_is_made_even_if_there_is_nothing_to_say():
    detail = changes(FileState(), Wanted("new\n"))
    assert detail == {"file": {"added": [], "removed": [], "replaced": []}}


def test_a_missing_file_is_made_even_if_it_is_empty():
    assert changes(FileState(), Wanted("")) != {}


def test_another_mode_is_told_in_octal():
    assert changes(FileState("new\n", 0o4644, "root")) == {"file": {"mode": "4644 -> 0600"}}


def test_another_owner_is_told():
    assert changes(FileState("new\n", 0o600, "alice")) == {"file": {"owner": "alice -> root"}}


def test_the_plan_carries_what_will_be_written():
    plan = plan_file("/root/.ssh/file", FileState("old", 0o644, "x"), WANTED, 0o600, "root")
    assert (plan.path, plan.text, plan.mode, plan.owner) == (
        "/root/.ssh/file",
        "new\n",
        0o600,
        "root",
    )
    assert set(plan.changes["file"]) == {"added", "removed", "replaced", "mode", "owner"}


def plan_at(path):
    return plan_file(path, FileState(), WANTED, 0o600, "root")


def test_changes_of_several_files_stand_side_by_side():
    merged = merged_changes([plan_at("/root/a"), plan_at("/root/b")])
    assert list(merged) == ["a", "b"]


def test_files_of_one_name_in_two_folders_are_told_apart():
    merged = merged_changes([plan_at("/root/.ssh/a"), plan_at("/srv/.ssh/a")])
    assert list(merged) == ["a", "/srv/.ssh/a"]


def test_a_plan_without_changes_adds_nothing():
    assert merged_changes([plan_file("/a", RIGHT, WANTED, 0o600, "root")]) == {}


def test_words_are_fit_for_every_terminal_and_codec():
    assert printable("café \x1b[2J\n\udcff\u202e") == "café \ufffd[2J\ufffd\ufffd\ufffd"
    assert Changes(("a\udcff",), ("b\n",), ("c\x00",)).to_dict() == {
        "added": ["a\ufffd"],
        "removed": ["b\ufffd"],
        "replaced": ["c\ufffd"],
    }
