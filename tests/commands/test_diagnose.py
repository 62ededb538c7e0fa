"""The command `diagnose`: runs with checkpoints, files without a memory, JSON and Korean."""

import json

import pytest

from sb3_lecture_dqn import LectureDQN, diagnose
from sb3_lecture_dqn.algorithms import load_run
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with a memory in its checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    options = ["--episodes", "8", "--checkpoint-freq", "3", "--test-episodes", "5", "--seed", "0", "--quiet"]
    assert main(["train", "--out", str(folder), *options]) == 0
    (only,) = folder.iterdir()
    return only


def test_a_run_is_diagnosed_with_its_memory(run, capsys):
    model = load_run(run)
    assert model.num_timesteps == load_run(run / "model.zip").num_timesteps
    assert model.replay_buffer.size() > 100
    assert main(["diagnose", str(run)]) == 0
    out = capsys.readouterr().out
    assert out == f"{diagnose(model, solved={1: 0.0, 8: 0.0})}\n"
    assert "1. Successes never seen in training" in out
    newest = checkpoints_in(run / "checkpoints")[0]
    assert main(["diagnose", str(newest)]) == 0
    assert "never" in capsys.readouterr().out


def test_a_file_of_a_model_has_no_memory(run, capsys):
    for name in ("model.zip", "model"):
        assert main(["diagnose", str(run / name)]) == 0
        assert "The memory was not saved" in capsys.readouterr().out


def test_a_longer_trained_model_comes_without_an_older_memory(run):
    (run / "shorter").mkdir()
    checkpoints = checkpoints_in(run / "checkpoints")[::-1]
    (run / "shorter" / checkpoints[0].name).write_bytes(checkpoints[0].read_bytes())
    (run / "shorter" / "model.zip").write_bytes((run / "model.zip").read_bytes())
    model = load_run(run / "shorter")
    assert model.num_timesteps > int(checkpoints[0].stem.split("_")[1])
    assert model.replay_buffer.size() == 0


def test_json_and_korean(run, capsys):
    assert main(["diagnose", str(run), "--json", "--language", "ko"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads(json.dumps(diagnose(load_run(run), language="ko").to_dict()))
    assert data["findings"][0]["title"] == "학습 중 한 번도 보지 못한 성공"


@pytest.mark.parametrize("command", ["diagnose", "test", "watch"])
def test_a_folder_that_is_no_run_is_named(tmp_path, capsys, command):
    assert main([command, str(tmp_path)]) == 2
    assert f"{str(tmp_path)!r} is not the folder of a run: it has no" in capsys.readouterr().err


def test_mistakes_are_named_in_one_line(tmp_path, capsys):
    LectureDQN("FrozenLake-v1", seed=0).save(tmp_path / "model")
    assert main(["diagnose", str(tmp_path / "model"), "--env", "Taxi-v3"]) == 2
    assert "env has 500 states" in capsys.readouterr().err
    assert main(["diagnose", str(tmp_path)]) == 0  # the folder has only the model
    assert "is not trained" in capsys.readouterr().out
    assert main(["diagnose", str(tmp_path / "nothing")]) == 2
    (tmp_path / "damaged.zip").write_bytes(b"PK")
    assert main(["diagnose", str(tmp_path / "damaged.zip")]) == 2
