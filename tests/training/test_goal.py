"""Training without a given budget: until a test is solved, with the best model."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import ClipReward, NormalizeReward, TimeLimit, TransformReward
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTestCallback, exact_test
from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.evaluation.result import TestResult
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoints_in
from sb3_lecture_dqn.training import goal as goal_module
from sb3_lecture_dqn.training.goal import MAX_BUDGETS, STABLE, Goal
from tests.saving.test_checkpoint import Crash, CrashAt, equal, everything

LAKE = "FrozenLakeNotSlippery-v1"


def lake(**kwargs):
    return LectureDQN.tuned(LAKE, **{"seed": 0, "device": "cpu", **kwargs})


def weights(model):
    return {name: value.clone() for name, value in model.q_net.state_dict().items()}


def test_training_ends_at_the_first_solved_test(capsys):
    model = lake(verbose=1).learn(log_interval=None)
    assert model.num_timesteps < model._default_timesteps
    assert exact_test(model).optimality == 1
    assert model.goal_summary in capsys.readouterr().out
    assert model.goal_summary.startswith(f"Solved: the test at step {model.num_timesteps:,}")
    shorter = lake().learn(model.num_timesteps - model._goal._every.n)
    assert exact_test(shorter).optimality < 1


@pytest.mark.parametrize("budget", [{"total_timesteps": 2000}, {"total_episodes": 90}])
def test_a_given_budget_is_trained_as_it_is(budget):
    model = lake(gamma=0.9).learn(**budget)
    assert budget in ({"total_timesteps": model.num_timesteps}, {"total_episodes": model._episode_num})
    assert model.goal_summary == ""


def test_without_a_solved_test_the_budget_grows_and_the_best_model_is_kept():
    model = lake(gradient_steps=1, learning_rate=1e-4)
    model._default_timesteps = 160
    tests = LectureTestCallback(exact=True, test_freq=2, verbose=0)  # a superset of the goal's
    model.learn(callback=tests)
    assert model.num_timesteps == MAX_BUDGETS * 160
    assert model.exploration_rate < 0.3  # the schedules have come to their ends
    assert model.goal_summary.startswith("Not solved, so the best model is kept")
    assert exact_test(model).mean_reward == model._goal._best.mean_reward == tests.best_mean_reward


def test_the_schedules_stretch_to_the_new_end():
    model, rates = lake(gradient_steps=1, learning_starts=0, learning_rate=lambda left: 1e-6 * left), {}
    model._default_timesteps = 160

    def record(locals_, _):
        rates[model.num_timesteps] = model.policy.optimizer.param_groups[0]["lr"]
        return model.num_timesteps < 400

    model.learn(callback=record)
    assert rates[160] == pytest.approx(1e-6 * (1 - 152 / 160))
    assert rates[176] == pytest.approx(1e-6 * (1 - 168 / 320))
    assert model.goal_summary == ""  # a callback has ended the training, so nothing is replaced


@pytest.mark.parametrize(
    ("freq", "crash_at", "engine"),
    [
        *((104, 72, "numba"), (104, 600, "numba"), (104, 704, "numba"), (104, 600, "torch")),
        (8, 12, "numba"),  # from where the first test is due
    ],
)
def test_a_resumed_training_comes_to_the_same(freq, crash_at, engine, tmp_path):
    kwargs = {"engine": engine, "gradient_steps": 2, "learning_rate": 1e-3, "batch_size": 8}
    models, results = [], []
    for crashes in (False, True):
        model = lake(tensorboard_log=str(tmp_path / str(crashes)), **kwargs)
        model._default_timesteps = 400
        callbacks = [LectureCheckpointCallback(freq, verbose=0), CrashAt(crash_at if crashes else 10**9)]
        if crashes:
            with pytest.raises(Crash):
                model.learn(callback=callbacks)
            model.logger.close()
            model = LectureDQN.resume(model.logger.dir)
            callbacks = [LectureCheckpointCallback(freq, verbose=0), CrashAt(10**9)]
        model.learn(callback=callbacks)
        models.append(model)
        results.append(everything(model))
    one, other = results
    assert [name for name in one if not equal(one[name], other[name])] == []
    assert models[0].goal_summary == models[1].goal_summary != ""
    assert equal(*(model._goal.get_state() for model in models))
    assert models[0].num_timesteps > 400


@pytest.mark.parametrize("env", [LAKE, "ReachesNothing-v0"])
def test_a_resumed_run_knows_whether_it_is_over(env, reaches, tmp_path):
    model = LectureDQN.tuned(env, seed=0, device="cpu", tensorboard_log=str(tmp_path))
    model._default_timesteps = 400
    model.learn(callback=LectureCheckpointCallback(200, verbose=0, keep=None))
    model.logger.close()
    last, before, *_ = checkpoints_in(Path(model.logger.dir, "checkpoints"))
    over = [LectureDQN.resume(path) for path in (before, last)]
    assert [resumed._goal.is_over(resumed, resumed._budget) for resumed in over] == [False, True]


def test_a_given_budget_ends_the_goal_of_a_resumed_run(tmp_path):
    model = lake(tensorboard_log=str(tmp_path), gradient_steps=0)
    with pytest.raises(Crash):
        model.learn(callback=[LectureCheckpointCallback(40, verbose=0), CrashAt(200)])
    model.logger.close()
    resumed = LectureDQN.resume(model.logger.dir).learn(240, callback=LectureCheckpointCallback(40, verbose=0))
    assert (resumed.num_timesteps, resumed.goal_summary) == (240, "")


@pytest.mark.parametrize(("at_end", "n_budgets"), [(-1e9, 1), (2.0, 3)])
def test_with_uncertain_outcomes_a_spent_budget_asks_for_less(at_end, n_budgets, monkeypatch):
    monkeypatch.setattr(goal_module, "UNCERTAIN", 2.0)
    monkeypatch.setattr(goal_module, "UNCERTAIN_AT_END", at_end)
    monkeypatch.setattr(goal_module, "MAX_BUDGETS", 3)
    model = LectureDQN.tuned("FrozenLake-v1", seed=0, device="cpu")
    model._default_timesteps = 160
    assert model.learn().num_timesteps == n_budgets * 160
    assert model.goal_summary.startswith("Solved" if n_budgets == 1 else "Not solved")


class Reaches(gym.Env):
    """Every episode has the reward of its action; action 1 is better."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space, action_space = gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.random(2).astype(np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), float(action), True, False, {}


@pytest.fixture
def reaches():
    gym.register("Reaches-v0", Reaches, max_episode_steps=5, reward_threshold=0.9)
    gym.register("ReachesNothing-v0", Reaches, max_episode_steps=5)
    yield
    for name in ("Reaches-v0", "ReachesNothing-v0"):
        gym.registry.pop(name)


def test_without_a_table_a_few_tests_in_a_row_must_reach_the_threshold(reaches):
    model = LectureDQN.tuned("Reaches-v0", seed=0, device="cpu", learning_starts=10, train_freq=4, gradient_steps=4)
    model._default_timesteps = 4000
    model.learn()
    assert model.goal_summary.startswith("Solved")
    assert model.num_timesteps % 200 == 0
    assert STABLE * 200 <= model.num_timesteps < 4000


class Doubles(gym.Wrapper):
    """Of nobody's package: its rewards may be others."""

    def step(self, action):
        obs, reward, *ends = super().step(action)
        return obs, 2 * reward, *ends


class Looks(gym.ObservationWrapper):
    def observation(self, obs):
        return obs


@pytest.mark.parametrize(
    ("make", "applies"),
    [
        (lambda env: env, True),
        (Looks, True),
        (NormalizeReward, True),  # tests have raw rewards
        (lambda env: VecMonitor(DummyVecEnv([lambda: env])), True),
        (lambda env: TransformReward(env, lambda reward: reward + 1), False),
        (lambda env: ClipReward(Looks(env), 0, 0.5), False),
        (Doubles, False),
        (lambda env: TimeLimit(env, 3), False),
    ],
)
def test_a_threshold_is_for_the_registered_rewards_and_step_limit(reaches, make, applies):
    model = LectureDQN.tuned(make(gym.make("Reaches-v0")), seed=0, device="cpu")
    assert goal_module._threshold_of(model) == (0.9 if applies else None)


def test_another_step_limit_by_id_has_no_threshold(reaches):
    assert goal_module._threshold_of(LectureDQN.tuned("Reaches-v0", device="cpu")) == 0.9
    assert goal_module._threshold_of(LectureDQN.tuned("Reaches-v0", device="cpu", max_episode_steps=4)) is None


class Drifts(Reaches):
    """Its observations grow, so that the moments of VecNormalize do not come to rest."""

    observation_space = gym.spaces.Box(0, np.inf, (2,))
    total = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total += 1
        return np.array([self.total, self.np_random.integers(2)], np.float32), {}


@pytest.mark.parametrize("threshold", [5.0, None])
def test_the_moments_of_vecnormalize_are_those_of_the_best_test(threshold, monkeypatch):
    monkeypatch.setattr(goal_module, "_threshold_of", lambda model: threshold)
    monkeypatch.setattr(goal_module, "MAX_BUDGETS", 1)
    spec = gym.envs.registration.EnvSpec("Drifts-v0", entry_point=Drifts, max_episode_steps=5)
    monkeypatch.setitem(gym.registry, "Drifts-v0", spec)
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Drifts-v0")]), norm_reward=False)
    model = LectureDQN.tuned(env, seed=0, device="cpu", learning_starts=10, train_freq=4, gradient_steps=4)
    model._default_timesteps = 400
    kept, test = [], Goal._stepped_test

    def watched(goal, model):
        result, is_good = test(goal, model)
        kept.append((model.num_timesteps, env.obs_rms.mean.copy(), env.obs_rms.count))
        return replace(result, mean_reward=-float(abs(model.num_timesteps - 200))), is_good

    monkeypatch.setattr(Goal, "_stepped_test", watched)
    model.learn()
    step = model._goal._best_step if threshold else model._goal._plateau.step
    ((mean, count),) = [moments for at, *moments in kept if at == step]
    assert 0 < step < 400
    assert np.array_equal(env.obs_rms.mean, mean)
    assert env.obs_rms.count == count


def test_settings_that_a_search_has_found_have_one_budget():
    model = LectureDQN.tuned("Blackjack-v1", seed=0, device="cpu", gradient_steps=0)  # no table, and no threshold
    model._default_timesteps = 512
    assert model.learn().num_timesteps == 512
    assert model.goal_summary == ""


def test_without_a_table_and_a_threshold_training_ends_at_a_plateau(reaches):
    model = LectureDQN.tuned("ReachesNothing-v0", seed=0, device="cpu", gradient_steps=0, train_freq=4)
    model._default_timesteps = 400
    assert model.learn().num_timesteps == 400
    assert model.goal_summary.startswith("Stopped at a plateau at step 400 (tests of new episodes): the last 5 had ")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("n_tests", -1),
        ("n_timesteps", "many"),
        ("weights", {"w": th.tensor([np.nan])}),
        ("weights", {"w": 1}),
        ("best", {"mean_reward": "x"}),
    ],
)
def test_a_wrong_state_is_refused(name, wrong):
    goal = Goal(100)
    state = {**goal.get_state(), name: wrong}
    with pytest.raises(ValueError, match=r"goal|weights|mean_reward"):
        goal.set_state(state)


def test_weights_of_another_network_are_refused():
    model = lake()
    model._goal = goal = Goal(100)
    goal.set_state({**goal.get_state(), "n_tests": 1, "weights": {"w": th.zeros(3)}})
    with pytest.raises(UnsafeFileError, match="do not fit"):
        goal.begin(model)


class Scripted(Goal):
    """Its tests have given results: mean rewards, and whether they are good."""

    def __init__(self, results):
        super().__init__(1000)
        self.results = iter(results)

    def _exact_test(self, model):
        return None

    def _stepped_test(self, model):
        mean_reward, is_good = next(self.results)
        return TestResult(1.0, 0.0, mean_reward, 0.0, 1), is_good


def after_each(results, goal=None):
    """The goal and the model after each of these tests; the n-th is of weights that are all n."""
    goal, model = goal or Scripted(results), lake()
    for n in range(len(results)):
        model.q_net.load_state_dict({name: th.full_like(value, n) for name, value in weights(model).items()})
        goal._test(model)
        yield goal, model


def test_good_tests_must_follow_each_other():
    good = [True] * (STABLE - 1) + [False] + [True] * STABLE
    solved = [goal.is_solved for goal, _ in after_each([(1.0, is_good) for is_good in good])]
    assert solved == [False] * (len(good) - 1) + [True]


@pytest.mark.parametrize(("rewards", "kept"), [((2.0, 3.0, 1.0), 1), ((2.0, 2.0, 2.0), 2), ((2.0, 1.0, 2.0), 2)])
def test_of_tests_in_a_row_the_best_one_is_kept_the_latest_of_equals(rewards, kept):
    *_, (goal, model) = after_each([(reward, True) for reward in rewards])
    goal.end(model)
    assert goal.is_solved
    assert {float(value) for tensor in weights(model).values() for value in tensor.ravel()} == {kept}


def test_the_weights_of_the_best_test_stay_what_they_were():
    *_, (goal, model) = after_each([(1.0, False), (3.0, False), (2.0, False)])
    goal.end(model)
    assert {float(value) for tensor in weights(model).values() for value in tensor.ravel()} == {1}


def test_good_tests_before_a_checkpoint_count():
    *_, (goal, _) = after_each([(1.0, True)] * (STABLE - 1))
    other = Scripted([(1.0, True)])
    other.set_state(goal.get_state())
    ((other, _),) = after_each([(1.0, True)], other)
    assert other.is_solved


def test_all_tests_play_the_same_episodes():
    model = LectureDQN("FrozenLake-v1", seed=3, gradient_steps=0)
    results = []
    for _ in range(3):
        results.append(Goal(1000)._stepped_test(model.learn(50, reset_num_timesteps=False))[0])
    assert results[0] == results[1] == results[2]
    assert results[0].mean_steps > 1


@pytest.mark.parametrize(
    ("n_timesteps", "threshold", "played"),
    [(400, 475.0, [5]), (400, 1.0, [5, 20]), (10_000 * 20, 475.0, [20]), (7 * 500 * 20, 475.0, [7])],
)
def test_a_test_of_long_episodes_has_few_unless_they_reach_the_threshold(n_timesteps, threshold, played, monkeypatch):
    """As many as have 500 steps each between two tests, of which a budget has twenty."""
    model, found = LectureDQN("MlpPolicy", "CartPole-v1", seed=0), []
    run_test_on = goal_module.run_test_on
    monkeypatch.setattr(goal_module, "run_test_on", lambda *args: found.append(args[2]) or run_test_on(*args))
    monkeypatch.setattr(goal_module, "_threshold_of", lambda model: threshold)
    goal = Goal(n_timesteps)
    goal.begin(model)
    result, is_good = goal._stepped_test(model)
    assert found == played
    assert (result.n_episodes, is_good) == (played[-1], result.mean_reward >= threshold)
