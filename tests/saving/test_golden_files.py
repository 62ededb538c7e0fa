"""
Files of released versions, and of 2.0 before its source was moved: made by `python tests/saving/golden/make.py`.

From 2.0.0 on, there are those of both engines.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, OtherArithmeticError
from sb3_lecture_dqn.saving import checkpoint_file
from sb3_lecture_dqn.study import read_rows
from tests.saving.golden import make
from tests.saving.helpers import no_unpickling

GOLDEN = pathlib.Path(__file__).with_name("golden")


def arrays_of(name):
    with np.load(GOLDEN / name) as file:
        return dict(file)


MODELS = sorted(path.name.removesuffix(".expected.npz") for path in GOLDEN.glob("*.expected.npz"))


def test_there_are_files_of_every_version():
    of_each_engine = [f"{name}-{version}" for version in ("0.1.0", "1.0.0", "2.0.0.dev0") for name in make.ALGORITHMS]
    of_each_engine += [f"{name}{engine}-2.0.0" for name in make.ALGORITHMS for engine in ("", "-torch")]
    assert sorted(of_each_engine) == MODELS


@pytest.mark.parametrize("name", MODELS)
def test_files_of_every_version_load(name):
    algorithm = make.ALGORITHMS[name.split("-")[0]]
    with no_unpickling():
        model = algorithm.load(GOLDEN / f"{name}.zip")
        model.load_replay_buffer(GOLDEN / f"{name}.npz")
    expected = arrays_of(f"{name}.expected.npz")
    actions, _ = model.predict(np.arange(16), deterministic=True)
    assert (actions == expected["actions"]).all()
    assert (model.replay_buffer.observations == expected["observations"]).all()
    assert (model.num_timesteps, model.replay_buffer.size()) == tuple(expected["counts"])


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0.dev0"])
@pytest.mark.parametrize("name", ["dqn", "qrdqn"])
def test_checkpoints_from_before_version_2_resume(name, version, tmp_path):
    algorithm = make.ALGORITHMS[name]
    path = GOLDEN / f"{name}-{version}.checkpoint.zip"
    if name == "dqn":  # it was trained by the compiled engine, which rounded otherwise
        with pytest.raises(OtherArithmeticError, match=r"computed by 'numba 1' .* pass exact=False"):
            algorithm.resume(path, device="cpu")
    with no_unpickling():
        model = algorithm.resume(path, device="cpu", exact=name != "dqn")
    assert model.num_timesteps == 60
    assert model.engine_in_use == {"dqn": "numba", "qrdqn": "torch"}[name]  # as it was, so that it goes on exactly
    goes_on_as(f"{name}-{version}", model, tmp_path)


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_a_later_version_of_checkpoints_leaves_those_of_before_readable(version, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "CHECKPOINT_VERSION", checkpoint_file.CHECKPOINT_VERSION + 1)
    path = GOLDEN / f"dqn-{version}.checkpoint.zip"
    assert LectureDQN.resume(path, device="cpu", exact=False).num_timesteps == 60


@pytest.mark.parametrize("version", ["2.0.0"])
@pytest.mark.parametrize("engine", ["numba", "torch"])
@pytest.mark.parametrize("name", make.ALGORITHMS)
def test_checkpoints_of_every_version_resume(name, engine, version, tmp_path):
    path = f"{name}{'-torch' if engine == 'torch' else ''}-{version}"
    with no_unpickling():
        # The processor may round otherwise than that with which the file was made.
        model = make.ALGORITHMS[name].resume(GOLDEN / f"{path}.checkpoint.zip", device="cpu", exact=engine == "torch")
    assert (model.num_timesteps, model.engine_in_use) == (60, engine)
    goes_on_as(path, model, tmp_path)


def goes_on_as(name, model, folder):
    model.learn(callback=LectureCheckpointCallback(60, folder))
    expected = arrays_of(f"{name}.after.npz")
    assert (model.replay_buffer.observations == expected["observations"]).all()
    assert (model.exploration_rng.random(3) == expected["drawn"]).all()
    assert (model.num_timesteps, model._episode_num) == tuple(expected["counts"])


@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_callbacks_of_every_version_go_on(version, tmp_path):
    path = GOLDEN / f"callbacks-{version}.checkpoint.zip"
    with no_unpickling():
        logs = {"tensorboard_log": str(tmp_path / "logs")}
        model = LectureDQN.resume(path, device="cpu", custom_objects=logs, exact=False)
    parts = make.callbacks()
    model.learn(callback=[*parts, LectureCheckpointCallback(60, tmp_path / "checkpoints")])
    expected = arrays_of(f"callbacks-{version}.after.npz")
    ended = make.outcome(model, *parts)
    assert ended.keys() == expected.keys()
    for name, value in ended.items():
        assert np.array_equal(np.array(value), expected[name]), name
    collecting = parts[-1]
    assert (type(collecting.steps[0]), type(collecting.rewards[0])) == (int, np.float32)


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_results_of_studies_of_every_version_are_read(version, tmp_path):
    shutil.copy(GOLDEN / f"study-{version}.sqlite", tmp_path / "results.sqlite")
    rows = read_rows(tmp_path)
    assert {(row["setting"], row["seed"], row["state"]) for row in rows} == {
        (setting, seed, "done") for setting in ("lecture", "fast") for seed in (0, 1)
    }
    for row in rows:
        curve = json.loads(row["curve"]) if isinstance(row["curve"], str) else row["curve"]
        assert (row["timesteps"], curve["timesteps"]) == (60, [30, 60])
        assert row["mean_reward"] == curve["mean_reward"][-1]
