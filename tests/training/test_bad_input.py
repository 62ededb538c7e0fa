"""What a user gets wrong is answered with the argument's name, what was given and what is allowed."""

import copy
import math
import re
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO, HerReplayBuffer
from stable_baselines3.common.callbacks import EveryNTimesteps
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture_dqn import (
    DivergedError,
    LectureDQN,
    LecturePageCallback,
    LectureQRDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    SuccessFailReplayBuffer,
    run_test,
)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("learning_rate", -1e-3, "at least 0"),
        ("learning_rate", math.nan, "at least 0"),
        ("learning_rate", "fast", "a number"),
        ("learning_rate", lambda progress: -progress, "at least 0"),
        ("gamma", -0.1, "at least 0 and at most 1"),
        ("gamma", 1.1, "at least 0 and at most 1"),
        ("gamma", math.nan, "at least 0 and at most 1"),
        ("exploration_initial_eps", 1.5, "at least 0 and at most 1"),
        ("exploration_initial_eps", -0.5, "at least 0 and at most 1"),
        ("exploration_final_eps", 1.5, "at least 0 and at most 1"),
        ("exploration_final_eps", math.nan, "at least 0 and at most 1"),
        ("exploration_fraction", 2, "at least 0 and at most 1"),
        ("exploration_decay", 1.01, "at least 0 and at most 1"),
        ("exploration_decay", -0.1, "at least 0 and at most 1"),
        ("tau", 1.5, "at least 0 and at most 1"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", 1.5, "an integer"),
        ("buffer_size", 0, "at least 1"),
        ("learning_starts", -1, "at least 0"),
        ("gradient_steps", -2, "at least -1"),
        ("n_steps", 0, "at least 1"),
        ("train_freq", 0, "at least 1"),
        ("train_freq", (1, "year"), r"an integer, \(n, 'step'\) or \(n, 'episode'\)"),
        ("target_update_interval", 0, "at least 1"),
        ("target_update_interval", (0, "episode"), "at least 1"),
        ("target_update_interval", (5, "epoch"), r"an integer, \(n, 'step'\) or \(n, 'episode'\)"),
        ("target_update_interval", "often", "an integer"),
        ("max_grad_norm", 0, "above 0"),
        ("max_grad_norm", math.nan, "above 0"),
        ("loss", "l1", "'mse', 'huber'"),
        ("seed", -1, "an integer at least 0"),
        ("seed", 1.5, "an integer at least 0"),
        ("store_and_replay", "False", "True or False"),
        ("double_dqn", "False", "True or False"),
        ("double_q", 1, "True or False"),
        ("use_masking", "no", "True or False"),
        ("optimize_memory_usage", None, "True or False"),
        ("max_episode_steps", 0, "at least 1"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_range(argument, value, allowed):
    with pytest.raises(ValueError, match=rf"(?i){argument}.*{allowed}"):
        LectureDQN("Taxi-v3", **{argument: value})


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [
        ("gama", r"did you mean gamma\?"),
        ("lr", r"did you mean learning_rate\?"),
        ("hidden_dim", r"did you mean policy_kwargs=dict\(hidden_dim=\.\.\.\)\?"),
        ("xyz", "it takes policy, env, learning_rate, .*, explore_least_tried$"),
    ],
)
@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_an_unknown_keyword_is_answered_with_what_was_meant(algorithm, keyword, meant):
    with pytest.raises(TypeError, match=f"{algorithm.__name__} takes no argument '{keyword}'; {meant}"):
        algorithm("Taxi-v3", **{keyword: 1})


def test_an_own_constructor_takes_what_it_says():
    class Own(LectureDQN):
        def __init__(self, *args, xyz=0, **kwargs):
            super().__init__(*args, **kwargs)
            self.xyz = xyz

    assert Own("Taxi-v3", xyz=3, gamma=0.5).xyz == 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'lr'"):
        Own("Taxi-v3", lr=1)


@pytest.mark.parametrize("hidden_dim", [0, -3, 2.0])
def test_a_network_without_width_is_refused(hidden_dim):
    with pytest.raises(ValueError, match=r"hidden_dim=.* at least 1"):
        LectureDQN("Taxi-v3", policy_kwargs={"hidden_dim": hidden_dim})


def test_a_setting_made_wrong_on_loading_is_named(tmp_path):
    LectureDQN("Taxi-v3").save(tmp_path / "taxi")
    with pytest.raises(ValueError, match=r"learning_rate=-1 .*at least 0"):
        LectureDQN.load(tmp_path / "taxi", custom_objects={"learning_rate": -1})


def test_settings_that_contradict_each_other_are_both_named():
    with pytest.raises(ValueError, match=r"double_q=True.*double_dqn=False"):
        LectureDQN("Taxi-v3", double_q=True, double_dqn=False)
    with pytest.raises(ValueError, match=r"replay_buffer_class=SuccessFailReplayBuffer.*store_and_replay=False"):
        LectureDQN("Taxi-v3", replay_buffer_class=SuccessFailReplayBuffer, store_and_replay=False)
    with pytest.raises(ValueError, match=r"n_steps=3 contradicts replay_buffer_class=SuccessFailReplayBuffer"):
        LectureDQN("Taxi-v3", replay_buffer_class=SuccessFailReplayBuffer, n_steps=3)
    for name, value in (("n_steps", 3), ("optimize_memory_usage", True)):
        with pytest.raises(ValueError, match=rf"{name}={value} needs a replay memory.*store_and_replay=False"):
            LectureDQN("Taxi-v3", store_and_replay=False, **{name: value})


# Spaces


@pytest.mark.parametrize("policy", ["LecturePolicy", "MlpPolicy"])
def test_continuous_actions_are_refused(policy):
    with pytest.raises((ValueError, AssertionError), match=r"action_space=Box\(-2.0, 2.0.* must be Discrete"):
        LectureDQN(policy, "Pendulum-v1")


class Buttons(gym.Env):
    """Actions 1 and 2."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2, start=1)


def test_actions_that_do_not_start_at_zero_are_refused():
    with pytest.raises(ValueError, match=r"action_space=Discrete\(2, start=1\) must start at 0"):
        LectureDQN(Buttons())


@pytest.mark.parametrize("within", [lambda space: space, lambda space: spaces.Dict(a=space)])
def test_the_q_table_refuses_numbers_in_rows_and_columns(within):
    with pytest.raises(ValueError, match=r"(?s)MultiDiscrete.* must have one dimension"):
        LectureDQN("TablePolicy", Observing(within(spaces.MultiDiscrete([[3, 4], [5, 2]]))))


def test_the_q_table_refuses_observations_that_are_not_discrete():
    with pytest.raises(ValueError, match=r"TablePolicy needs a Discrete observation space.*LecturePolicy takes any"):
        LectureDQN("TablePolicy", "CartPole-v1")


class Observing(gym.Env):
    """Any observations of a space."""

    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = copy.deepcopy(space)
        self.observation_space.seed(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, bool(self.np_random.random() < 0.3), False, {}


# Environments and policies by name


def test_an_unknown_environment_is_answered_with_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"env='Taxy-v3'.*'Taxi-v3'"):
        LectureDQN("Taxy-v3")


@pytest.mark.parametrize("arguments", [("NoSuchPolicy", "Taxi-v3"), ("Taxi-v3", "LecturePolicy")])
def test_an_unknown_policy_is_answered_with_the_known_ones(arguments):
    """Also what one gets who swaps the two positional arguments."""
    with pytest.raises(ValueError, match=rf"policy='{arguments[0]}'.*'LecturePolicy'.*'MlpPolicy'"):
        LectureDQN(*arguments)


NO_ENVS = {
    "a vector environment": (lambda: gym.make_vec("CartPole-v1", num_envs=2), r"make_vec_env\(env_id, n_envs=2\)"),
    "a class": (lambda: Buttons, r"give an environment, Buttons\(...\)"),
    "a specification": (lambda: gym.spec("Taxi-v3"), r"give its id, 'Taxi-v3'"),
    "a function": (lambda: lambda: gym.make("Taxi-v3"), r"a function: give the environment .*make_vec_env"),
    "functions": (lambda: [lambda: gym.make("Taxi-v3")] * 2, r"a function: give the environment .*make_vec_env"),
    "environments": (lambda: [gym.make("Taxi-v3"), gym.make("Taxi-v3")], r"several: .*make_vec_env"),
    "an object": (object, r"is not an environment: give one of gymnasium"),
    "a number": (lambda: 5, r"5 is not an environment"),
}


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
@pytest.mark.parametrize(("make", "message"), NO_ENVS.values(), ids=NO_ENVS)
def test_what_is_no_environment_is_named_with_the_way_to_one(algorithm, make, message):
    model = algorithm("FrozenLake-v1")
    for give in (
        lambda env: algorithm("MlpPolicy", env),
        lambda env: algorithm(policy="LecturePolicy", env=env),
        algorithm,
        algorithm.tuned,
        model.set_env,
    ):
        with pytest.raises(ValueError, match=rf"(?s)env=.*{message}"):
            give(make())


def test_an_id_where_an_environment_is_needed_is_answered_with_one(tmp_path):
    model = LectureDQN("FrozenLake-v1")
    model.save(tmp_path / "model")
    for give in (model.set_env, lambda env: LectureDQN.load(tmp_path / "model", env=env)):
        with pytest.raises(ValueError, match=r"env='FrozenLake-v1' is an id: give .*make_env\('FrozenLake-v1'\)"):
            give("FrozenLake-v1")


SB3S_KEYWORDS = [{"net_arch": [64]}, {"activation_fn": th.nn.ReLU}, {"features_extractor_class": FlattenExtractor}]


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
@pytest.mark.parametrize("policy_kwargs", SB3S_KEYWORDS, ids=lambda kwargs: next(iter(kwargs)))
@pytest.mark.parametrize(("env_id", "policy"), [("Taxi-v3", "MlpPolicy"), ("Blackjack-v1", "MultiInputPolicy")])
def test_sb3s_keywords_of_the_lectures_policy_are_answered_with_its_own_and_sb3s_policy(
    algorithm, policy_kwargs, env_id, policy
):
    name = next(iter(policy_kwargs))
    message = rf"policy_kwargs: Lecture\w*Policy takes no '{name}' .*'hidden_dim'.*policy='{policy}'"
    with pytest.raises(TypeError, match=message):
        algorithm(env_id, policy_kwargs=policy_kwargs)
    algorithm(policy, env_id, policy_kwargs=policy_kwargs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"policy_kwargs": {"hiden_dim": 8}},
            r"policy_kwargs: .*no 'hiden_dim' \(given as 8\), the nearest is 'hidden_dim'",
        ),
        ({"policy_kwargs": {"n_quantile": 8}}, r"policy_kwargs: .*no 'n_quantile'"),
        ({"policy_kwargs": {"lr_schedule": 8}}, r"policy_kwargs: the algorithm itself sets 'lr_schedule'"),
        ({"policy_kwargs": [64, 64]}, r"policy_kwargs=\[64, 64\] must be a dictionary"),
        (
            {"policy_kwargs": {"optimizer_kwargs": {"momentom": 0.5}}},
            r"\['optimizer_kwargs'\]: \w+ takes no 'momentom'",
        ),
        (
            {"policy_kwargs": {"optimizer_kwargs": {"lr": 0.5}}},
            r"\['optimizer_kwargs'\]: the algorithm itself sets 'lr' of",
        ),
        ({"replay_buffer_kwargs": {"dedup": False}}, r"replay_buffer_kwargs: Succ\w+ takes no 'dedup'.*'deduplicate'"),
        (
            {"replay_buffer_kwargs": {"buffer_size": 5}},
            r"replay_buffer_kwargs: the algorithm itself sets 'buffer_size' of Succ",
        ),
        ({"replay_buffer_kwargs": 5}, r"replay_buffer_kwargs=5 must be a dictionary"),
        ({"n_steps": 3, "replay_buffer_kwargs": {"n_step": 3}}, r"NStep\w+ takes no 'n_step'.*nearest is 'n_steps'"),
        (
            {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goals": 3}},
            r"HerReplayBuffer takes no 'n_sampled_goals' .*nearest is 'n_sampled_goal'",
        ),
    ],
)
@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_keywords_that_nothing_takes_are_named_with_the_nearest_and_all_others(algorithm, settings, message):
    with pytest.raises(ValueError, match=message):
        algorithm("Taxi-v3", **settings)


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
@pytest.mark.parametrize(
    ("space", "policy"),
    [
        (spaces.Discrete(5, start=-3), "MlpPolicy"),
        (spaces.Discrete(5, start=1), "MlpPolicy"),
        (spaces.MultiDiscrete([2, 3], start=[0, 1]), "MlpPolicy"),
        (spaces.Dict(a=spaces.Discrete(2, start=1)), "MultiInputPolicy"),
    ],
)
def test_one_hot_policies_refuse_numbers_that_do_not_start_at_zero(algorithm, space, policy):
    env = Observing(space)
    with pytest.raises(ValueError, match=r"start=\S+.* starts at .*TransformObservation .*LecturePolicy"):
        algorithm(policy, env)
    algorithm("LecturePolicy", env).learn(10)


@pytest.mark.parametrize("arguments", [(), ("LecturePolicy",), (None,)])
def test_no_environment_is_named(arguments):
    with pytest.raises(ValueError, match="env=None"):
        LectureDQN(*arguments)


@pytest.mark.parametrize(("given", "unit"), [([2, "episode"], "episode"), (np.int64(2), "step"), ([2, "step"], "step")])
def test_a_frequency_may_be_a_list_or_a_number_of_numpy(given, unit):
    model = LectureDQN("Taxi-v3", train_freq=given, gradient_steps=0)
    assert (model.train_freq.frequency, model.train_freq.unit.value) == (2, unit)
    assert model.learn(4).num_timesteps >= 4


def test_n_steps_may_be_one_again_on_loading(tmp_path):
    LectureDQN("MlpPolicy", "CartPole-v1", n_steps=3).save(tmp_path / "three")
    loaded = LectureDQN.load(tmp_path / "three", n_steps=1)
    assert (loaded.n_steps, loaded.replay_buffer_kwargs) == (1, {})
    assert LectureDQN.load(tmp_path / "three").replay_buffer.n_steps == 3
    loaded.save(tmp_path / "one")
    assert LectureDQN.load(tmp_path / "one", n_steps=3).learn(20).replay_buffer.n_steps == 3


def test_an_unknown_keyword_of_load_is_answered_with_what_was_meant(tmp_path):
    LectureDQN("FrozenLake-v1").save(tmp_path / "model")
    with pytest.raises(TypeError, match="no argument 'lerning_rate'; did you mean learning_rate"):
        LectureDQN.load(tmp_path / "model", lerning_rate=0.1)


class Ring(gym.Env):
    """A tabular class with the masks of its present state only."""

    is_tabular = True
    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)
    P = {cell: {action: [(1.0, 1, 0.0, cell == 1)] for action in (0, 1)} for cell in (0, 1)}
    initial_state_distrib = np.array([1.0, 0.0])

    def action_masks(self):
        return np.ones(2, bool)


def test_masks_of_the_present_state_are_no_masks_of_a_table(monkeypatch):
    spec = gym.envs.registration.EnvSpec("Ring-v0", entry_point=Ring, max_episode_steps=5)
    monkeypatch.setitem(gym.registry, "Ring-v0", spec)
    with pytest.raises(
        ValueError, match=r"Ring says is_tabular = True and has action_masks\(\), .* action_mask\(state\)"
    ):
        LectureDQN("Ring-v0", use_masking=True)


@pytest.mark.parametrize("child", [LectureTestCallback, LecturePageCallback, LectureTensorBoardCallback])
def test_a_callback_that_works_between_rollouts_is_no_child(child, tmp_path):
    model = LectureDQN("Taxi-v3", tensorboard_log=str(tmp_path))
    with pytest.raises(ValueError, match=f"EveryNTimesteps calls its child at steps only, and {child.__name__} works"):
        model.learn(10, callback=EveryNTimesteps(5, child()))


# Observations for predict


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(
    ("space", "observation", "message"),
    [
        (spaces.Discrete(3), 3, "observation has 3, which is not in Discrete(3)"),
        (spaces.Discrete(3), [0, -1], "observation has -1, which"),
        (spaces.Discrete(3), 1.5, "observation has 1.5, which"),
        (spaces.MultiDiscrete([2, 3]), [[1, 2], [2, 0]], "observation has 2, which"),
        (spaces.MultiBinary(2), [0, 2], "observation has 2, which"),
        (spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(4)), {"a": 2, "b": 3}, "observation['a'] has 2, which"),
    ],
    ids=str,
)
def test_a_state_outside_the_space_has_no_action(space, observation, message, deterministic):
    model = LectureDQN(Observing(space), seed=0)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.predict(observation, deterministic=deterministic)


# Budgets


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"total_timesteps": -5}, "total_timesteps=-5 .*at least 0"),
        ({"total_timesteps": math.nan}, "total_timesteps=nan .*at least 0"),
        ({"total_episodes": -5}, "total_episodes=-5 .*at least 0"),
        ({"total_episodes": 1.5}, "total_episodes=1.5 .*an integer"),
        ({"total_timesteps": 5, "total_episodes": 6}, "total_timesteps=5 and total_episodes=6: .*one"),
        ({"total_timesteps": 0, "total_episodes": 0}, "total_timesteps=0 and total_episodes=0: .*one"),
    ],
)
def test_a_budget_that_is_none_or_twofold_is_named_and_nothing_is_trained(budget, message):
    model = LectureDQN("Taxi-v3")
    with pytest.raises(ValueError, match=message):
        model.learn(**budget)
    assert model.num_timesteps == 0


# Environments that misbehave


class Broken(gym.Env):
    """Episodes of ten steps, all good but for one thing at one step (0: at resets)."""

    action_space = spaces.Discrete(2)

    def __init__(self, reward=0.0, observation=0.0, at_step=4, length=10, space=None):
        self.observation_space = space or spaces.Box(-1, 1, (2,), np.float32)
        self.wrong_reward, self.wrong_observation, self.at_step, self.length = reward, observation, at_step, length
        self.n_steps = 0

    def observe(self, wrong):
        value = self.wrong_observation if wrong else 0
        if isinstance(self.observation_space, spaces.Discrete):
            return value
        if isinstance(self.observation_space, spaces.Dict):
            return {"speed": np.array([value], np.float32), "cell": 0}
        return np.array([0, value], self.observation_space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(self.at_step == 0), {}

    def step(self, action):
        self.n_steps += 1
        wrong = self.n_steps == self.at_step
        reward = self.wrong_reward if wrong else 0.0
        return self.observe(wrong), reward, self.n_steps % self.length == 0, False, {}


def train_until_it_stops(env, policy="MlpPolicy", **kwargs):
    """The step of the environment at which training stopped, and the message."""
    model = LectureDQN(policy, env, seed=0, **kwargs)
    with pytest.raises(ValueError, match="environment step") as stopped:
        model.learn(40)
    return model, str(stopped.value)


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number_stops_the_training_at_its_step(reward):
    model, message = train_until_it_stops(Broken(reward=reward))
    assert message == f"environment 0 returned the reward {reward} at environment step 4, it must be a finite number"
    assert model.num_timesteps == 4
    assert np.isfinite(model.replay_buffer.rewards).all()
    assert model.replay_buffer.size() <= 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_observation_outside_its_space_stops_the_training_at_its_step(value):
    model, message = train_until_it_stops(Broken(observation=value))
    assert re.search(rf"observation\[1\] of environment 0 is {value} at environment step 4, outside .*Box\(-1", message)
    assert model.num_timesteps == 4


@pytest.mark.parametrize(
    ("space", "policy", "value"),
    [
        (spaces.Discrete(3), "LecturePolicy", 3),
        (spaces.Discrete(3), "TablePolicy", -1),
        (spaces.Discrete(3, start=-1), "LecturePolicy", 2),
        (spaces.MultiDiscrete([2, 3]), "MlpPolicy", 3),
        (spaces.MultiBinary(2), "MlpPolicy", 2),
        (spaces.Dict({"speed": spaces.Box(-1, 1, (1,)), "cell": spaces.Discrete(2)}), "MultiInputPolicy", math.nan),
    ],
)
def test_observations_of_every_kind_of_space_are_checked(space, policy, value):
    model, message = train_until_it_stops(Broken(observation=value, space=space), policy)
    assert re.search(rf"observation.* is {value}.* at environment step 4, outside", message)
    assert ("'speed'" in message) == isinstance(space, spaces.Dict)
    assert model.num_timesteps == 4


@pytest.mark.parametrize("at_step", [0, 4, 20])
@pytest.mark.parametrize("value", [5.0, -1.5])
def test_a_finite_number_out_of_the_bounds_of_a_box_is_warned_of_once(value, at_step):
    """At a reset, in an episode and at its end; LunarLander leaves its own bounds, and SB3 trains on."""
    model = LectureDQN("MlpPolicy", Broken(observation=value, at_step=at_step), seed=0)
    said = rf"observation\[1\] of environment 0 is {value} at environment step {at_step}, outside .*Box\(-1.*repeated"
    with pytest.warns(UserWarning, match=said) as warned:
        model.learn(60).learn(20, reset_num_timesteps=False)
    assert len(warned) == 1
    assert value in model.replay_buffer.next_observations[..., 1] or at_step == 0


def test_bounds_do_not_excuse_what_is_no_number():
    """One number out of bounds by a little comes before the NaN."""

    class Both(Broken):
        def observe(self, wrong):
            return np.array([1.5, math.nan if wrong else 0], np.float32)

    with pytest.warns(UserWarning, match="is 1.5"):
        _, message = train_until_it_stops(Both())
    assert "observation[1] of environment 0 is nan at environment step 4" in message


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_last_observation_of_an_episode_is_checked(value):
    """The one that SB3's environments hand over in `info`, and the memory stores."""
    model, message = train_until_it_stops(Broken(observation=value, at_step=20))
    assert re.search(rf"observation\[1\] of environment 0 is {value} at environment step 20, outside", message)
    assert model.num_timesteps == 20


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_first_observation_is_checked(value):
    """Before anything is learned from it; the message must not blame the learning rate."""
    model, message = train_until_it_stops(Broken(observation=value, at_step=0))
    assert re.search(rf"observation\[1\] of environment 0 is {value} at environment step 0, outside", message)
    assert model.num_timesteps == 0


def test_the_environment_at_fault_is_named_among_several():
    env = DummyVecEnv([lambda: Broken(), lambda: Broken(), lambda: Broken(reward=math.nan)])
    model, message = train_until_it_stops(env)
    assert message == "environment 2 returned the reward nan at environment step 12, it must be a finite number"
    assert model.num_timesteps == 12


@pytest.mark.parametrize("wrong", [{"reward": math.nan}, {"observation": math.nan}])
def test_vecnormalize_does_not_hide_a_misbehaving_environment(wrong):
    env = VecNormalize(DummyVecEnv([lambda: Broken(**wrong)]))
    model, message = train_until_it_stops(env)
    assert "environment step 4" in message
    assert "environment 0" in message
    assert model.num_timesteps == 4


class AtItsBound(gym.Env):
    """Ends where rounding to float32 leads to the bound, and says more than its space has."""

    observation_space = spaces.Dict({"x": spaces.Box(0, 0.7, (1,))})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"x": np.array([0.0]), "more": 1}, {}

    def step(self, action):
        return {"x": np.array([0.7]), "more": 1}, 0.0, True, False, {}


def test_what_sb3_lets_pass_passes():
    model = LectureDQN("MultiInputPolicy", AtItsBound(), seed=0).learn(10)
    assert model.replay_buffer.success_size == 2  # one for each action


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_a_diverging_loss_stops_the_training_and_says_what_helps(engine):
    if engine == "numba":
        pytest.importorskip("numba")
    model = LectureDQN("Taxi-v3", learning_rate=1e6, engine=engine, seed=0)
    with pytest.raises(
        DivergedError, match=r"loss of update \d+ \(environment step \d+\) is (inf|nan): .*lower learning_rate"
    ):
        model.learn(100)
    assert all(weight.isfinite().all() for weight in model.q_net.state_dict().values())


# Files


def write_text(path):
    path.write_text("no model")


def write_nothing(path):
    path.touch()


def write_weights(path):
    th.save({"layers.0.weight": th.zeros(2)}, path)


def write_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no model")


def write_other_algorithm(path):
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8).save(path)


@pytest.mark.parametrize("write", [write_text, write_nothing, write_weights, write_archive, write_other_algorithm])
def test_a_file_that_is_no_model_is_named(write, tmp_path):
    path = tmp_path / "taxi.zip"
    write(path)
    with pytest.raises(ValueError, match=r"taxi\.zip"):
        LectureDQN.load(path)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"taxi\.zip"):
        LectureDQN.load(tmp_path / "taxi")


# Tests


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("n_test_episodes", 0),
        ("max_episode_steps", 0),
        ("max_episode_steps", -1),
        ("test_freq", 0),
        ("test_freq", (0, "episode")),
        ("test_freq", (1, "year")),
    ],
)
def test_the_test_callback_names_a_setting_out_of_range(argument, value):
    with pytest.raises(ValueError, match=rf"{argument}=.*(at least 1|'episode')"):
        LectureTestCallback(**{argument: value})


@pytest.mark.parametrize(
    ("argument", "value"),
    [("n_episodes", 0), ("n_episodes", 1.5), ("max_episode_steps", 0), ("max_episode_steps", -1), ("env", "Taxy-v3")],
)
def test_run_test_names_a_setting_out_of_range(argument, value):
    with pytest.raises(ValueError, match=argument):
        run_test(LectureDQN("Taxi-v3"), **{argument: value})
