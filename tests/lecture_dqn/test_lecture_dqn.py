"""LectureDQN: its defaults, its schedule by episodes, its updates, and its place among SB3's algorithms."""

import copy
import inspect
import io
import json
import re

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize, VecTransposeImage

from sb3_lecture_dqn import (
    ActionInPolicy,
    LectureDQN,
    LecturePolicy,
    LectureQRDQN,
    SuccessFailReplayBuffer,
    TablePolicy,
)

# The values of SB3's own defaults, but for sizes that a test can afford.
LIKE_SB3 = {
    "learning_rate": 1e-3,
    "buffer_size": 1000,
    "learning_starts": 20,
    "batch_size": 16,
    "gamma": 0.99,
    "train_freq": 4,
    "gradient_steps": 1,
    "replay_buffer_class": ReplayBuffer,
    "target_update_interval": 40,
    "exploration_fraction": 0.5,
    "exploration_final_eps": 0.05,
    "max_grad_norm": 10,
}


def taxi(**kwargs):
    """The lecture's run with episodes that are cut early."""
    return LectureDQN(env="Taxi-v3", **{"max_episode_steps": 5, "seed": 0, "device": "cpu", **kwargs})


def weights(net):
    """A copy of all weights."""
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(th.equal(one[name], other[name]) for name in one)


class Observe(BaseCallback):
    """Calls functions of the model where SB3 calls the hooks of a callback."""

    def __init__(self, on_step=None, on_rollout_start=None, on_training_end=None):
        super().__init__()
        self.observe_step = on_step
        self.observe_rollout_start = on_rollout_start
        self.observe_training_end = on_training_end

    def _on_step(self):
        return self.observe_step is None or self.observe_step(self) is not False

    def _on_rollout_start(self):
        if self.observe_rollout_start is not None:
            self.observe_rollout_start(self)

    def _on_training_end(self):
        if self.observe_training_end is not None:
            self.observe_training_end(self)


# Construction


@pytest.mark.parametrize(
    "make",
    [
        lambda: LectureDQN("Taxi-v3"),
        lambda: LectureDQN("LecturePolicy", "Taxi-v3"),
        lambda: LectureDQN(LecturePolicy, "Taxi-v3"),
        lambda: LectureDQN(env="Taxi-v3"),
        lambda: LectureDQN(policy="LecturePolicy", env="Taxi-v3"),
        lambda: LectureDQN(gym.make("Taxi-v3")),
        lambda: LectureDQN(LecturePolicy, gym.make("Taxi-v3")),
        lambda: LectureDQN(make_vec_env("Taxi-v3", n_envs=2)),
        lambda: LectureDQN("LecturePolicy", "Taxi-v3", 1e-3, 1000),
    ],
)
def test_one_positional_argument_is_the_environment_and_two_are_policy_and_environment(make):
    model = make()
    assert isinstance(model.policy, LecturePolicy)
    assert model.observation_space == gym.spaces.Discrete(500)
    assert isinstance(model.replay_buffer, SuccessFailReplayBuffer)
    assert model.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("name", "policy"),
    [("LecturePolicy", LecturePolicy), ("TablePolicy", TablePolicy), ("ActionInPolicy", ActionInPolicy)],
)
def test_the_lectures_policies_have_names(name, policy):
    assert type(LectureDQN(name, "Taxi-v3").policy) is policy


def episode_lengths(model, n_steps):
    model.learn(n_steps)
    return [episode["l"] for episode in model.ep_info_buffer]


def test_an_environment_by_id_is_cut_after_1000_steps():
    """In place of Taxi's own 200."""
    assert episode_lengths(LectureDQN("Taxi-v3", gradient_steps=0, seed=2), 1_500) == [1000]


def test_max_episode_steps_is_the_limit_of_an_environment_by_id():
    assert episode_lengths(LectureDQN("Taxi-v3", gradient_steps=0, seed=0, max_episode_steps=7), 21) == [7, 7, 7]


def test_an_environment_object_keeps_its_limit():
    assert episode_lengths(LectureDQN(gym.make("Taxi-v3"), gradient_steps=0, seed=0), 300) == [200]
    eleven = gym.make("Taxi-v3", max_episode_steps=11)
    assert episode_lengths(LectureDQN(eleven, gradient_steps=0, seed=0), 30) == [11, 11]


def test_the_defaults_are_the_settings_of_the_lectures_run():
    defaults = {name: p.default for name, p in inspect.signature(LectureDQN.__init__).parameters.items()}
    settings = {
        "policy": "LecturePolicy",
        "learning_rate": 0.001,
        "buffer_size": 1000,
        "learning_starts": 0,
        "batch_size": 1,
        "tau": 1.0,
        "gamma": 0.75,
        "train_freq": 1,
        "gradient_steps": 5,
        "target_update_interval": (20, "episode"),
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.1,
        "exploration_decay": 0.99,
        "max_grad_norm": None,
        "store_and_replay": True,
        "double_dqn": True,
        "double_q": False,
        "loss": "mse",
        "max_episode_steps": None,  # which of the lecture's tasks is 1000
    }
    assert {name: defaults[name] for name in settings} == settings
    optimizer = LectureDQN("Taxi-v3").policy.optimizer
    assert type(optimizer) is th.optim.SGD
    assert optimizer.param_groups[0]["momentum"] == 0
    assert optimizer.param_groups[0]["weight_decay"] == 0


def test_sb3s_arguments_keep_their_names_and_places():
    """So that code written for SB3's DQN runs with this class in its place."""
    stock = list(inspect.signature(DQN.__init__).parameters)[1:-1]
    own = list(inspect.signature(LectureDQN.__init__).parameters)[1:]
    assert own[: len(stock)] == stock
    stock_learn = list(inspect.signature(DQN.learn).parameters)
    assert list(inspect.signature(LectureDQN.learn).parameters)[: len(stock_learn)] == stock_learn


# The schedule by episodes


def target_copies(model, **budget):
    """Episodes and steps done at every change of the target network, which must be to the online network's weights."""
    copies, last = [], [weights(model.q_net_target)]

    def look(callback):
        now = weights(model.q_net_target)
        if not same(now, last[0]):
            assert same(now, weights(model.q_net)), "a copy of other weights than those after the updates"
            copies.append((model._episode_num, model.num_timesteps))
            last[0] = now

    model.learn(callback=Observe(on_rollout_start=look, on_training_end=look), **budget)
    return copies


def test_the_target_network_is_copied_after_the_updates_of_every_20th_episode():
    assert target_copies(taxi(max_episode_steps=3), total_episodes=60) == [(20, 60), (40, 120), (60, 180)]


def test_the_target_network_is_copied_when_several_environments_together_pass_the_interval():
    model = LectureDQN(make_vec_env("Taxi-v3", 4, env_kwargs={"max_episode_steps": 3}), seed=0)
    assert target_copies(model, total_episodes=48) == [(20, 60), (40, 120)]
    model = LectureDQN(
        make_vec_env("Taxi-v3", 4, env_kwargs={"max_episode_steps": 3}), target_update_interval=(6, "episode"), seed=0
    )
    assert target_copies(model, total_episodes=24) == [(8, 24), (12, 36), (20, 60), (24, 72)]


def test_continued_training_goes_on_counting_episodes_for_the_target_copies():
    model = taxi(max_episode_steps=3)
    assert target_copies(model, total_episodes=15) == []
    assert target_copies(model, total_episodes=15, reset_num_timesteps=False) == [(20, 60)]


def test_tau_mixes_the_networks_at_an_episodes_end():
    model = taxi(target_update_interval=(2, "episode"), tau=0.25)
    before = weights(model.q_net_target)
    model.learn(total_episodes=2)
    for name, weight in weights(model.q_net_target).items():
        th.testing.assert_close(weight, 0.75 * before[name] + 0.25 * model.q_net.state_dict()[name])


@pytest.mark.parametrize("n_envs", [1, 4])
def test_epsilon_falls_with_every_episode(n_envs):
    env = make_vec_env("Taxi-v3", n_envs, env_kwargs={"max_episode_steps": 2})
    model = LectureDQN(env, gradient_steps=0, seed=0)
    rates, ended = [], [0]

    def on_step(callback):
        rates.append((ended[0] + 1, model.exploration_rate))
        ended[0] += int(callback.locals["dones"].sum())

    model.learn(total_episodes=300, callback=Observe(on_step))
    assert {episode for episode, _ in rates} == set(range(1, 301, n_envs))
    for episode, rate in rates:
        assert rate == max(0.1, 0.99**episode)


def test_epsilon_0_is_greedy_and_epsilon_1_is_uniformly_random():
    greedy = taxi(exploration_initial_eps=0.0, exploration_final_eps=0.0)
    seen, before = [], {}

    def remember(callback):
        before["obs"] = greedy._last_obs.copy()
        before["action"] = greedy.predict(before["obs"], deterministic=True)[0]

    greedy.learn(40, callback=Observe(lambda c: seen.append(c.locals["actions"] == before["action"]), remember))
    assert all(seen)

    random = taxi(exploration_decay=1.0, gradient_steps=0)
    actions = []
    random.learn(3_000, callback=Observe(lambda c: actions.append(int(c.locals["actions"][0]))))
    counts = np.bincount(actions, minlength=6)
    assert np.sum((counts - 500) ** 2 / 500) < 20.5  # 5 degrees of freedom, 99.9 %


def test_each_environment_explores_on_its_own():
    """SB3's predict takes one decision for all environments."""
    model = taxi()
    model.exploration_rate = 0.5
    obs = np.arange(500).repeat(8)
    greedy, _ = model.predict(obs, deterministic=True)
    explored, _ = model.predict(obs)
    share = np.mean(greedy != explored)
    assert share == pytest.approx(0.5 * 5 / 6, abs=0.04)


@pytest.mark.parametrize("obs", [3, np.int64(3), np.array(3), np.array([3]), np.arange(7)])
@pytest.mark.parametrize(("deterministic", "epsilon"), [(True, 0.0), (False, 0.0), (False, 1.0)])
def test_predict_gives_actions_of_the_shape_that_sb3_gives(obs, deterministic, epsilon):
    model, stock = taxi(), DQN(LecturePolicy, "Taxi-v3")
    model.exploration_rate = stock.exploration_rate = epsilon
    own, state = model.predict(obs, deterministic=deterministic)
    other, _ = stock.predict(obs, deterministic=deterministic)
    assert isinstance(own, np.ndarray)
    assert own.shape == np.shape(other)
    assert own.dtype == np.int64
    assert state is None


def test_epsilon_by_episode_does_not_exist_without_a_decay():
    assert taxi().epsilon(1) == 0.99
    assert taxi(exploration_initial_eps=0.5).epsilon(2) == 0.5 * 0.99**2
    assert taxi().epsilon(1000) == 0.1
    with pytest.raises(ValueError, match="exploration_decay"):
        taxi(exploration_decay=None).epsilon(1)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_integers_and_none_give_sb3s_own_schedule(n_envs):
    """The exploration rate of every step and the steps of the target copies are those of SB3's DQN."""

    def run(algorithm, **kwargs):
        model = algorithm("MlpPolicy", make_vec_env("CartPole-v1", n_envs), seed=0, **{**LIKE_SB3, **kwargs})
        rates, copies, last = [], [], [weights(model.q_net_target)]

        def on_step(callback):
            rates.append(model.exploration_rate)
            now = weights(model.q_net_target)
            if not same(now, last[0]):
                copies.append(model.num_timesteps)
                last[0] = now

        model.learn(400, callback=Observe(on_step))
        return rates, copies, model.num_timesteps

    own, stock = run(LectureDQN, exploration_decay=None, loss="huber"), run(DQN)
    assert own == stock
    assert len(own[1]) >= 8
    assert len(set(own[0])) > 50


def test_progress_is_counted_in_episodes_if_the_budget_is():
    """A learning rate schedule falls from episode to episode, whatever their length."""
    progress = []

    def schedule(remaining):
        progress.append(remaining)
        return 1e-3

    taxi(learning_rate=schedule).learn(total_episodes=4)
    assert set(progress) == {1.0, 0.75, 0.5, 0.25}
    assert progress == sorted(progress, reverse=True)


# Budgets


def test_a_budget_of_timesteps_is_met_exactly():
    model = taxi().learn(total_timesteps=23)
    assert (model.num_timesteps, model._episode_num) == (23, 4)
    assert taxi().learn(17).num_timesteps == 17


def test_a_budget_of_episodes_is_met_exactly_and_with_the_last_updates():
    model = taxi().learn(total_episodes=3)
    assert (model.num_timesteps, model._episode_num, model._n_updates) == (15, 3, 75)


def test_without_a_budget_there_are_5000_episodes():
    model = taxi()
    model.learn(callback=Observe(lambda callback: callback.num_timesteps < 3))
    assert model._budget.until_episode == 5000
    assert model.num_timesteps == 3


def test_continuing_adds_a_budget_of_episodes_and_goes_on_with_epsilon():
    model = taxi().learn(total_episodes=3)
    rates = []
    callback = Observe(lambda c: rates.append(model.exploration_rate))
    model.learn(total_episodes=2, reset_num_timesteps=False, callback=callback)
    assert (model._episode_num, model.num_timesteps) == (5, 25)
    assert rates == [0.99**4] * 5 + [0.99**5] * 5


def test_continuing_adds_a_budget_of_timesteps():
    model = taxi().learn(13)
    model.learn(4, reset_num_timesteps=False)
    assert (model._episode_num, model.num_timesteps) == (3, 17)


def test_learning_anew_starts_counting_and_epsilon_anew():
    model = taxi().learn(total_episodes=3)
    rates = []
    model.learn(total_episodes=1, callback=Observe(lambda c: rates.append(model.exploration_rate)))
    assert (model._episode_num, model.num_timesteps) == (1, 5)
    assert rates == [0.99] * 5


def test_a_callback_ends_the_training():
    model = taxi()
    model.learn(total_episodes=10, callback=lambda locals_, globals_: model.num_timesteps < 7)
    assert model.num_timesteps == 7


# Updates


def test_there_are_five_updates_a_step_from_the_very_first_step_on():
    model = taxi()
    updates = []
    model.learn(4, callback=Observe(on_rollout_start=lambda c: updates.append(model._n_updates)))
    assert [*updates, model._n_updates] == [0, 5, 10, 15, 20]


def test_gradient_steps_of_minus_one_are_as_many_as_steps():
    model = taxi(train_freq=(1, "episode"), gradient_steps=-1).learn(total_episodes=3)
    assert model._n_updates == model.num_timesteps == 15


@pytest.mark.parametrize("store_and_replay", [True, False])
@pytest.mark.parametrize("double_dqn", [True, False])
def test_all_combinations_of_the_lectures_switches_train(store_and_replay, double_dqn, tmp_path):
    model = taxi(store_and_replay=store_and_replay, double_dqn=double_dqn)
    before = weights(model.q_net)
    model.learn(total_episodes=4)
    assert not same(before, weights(model.q_net))
    assert (model.q_net_target is model.q_net) == (not double_dqn)
    assert (model.replay_buffer.size() == 1) == (not store_and_replay)
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model")
    assert (loaded.store_and_replay, loaded.double_dqn) == (store_and_replay, double_dqn)
    assert (loaded.q_net_target is loaded.q_net) == (not double_dqn)
    loaded.learn(total_episodes=1, reset_num_timesteps=False)
    assert loaded._episode_num == 5


def test_without_replay_all_updates_use_the_transition_just_seen():
    """With a table, no discount and a learning rate of 1/2, each update jumps to the reward: one entry changes."""
    model = taxi(policy="TablePolicy", store_and_replay=False, gamma=0.0, learning_rate=0.25, gradient_steps=2)
    table = model.q_net.layers[0].weight
    last = {"table": table.detach().clone(), "obs": None}

    def check(callback):
        if last["obs"] is not None:
            state, action, reward = last["obs"], last["action"], last["reward"]
            expected = last["table"].clone()
            for _ in range(2):
                expected[state, action] -= 0.25 * 2 * (expected[state, action] - reward)
            th.testing.assert_close(table.detach(), expected)
        last.update(table=table.detach().clone(), obs=int(model._last_obs[0]))

    def on_step(callback):
        last.update(action=int(callback.locals["actions"][0]), reward=float(callback.locals["rewards"][0]))

    model.learn(60, callback=Observe(on_step, check, check))
    assert (table != 0).sum() > 10


def table_model(**kwargs):
    """A Q-table of random values, a target table of others, and a memory of a few transitions."""
    model = taxi(policy="TablePolicy", learning_rate=0.1, **kwargs)
    rng = np.random.default_rng(1)
    with th.no_grad():
        for net in (model.q_net, model.q_net_target):
            net.layers[0].weight.copy_(th.as_tensor(rng.normal(0, 2, (500, 6))))
    for _ in range(30):
        state, next_state = rng.integers(4, size=(2, 1))
        reward, done = rng.choice([-10.0, -1.0, 0.5, 20.0], size=1), rng.random(1) < 0.3
        model.replay_buffer.add(state, next_state, rng.integers(6, size=1), reward, done, [{}])
    model.set_logger(configure(format_strings=[]))
    return model


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("loss", ["mse", "huber"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.3])
@pytest.mark.parametrize("double_q", [False, True])
def test_an_update_is_the_one_computed_by_hand(engine, loss, max_grad_norm, double_q):
    if engine == "numba":
        pytest.importorskip("numba")
    model = table_model(loss=loss, max_grad_norm=max_grad_norm, double_q=double_q, batch_size=7, engine=engine)
    q, q_target = (
        net.layers[0].weight.detach().numpy().astype(np.float64) for net in (model.q_net, model.q_net_target)
    )
    losses = []
    buffer = copy.deepcopy(model.replay_buffer)
    for _ in range(3):
        batch = buffer.sample(7)
        s, a, s_next = (
            t.numpy().ravel().astype(int) for t in (batch.observations, batch.actions, batch.next_observations)
        )
        r, d = (t.numpy().ravel().astype(np.float64) for t in (batch.rewards, batch.dones))
        # Double DQN: the online table chooses the action that the target table values.
        a_next = (q if double_q else q_target)[s_next].argmax(1)
        error = q[s, a] - (r + (1 - d) * 0.75 * q_target[s_next, a_next])
        gradient = np.zeros_like(q)
        if loss == "mse":
            losses.append(np.mean(error**2))
            np.add.at(gradient, (s, a), 2 * error / 7)
        else:
            losses.append(np.mean(np.where(np.abs(error) < 1, 0.5 * error**2, np.abs(error) - 0.5)))
            np.add.at(gradient, (s, a), np.clip(error, -1, 1) / 7)
        if max_grad_norm is not None:
            gradient *= min(1, max_grad_norm / np.linalg.norm(gradient))
        q = q - 0.1 * gradient
    model.train(gradient_steps=3, batch_size=7)
    np.testing.assert_allclose(model.q_net.layers[0].weight.detach().numpy(), q, rtol=1e-4, atol=1e-4)
    assert model.logger.name_to_value["train/loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert model.logger.name_to_value["train/n_updates"] == 3


def test_double_q_differs_from_the_plain_target():
    tables = []
    for double_q in (False, True):
        model = table_model(double_q=double_q)
        model.train(gradient_steps=20, batch_size=4)
        tables.append(model.q_net.layers[0].weight.detach().clone())
    assert not th.equal(*tables)


def test_without_a_target_network_the_next_value_is_the_online_ones_and_not_differentiated_through():
    model = taxi(policy="TablePolicy", double_dqn=False, learning_rate=0.1)
    table = model.q_net.layers[0].weight
    with th.no_grad():
        table[4] = th.tensor([0.0, 3.0, 1.0, 0.0, 0.0, 0.0])
    model.replay_buffer.add(np.array([2]), np.array([4]), np.array([1]), np.array([-1.0]), np.array([False]), [{}])
    model.set_logger(configure(format_strings=[]))
    model.train(gradient_steps=1, batch_size=1)
    assert table[2, 1].item() == pytest.approx(-0.1 * 2 * (0 - (-1 + 0.75 * 3)))
    assert table[4].tolist() == [0.0, 3.0, 1.0, 0.0, 0.0, 0.0]


# SB3's parts


DROP_IN = {
    "DQN with policy and memory": lambda: DQN(
        LecturePolicy, "Taxi-v3", replay_buffer_class=SuccessFailReplayBuffer, learning_starts=10, seed=0
    ),
    "DQN with the memory": lambda: DQN(
        "MlpPolicy", "CartPole-v1", replay_buffer_class=SuccessFailReplayBuffer, learning_starts=10, seed=0
    ),
    "DQN with the policy": lambda: DQN(LecturePolicy, "Taxi-v3", learning_starts=10, buffer_size=1000, seed=0),
    "LectureDQN with SB3's": lambda: LectureDQN("MlpPolicy", "CartPole-v1", replay_buffer_class=ReplayBuffer, seed=0),
    "LectureDQN with SB3's policy": lambda: LectureDQN("MlpPolicy", "CartPole-v1", seed=0),
    "table": lambda: LectureDQN("TablePolicy", "Taxi-v3", seed=0),
    "state and action in": lambda: LectureDQN("ActionInPolicy", "Taxi-v3", seed=0),
}


@pytest.mark.parametrize("make", DROP_IN.values(), ids=DROP_IN.keys())
def test_parts_and_stock_sb3_train_save_load_and_go_on(make, tmp_path):
    model = make()
    before = weights(model.q_net)
    model.learn(60)
    assert not same(before, weights(model.q_net))
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    loaded = type(model).load(tmp_path / "model", env=model.get_env())
    loaded.load_replay_buffer(tmp_path / "memory")
    assert type(loaded.policy) is type(model.policy)
    assert type(loaded.replay_buffer) is type(model.replay_buffer)
    assert loaded.replay_buffer.size() == model.replay_buffer.size() > 0
    assert same(weights(loaded.q_net), weights(model.q_net))
    assert same(weights(loaded.q_net_target), weights(model.q_net_target))
    loaded.learn(40, reset_num_timesteps=False)
    assert loaded.num_timesteps == 100
    assert not same(weights(loaded.q_net), weights(model.q_net))


def test_hindsight_replay_works_with_larger_batches():
    env = BitFlippingEnv(n_bits=4, continuous=False, max_steps=4)
    model = LectureDQN(
        "MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, batch_size=16, learning_starts=20, seed=0
    )
    model.learn(60)
    assert isinstance(model.replay_buffer, HerReplayBuffer)
    assert model._n_updates == 200


def test_n_step_returns_take_sb3s_buffer_and_its_discounts():
    model = LectureDQN("MlpPolicy", "CartPole-v1", n_steps=3, batch_size=8, gradient_steps=1, seed=0)
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    model.learn(40)
    before, buffer = copy.deepcopy(model.q_net), copy.deepcopy(model.replay_buffer)
    np.random.seed(5)  # noqa: NPY002 -- SB3 draws from the global generator
    batch = buffer.sample(8)
    assert batch.discounts.min() == pytest.approx(0.75**3)
    with th.no_grad():
        target = (
            batch.rewards
            + (1 - batch.dones)
            * batch.discounts
            * model.q_net_target(batch.next_observations).max(1, keepdim=True).values
        )
    (before(batch.observations).gather(1, batch.actions) - target).square().mean().backward()
    optimizer = type(model.policy.optimizer)(before.parameters(), lr=1e-3)
    optimizer.load_state_dict(copy.deepcopy(model.policy.optimizer.state_dict()))
    optimizer.step()
    np.random.seed(5)  # noqa: NPY002
    model.train(gradient_steps=1, batch_size=8)
    for own, expected in zip(model.q_net.parameters(), before.parameters(), strict=True):
        th.testing.assert_close(own, expected)


def test_memory_efficient_replay_is_sb3s():
    model = LectureDQN(
        "MlpPolicy",
        "CartPole-v1",
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
        seed=0,
    )
    assert type(model.replay_buffer) is ReplayBuffer
    assert model.learn(30)._n_updates == 150


def test_vecnormalize_is_honoured_and_the_memory_holds_what_the_environment_gave(tmp_path):
    env = VecNormalize(make_vec_env("CartPole-v1", seed=0))
    model = LectureDQN("MlpPolicy", env, batch_size=4, seed=0)
    raw = []
    model.learn(80, callback=Observe(lambda c: raw.append(env.get_original_obs()[0])))
    observations = model.replay_buffer.observations[:, 0]
    held = {obs.tobytes() for obs in observations}
    assert sum(obs.tobytes() in held for obs in raw) > 60
    assert set(model.replay_buffer.rewards.ravel().tolist()) == {1.0}
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model", env=env)
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded.num_timesteps == 100


def test_normalised_stacks_of_observations_have_no_bounds():
    """VecFrameStack's space has its bounds in another order than its numbers."""
    env = VecNormalize(VecFrameStack(make_vec_env("CartPole-v1", seed=0), 2))
    assert LectureDQN("MlpPolicy", env, seed=0).learn(200).num_timesteps == 200


def test_what_the_compiled_engine_knows_is_computed_on_the_cpu_unless_asked_otherwise(monkeypatch, tmp_path):
    taxi().save(tmp_path / "taxi")
    monkeypatch.setattr(th.cuda, "is_available", lambda: True)
    for model in (LectureDQN("Taxi-v3"), LectureDQN.load(tmp_path / "taxi"), LectureDQN.tuned("FrozenLake-v1")):
        assert (model.device.type, model.engine_in_use) == ("cpu", "numba")
    assert LectureDQN("MlpPolicy", "CartPole-v1", _init_setup_model=False).device.type == "cpu"
    assert LectureDQN("CnnPolicy", FakeImageEnv(6, 36, 36), _init_setup_model=False).device.type == "cuda"
    assert LectureDQN("MlpPolicy", FakeImageEnv(6, 36, 36), _init_setup_model=False).device.type == "cuda"
    assert LectureDQN("Taxi-v3", engine="torch", _init_setup_model=False).device.type == "cuda"


def test_images_and_dicts_train_with_the_lectures_memory(tmp_path):
    """The Nature network of the lecture's review, and several inputs at once."""
    image = LectureDQN("CnnPolicy", FakeImageEnv(6, 36, 36), batch_size=4, gradient_steps=1, seed=0)
    several = LectureDQN("MultiInputPolicy", SimpleMultiObsEnv(), batch_size=4, gradient_steps=1, seed=0)
    assert isinstance(image.get_env(), VecTransposeImage)
    for model in (image, several):
        before = weights(model.q_net)
        model.learn(25)
        model.replay_buffer.check_valid()
        assert isinstance(model.replay_buffer, SuccessFailReplayBuffer)
        assert not same(before, weights(model.q_net))
        model.save(tmp_path / "model")
        loaded = LectureDQN.load(tmp_path / "model", env=model.get_env())
        loaded.learn(5, reset_num_timesteps=False)
        assert loaded.num_timesteps == 30


def test_a_dict_takes_sb3s_dict_buffer_too():
    model = LectureDQN(
        "MultiInputPolicy", SimpleMultiObsEnv(), replay_buffer_class=DictReplayBuffer, buffer_size=50, batch_size=4
    )
    assert model.learn(10)._n_updates == 50


def test_several_environments_train_on_all_their_transitions():
    model = LectureDQN(make_vec_env("Taxi-v3", 4, seed=0), replay_buffer_kwargs={"deduplicate": False}, seed=0)
    model.learn(40)
    assert model.num_timesteps == 40
    assert model.replay_buffer.size() == 40
    assert model._n_updates == 50


# Reproducibility


def trained(make_env, seed, disturb=False, **kwargs):
    model = LectureDQN(make_env(), seed=seed, buffer_size=50, max_episode_steps=9, **kwargs)
    actions = []

    def on_step(callback):
        actions.extend(callback.locals["actions"].tolist())
        if disturb:
            np.random.seed(callback.n_calls)  # noqa: NPY002
            np.random.random(3)  # noqa: NPY002
            callback.model.action_space.sample()

    model.learn(total_episodes=12, callback=Observe(on_step))
    return weights(model.q_net) | {f"target/{k}": v for k, v in weights(model.q_net_target).items()}, actions


@pytest.mark.parametrize("store_and_replay", [True, False])
@pytest.mark.parametrize(
    "make_env",
    [
        lambda: "Taxi-v3",
        lambda: gym.make("Taxi-v3", max_episode_steps=9),
        lambda: make_vec_env("Taxi-v3", 3, env_kwargs={"max_episode_steps": 9}),
    ],
    ids=["id", "object", "three"],
)
def test_the_same_seed_gives_the_same_run_whatever_else_uses_numpy(make_env, store_and_replay):
    kwargs = {"store_and_replay": store_and_replay, "target_update_interval": (5, "episode")}
    one, its_actions = trained(make_env, 3, **kwargs)
    other, other_actions = trained(make_env, 3, disturb=True, **kwargs)
    assert its_actions == other_actions
    assert same(one, other)
    assert trained(make_env, 4, **kwargs)[1] != its_actions


def test_a_seed_set_later_gives_the_same_run_too():
    def run(model):
        model.set_random_seed(11)
        model.policy.load_state_dict(start)
        actions = []
        model.learn(20, callback=Observe(lambda c: actions.append(int(c.locals["actions"][0]))))
        return weights(model.q_net), actions

    start = weights(taxi(seed=1).policy)
    (one, its_actions), (other, other_actions) = run(taxi(seed=None)), run(taxi(seed=None))
    assert its_actions == other_actions
    assert same(one, other)


# Saving and loading


def test_a_loaded_model_needs_no_environment_if_it_was_made_from_an_id(tmp_path):
    model = taxi(seed=5).learn(total_episodes=3)
    model.save(tmp_path / "taxi")
    loaded = LectureDQN.load(tmp_path / "taxi")
    states = np.arange(500)
    assert np.array_equal(loaded.predict(states, deterministic=True)[0], model.predict(states, deterministic=True)[0])
    loaded.learn(total_episodes=2, reset_num_timesteps=False)
    assert loaded._episode_num == 5
    assert loaded.ep_info_buffer[-1]["l"] == 5  # the cut that the model was made with


def test_settings_and_optimizer_survive_saving():
    settings = {
        "gamma": 0.5,
        "exploration_decay": 0.9,
        "double_q": True,
        "loss": "huber",
        "target_update_interval": (3, "episode"),
        "max_grad_norm": 1.0,
        "max_episode_steps": 6,
        "buffer_size": 77,
        "replay_buffer_kwargs": {"success_fraction": 0.5, "deduplicate": False},
    }
    model = taxi(policy_kwargs={"hidden_dim": 4, "optimizer_class": th.optim.Adam}, **settings).learn(10)
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    loaded = LectureDQN.load(file)
    loaded.target_update_interval = tuple(loaded.target_update_interval)
    assert {name: getattr(loaded, name) for name in settings} == settings
    assert loaded.policy.hidden_dim == 4
    assert loaded.replay_buffer.success_fraction == 0.5
    saved, own = model.policy.optimizer.state_dict(), loaded.policy.optimizer.state_dict()
    assert type(loaded.policy.optimizer) is th.optim.Adam
    assert saved["state"].keys() == own["state"].keys() != set()
    assert all(th.equal(saved["state"][i]["exp_avg"], own["state"][i]["exp_avg"]) for i in saved["state"])


def test_settings_can_be_changed_on_loading(tmp_path):
    taxi().learn(5).save(tmp_path / "taxi")
    loaded = LectureDQN.load(tmp_path / "taxi", gamma=0.3, custom_objects={"learning_rate": 0.002, "buffer_size": 9})
    assert (loaded.gamma, loaded.learning_rate, loaded.replay_buffer.buffer_size) == (0.3, 0.002, 9)
    loaded.learn(5)
    assert loaded.policy.optimizer.param_groups[0]["lr"] == 0.002
    with pytest.raises(ValueError, match="gamma"):
        LectureDQN.load(tmp_path / "taxi", gamma=1.5)


def test_a_model_without_a_target_network_takes_the_online_weights(tmp_path):
    one = taxi(seed=0).learn(10)
    assert not same(weights(one.q_net), weights(one.q_net_target))
    one.save(tmp_path / "taxi")
    loaded = LectureDQN.load(tmp_path / "taxi", double_dqn=False)
    by_dict, by_file = taxi(seed=1, double_dqn=False), taxi(seed=1, double_dqn=False)
    by_dict.set_parameters(one.get_parameters())
    by_file.set_parameters(tmp_path / "taxi.zip")
    for other in (loaded, by_dict, by_file):
        assert other.q_net_target is other.q_net
        assert same(weights(other.q_net), weights(one.q_net))


def test_parameters_go_from_model_to_model():
    one, other = taxi(seed=0).learn(10), taxi(seed=1)
    assert not same(weights(one.q_net), weights(other.q_net))
    other.set_parameters(one.get_parameters())
    assert same(weights(one.policy), weights(other.policy))
    with pytest.raises(RuntimeError, match=r"layers\.0\.weight"):
        taxi(policy_kwargs={"hidden_dim": 8}).set_parameters(one.get_parameters())


# Logs and callbacks


def test_the_log_has_the_names_that_sb3s_dqn_gives(tmp_path):
    def names(algorithm, folder, **kwargs):
        model = algorithm("MlpPolicy", "CartPole-v1", seed=0, **{**LIKE_SB3, **kwargs})
        model.set_logger(configure(str(tmp_path / folder), ["json"]))
        model.learn(300, log_interval=2)
        model.logger.close()
        lines = (tmp_path / folder / "progress.json").read_text().splitlines()
        assert len(lines) > 2
        return [set(json.loads(line)) for line in (lines[0], lines[-1])]

    assert names(LectureDQN, "own", exploration_decay=None, loss="huber") == names(DQN, "stock")
    assert names(LectureDQN, "by episode", target_update_interval=(2, "episode")) == names(DQN, "stock again")


class Record(BaseCallback):
    """Every hook that SB3 calls, at which timestep, and which local variables it shows."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.seen = []

    def record(self, hook):
        self.calls.append((hook, self.model.num_timesteps, self.num_timesteps))
        self.seen.append(set(self.locals))
        return True

    def _init_callback(self):
        self.calls.append(("init", self.model.num_timesteps, self.num_timesteps))
        self.seen.append(set())

    def _on_training_start(self):
        self.record("training_start")

    def _on_rollout_start(self):
        self.record("rollout_start")

    def _on_step(self):
        return self.record("step")

    def _on_rollout_end(self):
        self.record("rollout_end")

    def _on_training_end(self):
        self.record("training_end")


@pytest.mark.parametrize("train_freq", [1, 4])
def test_callbacks_are_called_as_by_sb3s_dqn_and_see_what_they_see_there(train_freq):
    own, stock = Record(), Record()
    settings = {**LIKE_SB3, "train_freq": train_freq}
    LectureDQN("MlpPolicy", "CartPole-v1", exploration_decay=None, loss="huber", seed=0, **settings).learn(150, own)
    DQN("MlpPolicy", "CartPole-v1", seed=0, **settings).learn(150, stock)
    assert own.calls == stock.calls
    assert len(own.calls) > 150
    for (hook, *_), own_names, stock_names in zip(own.calls, own.seen, stock.seen, strict=True):
        assert own_names >= stock_names, hook


RUN_NAME = r"SR_{}_DD_{}_\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?"


def folders(root):
    return sorted(path.name for path in root.iterdir())


@pytest.mark.parametrize(
    ("store_and_replay", "double_dqn"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_the_run_folder_is_named_from_the_switches_and_the_time(store_and_replay, double_dqn, tmp_path):
    taxi(tensorboard_log=str(tmp_path), store_and_replay=store_and_replay, double_dqn=double_dqn).learn(3)
    (name,) = folders(tmp_path)
    assert re.fullmatch(RUN_NAME.format(store_and_replay, double_dqn), name)
    assert [file for file in (tmp_path / name).iterdir() if file.name.startswith("events.out.tfevents")]


DATE = r"_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda log: LectureDQN("Taxi-v3", seed=7, tensorboard_log=log), "SR_True_DD_True"),
        (lambda log: LectureDQN("Taxi-v3", engine="torch", verbose=0, tensorboard_log=log), "SR_True_DD_True"),
        (lambda log: LectureDQN.tuned("Taxi-v3", seed=1, use_masking=True, tensorboard_log=log),
         "taxi-v3_tuned_masks_seed1"),
        (lambda log: LectureDQN.tuned("Taxi-v3", learning_rate=0.01, double_dqn=False, tensorboard_log=log),
         "taxi-v3_tuned_learning-rate=0.01_no-target"),
        (lambda log: LectureDQN("FrozenLake-v1", tensorboard_log=log), "frozenlake-v1"),
        (lambda log: LectureDQN("Taxi-v3", gamma=0.9, double_dqn=False, seed=0, tensorboard_log=log),
         "taxi-v3_gamma=0.9_no-target_seed0"),
        (lambda log: LectureDQN("TablePolicy", "Taxi-v3", use_masking=True, tensorboard_log=log),
         "taxi-v3_TablePolicy_masks"),
        (lambda log: LectureQRDQN("Taxi-v3", tensorboard_log=log), "taxi-v3_qrdqn"),
        (lambda log: LectureDQN("Taxi-v3", policy_kwargs={"hidden_dim": 8}, tensorboard_log=log),
         "taxi-v3_hidden-dim=8"),
        (lambda log: LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", tensorboard_log=log),
         r"cartpole-v1_MlpPolicy_.*_and-\d+-more"),
        (lambda log: LectureDQN("Taxi-v3", learning_rate=lambda progress: progress, tensorboard_log=log),
         "taxi-v3_learning-rate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_run_folder_says_what_differs_from_the_lectures_run(make, name, tmp_path):
    folder = make(str(tmp_path)).make_run_folder()
    assert re.fullmatch(name + DATE, folder.name)
    assert folder.parent == tmp_path


def test_a_name_of_settings_leads_to_no_other_folder(tmp_path):
    model = LectureDQN("Taxi-v3", tensorboard_log=str(tmp_path / "runs"))
    model.env_id = "../../" + "x" * 300
    model.loss = "../a/b\x1b[2J"
    folder = model.make_run_folder()
    assert folder.parent == tmp_path / "runs"
    assert re.fullmatch("[A-Za-z0-9._=-]+", folder.name)
    assert len(folder.name) < 150


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path):
    for _ in range(3):
        taxi(tensorboard_log=str(tmp_path)).learn(1)
    assert len(folders(tmp_path)) == 3
    for name in folders(tmp_path):
        assert re.fullmatch(RUN_NAME.format(True, True), name)
        assert len(list((tmp_path / name).iterdir())) == 1


def test_a_continued_run_stays_in_its_folder_and_a_new_one_gets_its_own(tmp_path):
    model = taxi(tensorboard_log=str(tmp_path)).learn(5)
    model.learn(5, reset_num_timesteps=False)
    assert len(folders(tmp_path)) == 1
    model.learn(5)
    assert len(folders(tmp_path)) == 2


def test_a_continued_run_stays_in_its_folder_when_others_were_started_since(tmp_path):
    """Else the curves of two models are mixed up."""
    model = taxi(tensorboard_log=str(tmp_path)).learn(5)
    (folder,) = folders(tmp_path)
    taxi(tensorboard_log=str(tmp_path)).learn(5)
    before = {path: path.stat().st_size for path in tmp_path.rglob("events*")}
    model.learn(total_episodes=8, reset_num_timesteps=False)
    grown = {path.parent.name for path in tmp_path.rglob("events*") if path.stat().st_size != before.get(path)}
    assert grown == {folder}


def test_a_name_for_the_run_is_sb3s_way(tmp_path):
    model = taxi(tensorboard_log=str(tmp_path))
    model.learn(3, tb_log_name="mine")
    model.learn(3, tb_log_name="mine")
    assert folders(tmp_path) == ["mine_1", "mine_2"]


def test_a_logger_of_the_users_own_is_kept(tmp_path):
    model = taxi(tensorboard_log=str(tmp_path / "runs"))
    logger = configure(str(tmp_path / "own"), ["csv"])
    model.set_logger(logger)
    model.learn(3)
    logger.close()
    assert model.logger is logger
    assert not (tmp_path / "runs").exists()


def test_a_shallow_copy_trains_without_a_trace_in_the_original():
    model = LectureDQN("Taxi-v3", use_masking=True, explore_least_tried=True, seed=0).learn(20)
    masks, obs = model._transitions.masks.copy(), model._last_obs.copy()
    other = copy.copy(model)
    other.learn(7, reset_num_timesteps=False)
    np.testing.assert_array_equal(model._transitions.masks, masks)
    np.testing.assert_array_equal(model._last_obs, obs)
    assert (model.num_timesteps, other.num_timesteps) == (20, 27)
    assert np.array_equal(other._transitions.masks, other.env.model.action_masks[other._last_obs])
