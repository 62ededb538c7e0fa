"""What a training acts on and stores at its seams: after a stop, after others have used its environment, at ends."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from sb3_lecture_dqn import LectureDQN, TabularModel

LAKE = "FrozenLakeNotSlippery-v1"


class StopAt(BaseCallback):
    """Ends training at every n-th call, by its return value or by an error."""

    def __init__(self, n, error=None):
        super().__init__()
        self.n, self.error = n, error

    def _on_step(self):
        if self.n_calls % self.n == 0 and self.error is not None:
            raise self.error
        return self.n_calls % self.n > 0


def impossible(model):
    """Those of the stored transitions that the table of the environment does not have."""
    memory, table = model.replay_buffer, TabularModel.from_env(LAKE)
    columns = (memory.observations, memory.actions, memory.next_observations)
    rows = list(zip(*(np.ravel(column).tolist() for column in columns), strict=True))
    assert len(rows) > 5
    return [(state, action, after) for state, action, after in rows if after not in table.next_states[state, action]]


def go_on(model, n, callback=None):
    model.learn(n, callback=callback, reset_num_timesteps=False)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError("of the callback")])
@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_after_a_stop_the_next_training_begins_where_the_environment_is(engine, error):
    model = LectureDQN(LAKE, seed=0, engine=engine, gradient_steps=1)
    for n in range(2, 12):
        try:
            go_on(model, 100, StopAt(n, error))
        except (KeyboardInterrupt, ValueError):
            assert error is not None
        assert model.env.is_at(model._last_obs)
        go_on(model, 5)
    assert impossible(model) == []


def test_the_transition_of_a_stopped_step_is_not_stored_as_in_sb3():
    model = LectureDQN(LAKE, seed=0, replay_buffer_kwargs={"deduplicate": False})
    model.learn(100, callback=StopAt(7))
    assert (model.num_timesteps, model.replay_buffer.size()) == (7, 6)


def test_after_somebody_has_stepped_the_environment_training_begins_where_it_is():
    model = LectureDQN(LAKE, seed=0, gradient_steps=1)
    for _ in range(5):
        go_on(model, 23)
        evaluate_policy(model, model.get_env(), n_eval_episodes=1)
    go_on(model, 23)
    assert impossible(model) == []


class Row(gym.Env):
    """Four cells in a row. In each only the action of its number is legal, and another one is an error."""

    observation_space, action_space = spaces.Discrete(4), spaces.Discrete(4)
    cell = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 0
        return 0, {}

    def step(self, action):
        if action != self.cell:
            raise RuntimeError(f"illegal action {action} in cell {self.cell}")
        self.cell = (self.cell + 1) % 4
        return self.cell, 1.0, False, False, {}

    def legal(self):
        return np.arange(4) == self.cell


class Legal(Row):
    def action_masks(self):
        return self.legal()


class LegalByInfo(Row):
    """The masks are in infos only."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {"action_mask": self.legal()}

    def step(self, action):
        return *super().step(action)[:4], {"action_mask": self.legal()}


@pytest.mark.parametrize("kind", [Legal, LegalByInfo])
@pytest.mark.parametrize("n", [3, 9, 10])
def test_masks_are_those_of_the_state_in_which_a_stop_left_the_environment(n, kind):
    model = LectureDQN(TimeLimit(kind(), 9), use_masking=True, seed=0)
    for _ in range(3):
        model.learn(100, callback=StopAt(n), reset_num_timesteps=False)
    assert model.num_timesteps == 3 * n


class Game(Legal):
    """It ends in cell 3, of which there are no masks."""

    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.cell == 3, False, info

    def action_masks(self):
        assert self.cell < 3, "the game is over"
        return super().action_masks()


def test_nobody_asks_for_the_masks_of_a_game_that_is_over():
    model = LectureDQN(Game(), use_masking=True, seed=0).learn(20)
    assert model._episode_num == 6


class Counts(gym.Env):
    """Shows the number of its steps, and returns the same dictionary as info at every step."""

    observation_space, action_space = spaces.Box(0, 10, (1,)), spaces.Discrete(2)

    def __init__(self, end):
        self.end, self.info = end, {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        return np.zeros(1, np.float32), self.info

    def step(self, action):
        self.n += 1
        return np.full(1, self.n, np.float32), 0.0, self.n == self.end, False, self.info


def counting(end):
    return lambda: Counts(end)


@pytest.mark.parametrize("is_normalized", [False, True])
def test_a_terminal_observation_in_a_dictionary_that_is_used_again_counts_once(is_normalized):
    env = SubprocVecEnv([counting(3), counting(5)], start_method="forkserver")
    model = LectureDQN("MlpPolicy", VecNormalize(env, norm_obs=False) if is_normalized else env, seed=0).learn(30)
    memory = model.replay_buffer
    assert np.array_equal(memory.next_observations, memory.observations + 1)
    assert sorted({*memory.next_observations[memory.dones.ravel() > 0].ravel().tolist()}) == [3.0, 5.0]
    env.close()


def test_after_a_stop_at_the_first_step_no_counts_are_missed():
    model = LectureDQN.tuned("Taxi-v3", seed=0).learn(300, callback=lambda *_: False)
    assert model.num_timesteps == model.n_envs
    go_on(model, 8)


def test_a_loaded_model_without_counts_says_so(tmp_path):
    model = LectureDQN.tuned("Taxi-v3", seed=0).learn(300)
    model.save(tmp_path / "taxi")
    go_on(model, 8)
    with pytest.warns(UserWarning, match="explore_least_tried='anywhere': a model's file has no counts of the actions"):
        go_on(LectureDQN.load(tmp_path / "taxi"), 8)
