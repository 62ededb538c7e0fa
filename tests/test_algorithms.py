"""The table of algorithms: a third algorithm is one line of it, and its word is one of the command line's."""

import pytest
from sb3_contrib import QRDQN
from stable_baselines3 import DQN

from sb3_lecture_dqn import LectureDQN, LectureQRDQN
from sb3_lecture_dqn.algorithms import ALGORITHMS, STOCK_ALGORITHMS, Algorithm, load_model
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.commands import train
from sb3_lecture_dqn.study import Plan
from sb3_lecture_dqn.study.trial import make_model
from sb3_lecture_dqn.training.sb3_defaults import stock_algorithm
from sb3_lecture_dqn.training.tuned import FOLDER


class ThirdAlgorithm(LectureDQN):
    """A subclass without changes."""


def test_every_algorithm_has_its_stock_peer_and_its_file_of_settings():
    assert STOCK_ALGORITHMS == {"dqn": DQN, "qrdqn": QRDQN}
    for algorithm in ALGORITHMS.values():
        assert algorithm.stock is stock_algorithm(algorithm.cls)
        assert (FOLDER / f"{algorithm.settings_file}.yml").is_file()


def test_a_third_algorithm_is_known_to_the_command_line_and_to_studies(tmp_path, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "third", Algorithm(ThirdAlgorithm, DQN))
    monkeypatch.setattr(train, "ALGORITHM_WORDS", sorted(ALGORITHMS))  # else a test says that it is missing there
    words = ["--algo", "third", "--env", "FrozenLake-v1", "--episodes", "1", "--test-episodes", "1", "--quiet"]
    assert main(["train", *words, "--out", str(tmp_path)]) == 0
    (trial,) = Plan(["FrozenLake-v1"], {"mine": {"algorithm": "third"}}, seeds=1, episodes=1).trials()
    assert type(make_model(trial)) is ThirdAlgorithm


@pytest.mark.parametrize("cls", [LectureDQN, LectureQRDQN])
def test_a_file_is_loaded_by_the_algorithm_that_it_names(cls, tmp_path):
    cls("FrozenLake-v1").save(tmp_path / "model")
    assert type(load_model(tmp_path / "model")) is cls
