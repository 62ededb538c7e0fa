"""The data of a page are those of the model, and what a page cannot show is refused by name."""

import json
import pathlib
import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from gymnasium.spaces import Discrete

from sb3_lecture_dqn import (
    LectureCheckpointCallback,
    LectureDQN,
    LecturePageCallback,
    LectureQRDQN,
    NotTabularError,
    TabularVecEnv,
    UnsafeFileError,
    diagnose,
    exact_test,
    optimal_values,
    show,
)
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.common.run_files import PAGE, RECORDING
from sb3_lecture_dqn.envs.masks import table_masks
from sb3_lecture_dqn.evaluation.values import action_values
from sb3_lecture_dqn.show.page.arrays import unpacked

SHORT = {"max_episode_steps": 50, "seed": 2, "target_update_interval": (4, "episode"), "gradient_steps": 1}
CASES: dict[str, tuple[type, dict[str, Any]]] = {
    "taxi": (LectureDQN, {"env": "Taxi-v3", **SHORT}),
    "taxi, masks, Double Q": (LectureDQN, {"env": "Taxi-v3", "use_masking": True, "double_q": True, **SHORT}),
    "taxi, quantiles": (
        LectureQRDQN,
        {"env": "Taxi-v3", "batch_size": 4, "policy_kwargs": {"n_quantiles": 4}, **SHORT},
    ),
    "frozen_lake": (LectureDQN, {"env": "FrozenLake-v1", **SHORT}),
    "cliff": (LectureDQN, {"env": "CliffWalking-v1", "policy": "TablePolicy", **SHORT}),
}


class Ring(gym.Env):
    """A stranger's environment: a ring of states with one exit."""

    is_tabular = True
    observation_space, action_space = Discrete(6), Discrete(2)

    def __init__(self) -> None:
        self.initial_state_distrib = np.array([0.5, 0.5, 0, 0, 0, 0])
        self.P = [[[(1.0, (s + 2 * a - 1) % 6, float(s == 3), s == 3)] for a in (0, 1)] for s in range(6)]

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(2))
        return self.state, {}

    def step(self, action: Any) -> Any:
        _, self.state, reward, ended = self.P[self.state][action][0]
        return self.state, reward, ended, False, {}


def data_of(path: pathlib.Path) -> dict[str, Any]:
    """Read the data out of a page as a browser does."""
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL
    )
    data: dict[str, Any] = json.loads(text)
    return data


def recorded(folder: pathlib.Path, cls: Any = LectureDQN, n: int = 12, **settings: Any) -> Any:
    return cls(**settings).learn(total_episodes=n, callback=LecturePageCallback(folder, (5, "episode")))


@pytest.mark.parametrize("name", CASES)
def test_the_last_moment_is_the_model(tmp_path: pathlib.Path, name: str) -> None:
    cls, settings = CASES[name]
    model = recorded(tmp_path, cls, **settings)
    model.save(tmp_path / "model")
    (run,) = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"]
    world, moments = run["world"], run["moments"]
    table = model.env.model
    assert run["kind"] == name.partition(",")[0]
    assert run["env_id"] == settings["env"]

    # The values and the greedy actions
    values = action_values(model, np.arange(table.n_states))
    shown = unpacked(moments["q"])
    assert shown.shape == (moments["n"], table.n_states, table.n_actions)
    assert np.abs(shown[-1] - values).max() <= moments["q"]["scale"] / 2 + 1e-6
    masks = {"action_masks": table_masks(table)} if model.use_masking else {}
    actions = model.predict(np.arange(table.n_states), deterministic=True, **masks)[0]
    assert np.array_equal(unpacked(moments["greedy"])[-1], actions)
    assert (world["valid"] is not None) == model.use_masking

    # The exact figures
    result = exact_test(model)
    for key, figure in (("reward", "mean_reward"), ("steps", "mean_steps"), ("penalties", "mean_penalties")):
        assert moments[key][-1] == pytest.approx(getattr(result, figure), abs=1e-6)
    assert moments["solved"][-1] == pytest.approx(result.success_rate)
    assert world["optimal"]["mean_reward"] == optimal_values(model.env).mean_reward
    counted = table.acting_states()[:, None] & (table_masks(table) if model.use_masking else True)
    counted = np.broadcast_to(counted, values.shape)
    error = np.abs(values - table.optimal_action_values(model.gamma))[counted].mean()
    assert moments["q_error"][-1] == pytest.approx(error, abs=1e-5)

    # The world
    for key, array in (("next", table.next_states), ("reward", table.rewards), ("ended", table.terminated)):
        assert np.array_equal(unpacked(world[key]), array)
    if not table.deterministic:
        assert np.allclose(unpacked(world["probability"]), table.probabilities)
    assert np.array_equal(unpacked(world["starts"]), table.start_states)
    cells = unpacked(world["layout"]["cells"])
    assert cells.max(axis=0).tolist() == [world["layout"]["rows"] - 1, world["layout"]["columns"] - 1]

    # The memory
    memory = model.replay_buffer
    assert moments["memory"]["successes"][-1] == memory.success_size
    assert moments["memory"]["failures"][-1] == memory.fail_size
    bits = np.unpackbits(unpacked(moments["memory"]["held"])[-1], bitorder="little")
    pairs = set(zip(memory.observations.ravel().tolist(), memory.actions.ravel().tolist(), strict=True))
    assert set(np.flatnonzero(bits).tolist()) == {s * table.n_actions + a for s, a in pairs}


def test_failing_starts_are_those_whose_greedy_episode_does_not_end_well(tmp_path: pathlib.Path) -> None:
    recorded(tmp_path, n=100, env="FrozenLakeNotSlippery-v1", **SHORT)
    (run,) = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"]
    world = {name: unpacked(run["world"][name]) for name in ("next", "ended", "success", "starts")}
    greedy, fails = unpacked(run["moments"]["greedy"]), unpacked(run["moments"]["fails"])
    for moment in range(run["moments"]["n"]):
        for number, state in enumerate(world["starts"].tolist()):
            success = False
            for _ in range(run["limit"]):
                at = state, greedy[moment][state], 0
                state, success = int(world["next"][at]), bool(world["success"][at])
                if world["ended"][at]:
                    break
            assert fails[moment][number] == (not success)
            assert run["moments"]["solved"][moment] == success


def test_a_stranger_s_environment_is_a_table(tmp_path: pathlib.Path) -> None:
    recorded(tmp_path, env=TabularVecEnv(Ring(), max_episode_steps=20), gradient_steps=1)
    (run,) = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"]
    assert run["kind"] == "table"
    assert run["world"]["layout"] is None
    assert run["world"]["action_names"] == ["0", "1"]
    assert run["limit"] == 20


def test_a_map_that_no_id_makes_is_shown_from_its_recording(tmp_path: pathlib.Path) -> None:
    env = gym.make("FrozenLake-v1", desc=generate_random_map(size=5, seed=3), max_episode_steps=30)
    recorded(tmp_path, env=env, gradient_steps=1)
    (run,) = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"]
    assert (run["kind"], run["world"]["layout"]["rows"], run["limit"]) == ("frozen_lake", 5, 30)
    holes = {(mark["row"], mark["column"]) for mark in run["world"]["layout"]["marks"] if mark["letter"] == "H"}
    expected = zip(*np.nonzero(env.unwrapped.desc == b"H"), strict=True)  # type: ignore[attr-defined]
    assert holes == {(int(row), int(column)) for row, column in expected}


def test_a_run_with_checkpoints_has_a_moment_for_each(tmp_path: pathlib.Path) -> None:
    model = LectureDQN("FrozenLake-v1", **SHORT)
    saver = LectureCheckpointCallback((4, "episode"), tmp_path / "checkpoints", keep=None, verbose=0)
    model.learn(total_episodes=10, callback=saver)
    (run,) = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"]
    moments = run["moments"]
    assert moments["episode"] == [0, 4, 8, 10]
    assert moments["why"] == [["start"], ["checkpoint"], ["checkpoint"], ["checkpoint", "end"]]
    assert moments["drawn"] == [None, "last", "last", "last"]
    values = action_values(model, np.arange(16))
    assert np.abs(unpacked(moments["q"])[-1] - values).max() <= moments["q"]["scale"] / 2 + 1e-6


def test_a_model_has_one_moment_and_stays_as_it_is(tmp_path: pathlib.Path) -> None:
    model = LectureDQN("FrozenLake-v1", **SHORT).learn(total_episodes=3)
    before = action_values(model, np.arange(16)), model.replay_buffer.rng.bit_generator.state
    model.save(tmp_path / "model")
    out = show.write_page([model, tmp_path / "model.zip"], tmp_path / "page")
    assert out == tmp_path / "page.html"
    first, second = data_of(out)["runs"]
    assert first["moments"]["why"] == second["moments"]["why"] == [["end"]]
    assert first["moments"]["q"]["data"] == second["moments"]["q"]["data"]
    assert second["moments"]["memory"]["failures"] == [0]  # a model's file has no memory
    assert np.array_equal(action_values(model, np.arange(16)), before[0])
    assert model.replay_buffer.rng.bit_generator.state == before[1]
    model.learn(total_episodes=2, reset_num_timesteps=False)


def test_a_recorded_model_is_shown_with_its_recording(tmp_path: pathlib.Path) -> None:
    model = recorded(tmp_path, env="FrozenLake-v1", **SHORT)
    (run,) = data_of(show.write_page(model, tmp_path / "page.html"))["runs"]
    assert run["name"] == tmp_path.name
    assert run["moments"]["n"] == 7


def test_a_diverged_run_is_shown_up_to_its_last_moment(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="diverged"):
        recorded(tmp_path, n=300, env="FrozenLake-v1", learning_rate=50.0, **SHORT)
    (run,) = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"]
    assert "diverged" in run["moments"]["why"][-1]
    assert [event["kind"] for event in run["events"]][-1] == "diverged"
    assert np.isfinite(unpacked(run["moments"]["q"])).all()


def test_what_a_page_cannot_show_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    lake = LectureDQN("FrozenLake-v1", **SHORT)
    out = tmp_path / "page.html"
    with pytest.raises(ValueError, match="one run, or two side by side, not 3"):
        show.write_page([lake] * 3, out)
    with pytest.raises(ValueError, match="one run, or two side by side, not 0"):
        show.write_page([], out)
    with pytest.raises(ValueError, match=r"different environments \(FrozenLake-v1 and FrozenLake8x8-v1"):
        show.write_page([lake, LectureDQN("FrozenLake8x8-v1", **SHORT)], out)
    with pytest.raises(NotTabularError, match=r"LectureDQN: a page shows tabular environments only: CartPoleEnv"):
        show.write_page(LectureDQN("MlpPolicy", "CartPole-v1"), out)
    with pytest.raises(FileNotFoundError, match="no such folder or file"):
        show.write_page(tmp_path / "nowhere", out)
    with pytest.raises(FileNotFoundError, match="no recording"):
        show.write_page(tmp_path, out)
    with pytest.raises(TypeError, match="int is neither a folder nor a model"):
        show.write_page(7, out)
    assert not out.exists()
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match=r"out='.*folder\.html' is a folder"):
        show.write_page(lake, tmp_path / "folder.html")


def test_a_name_with_a_dot_gets_its_suffix_too(tmp_path: pathlib.Path) -> None:
    (tmp_path / "v0.9").mkdir()
    assert show.write_page(LectureDQN("FrozenLake-v1", **SHORT), tmp_path / "v0.9") == tmp_path / "v0.9.html"
    assert (tmp_path / "v0.9.html").is_file()


def test_what_happened_before_the_first_moment_is_no_event(tmp_path: pathlib.Path) -> None:
    model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0)
    saver = LectureCheckpointCallback((20, "episode"), tmp_path / "checkpoints", keep=None, verbose=0)
    model.learn(callback=saver)
    (run,) = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"]
    assert [event["kind"] for event in run["events"]] == ["first_success", "all_solved"]
    for path in (tmp_path / "checkpoints").iterdir():
        if not path.name.endswith(f"_{model.num_timesteps}_steps.zip"):
            path.unlink()
    (run,) = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"]
    assert run["moments"]["memory"]["successes"][0] > 0
    assert run["events"] == []


def test_a_damaged_recording_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    recorded(tmp_path, n=2, env="FrozenLake-v1", **SHORT)
    file = tmp_path / RECORDING / "run.bin"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UnsafeFileError, match=r"run\.bin"):
        show.write_page(tmp_path, tmp_path / "page.html")


def test_nothing_of_a_name_becomes_a_part_of_the_page(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "<b>{{data}}&amp;"
    folder.mkdir()
    recorded(folder, n=2, env="FrozenLake-v1", **SHORT)
    out = show.write_page(folder, tmp_path / "page.html")
    (run,) = data_of(out)["runs"]
    assert run["name"] == folder.name
    assert "<title>FrozenLake-v1: &lt;b&gt;{{data}}&amp;amp;</title>" in out.read_text("utf-8")


def test_the_command_line_records_and_writes_pages(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["train", "--env", "FrozenLake-v1", "--episodes", "6", "--seed", "1", "--quiet", "--page"]
    assert main([*options, "--out", str(tmp_path)]) == 0
    (run,) = tmp_path.iterdir()
    assert f"Page: {run / PAGE}" in capsys.readouterr().out
    assert data_of(run / PAGE)["runs"][0]["moments"]["episode"] == [0, 1, 6]
    assert main(["page", str(run), str(run / "model.zip"), "--out", str(tmp_path / "two.html")]) == 0
    assert f"Page: {tmp_path / 'two.html'} (" in capsys.readouterr().out
    assert len(data_of(tmp_path / "two.html")["runs"]) == 2
    assert main(["page", str(tmp_path / "nowhere")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
    assert (
        main(["train", "--env", "CartPole-v1", "--policy", "MlpPolicy", "--page", "--out", str(tmp_path / "new")]) == 2
    )
    assert "a page shows tabular environments only: CartPoleEnv" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_diagnosis_is_that_of_the_model_at_the_last_moment(tmp_path: pathlib.Path) -> None:
    model = recorded(tmp_path, n=40, env="FrozenLake-v1", **SHORT)
    from_recording = data_of(show.write_page(tmp_path, tmp_path / "page.html"))["runs"][0]
    from_model = data_of(show.write_page(model, tmp_path / "page.html"))["runs"][0]
    assert from_recording["diagnosis"] == from_model["diagnosis"]
    moments = from_model["moments"]
    diagnosis = diagnose(model, solved=dict(zip(moments["episode"], moments["solved"], strict=True)))
    for language in ("en", "ko"):
        worded = diagnosis.in_language(language)
        summary, *findings = from_model["diagnosis"][language]
        assert summary["text"] == worded.summary
        assert [finding["kind"] for finding in findings] == [finding.kind for finding in worded.findings]
        assert [finding["text"] for finding in findings] == [finding.text for finding in worded.findings]
    assert len(findings) >= 1
