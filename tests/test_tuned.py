"""Recommended settings, their budgets, and exploration by the actions tried least often."""

import functools
import itertools
from collections import Counter
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml

import sb3_lecture_dqn
from sb3_lecture_dqn import LectureDQN, LectureQRDQN, SuccessFailReplayBuffer, TabularVecEnv, exact_test, run_test
from sb3_lecture_dqn.common.hyperparams import read_hyperparams
from sb3_lecture_dqn.common.user_yaml import read_yaml

SETTINGS = read_hyperparams("lecture_dqn")


def test_the_files_are_yaml_that_rl_zoo_can_read():
    """RL Zoo: a number or "lin_<number>" for schedules, Python in strings of keyword arguments, the rest as it is."""
    for file in (Path(sb3_lecture_dqn.__file__).parent / "hyperparams").glob("*.yml"):
        for env_id, settings in yaml.safe_load(file.read_text()).items():
            assert (env_id == "default") == (file.stem == "lecture")
            assert env_id == "default" or gym.spec(env_id)
            assert float(settings["n_timesteps"]) % 1 == 0
            schedule, value = (
                str(settings["learning_rate"]).split("_") if "_" in str(settings["learning_rate"]) else ("", 1)
            )
            assert schedule in ("", "lin")
            assert float(value) > 0
            assert set(settings.get("env_kwargs", {})) <= {"max_episode_steps"}
            assert eval(settings["policy_kwargs"], {"dict": dict, "th": th})


@pytest.mark.parametrize(
    ("algorithm", "use_masking", "env_id"),
    [
        *[(LectureDQN, False, env_id) for env_id in SETTINGS],
        *[(LectureDQN, True, env_id) for env_id in read_hyperparams("lecture_dqn_masked")],
        *[(LectureQRDQN, False, env_id) for env_id in read_hyperparams("lecture_qrdqn")],
    ],
)
def test_every_environment_has_a_model_with_its_settings_and_budget(algorithm, use_masking, env_id):
    model = algorithm.tuned(env_id, use_masking, seed=0, device="cpu")
    settings = read_hyperparams(algorithm.hyperparams + ("_masked" if use_masking else ""))[env_id]
    assert type(model) is algorithm
    assert model.use_masking == use_masking
    assert model.gamma == settings["gamma"]
    assert model.batch_size == settings["batch_size"]
    assert model.n_envs == settings.get("n_envs", 1)
    assert isinstance(model.policy.optimizer, th.optim.Adam)
    assert model.env_id == env_id
    started = []

    def stop(locals_, _):
        started.append(locals_["total_timesteps"])
        return False

    model.learn(callback=stop)
    assert started == [int(settings["n_timesteps"])]


def test_stochastic_tasks_weigh_outcomes_as_often_as_they_happen():
    for env_id, settings in SETTINGS.items():
        model = LectureDQN.tuned(env_id, device="cpu")
        if isinstance(model.env, TabularVecEnv) and not model.env.model.deterministic:
            assert not model.replay_buffer.deduplicate
            assert model.replay_buffer.success_fraction is None
            assert model.replay_buffer.fail.capacity >= settings["n_timesteps"]


def test_a_falling_learning_rate():
    model = LectureDQN.tuned("FrozenLakeNotSlippery-v1")
    rates = []
    model.learn(2000, callback=lambda locals_, _: rates.append(model.policy.optimizer.param_groups[0]["lr"]) or True)
    assert rates[0] == pytest.approx(0.004)
    assert rates[-1] < 0.0001
    assert np.all(np.diff(rates) <= 0)


def test_overrides_take_the_place_of_settings():
    model = LectureDQN.tuned("Taxi-v3", gamma=0.5, policy_kwargs={"hidden_dim": 4}, max_episode_steps=7, seed=3)
    assert (model.gamma, model.policy.hidden_dim, model.env.max_episode_steps) == (0.5, 4, 7)
    assert model.learn(total_timesteps=40).num_timesteps == 40
    with pytest.raises(TypeError, match="gama"):
        LectureDQN.tuned("Taxi-v3", gama=0.5)


def test_an_environment_without_settings_is_an_error_that_lists_those_with():
    with pytest.raises(ValueError, match=r"env_id='Taxi-v9'.*'Taxi-v3'.*'CartPole-v1'"):
        LectureDQN.tuned("Taxi-v9")


def test_settings_that_there_are_not_are_an_error_that_lists_those_that_there_are():
    known = "lecture, lecture_dqn, lecture_dqn_masked, lecture_qrdqn"
    with pytest.raises(ValueError, match=f"no masked settings for lecture_qrdqn; there are {known}"):
        LectureQRDQN.tuned("Taxi-v3", use_masking=True)
    with pytest.raises(ValueError, match=f"no settings for ppo; there are {known}"):
        read_hyperparams("ppo")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-3", 0.001), ("-2E5", -2e5), ("+.5e1", 5.0), ("1.e2", 100.0), ("1.5", 1.5), (".inf", float("inf"))),
        *(("1", 1), ("0x10", 16), ("e3", "e3"), ("1e", "1e"), ("1e3x", "1e3x"), ("2026-01-01x", "2026-01-01x")),
    ],
)
def test_numbers_in_yaml_are_those_of_its_version_1_2(text, value):
    found = read_yaml("plan.yaml", f"[{text}]")[0]
    assert (type(found), found) == (type(value), value)


def test_a_loaded_model_keeps_its_budget_and_is_given_as_many_environments(tmp_path):
    LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0).learn(100).save(tmp_path / "model")
    model = LectureDQN.load(tmp_path / "model")
    started = []
    model.learn(callback=lambda locals_, _: bool(started.append(locals_["total_timesteps"])))
    assert started == [10_000]
    assert model.get_env().num_envs == 8


def test_an_episode_budget_still_counts_episodes():
    model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0)
    assert model.learn(total_episodes=20)._episode_num >= 20
    assert model.num_timesteps < 10_000


@pytest.mark.parametrize("env_id", ["FrozenLakeNotSlippery-v1", "CliffWalking-v1"])
def test_a_tuned_model_becomes_optimal(env_id):
    assert exact_test(LectureDQN.tuned(env_id, seed=0).learn()).optimality == 1


@pytest.mark.parametrize("n_envs", [1, 4])
def test_exploration_by_the_least_tried_actions(n_envs):
    """With ε = 1, no action is ever two times ahead of another of its state (n_envs may choose at once)."""
    env = TabularVecEnv("Taxi-v3", n_envs=n_envs)
    model = LectureDQN(env, exploration_decay=1.0, explore_least_tried=True, gradient_steps=0, seed=0)
    tries = np.zeros((500, 6), int)
    steps = []

    def count(locals_, _):
        steps.append(1)
        np.add.at(tries, (model._last_obs, locals_["actions"]), 1)
        return True

    model.learn(4000, callback=count)
    assert tries.sum() == len(steps) * n_envs
    np.testing.assert_array_equal(model.action_counts, tries)
    assert (tries.max(axis=1) - tries.min(axis=1)).max() <= n_envs


def test_of_the_least_tried_actions_only_valid_ones_are_taken():
    env = TabularVecEnv("Taxi-v3", n_envs=4)
    model = LectureDQN(env, exploration_decay=1.0, explore_least_tried=True, use_masking=True, gradient_steps=0, seed=0)
    model.learn(4000)
    tries = np.where(env.model.action_masks, model.action_counts, -1)
    assert model.action_counts.sum() == 4000
    assert model.action_counts[~env.model.action_masks].sum() == 0
    for row in tries:
        valid = row[row >= 0]
        assert valid.max() - valid.min() <= 4


def test_least_tried_actions_are_counted_from_the_first_state_on():
    class StartsAtFive(gym.Env):
        observation_space, action_space = gym.spaces.Discrete(3, start=5), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 5, {}

        def step(self, action):
            return 7, 0.0, True, False, {}

    model = LectureDQN(StartsAtFive(), exploration_decay=1.0, explore_least_tried=True, seed=0).learn(10)
    np.testing.assert_array_equal(model.action_counts, [[5, 5], [0, 0], [0, 0]])


def test_it_needs_discrete_observations():
    with pytest.raises(ValueError, match=r"explore_least_tried=True .*Discrete observation space"):
        LectureDQN("MlpPolicy", "CartPole-v1", explore_least_tried=True)


CARDS = {**dict.fromkeys(range(1, 10), 1 / 13), 10: 4 / 13}  # Jack, Queen and King count 10; the deck never ends


def total(points, ace):
    """Of a hand: what it counts, and whether by an ace that counts 11."""
    return (points + 10, 1) if ace and points <= 11 else (points, 0)


def blackjack_return(hits=None):
    """
    The expected return of a policy of Blackjack-v1, whose rules are those of Sutton & Barto (2018), example 5.1: by
    recursion over the hands. A hand is its points with aces as 1, and whether it has an ace.

    :param hits: Whether to hit by what is observed, shape (32, 11, 2). ``None``: the best that can be done
    """

    @functools.cache
    def dealer(points, ace, natural=False):
        """The probabilities of what the dealer ends with, 0 for a bust, and of whether that is a natural."""
        score, _ = total(points, ace)
        if score >= 17:
            return {(score if score <= 21 else 0, natural): 1.0}
        ends = Counter()
        for card, probability in CARDS.items():
            for end, rest in dealer(points + card, ace or card == 1).items():
                ends[end] += probability * rest
        return ends

    def shown(card):
        """The same with one card known; the other makes it a natural if they are an ace and a ten."""
        ends = Counter()
        for other, probability in CARDS.items():
            hand = card + other, 1 in (card, other), {card, other} == {1, 10}
            for end, rest in dealer(*hand).items():
                ends[end] += probability * rest
        return ends

    @functools.cache
    def stick(score, natural, card):
        return sum(
            probability * (1.0 if natural and not theirs else np.sign(score - other))
            for (other, theirs), probability in shown(card).items()
        )

    @functools.cache
    def value(points, ace, card, natural=False):
        score, usable = total(points, ace)
        if score > 21:
            return -1.0
        hit = sum(p * value(points + drawn, ace or drawn == 1, card) for drawn, p in CARDS.items())
        if hits is None:
            return max(hit, stick(score, natural, card))
        return hit if hits[score, card, usable] else stick(score, natural, card)

    return sum(
        p * q * r * value(first + second, 1 in (first, second), card, {first, second} == {1, 10})
        for (first, p), (second, q), (card, r) in itertools.product(CARDS.items(), repeat=3)
    )


def greedy_table(model):
    """What a model of Blackjack-v1 does in every state."""
    return model.predict(np.arange(32 * 11 * 2), deterministic=True)[0].reshape(32, 11, 2)


def test_the_recursion_has_the_values_of_blackjack():
    """A policy that cannot be improved by one hit or stick is the best there is, and its return is what is played."""
    best = blackjack_return()
    assert best == pytest.approx(-0.0431, abs=5e-5)
    hits = np.zeros((32, 11, 2), int)
    hits[:17] = 1
    hits[:19, :, 1] = 1
    env, returns = gym.make("Blackjack-v1"), []
    obs, _ = env.reset(seed=0)
    while len(returns) < 5000:
        obs, reward, terminated, _, _ = env.step(hits[obs])
        if terminated:
            returns.append(reward)
            obs, _ = env.reset()
    expected = blackjack_return(hits)
    assert expected < best
    assert abs(np.mean(returns) - expected) < 4 * np.std(returns) / len(returns) ** 0.5


@pytest.mark.slow
def test_a_tuned_model_plays_blackjack_within_a_hundredth_of_the_best():
    model = LectureDQN.tuned("Blackjack-v1", seed=0, device="cpu").learn()
    assert model.observation_space == gym.spaces.Discrete(704)
    assert blackjack_return(greedy_table(model)) > blackjack_return() - 0.01


def test_a_loaded_model_has_the_wrapper_of_its_settings(tmp_path):
    LectureDQN.tuned("Blackjack-v1", seed=0, device="cpu").learn(32).save(tmp_path / "model")
    model = LectureDQN.load(tmp_path / "model", device="cpu")
    assert run_test(model, n_episodes=20, seed=0) == run_test(model, "Blackjack-v1", n_episodes=20, seed=0)
    model.learn(32)
    assert model.get_env().num_envs == 16
    assert run_test(model, n_episodes=20, seed=0) == run_test(model, "Blackjack-v1", n_episodes=20, seed=0)


def test_a_wrapper_that_is_none_is_an_error(tmp_path):
    LectureDQN("Taxi-v3").save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"env_wrapper=.*ReplayBuffer.* must be None or a class of gymnasium wrappers"):
        LectureDQN.load(tmp_path / "model", custom_objects={"env_wrapper": SuccessFailReplayBuffer})
