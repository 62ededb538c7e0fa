"""Greedy episodes as videos and as text."""

import os
import re
import subprocess
import sys

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN

from sb3_lecture_dqn import LectureDQN, TabularModel
from sb3_lecture_dqn.cli import main
from sb3_lecture_dqn.common.headless import without_screen
from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.show import pictures
from sb3_lecture_dqn.show.watch import greedy_episodes, record, show


def optimal_model():
    """A Q-table with the exact optimal values of Taxi."""
    model = LectureDQN("TablePolicy", "Taxi-v3", seed=0)
    optimal = TabularModel.from_env("Taxi-v3").optimal_action_values(model.gamma)
    model.q_net.load_state_dict({"layers.0.weight": th.as_tensor(optimal, dtype=th.float32)})
    return model


@pytest.fixture(scope="module")
def model():
    return optimal_model()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.zip"
    model.save(path)
    return path


def n_steps(model, seed, n_episodes, limit):
    """Return the steps of greedy episodes, by a separate loop."""
    env = gym.make("Taxi-v3", max_episode_steps=limit)
    counts = []
    for episode in range(n_episodes):
        obs, _ = env.reset(seed=seed if episode == 0 else None)
        over, count = False, 0
        while not over:
            obs, _, terminated, truncated, _ = env.step(int(model.q_net(th.tensor([obs])).argmax()))
            over, count = terminated or truncated, count + 1
        counts.append(count)
    return counts


def pictures_of(path):
    with imageio.get_reader(path) as reader:
        return [picture for picture in reader]  # noqa: C416  # `list` asks for the length, which FFmpeg does not know


# imageio's reader of MP4 leaves its pipes to FFmpeg open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_a_video_has_a_picture_for_every_step_and_the_end(model, tmp_path, suffix):
    path = tmp_path / "new" / f"taxi.{suffix}"
    env = make_env("Taxi-v3", 20)
    frames = record(model, env, path, n_episodes=2, seed=3)
    assert frames == sum(n_steps(model, 3, 2, 20)) + 2
    read = pictures_of(path)
    assert len(read) == frames
    height, width = env.render().shape[:2]
    assert read[0].shape[:2] == (max(height, 400), width + 380)
    # The environment's picture is on the left, the bars are on the right.
    env.reset(seed=3)
    difference = np.abs(read[0][:height, :width, :3].astype(int) - env.render())
    assert difference.mean() < 6
    assert (read[0][:400, width:, :3] < 200).any()


def test_the_gif_plays_at_its_speed_and_forever(model, tmp_path):
    record(model, make_env("Taxi-v3", 5), tmp_path / "a.gif", fps=5, seed=0)
    with imageio.get_reader(tmp_path / "a.gif") as reader:
        meta = reader.get_meta_data()
    assert meta["duration"] == 200
    assert meta["loop"] == 0


def test_moments_have_the_values_of_their_state(model):
    env = make_env("Taxi-v3", 50)
    moments = list(greedy_episodes(model, env, 1, seed=1))
    obs, _ = make_env("Taxi-v3", 50).reset(seed=1)
    with th.no_grad():
        expected = model.q_net(th.tensor([obs]))[0].numpy()
    assert np.array_equal(moments[0].values, expected)
    assert moments[0].action == expected.argmax()
    assert moments[-1].values is None
    assert moments[-1].total_reward == 21 - moments[-1].step
    assert [moment.step for moment in moments] == list(range(len(moments)))


def test_masks_are_kept_to(tmp_path, capsys):
    model = LectureDQN("Taxi-v3", seed=0, use_masking=True)
    env = make_env("Taxi-v3", 30)
    masks = []
    for moment in greedy_episodes(model, env, 1, seed=1):
        if moment.action is not None:
            mask = env.unwrapped.action_mask(env.unwrapped.s)
            masks.append(mask[moment.action])
            assert np.array_equal(np.isnan(moment.values), mask == 0)
            assert moment.action == np.nanargmax(moment.values)
    assert masks == [1] * 30
    record(model, make_env("Taxi-v3", 3), tmp_path / "a.gif", seed=1)
    assert len(pictures_of(tmp_path / "a.gif")) == 4
    show(model, make_env("Taxi-v3", 1, render_mode="ansi"), seed=1)
    lines = capsys.readouterr().out.splitlines()
    env.reset(seed=1)
    assert (
        sum(line.endswith("(not valid)") for line in lines) == (env.unwrapped.action_mask(env.unwrapped.s) == 0).sum()
    )
    with pytest.raises(ValueError, match=r"neither action_masks\(\) nor info\['action_mask'\]"):
        next(greedy_episodes(model, make_env("FrozenLake-v1", 30), 1))


class Watched(gym.Wrapper):
    """Offers masks that allow other actions in every step."""

    def action_masks(self):
        return np.arange(self.action_space.n) % 2 == self.env.get_wrapper_attr("_elapsed_steps") % 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: (optimal_model(), make_env("Taxi-v3", 4)),
        lambda: (LectureDQN("Taxi-v3", use_masking=True, seed=0), make_env("Taxi-v3", 4)),
        lambda: (LectureDQN("FrozenLake-v1", use_masking=True, seed=0), Watched(make_env("FrozenLake-v1", 4))),
        lambda: (LectureDQN("MlpPolicy", "CartPole-v1", seed=0), make_env("CartPole-v1", 4)),
        lambda: (DQN("MlpPolicy", "CartPole-v1", seed=0), make_env("CartPole-v1", 4)),
    ],
    ids=["taxi", "masks", "alternating", "vectors", "stock"],
)
def test_the_axes_are_the_same_in_all_pictures_and_hold_all_bars(make, tmp_path, monkeypatch):
    model, env = make()
    made, make_bars = [], pictures.ActionBars

    class Bars(make_bars):
        def __init__(self, *args):
            super().__init__(*args)
            self.values = []
            made.append(self)

        def draw(self, values, *args):
            self.values.append(values)
            assert (self.axes.get_xlim(), self.axes.get_ylim()) == (self.limits, (env.action_space.n - 0.5, -0.5))
            return super().draw(values, *args)

    monkeypatch.setattr(pictures, "ActionBars", Bars)
    n_pictures = record(model, env, tmp_path / "a.gif", n_episodes=2, seed=1)
    (bars,) = made
    assert len(bars.values) == n_pictures + 8  # by which the colours are chosen
    drawn = np.concatenate([values for values in bars.values if values is not None])
    low, high = bars.limits
    assert low < min(0, np.nanmin(drawn))
    assert max(0, np.nanmax(drawn)) < high


def test_bars_of_text_begin_at_zero_on_one_axis_that_is_told(model, capsys):
    show(model, make_env("Taxi-v3", 8, render_mode="ansi"), seed=3)
    printed = capsys.readouterr().out
    lines = re.findall(r"^[> ] [a-z ]+? +(-?\d+\.\d+) ( *)(#*)\|(#*)$", printed, re.MULTILINE)
    assert len(lines) == 8 * 6
    values = np.array([float(value) for value, *_ in lines])
    low, high = min(0, values.min()), max(0, values.max())
    zeros = {len(blank) + len(left) for _, blank, left, _ in lines}
    assert zeros == {round(-low / (high - low) * 32)}
    lengths = np.array([len(right) - len(left) for *_, left, right in lines])
    np.testing.assert_allclose(lengths, values / (high - low) * 32, atol=0.51)
    assert printed.count(f"bars begin at | (0), on an axis from {low:.4g} to {high:.4g}\n") == 8
    assert max(map(len, printed.splitlines())) <= 80


ICY = {"is_slippery": False}


@pytest.mark.parametrize(
    ("env_id", "kwargs", "actions", "where", "ending"),
    [
        ("FrozenLake-v1", ICY, [1, 1, 2, 2, 1, 2], "row 4, column 4", "goal reached, +1"),
        ("FrozenLake-v1", ICY, [1, 2], "row 2, column 2", "fell into a hole, +0"),
        ("FrozenLake-v1", ICY, [0] * 9, "row 1, column 1", "not finished: stopped\nafter 9 steps"),
        ("CliffWalking-v1", {}, [0, *[1] * 11, 2], "row 4, column 12", "goal reached, -1"),
        ("CartPole-v1", {}, [1] * 30, "", "ended, +1"),
    ],
)
def test_the_end_of_an_episode_is_told(env_id, kwargs, actions, where, ending):
    env = gym.make(env_id, max_episode_steps=9 if len(actions) == 9 else 40, render_mode="rgb_array", **kwargs)
    model = LectureDQN("MlpPolicy" if env_id == "CartPole-v1" else "LecturePolicy", env_id, seed=0)
    left = iter(actions)
    model.predict = lambda *args, **kwargs: (np.array([next(left)]), None)
    *before, last = greedy_episodes(model, env, 1, seed=0)
    assert (last.where, last.ending) == (where, ending)
    assert {moment.ending for moment in before} == {""}


def test_a_delivery_and_the_passengers_way_are_told(model):
    *before, last = greedy_episodes(model, make_env("Taxi-v3", 50), 1, seed=3)
    assert last.ending == "delivered, +20"
    obs, _ = (env := make_env("Taxi-v3", 50)).reset(seed=3)
    _, _, passenger, destination = env.unwrapped.decode(obs)
    stops = ["R (red)", "G (green)", "Y (yellow)", "B (blue)"]
    assert before[0].where == f"passenger at {stops[passenger]}, to {stops[destination]}"
    assert before[-1].where == f"passenger in the taxi, to {stops[destination]}"
    assert last.where == f"passenger at {stops[destination]}, to {stops[destination]}"


def test_a_model_that_has_diverged_is_watched_too(tmp_path, capsys):
    """With weights this large, values are infinite or NaN."""
    model = LectureDQN("Taxi-v3", seed=0)
    for weight in model.policy.parameters():
        weight.data *= 1e30
    assert record(model, make_env("Taxi-v3", 3), tmp_path / "a.gif", seed=1) == 4
    show(model, make_env("Taxi-v3", 3, render_mode="ansi"), seed=1)
    assert "not valid" not in capsys.readouterr().out


def test_the_command_makes_a_gif_beside_the_model(file, capsys):
    assert main(["watch", str(file), "--episodes", "1", "--seed", "1", "--max-episode-steps", "4"]) == 0
    assert len(pictures_of(file.with_name("watch.gif"))) == 5
    assert f"Video: {file.with_name('watch.gif')} (5 pictures of 1 episode)" in (printed := capsys.readouterr()).out
    assert "0/5 [" in printed.err


@pytest.mark.skipif(sys.platform != "linux", reason="there is no such message elsewhere")
def test_a_machine_without_a_screen_is_not_complained_of(tmp_path):
    """FrozenLake starts pygame's display to render a picture, and SDL prints an error without ``XDG_RUNTIME_DIR``."""
    LectureDQN("FrozenLake-v1", seed=0).save(tmp_path / "model")
    screens = {"DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR"}
    words = [sys.executable, "-m", "sb3_lecture_dqn", "watch", str(tmp_path / "model.zip"), "--episodes", "1"]
    environment = {name: value for name, value in os.environ.items() if name not in screens}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert "picture/s]" in done.stderr
    assert "XDG" not in done.stderr


def test_the_screen_of_a_machine_is_left_alone(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    with without_screen():
        assert os.environ["SDL_VIDEODRIVER"] == "x11"
    monkeypatch.delenv("SDL_VIDEODRIVER")
    monkeypatch.setenv("DISPLAY", ":0")
    with without_screen():
        assert "SDL_VIDEODRIVER" not in os.environ
    monkeypatch.delenv("DISPLAY")
    before = dict(os.environ)
    with without_screen():
        pass
    assert dict(os.environ) == before


def test_the_command_prints_text(file, model, capsys):
    assert main(["watch", str(file), "--ansi", "--episodes", "1", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    (steps,) = n_steps(model, 1, 1, 50)
    assert len(re.findall(r"^episode 1, step \d+, reward", out, re.MULTILINE)) == steps + 1
    assert f"episode 1, step {steps}, reward {21 - steps}\n" in out
    assert len(re.findall(r"^> ", out, re.MULTILINE)) == steps
    assert "\x1b[2J" not in out  # the output is not a terminal
    assert out.count("+---------+") == 2 * (steps + 1)


def test_pixels_and_vectors_are_watched_too(tmp_path):
    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0)
    model.save(tmp_path / "model")
    out = tmp_path / "cart.gif"
    assert main(["watch", str(tmp_path / "model.zip"), "--out", str(out), "--episodes", "1", "--seed", "0"]) == 0
    assert len(pictures_of(out)) > 5


def test_a_model_whose_settings_wrap_the_environment_is_watched_in_it(tmp_path, capsys):
    LectureDQN.tuned("Blackjack-v1", seed=0, device="cpu").save(tmp_path / "model")
    assert main(["watch", str(tmp_path / "model.zip"), "--episodes", "1", "--seed", "0"]) == 0
    assert f"Video: {tmp_path / 'watch.gif'}" in capsys.readouterr().out


def test_text_of_an_environment_without_text_is_a_mistake(tmp_path, capsys):
    LectureDQN("MlpPolicy", "CartPole-v1", seed=0).save(tmp_path / "model")
    assert main(["watch", str(tmp_path / "model.zip"), "--ansi"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "sb3-lecture-dqn: error: --ansi needs an environment that renders as 'ansi'; CartPole-v1 renders as 'human', "
        "'rgb_array'"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "film.avi"], "'film.avi' must end in one of .gif, .mp4"),
        (["--episodes", "0"], "--episodes=0 must be an integer at least 1"),
        (["--fps", "0"], "--fps=0 must be"),
        (["--env", "Taxi-v0"], "env='Taxi-v0' is not a registered environment id"),
    ],
)
def test_mistakes_are_named(file, capsys, options, message):
    assert main(["watch", str(file), *options]) == 2
    assert message in capsys.readouterr().err


def test_an_environment_that_does_not_render_pictures_is_an_error(model, tmp_path):
    with pytest.raises(ValueError, match="its render_mode is None, a video needs 'rgb_array'"):
        record(model, gym.make("Taxi-v3"), tmp_path / "a.gif")
