"""Numbers of states: those of ``np.ravel_multi_index``, in NumPy, in PyTorch, and by the wrapper."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.utils import obs_as_tensor

from sb3_lecture_dqn import DiscreteObservationWrapper
from sb3_lecture_dqn.common.checks import UnsupportedSpaceError
from sb3_lecture_dqn.common.state_numbers import StateNumbers, n_states_of

part = st.one_of(
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 5), st.integers(-3, 3)),
    st.builds(spaces.MultiDiscrete, st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.builds(spaces.MultiBinary, st.integers(1, 4)),
)
space = st.one_of(part, st.builds(spaces.Dict, st.dictionaries(st.sampled_from("abc"), part, min_size=1)))


class Shows(gym.Env):
    """Only a space."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space):
        self.observation_space = observation_space


def batch_of(observations):
    if isinstance(observations[0], dict):
        return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(observations)


@given(space, st.integers(0, 1000))
def test_every_state_has_its_number(space, seed):
    space.seed(seed)
    observations = [space.sample() for _ in range(20)]
    numbers = StateNumbers(space)
    parts = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    sizes, expected = [], []
    for each in parts:
        sizes += {spaces.Discrete: lambda s: [s.n], spaces.MultiBinary: lambda s: [2] * s.n}.get(
            type(each), lambda s: list(s.nvec)
        )(each)
    for obs in observations:
        values = list(obs.values()) if isinstance(obs, dict) else [obs]
        starts = [getattr(each, "start", 0) for each in parts]
        flat = np.concatenate([np.ravel(value - start) for value, start in zip(values, starts, strict=True)])
        expected.append(np.ravel_multi_index(tuple(flat), sizes))
    batch = batch_of(observations)
    np.testing.assert_array_equal(numbers.of(batch), expected)
    np.testing.assert_array_equal(numbers.of_tensors(obs_as_tensor(batch, "cpu")).numpy(), expected)
    assert numbers.n == n_states_of(space) == np.prod(sizes)
    if not isinstance(space, spaces.Discrete):
        wrapper = DiscreteObservationWrapper(Shows(space))
        assert [wrapper.observation(obs) for obs in observations] == expected


@pytest.mark.parametrize("wrong", [[0, 3], [-1, 0], [2, 0]])
def test_two_observations_never_share_a_number(wrong):
    numbers = StateNumbers(spaces.MultiDiscrete([2, 3]))
    with pytest.raises(IndexError, match="outside the observation space"):
        numbers.of(np.array([wrong]))
    with pytest.raises(IndexError, match="outside the observation space"):
        numbers.of_tensors(th.tensor([wrong]))


def test_other_spaces_and_too_many_states_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="must have only discrete parts"):
        StateNumbers(spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 1)))
    with pytest.raises(UnsupportedSpaceError, match=r"1,048,576 states, there may be 1,000,000 at most"):
        StateNumbers(spaces.MultiBinary(20))
    assert n_states_of(spaces.Box(0, 1)) is None
