import contextlib
import hashlib
import io
import json
import os
import pathlib
import traceback
import zipfile

import pytest
from stable_baselines3 import DQN

from sb3_lecture_dqn import LectureDQN, UnsafeFileError
from sb3_lecture_dqn.algorithms import load_model
from tests.saving.helpers import files_of_at_most, same_state


def test_a_file_of_another_kind_is_named_with_what_loads_it(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0).learn(total_timesteps=5)
    files = {"a model": "save", "a checkpoint": "save_checkpoint", "a replay memory": "save_replay_buffer"}
    for kind, save in files.items():
        getattr(model, save)(tmp_path / f"{kind}.zip")
    ways = {
        "a model": r"LectureDQN\.load\(",
        "a checkpoint": r"LectureDQN\.resume\(",
        "a replay memory": "load_replay_buf",
    }
    loaders = {
        "a model": [LectureDQN.load, load_model, lambda path: LectureDQN.load(path, trust=True)],
        "a checkpoint": [LectureDQN.resume],
        "a replay memory": [model.load_replay_buffer],
    }
    for own, methods in loaders.items():
        for kind in files.keys() - {own}:
            for method in methods:
                with pytest.raises(UnsafeFileError, match=f"it is {kind}.*{ways[kind]}"):
                    method(tmp_path / f"{kind}.zip")


@pytest.mark.parametrize(
    "text", ["\x1b]0;evil\x07", "\x9b31m", "a\nb\r", "\u202eevil", "\udc80", "x" * 10**6], ids=ascii
)
def test_text_of_a_file_is_shown_and_not_obeyed(text, tmp_path, capsys):
    """By a terminal; nor does it fill one."""
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.save(tmp_path / "good")
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members["sb3_lecture_dqn.json"])
    wrong = [
        {"learning_rate": {"$": "code", "what": text}},
        {"gamma": text},
        {"gamma": {"$": text}},
        {"engine": text},
        {"env_id": text},
        {text: {"$": "code", "what": "x"}},
        {"policy_kwargs": {text: 1}},
        {"policy_kwargs": {text: {"$": "class", "name": text}}},
        {"policy_class": {"$": "name", "name": text}},
        {"observation_space": {"$": "space", "kind": text}},
        {"replay_buffer_kwargs": {text: 1}},
        {"replay_buffer_kwargs": {"success_criterion": text}},
    ]
    for changed in wrong:
        described = {**description, "settings": {**description["settings"], **changed}}
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            for name, content in {**members, "sb3_lecture_dqn.json": json.dumps(described).encode()}.items():
                archive.writestr(name, content)
        with pytest.raises(UnsafeFileError) as caught:
            LectureDQN.load(tmp_path / "evil")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 10_000
        assert "".join(traceback.format_exception(caught.value)).replace("\n", "").isprintable()
    info = f"- OS: {text}\n".encode(errors="replace")
    digest = {"bytes": len(info), "sha256": hashlib.sha256(info).hexdigest()}
    description["members"]["system_info.txt"] = digest
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        changed = {"system_info.txt": info, "sb3_lecture_dqn.json": json.dumps(description).encode()}
        for name, content in {**members, **changed}.items():
            archive.writestr(name, content)
    LectureDQN.load(tmp_path / "evil", print_system_info=True)
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_files_are_named_as_by_sb3(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = LectureDQN("FrozenLake-v1")
    model.save("plain")
    model.save("with.zip")
    model.save(tmp_path / "with.other")
    (tmp_path / "folder.zip").mkdir()
    with pytest.warns(UserWarning, match="folder"):
        model.save("folder")
    with pytest.warns(UserWarning, match="does not exist"):
        model.save("new/folder/model")
    model.save_replay_buffer("memory")
    model.save_replay_buffer("memory.pkl")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "plain.zip",
        "with.zip",
        "with.other",
        "folder.zip_2",
        "new/folder/model.zip",
        "memory.npz",
        "memory.pkl",
    }
    for path in ("plain", "with.zip", pathlib.Path("with.other"), "folder.zip_2"):
        assert same_state(LectureDQN.load(path), model)
    model.load_replay_buffer("memory")
    model.load_replay_buffer("memory.pkl")


def test_open_files_are_written_and_read(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0).learn(total_timesteps=9)
    model_file, memory_file = io.BytesIO(), io.BytesIO()
    model.save(model_file)
    model.save_replay_buffer(memory_file)
    with (tmp_path / "model.zip").open("wb") as write_only:
        model.save(write_only)
    loaded = LectureDQN.load(model_file)
    loaded.load_replay_buffer(memory_file)
    assert same_state(loaded, model)
    assert same_state(LectureDQN.load(tmp_path / "model"), model)
    assert repr(loaded.replay_buffer.get_state()) == repr(model.replay_buffer.get_state())


@pytest.mark.parametrize("letter", ["m", "é", "모", "🚕"])
@pytest.mark.parametrize("n_bytes", [1, 40, 200, 229, 233, 234, 247, 251, 252, 255])
def test_every_name_that_sb3_can_save_is_saved(letter, n_bytes, tmp_path):
    """The system allows for 255 bytes, of which the suffix has four."""
    name = letter * (n_bytes // len(letter.encode()) or 1)
    ours, theirs = LectureDQN("FrozenLake-v1"), DQN("MlpPolicy", "FrozenLake-v1", buffer_size=10)
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    saved = []
    for model, folder in ((theirs, "theirs"), (ours, "ours")):
        for save in (model.save, model.save_replay_buffer):
            with contextlib.suppress(OSError):
                save(tmp_path / folder / name)
                saved.append((folder, save.__name__))
    assert [save for folder, save in saved if folder == "ours"] == [
        save for folder, save in saved if folder == "theirs"
    ]
    assert len(os.listdir(tmp_path / "ours")) == len(os.listdir(tmp_path / "theirs"))  # and nothing is left beside
    if saved:
        assert same_state(LectureDQN.load(tmp_path / "ours" / name), ours)


@pytest.mark.parametrize("method", ["save", "save_replay_buffer"])
def test_a_file_that_cannot_be_written_leaves_the_one_before(method, tmp_path):
    model = LectureDQN("Taxi-v3", seed=0).learn(total_timesteps=200)
    path = tmp_path / "file.zip"
    getattr(model, method)(path)
    before = path.read_bytes()
    with files_of_at_most(2_000), pytest.raises(OSError, match="File too large"):
        getattr(model, method)(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file.zip"]


def test_an_open_file_that_raises_leaves_no_view_of_what_was_to_be_written():
    """Python 3.13 prints an error where such a view is collected beside what it is of."""

    class Full(io.BytesIO):
        def write(self, content):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left") as raised:
        LectureDQN("FrozenLake-v1").save(Full())
    (content,) = (frame.frame.f_locals["content"] for frame in raised.traceback if frame.name == "written_whole")
    content.close()  # raises if there is a view


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b)))
    LectureDQN("FrozenLake-v1").save(tmp_path / "model")
    flushed, replaced, folder = events
    assert pathlib.Path(flushed).parent == tmp_path
    assert flushed.endswith(".tmp")
    assert (replaced, folder) == ("replace", str(tmp_path))


def test_a_symbolic_link_stays_one_and_permissions_are_the_usual_ones(tmp_path):
    (tmp_path / "link.zip").symlink_to(tmp_path / "target.zip")
    LectureDQN("FrozenLake-v1").save(tmp_path / "link")
    (tmp_path / "other").touch()
    assert (tmp_path / "link.zip").is_symlink()
    assert (tmp_path / "target.zip").stat().st_mode == (tmp_path / "other").stat().st_mode
    (tmp_path / "target.zip").chmod(0o600)
    LectureDQN("FrozenLake-v1").save(tmp_path / "link")
    assert (tmp_path / "target.zip").stat().st_mode & 0o777 == 0o600
