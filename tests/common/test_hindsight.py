"""SB3's HerReplayBuffer with the lecture's schedule, which updates from the first step on by one transition each."""

import numpy as np
import pytest
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv

from sb3_lecture_dqn import LectureDQN, LectureQRDQN
from sb3_lecture_dqn.common.hindsight import sample, waits_for_episode

HER = {
    "replay_buffer_class": HerReplayBuffer,
    "replay_buffer_kwargs": {"n_sampled_goal": 4, "goal_selection_strategy": "future"},
}


def bits(n=6):
    return BitFlippingEnv(n_bits=n, continuous=False, max_steps=n)


@pytest.mark.parametrize(
    ("algorithm", "sizes"), [(LectureDQN, {}), (LectureQRDQN, {"policy_kwargs": {"n_quantiles": 10}})]
)
@pytest.mark.parametrize("policy", ["MultiInputPolicy", "LecturePolicy"])
@pytest.mark.parametrize("settings", [{}, {"learning_starts": 100}, {"batch_size": 32}, {"train_freq": (1, "episode")}])
def test_sb3s_example_runs_with_the_lectures_defaults(algorithm, sizes, policy, settings):
    model = algorithm(policy, bits(), seed=0, **HER, **sizes, **settings).learn(settings.get("learning_starts", 0) + 20)
    assert model._n_updates > 0


def test_updates_begin_when_an_episode_has_ended():
    model = LectureDQN("MultiInputPolicy", make_vec_env(bits, 2), seed=0, gradient_steps=1, **HER)
    updates = []
    model.learn(40, callback=lambda *_: updates.append((model._episode_num, model._n_updates)) or True)
    assert [n for episodes, n in updates if episodes == 0] == [0] * sum(episodes == 0 for episodes, _ in updates)
    assert model._n_updates > 0
    before = model._n_updates
    model.learn(2)  # counts episodes anew; the memory still has some
    assert model._n_updates == before + 1


def test_one_transition_has_a_new_goal_as_often_as_n_sampled_goal_says():
    model = LectureDQN("MultiInputPolicy", bits(8), seed=0, learning_starts=400, **HER).learn(400)
    memory = model.replay_buffer
    goals = np.unique(memory.observations["desired_goal"][: memory.pos].reshape(memory.pos, -1), axis=0)
    assert len(goals) == 1  # always the same one, so that another one is new
    np.random.seed(0)  # noqa: NPY002
    batches = [sample(memory, 1, None) for _ in range(600)]
    assert {tuple(batch.actions.shape) for batch in batches} == {(1, 1)}
    new = np.mean([not np.array_equal(b.observations["desired_goal"].numpy().ravel(), goals[0]) for b in batches])
    of_32 = [sample(memory, 32, None).observations["desired_goal"].numpy() for _ in range(100)]
    expected = np.mean([(batch != goals[0]).any(axis=1).mean() for batch in of_32])
    assert abs(new - expected) < 4 * np.sqrt(0.25 / 600) + 1 / 32


def test_a_memory_shorter_than_an_episode_is_named():
    env = BitFlippingEnv(n_bits=12, continuous=False, max_steps=200)
    model = LectureDQN("MultiInputPolicy", env, seed=0, buffer_size=20, **HER)
    with pytest.raises(ValueError, match="buffer_size=20 is shorter than an episode"):
        model.learn(100)


def test_other_memories_never_wait():
    assert not waits_for_episode(LectureDQN("FrozenLake-v1").replay_buffer)
    assert not waits_for_episode(None)
