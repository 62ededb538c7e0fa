import json
import pathlib
import warnings
import zipfile

import pytest

from sb3_lecture_dqn import LectureDQN
from sb3_lecture_dqn.algorithms import load_model


def logging_model(folder, root, **learn):
    model = LectureDQN("FrozenLake-v1", seed=0, tensorboard_log=str(root))
    if learn:
        model.learn(**learn)
    model.save(folder / "model")
    return model


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [None, "named"])
def test_a_loaded_model_logs_on_where_it_logged(name, tmp_path, recwarn):
    root = tmp_path / "runs"
    logging_model(tmp_path, root, total_episodes=2, tb_log_name=name)
    (run,) = root.iterdir()
    LectureDQN.load(tmp_path / "model").learn(total_episodes=1, tb_log_name=name)
    assert len(list(root.iterdir())) == 2
    if name is None:
        LectureDQN.load(tmp_path / "model").learn(total_episodes=1, reset_num_timesteps=False)
        assert len(list(run.iterdir())) == 2
    assert not [warning for warning in recwarn if "nothing is logged" in str(warning.message)]


@pytest.mark.parametrize("kind", ["new", "elsewhere", "logs of others", "a run beside", "below", "an own name"])
def test_a_file_alone_does_not_say_where_to_log(kind, tmp_path, monkeypatch):
    """Nor does it, after it was loaded, where a new run's folder is made."""
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    root = tmp_path / "runs"
    logging_model(tmp_path, root, **({} if kind == "new" else {"total_episodes": 1}))
    changes = {"tensorboard_log": str(victim)}
    if kind == "below":
        changes = {"tensorboard_log": "victim"}
    elif kind != "new":
        (victim / "SR_1").mkdir(parents=True)
        (victim / "SR_1" / "events.out.tfevents.0").write_bytes(b"logs of others")
        if kind == "logs of others":
            changes |= {"_run_folder": str(victim / "SR_1"), "_log_file": "SR_1/events.out.tfevents.1"}
        elif kind == "a run beside":
            changes |= {"_log_file": next(root.rglob("events.*")).relative_to(root).as_posix()}
        elif kind == "an own name":
            changes |= {"_log_file": f"../runs/{next(root.rglob('events.*')).relative_to(root).as_posix()}"}
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members["sb3_lecture_dqn.json"])
    description["settings"] |= changes
    members["sb3_lecture_dqn.json"] = json.dumps(description).encode()
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    before = files_in(tmp_path)
    model = load_model(tmp_path / "evil")
    with pytest.warns(UserWarning, match=r"tensorboard_log='.*victim.*nothing is logged.*load\(path, tensorboard_log="):
        model.learn(total_episodes=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(total_episodes=1)  # and says it once
    assert files_in(tmp_path) == before
    assert model.make_run_folder().parent == pathlib.Path("runs")
    again = LectureDQN.load(tmp_path / "evil")
    again.save(tmp_path / "again")
    assert LectureDQN.load(tmp_path / "again")._log_of_file == changes["tensorboard_log"]
    for asked in (
        LectureDQN.load(tmp_path / "evil", tensorboard_log=str(victim)),
        LectureDQN.load(tmp_path / "evil", custom_objects={"tensorboard_log": str(victim)}),
    ):
        n_files = len(files_in(victim)) if victim.exists() else 0
        asked.learn(total_episodes=1)
        assert len(files_in(victim)) == n_files + 1
