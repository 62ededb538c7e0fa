"""Learning curves from event files."""

import os
import re
import struct
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.histogram_pb2 import HistogramProto
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.writer import SummaryWriter

from sb3_lecture_dqn import LectureDQN
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.saving.files import DESCRIPTION
from sb3_lecture_dqn.show.curves import COLOURS
from sb3_lecture_dqn.show.plot import TAGS, find_runs, plot_runs, read_run


def write(folder, points, tag="Reward"):
    """Write an event file with values by episode."""
    with SummaryWriter(str(folder)) as writer:
        for episode, value in points:
            writer.add_scalar(tag, value, episode)


def test_overwritten_values_of_a_resumed_run_are_left_out(tmp_path):
    write(tmp_path, [(1, 0.0), (50, 1.0), (100, 2.0), (150, 3.0)])
    assert read_run(tmp_path)["Reward"] == {1: 0.0, 50: 1.0, 100: 2.0, 150: 3.0}
    second = tmp_path / "later"
    write(second, [(100, 7.0)])
    (events,) = second.iterdir()
    events.rename(tmp_path / events.name.replace("tfevents.", "tfevents.9"))
    assert read_run(tmp_path)["Reward"] == {1: 0.0, 50: 1.0, 100: 7.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with runs of two settings, one with two seeds."""
    folder = tmp_path_factory.mktemp("plot") / "runs"
    for seed in ("1", "2"):
        assert (
            main(["train", "--episodes", "3", "--seed", seed, "--test-episodes", "5", "--quiet", "--out", str(folder)])
            == 0
        )
    options = ["--no-double-dqn", "--test-episodes", "5", "--quiet", "--out", str(folder)]
    assert main(["train", "--episodes", "1", "--seed", "1", *options]) == 0
    return folder


def test_runs_are_found_below_a_folder(runs):
    assert len(find_runs([runs])) == 3
    assert find_runs([runs, *runs.iterdir()]) == find_runs([runs])


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_command_draws_all_runs(runs, tmp_path, capsys, suffix, start):
    out = tmp_path / "new" / f"curves.{suffix}"
    assert main(["plot", str(runs), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(start)
    printed, bar = capsys.readouterr()
    assert "0/3 [" in bar
    assert "SR_True_DD_True (2 runs): reward per episode" in printed
    assert "SR_True_DD_False (1 run): share of solved episodes" in printed
    assert f"Picture: {out}" in printed
    if suffix == "svg":
        assert out.read_text(encoding="utf-8").count("<!-- optimum -->") == 1
        assert out.read_text(encoding="utf-8").count("<!-- printed in the lecture -->") == 1
    if suffix == "png":
        with Image.open(out) as picture:
            assert picture.size[0] > 800


def test_the_optimum_of_taxi(runs):
    from sb3_lecture_dqn.show.plot import _env_id_of, _models_of, _references

    assert _env_id_of(_models_of(find_runs([runs]))) == "Taxi-v3"
    references = _references("Taxi-v3")
    optimum = {name: references["optimum"][title] for name, title in TAGS.items()}
    assert optimum == {
        "Steps": pytest.approx(13.07, abs=5e-5 + 2e-3),
        "Penalty": 0.0,
        "Reward": pytest.approx(7.93),
        "Solved": 1.0,
    }
    assert references["printed in the lecture"][TAGS["Reward"]] == -2.39
    assert set(_references("FrozenLake-v1")) == {"optimum"}
    assert _references("CartPole-v1") == {}


def test_runs_of_several_environments_have_no_optimum_in_common(tmp_path):
    from sb3_lecture_dqn.show.plot import _env_id_of, _models_of

    for folder, env_id in (("a", "Taxi-v3"), ("b", "FrozenLake-v1")):
        (tmp_path / folder).mkdir()
        LectureDQN(env_id).save(tmp_path / folder / "model")
    assert _env_id_of(_models_of([tmp_path / "a"])) == "Taxi-v3"
    assert _env_id_of(_models_of([tmp_path / "a", tmp_path / "b"])) is None
    assert _env_id_of(_models_of([tmp_path])) is None


def test_a_model_beside_a_run_is_read_with_care(tmp_path):
    """A compressed member can be a thousand times as large as the file; gymnasium imports the module before a colon."""
    from sb3_lecture_dqn.show.plot import _env_id_of, _models_of

    LectureDQN("Taxi-v3").save(tmp_path / "good")
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "good.zip").unlink()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DESCRIPTION, b" " * 2**26 + members[DESCRIPTION])
    assert _env_id_of(_models_of([tmp_path])) is None
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr(DESCRIPTION, members[DESCRIPTION].replace(b'"Taxi-v3"', b'"antigravity:Taxi-v3"'))
    assert _env_id_of(_models_of([tmp_path])) is None
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr(DESCRIPTION, members[DESCRIPTION])
    assert _env_id_of(_models_of([tmp_path])) == "Taxi-v3"


def test_numbered_runs_of_sb3_are_seeds_of_one_setting(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"DQN_{number}", [(1, float(number))])
    (line,) = plot_runs([tmp_path], tmp_path / "a.png")
    assert line == "DQN (2 runs): reward per episode 1.50 (runs 1.00 – 2.00) after 1 episodes"


def test_runs_of_other_seeds_by_name_are_seeds_of_one_setting(tmp_path):
    for seed in (1, 2):
        write(tmp_path / f"taxi-v3_tuned_seed{seed}_2026-01-31_12-00-0{seed}", [(1, float(seed))])
    (line,) = plot_runs([tmp_path], tmp_path / "a.png")
    assert line.startswith("taxi-v3_tuned (2 runs): ")


def test_five_runs_have_an_interval(tmp_path):
    for number in range(5):
        write(tmp_path / f"DQN_{number}", [(1, number / 4)], tag="Solved")
    (line,) = plot_runs([tmp_path], tmp_path / "a.png")
    low, high = map(float, re.search(r"0\.50 \(95 % interval (\S+) – (\S+)\) after 1 episodes$", line).groups())
    assert 0 < low < 0.5 < high < 1


def test_runs_of_different_length_have_a_mean_as_far_as_all_go(tmp_path):
    write(tmp_path / "DQN_1", [(1, 0.0), (50, 10.0), (100, 20.0)])
    write(tmp_path / "DQN_2", [(1, 2.0), (50, 20.0)])
    (line,) = plot_runs([tmp_path], tmp_path / "a.png")
    assert line == (
        "DQN (2 runs): reward per episode 15.00 (runs 10.00 – 20.00) after 50 episodes, where the shortest run ends; "
        "the longest ends at 100"
    )


def test_a_run_that_diverged_is_marked_unless_it_went_on(tmp_path):
    with SummaryWriter(str(tmp_path / "DQN_1")) as writer:
        writer.add_scalar("Reward", 1.0, 1)
        writer.add_scalar("Diverged", 1.0, 30)
        writer.add_scalar("Reward", 2.0, 20)  # the last whole model is tested
    (line,) = plot_runs([tmp_path], tmp_path / "a.svg")
    assert line == "DQN (1 run): reward per episode 2.00 after 20 episodes; 1 of 1 diverged"
    assert "<!-- diverged -->" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    write(tmp_path / "later", [(50, 3.0)])
    (events,) = (tmp_path / "later").iterdir()
    events.rename(tmp_path / "DQN_1" / events.name.replace("tfevents.", "tfevents.9"))
    (line,) = plot_runs([tmp_path / "DQN_1"], tmp_path / "a.svg")
    assert line == "DQN (1 run): reward per episode 3.00 after 50 episodes"


def test_a_setting_keeps_its_colour_from_plot_to_plot(tmp_path):
    """Blue is the lecture's setting, alone and beside another."""
    write(tmp_path / "SR_True_DD_True_1", [(1, 1.0), (2, 2.0)])
    plot_runs([tmp_path], tmp_path / "a.svg")
    write(tmp_path / "A_1", [(1, 0.0), (2, 1.0)])
    plot_runs([tmp_path], tmp_path / "b.svg")
    for file in ("a.svg", "b.svg"):
        assert COLOURS[0].lower() in (tmp_path / file).read_text(encoding="utf-8")


def test_the_last_test_of_a_run_and_its_divergence_are_logged(tmp_path, capsys):
    """52 episodes: tests are due after 1 and 50, and the last is after 52. With a large learning rate it diverges."""
    options = ["--test-episodes", "3", "--quiet", "--seed", "1", "--out", str(tmp_path / "runs")]
    assert main(["train", "--env", "FrozenLake-v1", "--episodes", "52", *options]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    logged = read_run(run)["Solved"]
    assert [*logged] == [1, 50, 52]
    assert "Results after 3 episodes:" in capsys.readouterr().out
    assert main(["train", "--episodes", "9", "--set", "learning_rate=10", *options[:-1], str(tmp_path / "bad")]) == 3
    (run,) = (tmp_path / "bad").iterdir()
    assert "Diverged" in read_run(run)


def test_runs_with_other_options_are_other_curves_labelled_by_the_difference(tmp_path):
    common = {"env": "Taxi-v3", "policy": None, "engine": "auto", "tuned": False, "use_masking": False, "set": []}
    runs = [
        {"seed": 1},
        {"seed": 2, "episodes": 7, "pictures": True, "page": True},
        {"seed": 1, "tuned": True, "use_masking": True},
        {"env": "FrozenLake-v1", "set": ["gamma=0.5"]},
    ]
    for number, options in enumerate(runs):
        write(tmp_path / f"DQN_{number}", [(1, 1.0)])
        (tmp_path / f"DQN_{number}" / "config.yaml").write_text(yaml.safe_dump({**common, **options}))
    assert [line.split(":")[0] for line in plot_runs([tmp_path], tmp_path / "a.png")] == [
        "DQN, env=Taxi-v3 (2 runs)",
        "DQN, env=Taxi-v3, tuned, use_masking (1 run)",
        "DQN, env=FrozenLake-v1, gamma=0.5 (1 run)",
    ]


def test_a_config_of_another_program_does_not_matter(tmp_path):
    for number, text in enumerate(["[", "3", "!!python/name:os.system"]):
        write(tmp_path / f"DQN_{number}", [(1, 1.0)])
        (tmp_path / f"DQN_{number}" / "config.yaml").write_text(text)
    (line,) = plot_runs([tmp_path], tmp_path / "a.png")
    assert line.startswith("DQN (3 runs)")


def test_a_run_without_a_figure_is_not_counted_in_it(tmp_path):
    write(tmp_path / "DQN_1", [(1, 1.0)])
    write(tmp_path / "DQN_2", [(1, 1.0)], tag="Steps")
    write(tmp_path / "DQN_3", [(1, 1.0)], tag="Steps")
    reward, steps = plot_runs([tmp_path], tmp_path / "a.png")
    assert steps.startswith("DQN (2 runs): steps")
    assert reward.startswith("DQN (1 run): reward")


def test_of_an_environment_that_is_not_registered_here_there_are_curves_without_an_optimum(tmp_path, capsys):
    env_id = "RegisteredElsewhere-v0"
    gym.register(env_id, entry_point="gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv", max_episode_steps=9)
    write(tmp_path / "run", [(1, 1.0)])
    LectureDQN(env_id).save(tmp_path / "run" / "model")
    del gym.registry[env_id]
    out = tmp_path / "a.svg"
    assert main(["plot", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert "optimum" not in out.read_text(encoding="utf-8")
    assert main(["plot", str(tmp_path / "run"), "--env", env_id]) == 2
    assert f"env='{env_id}' is not a registered environment id" in capsys.readouterr().err


def event_file(folder, *values, name="events.out.tfevents.1.here"):
    """Write an event file with values of a summary, by step."""
    folder.mkdir(exist_ok=True)
    with open(folder / name, "wb") as file:
        writer = RecordWriter(file)
        for step, value in values:
            writer.write(Event(step=step, summary=Summary(value=[value])).SerializeToString())
    return folder / name


def tensor(dtype=DT_FLOAT, shape=(), **content):
    dims = [TensorShapeProto.Dim(size=size) for size in shape]
    return Summary.Value(
        tag="Steps", tensor=TensorProto(dtype=dtype, tensor_shape=TensorShapeProto(dim=dims), **content)
    )


@pytest.mark.parametrize(
    "value",
    [
        Summary.Value(tag="Steps", simple_value=2.5),
        tensor(float_val=[2.5]),
        tensor(shape=(1,), float_val=[2.5]),
        tensor(DT_DOUBLE, double_val=[2.5]),
        tensor(tensor_content=np.float32(2.5).tobytes()),
        tensor(DT_DOUBLE, tensor_content=np.float64(2.5).tobytes()),
    ],
    ids=str,
)
def test_single_numbers_are_read_however_they_are_written(value, tmp_path):
    event_file(tmp_path, (3, value))
    assert read_run(tmp_path) == {"Steps": {3: 2.5}}


@pytest.mark.parametrize(
    "value",
    [
        tensor(shape=(2**31,), float_val=[1.0]),
        tensor(shape=(2**62, 2**62), float_val=[1.0]),
        tensor(shape=(-1,), float_val=[1.0]),
        tensor(shape=(1,) * 500, float_val=[1.0]),
        tensor(shape=(2,), float_val=[1.0, 2.0]),
        tensor(float_val=[]),
        tensor(DT_STRING, string_val=[b"1.0"]),
        tensor(99, float_val=[1.0]),
        tensor(tensor_content=b"abc"),
        Summary.Value(tag="Steps", histo=HistogramProto(min=1.0)),
        Summary.Value(tag="Steps"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_value_that_is_not_a_single_number_is_refused_by_its_tag(value, tmp_path, capsys):
    file = event_file(tmp_path / "run", (3, value))
    assert main(["plot", str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    (line,) = capsys.readouterr().err.strip().split("\r")[-1].splitlines()[-1:]
    assert f"{file}: 'Steps' at step 3 is " in line
    assert "a curve needs single numbers" in line


def test_the_whole_events_of_a_cut_file_are_read_and_a_damaged_file_is_named(tmp_path, capsys):
    file = event_file(tmp_path / "run", *((i, Summary.Value(tag="Steps", simple_value=i)) for i in range(1, 4)))
    whole = file.read_bytes()
    for n in range(len(whole) + 1):
        file.write_bytes(whole[:n])
        expected = {i: float(i) for i in range(1, 4) if n >= i * len(whole) // 3}
        assert read_run(tmp_path / "run") == ({"Steps": expected} if expected else {})
    for content in (b"no event file at all", struct.pack("<Q", 2**63) + whole[8:], b"\xff" * 50):
        file.write_bytes(content)
        with pytest.raises(UnsafeFileError, match="is not an event file, or it is damaged"):
            read_run(tmp_path / "run")
    assert main(["plot", str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err.endswith(f"error: {file} is not an event file, or it is damaged at byte 0\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipes_devices_links_and_folders_by_the_names_of_files_are_passed_over(tmp_path, capsys):
    write(tmp_path / "run", [(1, 1.0)])
    names = ("events.out.tfevents.9.pipe", "model.zip", "config.yaml")
    for name in names:
        os.mkfifo(tmp_path / "run" / name)
    (tmp_path / "run" / "events.out.tfevents.9.zero").symlink_to("/dev/zero")
    (tmp_path / "run" / "events.out.tfevents.9.loop").symlink_to("events.out.tfevents.9.loop")
    (tmp_path / "run" / "events.out.tfevents.9.folder").mkdir()
    (tmp_path / "run" / "here").symlink_to(".")
    (tmp_path / "only").mkdir()
    os.mkfifo(tmp_path / "only" / "events.out.tfevents.1.pipe")
    assert main(["plot", str(tmp_path / "run"), "--out", str(tmp_path / "a.png")]) == 0
    assert "run (1 run): reward per episode 1.00" in capsys.readouterr().out
    assert main(["plot", str(tmp_path / "only"), "--out", str(tmp_path / "a.png")]) == 2
    assert "is not a folder with TensorBoard's event files" in capsys.readouterr().err


def test_many_points_that_take_each_other_back_are_read_in_linear_time(tmp_path):
    steps = [*range(3000), *range(2999, -1, -1), *range(3000)]
    event_file(tmp_path, *((i, Summary.Value(tag="Steps", simple_value=n)) for n, i in enumerate(steps)))
    assert read_run(tmp_path) == {"Steps": {i: float(6000 + i) for i in range(3000)}}


def test_text_of_others_is_drawn_and_printed_as_it_is_and_cut(tmp_path, capsys):
    for number, seed in ((1, "$\\frac{$"), (2, "x" * 500_000)):
        folder = tmp_path / f"$a_b$ \x1b[2J\u202e_{number}"
        write(folder, [(1, 1.0)])
        (folder / "config.yaml").write_text(
            yaml.safe_dump({"env": seed, "set": [f"b{i}=1" for i in range(500)][:-number]})
        )
    assert main(["plot", str(tmp_path), "--out", str(tmp_path / "a.svg")]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.isprintable()
    assert "$a_b$ \\x1b[2J\\u202e" in first + second
    assert max(map(len, (first, second))) < 500
    assert "$a_b$" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_mistakes_are_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["plot", str(tmp_path / "empty")]) == 2
    assert "is not a folder with TensorBoard's event files" in capsys.readouterr().err
    write(tmp_path / "other", [(1, 1.0)], tag="loss")
    assert main(["plot", str(tmp_path / "other")]) == 2
    assert "have not logged the lecture's test (Solved, Reward, Steps, Penalty)" in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "other"), "--out", "curves.jpg"]) == 2
    assert "'curves.jpg' must end in one of .png, .svg, .pdf" in capsys.readouterr().err
