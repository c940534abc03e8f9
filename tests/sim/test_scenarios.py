"""Every folder of tests/scenarios is carried out; what happens has to be what its log says."""

import pytest
import scenario
import simulate

FOLDERS = sorted(path for path in simulate.SCENARIOS.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_scenario(folder):
    assert (folder / "README").read_text(encoding="utf-8").strip()
    found, expected = scenario.read(folder)
    outcome = scenario.Run(found).outcome()
    assert not outcome.wrong
    assert scenario.plain(outcome.log).splitlines() == expected.splitlines()


def test_there_are_scenarios():
    assert FOLDERS


def test_a_scenario_without_a_log_fails(tmp_path):
    scenario.write(tmp_path / "new", scenario.Scenario(("wait 1",)), "Nothing happens.")
    assert scenario.read(tmp_path / "new")[0] == scenario.Scenario(("wait 1",))
    (tmp_path / "new" / "log").unlink()
    with pytest.raises(FileNotFoundError):
        test_scenario(tmp_path / "new")
