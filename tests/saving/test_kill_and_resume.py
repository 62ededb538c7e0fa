"""A process can be killed at any moment, and its run ends as it would have."""

import pytest

from tests.saving.kill_and_resume import CONFIGURATIONS, kill_and_resume
from tests.saving.test_checkpoint import equal

SHORT = "Taxi, numba, 1 environment"
STRETCHES = "FrozenLake, numba, stretches"


def check(folder, name, n_kills):
    alone, killed, kills, _ = kill_and_resume(folder, name, n_kills)
    assert kills == n_kills
    assert [part for part in alone["model"] if not equal(alone["model"][part], killed["model"][part])] == []
    assert alone["tests"] == killed["tests"]
    assert (alone["tests"] != []) == CONFIGURATIONS[name].has_tests
    assert alone["scalars"] == killed["scalars"] != {}


def test_killed_five_times(tmp_path, monkeypatch):
    monkeypatch.setitem(CONFIGURATIONS, SHORT, CONFIGURATIONS[SHORT]._replace(n_steps=5_000))
    check(tmp_path, SHORT, 5)


def test_killed_in_stretches(tmp_path, monkeypatch):
    monkeypatch.setitem(CONFIGURATIONS, STRETCHES, CONFIGURATIONS[STRETCHES]._replace(n_steps=200_000))
    check(tmp_path, STRETCHES, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_killed_fifty_times(name, tmp_path):
    check(tmp_path, name, 50)
