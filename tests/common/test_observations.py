"""Whatever form an observation has where a user gets it, `predict` takes it, or says what is wrong with it."""

import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, TupleToDictWrapper
from sb3_lecture_dqn.common.observations import as_model_takes

RAW_SPACES = {
    "numbers": Tuple([Discrete(3), Discrete(4, start=-1)]),
    "arrays": Tuple([Box(-1, 1, (2, 2)), MultiDiscrete([3, 2]), MultiBinary(3)]),
    "a pair that looks like a reset": Tuple([Discrete(3), Dict(a=Discrete(2))]),
    "pairs in pairs": Tuple([Tuple([Discrete(2), Dict(b=Discrete(3))]), Dict(a=Box(0, 1, (1,)), c=Discrete(2))]),
    "one part": Tuple([Discrete(5)]),
    "a dict in a dict": Dict(x=Dict(y=Discrete(2), z=Tuple([Discrete(3), Box(0, 1)])), w=Discrete(2)),
}


class Random(gym.Env):
    """Random observations; episodes of 4 steps."""

    action_space = Discrete(2)

    def __init__(self, space):
        self.observation_space = copy.deepcopy(space)
        self.observation_space.seed(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 4
        return self.observation_space.sample(), {"a": 1}

    def step(self, action):
        assert np.shape(action) == ()
        self.left -= 1
        return self.observation_space.sample(), 1.0, self.left == 0, False, {}


def model_of(space, algorithm=LectureDQN):
    return algorithm(TupleToDictWrapper(Random(space)), seed=0).learn(10)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("space", RAW_SPACES.values(), ids=RAW_SPACES)
def test_an_observation_of_the_environment_itself_is_that_of_its_wrapper(space, deterministic):
    model, env = model_of(space), Random(space)
    wrapped = TupleToDictWrapper(env)
    raw = [env.observation_space.sample() for _ in range(5)]
    for obs in raw:
        model.set_random_seed(7)
        action, state = model.predict(obs, deterministic=deterministic)
        model.set_random_seed(7)
        expected, _ = model.predict(wrapped.observation(obs), deterministic=deterministic)
        assert action == expected
        assert (action.shape, state) == ((), None)
    several, _ = model.predict(raw, deterministic=True)
    assert several.tolist() == [model.predict(obs, deterministic=True)[0].item() for obs in raw]


@given(st.data())
def test_what_a_reset_returns_is_never_taken_for_an_observation(data):
    """Nor the other way round, for any Tuple and nested space, and any info."""
    leaves = st.sampled_from([Discrete(3), Box(0, 1, (2,)), MultiBinary(2)])
    keys = st.sampled_from("01ab")
    nested = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3).map(Tuple)
            | st.dictionaries(keys, inner, min_size=1, max_size=3).map(Dict)
        ),
        max_leaves=6,
    )
    space = data.draw(nested.filter(lambda space: isinstance(space, Tuple | Dict)))
    wrapper = TupleToDictWrapper(Random(space))
    obs = space.sample()
    assert as_model_takes(obs, wrapper.observation_space).keys() == wrapper.observation_space.keys()
    info = data.draw(st.dictionaries(keys, st.integers() | leaves.map(lambda leaf: leaf.sample()), max_size=3))
    with pytest.raises(ValueError, match=r"You have passed a tuple to the predict\(\) function"):
        as_model_takes((obs, info), wrapper.observation_space)


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_sb3s_loop_evaluation_and_callback_run_on_the_environment_itself(algorithm):
    model, env = algorithm("Blackjack-v1", seed=0).learn(50), gym.make("Blackjack-v1")
    wrapped = TupleToDictWrapper(gym.make("Blackjack-v1"))
    obs, _ = env.reset(seed=0)
    action, _ = model.predict(obs, deterministic=True)
    env.step(action)
    results = [evaluate_policy(model, one, 20, warn=False, return_episode_rewards=True) for one in (env, wrapped)]
    assert len(results[0][0]) == len(results[1][0]) == 20
    callback = EvalCallback(env, eval_freq=20, verbose=0, warn=False)
    model.learn(60, callback=callback)
    assert len(callback.evaluations_timesteps if callback.log_path else [callback.last_mean_reward]) >= 1
    assert np.isfinite(callback.last_mean_reward)


@pytest.mark.parametrize("vec_env", [DummyVecEnv, SubprocVecEnv])
def test_a_vectorised_environment_of_them_gives_batches(vec_env):
    model = model_of(RAW_SPACES["arrays"])
    envs = vec_env([lambda: Random(RAW_SPACES["arrays"])] * 3)
    obs = envs.reset()
    assert isinstance(obs, tuple)
    for deterministic in (True, False):
        actions, _ = model.predict(obs, deterministic=deterministic)
        assert actions.shape == (3,)
        envs.step(actions)
    envs.close()


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(
    ("env_id", "policy"), [("FrozenLake-v1", "LecturePolicy"), ("CartPole-v1", "MlpPolicy"), ("Blackjack-v1", None)]
)
def test_the_pair_of_a_reset_is_answered_as_by_sb3(env_id, policy, deterministic):
    model = LectureDQN(policy or "LecturePolicy", env_id, seed=0)
    pair = gym.make(env_id).reset(seed=0)
    stock = DQN("MlpPolicy", "CartPole-v1", buffer_size=10)
    with pytest.raises(ValueError, match="You have passed a tuple") as theirs:
        stock.predict(pair, deterministic=True)
    for rate in (0.0, 1.0):
        model.exploration_rate = rate
        with pytest.raises(ValueError, match="You have passed a tuple") as ours:
            model.predict(pair, deterministic=deterministic)
        assert " ".join(str(ours.value).split()) == " ".join(str(theirs.value).split())


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_lists_and_numbers_are_taken_as_by_the_policies_of_sb3(rate):
    cart_pole = LectureDQN("MlpPolicy", "CartPole-v1", seed=0)
    lake = LectureDQN("FrozenLake-v1", seed=0)
    for model, observations in (
        (cart_pole, [[0.0, 1.0, 0.0, 1.0], (0.0, 1.0, 0.0, 1.0), [[0.0] * 4, [1.0] * 4]]),
        (lake, [3, [3, 4], (3, 4, 5), np.int32(2)]),
    ):
        model.exploration_rate = rate
        for obs in observations:
            assert model.predict(obs)[0].shape == model.policy.predict(obs)[0].shape


def test_other_parts_than_those_of_the_space_are_named():
    model = model_of(RAW_SPACES["numbers"])
    for obs, parts in (
        ({"0": 1}, r"the parts \['0'\]"),
        ((1, 2, 3), r"'2'"),
        (np.zeros(2), "no parts"),
        (5, "no parts, 5"),
    ):
        with pytest.raises(ValueError, match=rf"observation has .*{parts}.*; the observation space has \['0', '1'\]"):
            model.predict(obs, deterministic=True)


def test_masks_go_with_raw_observations():
    model = model_of(RAW_SPACES["numbers"])
    for mask in ([True, False], [False, True]):
        action, _ = model.predict((0, 1), action_masks=np.array(mask), deterministic=True)
        assert mask[action.item()]


def test_a_tuple_space_of_a_space_that_is_no_wrapper_of_ours_is_still_named():
    with pytest.raises(ValueError, match="TupleToDictWrapper"):
        LectureDQN(Random(spaces.Tuple([Discrete(2)])))
