"""A class of the user's that says `is_tabular = True` is made by its id as arrays, with the results of stepping it."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Discrete
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_dqn import (
    LectureCheckpointCallback,
    LectureDQN,
    NotTabularError,
    TabularModel,
    TabularVecEnv,
    exact_test,
    optimal_values,
    run_test,
)

N = 7


class Corridor(gym.Env):
    """Go left or right from the middle; the right end is worth 1, the left end 0. At the ends one way is barred."""

    is_tabular = True
    observation_space = Discrete(N)
    action_space = Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}  # or gymnasium warns

    def __init__(self, slip=0.0):
        self.slip = slip
        self.initial_state_distrib = np.eye(N)[N // 2]
        self.P = [[self.outcomes(state, action) for action in (0, 1)] for state in range(N)]

    def outcomes(self, state, action):
        there, back = (min(max(state + way, 0), N - 1) for way in (2 * action - 1, 1 - 2 * action))
        listed = [(1 - self.slip, there), (self.slip, back)]
        return [(p, s, float(s == N - 1), s in (0, N - 1)) for p, s in listed if p > 0]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = N // 2
        return self.state, {}

    def step(self, action):
        outcomes = self.P[self.state][action]
        drawn = self.np_random.choice(len(outcomes), p=[outcome[0] for outcome in outcomes])
        _, self.state, reward, terminated = outcomes[drawn]
        return self.state, reward, terminated, False, {}


class Stepped(Corridor):
    """Does not say that it is tabular itself, so it is stepped."""


class Barred(Corridor):
    is_tabular = True

    def action_mask(self, state):
        return np.array([state != 1, True])


@pytest.fixture
def register(monkeypatch):
    def registered(kind, **kwargs):
        spec = EnvSpec("Own-v0", kind, max_episode_steps=20, kwargs=kwargs)
        monkeypatch.setitem(gym.registry, "Own-v0", spec)
        return "Own-v0"

    return registered


def weights(model):
    return [weight.tolist() for weight in model.q_net.parameters()]


@pytest.mark.parametrize("policy", ["TablePolicy", "LecturePolicy"])
def test_training_by_id_is_on_arrays_and_the_same_as_stepping(policy, register):
    model = LectureDQN(policy, register(Corridor), seed=0).learn(300)
    assert type(model.get_env()) is TabularVecEnv
    assert model.get_env().max_episode_steps == 20
    stepped = LectureDQN(policy, register(Stepped), seed=0, buffer_size=model.buffer_size).learn(300)
    assert type(stepped.get_env()) is DummyVecEnv
    assert weights(model) == weights(stepped)
    assert model.replay_buffer.success_states == stepped.replay_buffer.success_states
    assert run_test(model, n_episodes=3) == run_test(stepped, n_episodes=3) == run_test(model, Stepped(), 3, 20)
    assert exact_test(model).mean_reward == run_test(model, n_episodes=3).mean_reward


def test_a_stochastic_table_is_drawn_from_as_it_is_stepped(register):
    model = LectureDQN("TablePolicy", register(Corridor, slip=0.2), seed=0)
    model.q_net.layers[0].weight.data[:, 1] = 1.0  # go right
    exact, stepped = exact_test(model), run_test(model, gym.make(register(Stepped, slip=0.2)), 3000, seed=0)
    assert stepped.mean_reward == pytest.approx(exact.mean_reward, abs=0.02)
    assert stepped.mean_steps == pytest.approx(exact.mean_steps, abs=0.2)
    assert optimal_values(Corridor(slip=0.2), 20).mean_reward == pytest.approx(exact.mean_reward)


def test_masks_are_those_of_action_mask(register):
    model = LectureDQN("TablePolicy", register(Barred), seed=0, use_masking=True).learn(300)
    assert model.get_env().model.action_masks.tolist() == [[state != 1, True] for state in range(N)]
    memory = model.replay_buffer
    assert not ((memory.observations.ravel() == 1) & (memory.actions.ravel() == 0)).any()


def test_copies_files_and_checkpoints_go_on_with_it(register, tmp_path):
    env_id = register(Corridor, slip=0.1)
    whole = LectureDQN("LecturePolicy", env_id, seed=0).learn(200)
    LectureDQN("LecturePolicy", env_id, seed=0).learn(100, LectureCheckpointCallback(50, tmp_path / "run"))
    resumed = LectureDQN.resume(tmp_path / "run").learn(200)
    assert type(resumed.get_env()) is TabularVecEnv
    assert weights(resumed) == weights(whole)
    whole.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model")
    assert exact_test(loaded) == exact_test(whole)
    given = LectureDQN("LecturePolicy", gym.make(env_id), seed=0)
    given.get_env().envs[0].unwrapped.P[3] = [[(1.0, 2, 5.0, False)]] * 2
    assert exact_test(given).mean_reward > 1 >= exact_test(given, gym.make(env_id)).mean_reward


def changed(**parts):
    return type("Own", (Corridor,), {"is_tabular": True, **parts})


def without(name):
    def init(self):
        Corridor.__init__(self)
        delattr(self, name)

    return changed(__init__=init)


def with_table(P):
    def init(self):
        Corridor.__init__(self)
        self.P = P(self.P)

    return changed(__init__=init)


def stepping(change):
    return changed(step=lambda self, action: change(*Corridor.step(self, action)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (without("P"), "Own says is_tabular = True and has no P"),
        (without("initial_state_distrib"), "has no initial_state_distrib"),
        (with_table(lambda P: [[[(0.9, 1, 0.0, False)]] * 2, *P[1:]]), r"probabilities of P\[0\]\[0\] sum to 0.9"),
        (with_table(lambda P: P[:-1]), r"P\[5\]\[1\] leads to state 6"),
        (with_table(lambda P: [actions[:1] for actions in P]), r"action_space of Own is Discrete\(2\).*Discrete\(1\)"),
        (changed(observation_space=Discrete(N, start=1)), r"observation_space of Own is .*must be Discrete\(7\)"),
        (stepping(lambda s, r, end, cut, info: (s, r + 1, end, cut, info)), r"P\[3\]\[.\] has no such outcome"),
        (stepping(lambda s, r, end, cut, info: (s, r, False, cut, info)), "has no such outcome"),
        (stepping(lambda s, r, end, cut, info: (s, r, end, True, info)), "truncated=True; .* has no such outcome"),
        (changed(reset=lambda self, **_: (Corridor.reset(self)[0] - 1, {})), r"reset\(\) returned state 2"),
    ],
)
def test_a_table_that_is_missing_wrong_or_not_followed_is_an_error(kind, message, register):
    with pytest.raises(ValueError, match=message) as raised:
        LectureDQN(register(kind))
    assert not isinstance(raised.value, NotTabularError), "it would be stepped without a word"


def test_a_property_decides_by_settings(register):
    kind = changed(is_tabular=property(lambda self: self.slip == 0))
    assert type(LectureDQN(register(kind)).get_env()) is TabularVecEnv
    assert type(LectureDQN(register(kind, slip=0.5)).get_env()) is DummyVecEnv
    with pytest.raises(NotTabularError, match=r"Own is not gymnasium's .*does not say is_tabular = True"):
        TabularModel.from_env(kind(slip=0.5))


def test_it_has_a_picture_only_if_its_class_draws(register):
    kind = changed(metadata={"render_modes": []})
    assert LectureDQN(TabularVecEnv(gym.make(register(kind)))).get_env().render_mode is None
    kind = changed(render=lambda self: np.full((2, 2, 3), self.s, np.uint8))
    env = LectureDQN(register(kind)).get_env()
    env.reset()
    assert env.render().max() == N // 2
