"""The end of training where no test can be solved: blocks of tests that no longer improve."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN
from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.training.goal import MAX_BUDGETS, Goal
from sb3_lecture_dqn.training.plateau import BLOCK, Plateau, compare
from tests.saving.test_checkpoint import Crash, CrashAt, equal, everything

assert BLOCK == 5


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], None),
        ([1.0] * 9, None),
        ([1.0] * 10, (1.0, 1.0, 0.0)),
        ([1.0] * 5 + [2.0] * 5, (2.0, 1.0, 0.0)),
        ([1.0] * 5 + [2.0] * 9, (2.0, 1.0, 0.0)),  # the last four are no whole block
        ([3.0] * 5 + [1.0] * 5 + [2.0] * 5, (2.0, 3.0, 0.0)),  # the best before, not the one before
        # Variances 2.5 and 0: the standard error of the difference of means of five is sqrt(2.5 / 5).
        ([0.0] * 5 + [1.0, 2.0, 3.0, 4.0, 5.0], (3.0, 0.0, 0.5**0.5)),
    ],
)
def test_the_last_five_tests_are_compared_with_the_best_five_before(scores, expected):
    assert compare(scores) == (None if expected is None else pytest.approx(expected))


def noted(scores):
    plateau = Plateau()
    for step, score in enumerate(scores):
        plateau.note(float(score), step, {"bias": th.tensor([float(step)])})
    return plateau


def test_only_a_gain_beyond_the_noise_is_an_improvement():
    noise = [-2.0, -1.0, 0.0, 1.0, 2.0]  # a standard error of sqrt(0.5) of each mean, so 1 of their difference
    for gain in (-5.0, 0.0, 0.9, 1.1, 5.0):
        assert noted([*noise, *(gain + x for x in noise)]).improves == (gain > 1)
    assert not noted(range(9)).improves


@given(st.lists(st.integers(0, 3), max_size=40))
def test_the_model_is_of_the_best_test_of_the_last_block_that_is_good_enough(scores):
    plateau, expected = noted(scores), 0
    for end in range(BLOCK, len(scores) + 1, BLOCK):
        block = scores[end - BLOCK : end]
        last, best, noise = compare([float(score) for score in scores[:end]]) or (0, 0, 0)
        if last >= best - noise:
            expected = end - 1 - block[::-1].index(max(block))
    assert plateau.step == expected
    assert plateau.weights == {} if len(scores) < BLOCK else float(plateau.weights["bias"]) == expected


@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3), st.lists(st.integers(-9, 9), min_size=10, max_size=30))
def test_the_scale_of_rewards_changes_nothing(scale, shift, scores):
    one, other = compare([float(x) for x in scores]), compare([shift + scale * x for x in scores])
    gain, scaled = one[0] - one[1], other[0] - other[1]
    assert scaled == pytest.approx(scale * gain, rel=1e-3, abs=1e-9 * (scale + 1000))
    assert other[2] == pytest.approx(scale * one[2], rel=1e-3, abs=1e-5)


class Grows(gym.Env):
    """Episode i has the reward ``curve(i)``, whatever is done, of the two parts of an observation."""

    observation_space, action_space = gym.spaces.MultiDiscrete([2, 2]), gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, curve=lambda i: 0.0, render_mode=None):
        self.curve, self.n, self.render_mode = curve, 0, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, int), {}

    def step(self, action):
        self.n += 1
        return np.ones(2, int), float(self.curve(self.n)), True, False, {}


def grown(curve, n=200, **settings):
    model = LectureDQN.tuned(Grows(curve), seed=0, device="cpu", gradient_steps=0, **settings)
    model._default_timesteps = n
    return model.learn(log_interval=None)


@pytest.mark.parametrize(
    ("curve", "n_budgets"),
    [
        (lambda i: 1.0, 1),
        (lambda i: min(i, 100), 1),  # flat at the end of the budget
        (lambda i: min(i, 250), 2),  # still grows at its end, and a quarter of the next one
        (lambda i: min(i, 390), 3),
        (lambda i: i, MAX_BUDGETS),
        (lambda i: -i, 1),
    ],
)
def test_the_budget_is_extended_as_long_as_training_improves(curve, n_budgets):
    model = grown(curve)
    assert model.num_timesteps == 200 * n_budgets
    verdict = "Stopped with the last budget" if n_budgets == MAX_BUDGETS else "Stopped at a plateau"
    assert model.goal_summary.startswith(
        f"{verdict} at step {200 * n_budgets:,} (means of training episodes): the last 5 had "
    )


def test_it_says_what_it_does(capsys):
    model = grown(lambda i: min(i, 250), verbose=1)
    out = capsys.readouterr().out
    assert "Still better at step 200 (the last 5 had 175.5 reward, the best 5 before 125.5" in out
    assert "): 200 steps more\n" in out
    assert model.goal_summary in out
    assert model.goal_summary.endswith("; the model is that of step 400")


def test_with_fewer_than_two_blocks_the_model_is_the_last_one():
    model = grown(lambda i: i, n=7)
    assert model.num_timesteps == 7
    assert "7 tests are too few to compare, so the model is the last one" in model.goal_summary


@pytest.fixture
def registered():
    gym.register("Grows-v0", Grows, max_episode_steps=5)
    yield "Grows-v0"
    gym.registry.pop("Grows-v0")


def test_where_the_environment_can_be_copied_tests_play_new_episodes(registered):
    env = gym.make(registered)
    model = LectureDQN.tuned(env, seed=0, device="cpu", gradient_steps=0)
    model._default_timesteps = 40
    seeds = []
    copied = Grows.reset

    def noting(self, *, seed=None, options=None):
        seeds.append(seed)
        return copied(self, seed=seed, options=options)

    Grows.reset = noting
    try:
        model.learn()
    finally:
        Grows.reset = copied
    assert model.goal_summary.startswith("Stopped at a plateau at step 40 (tests of new episodes): the last 5 had 0 ")
    of_tests = [seed for seed in seeds if seed is not None]
    assert len(of_tests) == len(set(of_tests)) >= 20 * 5


@pytest.mark.parametrize(
    ("freq", "crash_at"), [(70, 300), (5, 8), (10, 13)], ids=["late", "before the first test", "at the first test"]
)
def test_a_resumed_training_comes_to_the_same(freq, crash_at, tmp_path):
    models, results = [], []
    for crashes in (False, True):
        settings = {"tensorboard_log": str(tmp_path / str(crashes)), "gradient_steps": 2}
        model = LectureDQN.tuned(Grows(lambda i: min(i, 230)), seed=0, device="cpu", **settings)
        model._default_timesteps = 200
        callbacks = [LectureCheckpointCallback(freq, verbose=0), CrashAt(crash_at if crashes else 10**9)]
        if crashes:
            with pytest.raises(Crash):
                model.learn(callback=callbacks)
            model.logger.close()
            env = Grows(lambda i: min(i, 230))
            env.n = crash_at // freq * freq  # it counts its steps itself
            model = LectureDQN.resume(model.logger.dir, env=env)
            callbacks = [LectureCheckpointCallback(freq, verbose=0), CrashAt(10**9)]
        model.learn(callback=callbacks)
        models.append(model)
        results.append(everything(model))
    assert models[0].num_timesteps == 400
    one, other = results
    assert [name for name in one if not equal(one[name], other[name])] == []
    assert models[0].goal_summary == models[1].goal_summary != ""
    assert equal(*(model._goal.get_state() for model in models))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("scores", [float("nan")]), ("scores", [1]), ("step", -1), ("weights", {"w": th.tensor([np.inf])}), ("gone", 1)],
)
def test_a_wrong_state_is_refused(name, wrong):
    goal, state = Goal(100), noted(range(12)).get_state()
    with pytest.raises(ValueError, match=r"plateau|scores|weights"):
        goal.set_state({**goal.get_state(), "plateau": {**state, name: wrong}})
    goal.set_state({**goal.get_state(), "plateau": state})
    with pytest.raises(UnsafeFileError, match="do not fit"):
        goal.begin(LectureDQN.tuned(Grows(), seed=0, device="cpu"))
