"""The package against the plain loop of ``examples/lecture_loop.py``, bit for bit."""

import copy

import gymnasium as gym
import pytest
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.callbacks import BaseCallback

from examples import lecture_loop
from sb3_lecture_dqn import LectureDQN, LectureTestCallback

COMBINATIONS = [(True, True), (True, False), (False, True), (False, False)]


class OneDrawPerEpisode(gym.Wrapper):
    """
    A reset that no step has followed is not repeated.

    SB3's vectorised environments reset at the end of an episode, and tests reset before every episode; a plain loop
    resets once. With this wrapper both play the same starts.
    """

    def __init__(self, env):
        super().__init__(env)
        self.start = None

    def reset(self, *, seed=None, options=None):
        if self.start is None or seed is not None:
            self.start = self._draw(seed)
        return self.start

    def _draw(self, seed):
        return self.env.reset(seed=seed)

    def step(self, action):
        self.start = None
        return self.env.step(action)


class NearlyThere(OneDrawPerEpisode):
    """Taxi with the passenger aboard, in the column of the destination: so that some short episodes succeed."""

    def _draw(self, seed):
        self.env.reset(seed=seed)
        taxi = self.env.unwrapped
        row, destination = int(taxi.np_random.integers(5)), int(taxi.np_random.integers(4))
        taxi.s = taxi.encode(row, taxi.locs[destination][1], 4, destination)
        return taxi.s, {}


class Record(BaseCallback):
    """All actions."""

    def __init__(self):
        super().__init__()
        self.actions = []

    def _on_step(self):
        self.actions.append(int(self.locals["actions"][0]))
        return True


def memory_as_tuples(buffer):
    """(successes, failures) in stored order, as the plain loop's tuples (s, a, s', r, done)."""
    columns = (buffer.observations, buffer.actions, buffer.next_observations, buffer.rewards, buffer.dones)
    rows = [
        (int(s), int(a), int(s_next), float(r), bool(done))
        for s, a, s_next, r, done in zip(*(column.ravel() for column in columns), strict=True)
    ]
    return rows[: buffer.success_size], rows[buffer.success_size :]


def assert_same_run(
    store_and_replay, double_dqn, *, wrapper, episodes, max_episode_steps, n_test_episodes, fail_capacity, seed
):
    """Run the package and the plain loop from the same weights with the same draws, and compare everything."""
    train_env, test_env = wrapper(lecture_loop.make_taxi()), wrapper(lecture_loop.make_taxi())
    model = LectureDQN(
        TimeLimit(train_env, max_episode_steps),
        buffer_size=fail_capacity,
        store_and_replay=store_and_replay,
        double_dqn=double_dqn,
        seed=seed,
        device="cpu",
        engine="torch",
    )
    net = lecture_loop.QNet(500, 6)
    net.load_state_dict(model.q_net.state_dict())
    explore_rng, memory_rng = copy.deepcopy(model.exploration_rng), copy.deepcopy(model.replay_buffer.rng)

    record = Record()
    test = LectureTestCallback(
        test_env, n_test_episodes=n_test_episodes, max_episode_steps=max_episode_steps, seed=seed + 1, verbose=0
    )
    model.learn(total_episodes=episodes, callback=[record, test])

    config = lecture_loop.Config(
        num_episodes=episodes,
        max_time_steps=max_episode_steps,
        replay_memory_fail_size=fail_capacity,
        num_tests=n_test_episodes,
        store_and_replay=store_and_replay,
        double_dqn=double_dqn,
    )
    expected = lecture_loop.Agent(config, net, explore_rng, memory_rng)
    envs = wrapper(lecture_loop.make_taxi()), wrapper(lecture_loop.make_taxi())
    expected_episodes, expected_tests = lecture_loop.train(expected, *envs, seed=seed)

    assert record.actions == [action for episode in expected_episodes for action in episode.actions]
    assert model.num_timesteps == len(record.actions)
    assert model._episode_num == len(expected_episodes) == episodes
    for name, weights in expected.net.state_dict().items():
        assert th.equal(model.q_net.state_dict()[name], weights), name
    for name, weights in expected.target.state_dict().items():
        assert th.equal(model.q_net_target.state_dict()[name], weights), name
    figures = [(n, test.mean_steps, test.mean_penalties, test.mean_reward) for n, test in test.results]
    assert figures == expected_tests
    assert [n for n, *_ in figures] == [n for n in range(1, episodes + 1) if n == 1 or n % 50 == 0]
    if store_and_replay:
        assert memory_as_tuples(model.replay_buffer) == (expected.memory.success, expected.memory.fail)
        assert model.replay_buffer.success_states == expected.memory.prev_success
        assert model.replay_buffer.rng.bit_generator.state == memory_rng.bit_generator.state
    assert model.exploration_rng.bit_generator.state == explore_rng.bit_generator.state
    return expected, expected_episodes


# A few more episodes than up to a copy, so that the target network is not the online one
@pytest.mark.parametrize(
    ("store_and_replay", "double_dqn", "episodes"),
    [
        *((*switches, 63 if all(switches) else 23 if switches[1] else 15) for switches in COMBINATIONS),
        *(pytest.param(*switches, 63, marks=pytest.mark.slow) for switches in COMBINATIONS[1:]),
    ],
)
def test_short_episodes_are_those_of_the_plain_loop(store_and_replay, double_dqn, episodes):
    """
    A memory that overwrites, episodes that succeed and episodes that are cut, and in 63 episodes three target copies
    and two tests.
    """
    expected, expected_episodes = assert_same_run(
        store_and_replay,
        double_dqn,
        wrapper=NearlyThere,
        episodes=episodes,
        max_episode_steps=10,
        n_test_episodes=10,
        fail_capacity=100,
        seed=5,  # one with which none diverges, as some do without a target network
    )
    # What the comparison is worth: all of this happened.
    assert {episode.terminated for episode in expected_episodes} == {True, False}
    if store_and_replay:
        assert expected.memory.success
        assert len(expected.memory.fail) == 100
    if double_dqn:
        assert not th.equal(expected.net.layers[5].weight, expected.target.layers[5].weight)


@pytest.mark.slow
def test_the_lectures_own_run_is_that_of_the_plain_loop():
    """Taxi as it is, cut after 1000 steps, tests of 100 episodes, a memory of 1000 failures. Takes some ten minutes."""
    expected, _ = assert_same_run(
        True,
        True,
        wrapper=OneDrawPerEpisode,
        episodes=63,
        max_episode_steps=1000,
        n_test_episodes=100,
        fail_capacity=1000,
        seed=0,
    )
    assert expected.memory.success
    assert len(expected.memory.fail) == 1000
