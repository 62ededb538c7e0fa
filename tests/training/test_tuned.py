"""Recommended settings, their budgets, and exploration by the actions tried least often."""

import functools
import itertools
from collections import Counter
from pathlib import Path

import gymnasium as gym
import hypothesis
import numpy as np
import pytest
import torch as th
import yaml
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture_dqn
from sb3_lecture_dqn import (
    LectureDQN,
    LecturePolicy,
    LectureQRDQN,
    SuccessFailReplayBuffer,
    TabularModel,
    TabularVecEnv,
    exact_test,
    run_test,
)
from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer
from sb3_lecture_dqn.common.checks import check_finite
from sb3_lecture_dqn.common.user_yaml import read_yaml
from sb3_lecture_dqn.training.tuned import read_hyperparams

SETTINGS = read_hyperparams("lecture_dqn")
#: Ids that the files have and an older gymnasium has not, as it registers Taxi-v4 since 1.3
OF_LATER = {"Taxi-v4"} - gym.registry.keys()
NO_TIMEOUTS = {"handle_timeout_termination": False}


def test_the_files_are_yaml_that_rl_zoo_can_read():
    """RL Zoo: a number or "lin_<number>" for schedules, Python in strings of keyword arguments, the rest as it is."""
    for file in (Path(sb3_lecture_dqn.__file__).parent / "hyperparams").glob("*.yml"):
        for env_id, settings in yaml.safe_load(file.read_text()).items():
            assert env_id in {"default", *OF_LATER} or gym.spec(env_id)
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
        (algorithm, use_masking, env_id)
        for algorithm, use_masking, file in [
            (LectureDQN, False, "lecture_dqn"),
            (LectureDQN, True, "lecture_dqn_masked"),
            (LectureQRDQN, False, "lecture_qrdqn"),
        ]
        for env_id in read_hyperparams(file)
        if env_id not in {"default", *OF_LATER}
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
        if env_id in {"default", *OF_LATER}:
            continue
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


@pytest.mark.parametrize("env", ["FrozenLake-v1", "CartPole-v1", "an object"])
@pytest.mark.parametrize(
    ("overrides", "memory", "policy"),
    [
        ({"n_steps": 3}, NStepReplayBuffer, None),
        ({"replay_buffer_class": ReplayBuffer}, ReplayBuffer, None),
        ({"optimize_memory_usage": True, "replay_buffer_kwargs": NO_TIMEOUTS}, ReplayBuffer, None),
        ({"store_and_replay": False}, LatestTransitionBuffer, None),
        ({"policy": "LecturePolicy"}, SuccessFailReplayBuffer, LecturePolicy),
        ({"policy": LecturePolicy}, SuccessFailReplayBuffer, LecturePolicy),
    ],
)
def test_arguments_of_what_an_override_replaces_go_with_it(env, overrides, memory, policy):
    env = gym.make("CartPole-v1") if env == "an object" else env
    model, as_it_is = (LectureDQN.tuned(env, seed=0, device="cpu", **kwargs) for kwargs in (overrides, {}))
    assert type(model.learn(30).replay_buffer) is memory
    assert type(model.policy) is (policy or type(as_it_is.policy))
    assert isinstance(model.policy.optimizer, th.optim.Adam)
    if policy is None:
        assert model.policy_kwargs == as_it_is.policy_kwargs


def test_episodes_cannot_be_counted_in_the_environments_of_the_settings():
    with pytest.raises(ValueError, match=r"train_freq=\(1, 'episode'\) needs one environment, and 'Taxi-v3' .* on 8"):
        LectureDQN.tuned("Taxi-v3", train_freq=(1, "episode"))


def test_an_id_that_gymnasium_does_not_know_is_an_error_that_names_the_nearest():
    with pytest.raises(ValueError, match=r"env='Taxi-v9' is not a registered environment id: .* 'Taxi-v3'"):
        LectureDQN.tuned("Taxi-v9")
    with pytest.raises(ValueError, match=r"env=None: give an environment or its id, as in LectureQRDQN.tuned\('Taxi"):
        LectureQRDQN.tuned()


def test_the_argument_may_have_its_old_name():
    assert LectureDQN.tuned(env_id="FrozenLakeNotSlippery-v1", device="cpu").env_id == "FrozenLakeNotSlippery-v1"


# The default, for environments of which nothing is known but their spaces


class Depot(gym.Env):
    """
    A robot fetches a parcel from one corner of 4 x 4 cells and brings it to another; one cell is a pit.
    """

    action_space = gym.spaces.Discrete(5)
    metadata = {"render_modes": ["rgb_array"]}  # or gymnasium warns

    def __init__(self, kind="discrete", scale=1.0):
        self.kind, self.scale = kind, scale
        parts = [gym.spaces.Discrete(4), gym.spaces.Discrete(4), gym.spaces.Discrete(2)]
        self.observation_space = {
            "discrete": gym.spaces.Discrete(32),
            "from 7 on": gym.spaces.Discrete(32, start=7),
            "numbers": gym.spaces.MultiDiscrete([4, 4, 2]),
            "bits": gym.spaces.MultiBinary(5),
            "tuple": gym.spaces.Tuple(parts),
            "dict": gym.spaces.Dict(dict(zip("abc", parts, strict=True))),
            "vector": gym.spaces.Box(0, 4, (3,), np.float32),
            "mixed": gym.spaces.Dict(at=gym.spaces.Box(0, 4, (2,), np.float32), has=parts[2]),
            "image": gym.spaces.Box(0, 255, (1, 36, 36), np.uint8),
        }[kind]

    def observe(self):
        row, column, has = self.at[0], self.at[1], self.has
        number = (row * 4 + column) * 2 + has
        return {
            "discrete": number,
            "from 7 on": number + 7,
            "numbers": np.array([row, column, has]),
            "bits": np.array([number >> bit & 1 for bit in range(5)], np.int8),
            "tuple": (row, column, has),
            "dict": {"a": row, "b": column, "c": has},
            "vector": np.array([row, column, has], np.float32),
            "mixed": {"at": np.array([row, column], np.float32), "has": has},
            "image": np.full((1, 36, 36), 8 * number, np.uint8),
        }[self.kind]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.has = (1, 2), 0
        return self.observe(), {}

    def step(self, action):
        reward, end = -1.0, False
        if action < 4:
            down, right = ((-1, 0), (1, 0), (0, -1), (0, 1))[action]
            self.at = min(max(self.at[0] + down, 0), 3), min(max(self.at[1] + right, 0), 3)
            if self.at == (2, 1):
                reward, end = -50.0, True
        elif self.at == (0, 3) and not self.has:
            self.has, reward = 1, 5.0
        elif self.at == (0, 0) and self.has:
            reward, end = 20.0, True
        else:
            reward = -10.0
        return self.observe(), reward * self.scale, end, False, {"is_success": end and reward > 0}


BEST = -2 + 5 - 3 + 20  # two steps to the parcel, three to the door
SPACES = {
    "discrete": "TablePolicy",
    "from 7 on": "TablePolicy",
    "numbers": "TablePolicy",
    "bits": "TablePolicy",
    "tuple": "TablePolicy",
    "dict": "TablePolicy",
    "vector": "MlpPolicy",
    "mixed": "MultiInputPolicy",
    "image": "CnnPolicy",
}


def depot(kind="discrete", scale=1.0):
    return gym.wrappers.TimeLimit(Depot(kind, scale), 60)


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
@pytest.mark.parametrize("kind", SPACES)
def test_every_kind_of_observations_has_a_default_that_trains_saves_and_loads(algorithm, kind, tmp_path):
    model = algorithm.tuned(depot(kind), seed=0, device="cpu", learning_starts=20, train_freq=8, gradient_steps=2)
    table_is_there = "TablePolicy" in algorithm.policy_aliases
    policy = SPACES[kind] if table_is_there else SPACES[kind].replace("Table", "Lecture")
    assert model.policy_class is algorithm.policy_aliases[policy]
    model.learn(120)
    assert model._n_updates >= 20
    check_finite(model.get_parameters())
    model.save(tmp_path / "model")
    env = model.get_env()
    again = algorithm.load(tmp_path / "model", env=env, device="cpu")
    obs = env.reset()
    assert (again.predict(obs, deterministic=True)[0] == model.predict(obs, deterministic=True)[0]).all()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e6])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_default_solves_a_task_of_ones_own_whatever_the_scale_of_its_rewards(scale, seed):
    model = LectureDQN.tuned(depot(scale=scale), seed=seed).learn(4000)
    result = run_test(model, depot(scale=scale), n_episodes=1, max_episode_steps=None)
    assert (result.success_rate, result.mean_reward) == (1, pytest.approx(BEST * scale))


@given(
    kind=st.sampled_from(["discrete", "numbers", "dict", "vector", "mixed"]),
    power=st.sampled_from([-6, -3, 3, 6]),
    seed=st.integers(0, 10**6),
    has_table=st.booleans(),
)
@hypothesis.settings(max_examples=8, deadline=None)
def test_no_scale_of_rewards_makes_the_default_diverge_and_none_is_changed(kind, power, seed, has_table):
    settings = {} if has_table or SPACES[kind] != "TablePolicy" else {"policy": "LecturePolicy"}
    settings |= {"learning_starts": 50, "train_freq": 4, "gradient_steps": 2}
    model = LectureDQN.tuned(depot(kind, 10.0**power), seed=seed, device="cpu", **settings).learn(400)
    assert model._n_updates > 100
    check_finite(model.get_parameters())
    rewards = model.replay_buffer.rewards.ravel() / 10.0**power
    assert set(np.round(rewards, 3).tolist()) <= {-50, -10, -1, 5, 20}


@pytest.mark.parametrize("n_envs", [3, 8])
def test_several_environments_at_once_get_as_many_updates_a_step(n_envs):
    one = LectureDQN.tuned(depot(), seed=0)
    model = LectureDQN.tuned(DummyVecEnv([depot] * n_envs), seed=0).learn(4000)
    one.learn(400)
    per_step = [each._n_updates / (each.num_timesteps - each.learning_starts) for each in (model, one)]
    assert per_step[0] == pytest.approx(per_step[1], rel=0.05)
    assert run_test(model, depot(), n_episodes=1, max_episode_steps=None).mean_reward == BEST


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [(LectureDQN, "numbers"), (LectureDQN, "tuple"), (LectureDQN, "vector"), (LectureQRDQN, "discrete")],
)
def test_networks_solve_it_too(algorithm, kind):
    policy = SPACES[kind].replace("Table", "Lecture")
    model = algorithm.tuned(depot(kind), policy=policy, seed=0, device="cpu").learn(30_000)
    assert run_test(model, model.get_env(), n_episodes=1, max_episode_steps=None).mean_reward == BEST


@pytest.mark.slow
def test_the_pole_is_held_for_longer():
    before = LectureDQN.tuned(gym.make("CartPole-v1"), seed=0, device="cpu")
    reward = run_test(before, n_episodes=20, max_episode_steps=None, seed=0).mean_reward
    assert run_test(before.learn(), n_episodes=20, max_episode_steps=None, seed=0).mean_reward > 5 * reward


@given(
    n_states=st.integers(1, 4),
    n_actions=st.integers(1, 3),
    scale=st.sampled_from([1e-6, 1.0, 1e9]),
    gamma=st.sampled_from([0.5, 0.99, 1.0]),
    seed=st.integers(0, 10**6),
)
@hypothesis.settings(max_examples=12, deadline=None)
def test_a_table_with_the_default_cannot_diverge(n_states, n_actions, scale, gamma, seed):
    """Its values are averages of targets: none is beyond the largest reward over 1 - γ, or times the updates."""
    rng = np.random.default_rng(seed)
    rewards = scale * rng.choice([-50, -1, 0, 20], size=(n_states, n_actions))
    P = [
        [[(1.0, int(rng.integers(n_states)), float(rewards[s, a]), bool(rng.random() < 0.2))] for a in range(n_actions)]
        for s in range(n_states)
    ]
    env = TabularVecEnv(TabularModel(P, np.full(n_states, 1 / n_states), max_episode_steps=20))
    model = LectureDQN.tuned(env, gamma=gamma, seed=seed, learning_starts=0).learn(250)
    largest = np.abs(model.q_net(th.arange(n_states)).detach().numpy()).max()
    steps = model._n_updates if gamma == 1 else 1 / (1 - gamma)
    assert largest <= np.abs(rewards).max() * steps * 1.0001


def test_what_was_chosen_is_said_in_a_line_and_overrides_count_more(capsys):
    model = LectureDQN.tuned(depot("numbers"), verbose=1, gamma=0.5, batch_size=8, device="cpu")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("There are no settings")]
    assert "an environment object, so it gets the default for MultiDiscrete([4 4 2]) observations" in line
    assert "TablePolicy (a row for each of the states, which are few), SGD, minibatches of 8, a target network" in line
    assert "gamma=0.5, 50,000 timesteps and more while tests improve" in line
    assert line.endswith("That is a start, not a tuned result.")
    assert (model.gamma, model.batch_size) == (0.5, 8)
    LectureDQN.tuned("FrozenLakeNotSlippery-v1", verbose=1)
    assert "no settings" not in capsys.readouterr().out


def test_another_policy_gets_settings_that_are_for_it():
    model = LectureDQN.tuned(depot(), policy="LecturePolicy")
    assert isinstance(model.policy.optimizer, th.optim.Adam)
    assert model.learning_rate(1.0) == 0.003


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
@pytest.mark.parametrize("part", [gym.spaces.Discrete(10, start=5), gym.spaces.MultiDiscrete([5, 5], start=[0, 1])])
def test_numbers_that_do_not_start_at_zero_get_a_network_that_takes_them(algorithm, part):
    class Starts(gym.Env):
        observation_space = gym.spaces.Dict({"vector": gym.spaces.Box(-1, 1, (2,)), "part": part})
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 1.0, True, False, {}

    model = algorithm.tuned(Starts(), device="cpu").learn(30)
    assert model.policy_class is algorithm.policy_aliases["LecturePolicy"]


def test_its_budget_is_kept_and_an_id_keeps_its_limit(monkeypatch):
    spec = gym.envs.registration.EnvSpec("Depot-v0", entry_point=Depot, max_episode_steps=60)
    monkeypatch.setitem(gym.registry, "Depot-v0", spec)
    model = LectureDQN.tuned("Depot-v0", seed=0)
    started = []
    model.learn(callback=lambda locals_, _: bool(started.append(locals_["total_timesteps"])))
    assert started == [50_000]
    assert (model.env_id, model.max_episode_steps) == ("Depot-v0", 60)


def test_masks_are_learnt_with_where_asked_for():
    model = LectureDQN.tuned(TabularVecEnv("Taxi-v3", max_episode_steps=200), use_masking=True, seed=0)
    model.learn(20_000)
    assert model.use_masking
    assert exact_test(model).success_rate > 0.9
    assert LectureQRDQN.tuned("Taxi-v3", use_masking=True).use_masking


def test_a_memory_that_nobody_asked_for_is_no_larger_than_a_gibibyte():
    class Film(gym.Env):
        observation_space = gym.spaces.Box(0, 255, (4, 210, 160), np.uint8)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

    model = LectureDQN.tuned(Film(), device="cpu")
    assert 2 * model.buffer_size * 4 * 210 * 160 <= 2**30
    assert model.buffer_size == model.replay_buffer.success.capacity > 3000


def test_settings_that_there_are_not_are_an_error_that_lists_those_that_there_are():
    known = "lecture, lecture_dqn, lecture_dqn_masked, lecture_qrdqn"
    with pytest.raises(ValueError, match=f"no masked settings for lecture_qrdqn; there are {known}"):
        read_hyperparams("lecture_qrdqn_masked")
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
    assert started == [4000]
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
