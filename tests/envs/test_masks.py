"""Masks: no action is executed, explored or bootstrapped from that the environment does not allow."""

import copy
import functools
import warnings
from contextlib import nullcontext

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy as sb3_evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor, VecNormalize

from sb3_lecture_dqn import (
    ActionMaskInfo,
    LectureDQN,
    LectureQRDQN,
    LectureTestCallback,
    SuccessFailReplayBuffer,
    TabularModel,
    TabularVecEnv,
    exact_test,
    make_env,
    run_test,
)
from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer
from sb3_lecture_dqn.common.masks import draw_allowed, pack_masks, unpack_masks
from sb3_lecture_dqn.common.seeding import draw_indices
from sb3_lecture_dqn.envs.masks import MaskReader, give_mask_infos
from tests.pairs import every

POISON = 1e6
GAMMA = 0.5
LIMIT = 5


class Mdp:
    """A random process: its last state is terminal, and no action is valid there."""

    def __init__(self, seed, n_states, n_actions):
        rng = np.random.default_rng(seed)
        self.next_states = rng.integers(n_states, size=(n_states, n_actions))
        self.rewards = rng.uniform(-1, 1, size=(n_states, n_actions)).astype(np.float32)
        self.masks = rng.random((n_states, n_actions)) < 0.4
        self.masks[np.arange(n_states), rng.integers(n_actions, size=n_states)] = True
        self.masks[-1] = False
        self.n_states, self.n_actions = n_states, n_actions

    def tabular(self, n_envs):
        end = self.n_states - 1
        P = [
            [[(1.0, int(s), float(r), bool(s == end))] for s, r in zip(*row, strict=True)]
            for row in zip(self.next_states, self.rewards, strict=True)
        ]
        starts = np.append(np.full(end, 1 / end), 0)
        return TabularVecEnv(TabularModel(P, starts, self.masks, max_episode_steps=LIMIT), n_envs)


class MdpEnv(gym.Env):
    def __init__(self, mdp):
        self.mdp = mdp
        self.observation_space = spaces.Discrete(mdp.n_states)
        self.action_space = spaces.Discrete(mdp.n_actions)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = int(self.np_random.integers(self.mdp.n_states - 1))
        return self.s, self.info()

    def step(self, action):
        assert self.mdp.masks[self.s, action], "a masked action is executed"
        reward, self.s = float(self.mdp.rewards[self.s, action]), int(self.mdp.next_states[self.s, action])
        return self.s, reward, self.s == self.mdp.n_states - 1, False, self.info()

    def info(self):
        return {}


class SaysByInfo(MdpEnv):
    def info(self):
        return {"action_mask": self.mdp.masks[self.s].astype(np.int8)}


class SaysByMethod(MdpEnv):
    def action_masks(self):
        return self.mdp.masks[self.s]


def made(source, mdp, n_envs):
    if source == "tabular":
        return mdp.tabular(n_envs)
    env_class = {"info": SaysByInfo, "method": SaysByMethod, "unmasked": MdpEnv}[source]
    return DummyVecEnv([lambda: TimeLimit(env_class(mdp), LIMIT)] * n_envs)


def linear(**kwargs):
    return {"net_arch": [], "optimizer_class": th.optim.SGD, **kwargs}


LEARNERS = {
    "compiled": (LectureDQN, {"policy": "TablePolicy", "engine": "numba"}),
    "torch": (LectureDQN, {"policy": "TablePolicy", "engine": "torch"}),
    "perceptron": (LectureDQN, {"policy": "MlpPolicy", "policy_kwargs": linear()}),
    "quantiles": (LectureQRDQN, {"policy": "MlpPolicy", "policy_kwargs": linear(n_quantiles=3)}),
}


def table(model, network):
    """The weights by state and action, shape (n_states, n_actions, n_quantiles): a view."""
    weight = next(network.parameters()).data
    if weight.shape[0] != model.observation_space.n or model.policy_class.__name__ != "TablePolicy":
        weight = weight.T
    return weight.reshape(model.observation_space.n, -1, model.action_space.n).transpose(1, 2)


def poison(model, masks):
    """Give masked actions huge values, which no update of theirs or of others may ever have to do with."""
    for network in model._networks:
        table(model, network)[~masks] = POISON


@pytest.mark.parametrize(("learner", "source", "n_envs"), every(2, LEARNERS, ["tabular", "info", "method"], [1, 8]))
@settings(max_examples=3)
@given(data=st.data())
def test_masked_actions_are_not_executed_explored_or_bootstrapped_from(learner, source, n_envs, data):
    algorithm, arguments = LEARNERS[learner]
    mdp = Mdp(data.draw(st.integers(0, 10**6)), data.draw(st.integers(2, 9)), data.draw(st.sampled_from([2, 5, 70])))
    model = algorithm(
        env=made(source, mdp, n_envs),
        use_masking=True,
        gamma=GAMMA,
        learning_rate=0.05,
        learning_starts=20,
        gradient_steps=2,
        batch_size=data.draw(st.sampled_from([1, 8])),
        double_q=data.draw(st.booleans()),
        target_update_interval=10,
        exploration_decay=0.9,
        replay_buffer_kwargs={"deduplicate": False},
        seed=0,
        device="cpu",
        **arguments,
    )
    poison(model, mdp.masks)
    model.learn(total_timesteps=120)
    buffer = model.replay_buffer
    s, a = buffer.observations.ravel(), buffer.actions.ravel()
    assert len(s) == 120
    assert mdp.masks[s, a].all()
    dones = buffer.dones.ravel() == 1
    stored = unpack_masks(buffer._all_rows()["next_action_masks"][:, 0], mdp.n_actions)
    np.testing.assert_array_equal(stored[~dones], mdp.masks[buffer.next_observations.ravel()[~dones]])
    assert stored[dones].all()
    # By induction a value stays below the largest reward / (1 - γ); a bias of the perceptron is a part of it.
    values = table(model, model._networks[0])
    assert (values[~mdp.masks] == POISON).all()
    assert values[mdp.masks].abs().max() < 10 / (1 - GAMMA)


@pytest.mark.parametrize(
    ("policy", "batch_size", "double_q", "engine"),
    every(
        2,
        ["LecturePolicy", "ActionInPolicy", "TablePolicy"],
        [(1, False), (1, True), (8, True)],
        ["torch", "numba"],
    ),
)
def test_an_update_is_that_of_the_equation(policy, batch_size, double_q, engine):
    """Against the equation in NumPy: gradient of ``mean (Q(s, a) - y)²`` with y under the stored mask."""
    mdp = Mdp(3, 9, 70)
    kwargs = {} if policy == "TablePolicy" else {"policy_kwargs": {"hidden_dim": 4}}
    model = LectureDQN(
        policy,
        mdp.tabular(1),
        use_masking=True,
        batch_size=batch_size,
        double_q=double_q,
        learning_rate=0.01,
        engine=engine,
        seed=0,
        device="cpu",
        **kwargs,
    ).learn(total_timesteps=40)
    for parameter in model.q_net_target.parameters():
        parameter.data += th.randn_like(parameter) * 0.3
    before = copy.deepcopy(model.q_net)
    buffer = copy.deepcopy(model.replay_buffer)
    model.set_logger(configure(None, []))
    model.train(1, batch_size)
    batch = buffer.sample(batch_size)
    y = np.empty(batch_size, np.float32)
    with th.no_grad():
        target, online = (net(batch.next_observations).numpy() for net in (model.q_net_target, before))
    for i in range(batch_size):
        valid = np.flatnonzero(mdp.masks[int(batch.next_observations[i])]) if not batch.dones[i] else [0]
        best = max(valid, key=lambda action: (online if double_q else target)[i][action])
        y[i] = float(batch.rewards[i]) + (0 if batch.dones[i] else model.gamma * target[i, best])
    loss = ((before(batch.observations).gather(1, batch.actions)[:, 0] - th.tensor(y)) ** 2).mean()
    gradients = th.autograd.grad(loss, list(before.parameters()))
    for old, gradient, new in zip(before.parameters(), gradients, model.q_net.parameters(), strict=True):
        assert th.allclose(new, old - 0.01 * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("n_envs", [1, 8])
def test_masks_that_allow_all_change_no_bit(learner, n_envs):
    algorithm, arguments = LEARNERS[learner]
    mdp = Mdp(1, 6, 5)
    mdp.masks[:] = True
    weights = []
    for source, use_masking in (("info", True), ("unmasked", False)):
        env = made(source, mdp, n_envs)
        model = algorithm(env=env, use_masking=use_masking, seed=1, learning_starts=10, device="cpu", **arguments)
        model.learn(total_timesteps=40)
        weights.append(model.policy.state_dict())
    assert all(th.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_cut_episode_whose_last_masks_are_unknown_is_not_bootstrapped_from():
    mdp = Mdp(5, 8, 4)
    mdp.next_states[mdp.next_states == mdp.n_states - 1] = 0  # no episode ends by itself
    for wrap, n_stored in ((lambda env: env, 40 - 40 // LIMIT), (ActionMaskInfo, 40)):
        env = SubprocVecEnv([lambda: wrap(TimeLimit(SaysByMethod(mdp), LIMIT))] * 2, start_method="fork")  # noqa: B023
        try:
            model = LectureDQN(
                env=VecMonitor(env), use_masking=True, replay_buffer_kwargs={"deduplicate": False}, seed=0
            )
            if wrap is ActionMaskInfo:
                model.learn(total_timesteps=40)
            else:
                with pytest.warns(UserWarning, match="ActionMaskInfo"):
                    model.learn(total_timesteps=40)
            assert model.replay_buffer.size() == n_stored
        finally:
            env.close()


def test_without_replay_a_step_of_unknown_masks_does_not_empty_the_memory():
    """There is always a transition to learn from: the last one of which the masks are known."""
    buffer = LatestTransitionBuffer(10, spaces.Discrete(9), spaces.Discrete(3), use_masking=True, seed=0)
    for state, mask in ((1, [True, False, False]), (2, [False, False, True]), (3, [False, False, False])):
        x, cut = np.array([state]), [{"TimeLimit.truncated": True}]
        with nullcontext() if any(mask) else pytest.warns(UserWarning, match="ActionMaskInfo"):
            buffer.add(x, x, np.zeros(1), np.zeros(1), np.array([True]), cut, np.array([mask]))
    assert buffer.observations.ravel().tolist() == [2]


class Offers(gym.Env):
    observation_space = spaces.Discrete(3)
    action_space = spaces.Discrete(2)

    def __init__(self, mask):
        self.mask = mask

    def reset(self, *, seed=None, options=None):
        return 0, {} if self.mask is None else {"action_mask": np.array(self.mask)}

    def step(self, action):
        return 1, 0.0, False, False, self.reset()[1]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, r"environment 0 offers no masks.*action_masks\(\).*info\['action_mask'\]"),
        ([True], r"environment 0 has the shape \(1,\), it must have \(2,\)"),
        ([[True, True]], r"has the shape \(1, 2\)"),
        ([False, False], "allows no action in a state that is not terminal"),
    ],
)
@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_an_environment_without_good_masks_is_refused_before_a_step(algorithm, mask, message):
    model = algorithm(Offers(mask), use_masking=True)
    with pytest.raises(ValueError, match=message):
        model.learn(total_timesteps=10)
    assert model.num_timesteps == 0


def test_a_tabular_environment_without_masks_is_refused():
    with pytest.raises(ValueError, match="offers no masks"):
        LectureDQN("CliffWalking-v1", use_masking=True).learn(total_timesteps=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_steps": 3}, "use_masking=True and n_steps=3"),
        ({"optimize_memory_usage": True}, "use_masking=True and optimize_memory_usage=True"),
        ({"replay_buffer_class": ReplayBuffer}, "use_masking=True.*ReplayBuffer does not"),
        ({"replay_buffer_class": HerReplayBuffer}, "use_masking=True.*HerReplayBuffer does not"),
    ],
)
def test_a_memory_that_stores_no_masks_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LectureDQN("Taxi-v3", use_masking=True, **arguments)


def test_a_loaded_memory_has_to_store_masks(tmp_path):
    LectureDQN("Taxi-v3").learn(total_timesteps=5).save_replay_buffer(tmp_path / "memory")
    model = LectureDQN("Taxi-v3", use_masking=True)
    with pytest.raises(ValueError, match="next_action_masks"):
        model.load_replay_buffer(tmp_path / "memory")


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
@pytest.mark.parametrize("exploration_rate", [0.0, 1.0])
def test_predict_takes_masks_as_maskable_ppo_does(algorithm, exploration_rate):
    model = algorithm("Taxi-v3", seed=0)
    model.exploration_rate = exploration_rate
    only = np.eye(6, dtype=bool)
    for deterministic in (True, False):
        for action in range(6):
            chosen, _ = model.predict(7, deterministic=deterministic, action_masks=only[action])
            assert chosen == action
            assert np.shape(chosen) == np.shape(model.predict(7)[0]) == ()
        chosen, _ = model.predict(np.arange(6), deterministic=deterministic, action_masks=only)
        np.testing.assert_array_equal(chosen, np.arange(6))
        for masks, message in (
            (only, r"shape \(6, 6\), it must have \(1, 6\)"),
            (np.ones(5, bool), r"shape \(5,\)"),
            (np.zeros(6, bool), r"action_masks\[0\] allows no action"),
        ):
            with pytest.raises(ValueError, match=message):
                model.predict(7, deterministic=deterministic, action_masks=masks)
    np.testing.assert_array_equal(model.policy.predict(np.arange(6), action_masks=only)[0], np.arange(6))
    only[4] = False
    with pytest.raises(ValueError, match=r"action_masks\[4\] allows no action"):
        model.predict(np.arange(6), action_masks=only)


def masked_taxi():
    return ActionMasker(make_env("Taxi-v3", 30), lambda env: env.unwrapped.action_mask(env.unwrapped.s))


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_evaluation_of_sb3_contrib(algorithm, tmp_path):
    def no_penalty(local, _):  # which is what a masked action of Taxi would cost
        assert local["reward"] != -10

    model = algorithm(masked_taxi(), use_masking=True, seed=0)
    callback = MaskableEvalCallback(
        masked_taxi(), eval_freq=20, n_eval_episodes=2, best_model_save_path=str(tmp_path), warn=False, verbose=0
    )
    model.learn(total_timesteps=40, callback=callback)
    assert callback.last_mean_reward >= -30
    assert evaluate_policy(model, masked_taxi(), 3, warn=False, callback=no_penalty)[0] >= -30
    assert algorithm.load(tmp_path / "best_model").use_masking


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
@pytest.mark.parametrize("deterministic", [True, False])
def test_an_evaluation_without_masks_warns_once_and_names_the_one_with_masks(algorithm, deterministic, tmp_path):
    def warned(call):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        return [str(warning.message) for warning in caught if "action_masks" in str(warning.message)]

    model = algorithm("Taxi-v3", use_masking=True, seed=0)
    env = Monitor(gym.make("Taxi-v3", max_episode_steps=5))
    evaluate = functools.partial(sb3_evaluate_policy, model, env, n_eval_episodes=2, deterministic=deterministic)
    (message,) = warned(evaluate)
    for name in ("use_masking=True", "MaskableEvalCallback", "evaluate_policy", "run_test"):
        assert name in message
    assert not warned(evaluate)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    loaded.set_env(model.get_env())
    callback = EvalCallback(env, eval_freq=5, n_eval_episodes=1, deterministic=deterministic, warn=False, verbose=0)
    assert len(warned(lambda: loaded.learn(20, callback=callback))) == 1


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_what_means_to_go_without_masks_does_not_warn(algorithm):
    """All of this package, masks that allow all, and a model that was learnt without."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = algorithm("Taxi-v3", use_masking=True, seed=0).learn(
            30, callback=LectureTestCallback(n_test_episodes=2, test_freq=10)
        )
        run_test(model, "Taxi-v3", 2, 5, seed=0)
        run_test(model, masked_taxi(), 2, 5, seed=0)
        exact_test(model, "Taxi-v3", 20)
        evaluate_policy(model, masked_taxi(), 1, warn=False)
        model.predict(3, action_masks=np.ones(6, bool), deterministic=True)
        algorithm("Taxi-v3", seed=0).predict(3, deterministic=True)


@pytest.mark.parametrize("algorithm", [LectureDQN, LectureQRDQN])
def test_tests_of_a_masked_model_act_with_masks(algorithm, tmp_path):
    algorithm("Taxi-v3", use_masking=True, seed=0, device="cpu").save(tmp_path / "model")
    model = algorithm.load(tmp_path / "model")
    with th.no_grad():
        for network in model._networks:  # drop-off, which a mask allows in a few states only, is best everywhere
            last = [*network.parameters()][-1]
            last[5 :: model.action_space.n] += POISON
    for result in (
        exact_test(model, "Taxi-v3", 20),
        run_test(model, "Taxi-v3", 10, 20, seed=0),
        run_test(model, masked_taxi(), 3, 20, seed=0),
    ):
        assert result.mean_penalties == 0
    model.use_masking = False
    assert exact_test(model, "Taxi-v3", 20).mean_penalties == 20


@given(st.integers(1, 200), st.integers(0, 10**6))
def test_packing_is_inverted(n_actions, seed):
    masks = np.random.default_rng(seed).random((3, n_actions)) < 0.5
    words = pack_masks(masks)
    assert words.shape == (3, -(-n_actions // 64))
    np.testing.assert_array_equal(unpack_masks(words, n_actions), masks)
    for row, mask in zip(words.tolist(), masks, strict=True):
        assert [bool(row[a // 64] >> a % 64 & 1) for a in range(n_actions)] == mask.tolist()


def test_exploration_is_uniform_over_valid_actions():
    n = 60_000
    mask = np.array([False, True, False, True, True])
    counts = np.bincount(draw_allowed(np.random.default_rng(0), np.tile(mask, (n, 1))), minlength=5)
    assert (counts[~mask] == 0).all()
    assert (abs(counts[mask] - n / 3) < 5 * np.sqrt(n * 2 / 9)).all()
    everything = draw_allowed(np.random.default_rng(1), np.ones((100, 5), dtype=bool))
    np.testing.assert_array_equal(everything, draw_indices(np.random.default_rng(1), 0, 5, 100))


def test_masks_of_a_running_episode_stay_when_training_goes_on():
    mdp = Mdp(2, 9, 5)
    env = made("info", mdp, 1)
    model = LectureDQN(env=env, use_masking=True, seed=0).learn(total_timesteps=7)
    for _ in range(5):
        model.learn(total_timesteps=3, reset_num_timesteps=False)
        np.testing.assert_array_equal(model._transitions.masks, mdp.masks[model._last_obs])


def test_masks_are_a_part_of_what_makes_transitions_equal():
    buffer = SuccessFailReplayBuffer(10, spaces.Discrete(4), spaces.Discrete(3), use_masking=True, seed=0)
    for mask in ([1, 0, 0], [1, 0, 0], [0, 1, 0]):
        x = np.array([1])
        buffer.add(x, x, x, np.zeros(1), np.array([False]), [{}], np.array([mask], dtype=bool))
    assert buffer.size() == 2
    with pytest.raises(ValueError, match="use_masking=True"):
        buffer.add(x, x, x, np.zeros(1), np.array([False]), [{}])


@pytest.mark.parametrize("batch_size", [1, 16])
def test_each_transition_has_a_mask_of_its_own(batch_size):
    """Two transitions lead to the same state under different masks, and a third ends there."""
    weights = []
    for engine in ("torch", "numba"):
        env = MdpEnv(Mdp(0, 3, 4))
        model = LectureDQN(
            "TablePolicy", env, use_masking=True, batch_size=batch_size, learning_rate=0.1, engine=engine, seed=0
        )
        model.set_logger(configure(None, []))
        table(model, model.q_net_target)[1] = th.tensor([[1.0], [2.0], [3.0], [4.0]])
        for action, (mask, done) in enumerate([([1, 0, 0, 0], False), ([0, 0, 1, 0], False), ([0, 0, 0, 0], True)]):
            x, ended, r = np.array([0]), np.array([done]), np.zeros(1, np.float32)
            model.replay_buffer.add(x, x + 1, np.array([action]), r, ended, [{}], np.array([mask], dtype=bool))
        for _ in range(300):
            model.train(1, batch_size)
        weights.append(table(model, model.q_net)[0, :3, 0].numpy())
    np.testing.assert_allclose(weights[0], model.gamma * np.array([1, 3, 0]), atol=1e-3)
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-6)


def test_the_reader_leaves_the_environment_as_it_is():
    env = DummyVecEnv([masked_taxi] * 2)
    before = list(env.envs)
    env.reset()
    reader = MaskReader(env)
    np.testing.assert_array_equal(reader.at_start(), get_action_masks(env))
    for _ in range(5):
        _, _, dones, infos = env.step(np.zeros(2, np.int64))
        np.testing.assert_array_equal(reader.after_step(dones, infos)[0], get_action_masks(env))
    assert all(one is other for one, other in zip(env.envs, before, strict=True))


def test_a_test_leaves_the_environment_as_it_is():
    env = DummyVecEnv([masked_taxi])
    (before,) = env.envs
    run_test(LectureDQN("Taxi-v3", use_masking=True), env, n_episodes=2, max_episode_steps=5)
    assert env.envs == [before]


def test_masks_are_put_into_infos_once():
    env = DummyVecEnv([masked_taxi])
    give_mask_infos(env)
    (wrapped,) = env.envs
    give_mask_infos(env)
    assert isinstance(wrapped, ActionMaskInfo)
    assert env.envs == [wrapped]
    with pytest.raises(ValueError, match="action_masks"):
        ActionMaskInfo(gym.make("CartPole-v1"))

    class AsProperty(gym.Wrapper):
        action_masks = property(lambda self: np.ones(2, bool))

    with pytest.raises(ValueError, match=r"as a property, and it must be a method: action_masks\(\)"):
        LectureDQN("MlpPolicy", AsProperty(gym.make("CartPole-v1")), use_masking=True).learn(5)


def test_masks_of_a_method_that_is_replaced_are_those_of_the_new_one():
    """As sb3-contrib's algorithms see them, which ask for the method at every step."""
    env = DummyVecEnv([masked_taxi])
    give_mask_infos(env)
    env.reset()
    mask = np.array([True, False, False, False, False, True])
    env.set_attr("action_masks", lambda: mask)
    _, _, _, (info,) = env.step(np.zeros(1, np.int64))
    np.testing.assert_array_equal(info["action_mask"], mask)


def taxi_with_normalised_rewards():
    return VecNormalize(DummyVecEnv([masked_taxi]), norm_obs=False)


def taxi_with_narrow_numbers():
    env = masked_taxi()
    env.observation_space = spaces.Discrete(500)
    env.observation_space.dtype = np.dtype(np.int32)
    return env


@pytest.mark.parametrize("make", [taxi_with_normalised_rewards, taxi_with_narrow_numbers])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_compiled_updates_are_masked_where_the_memory_is_not_read_directly(make, batch_size):
    nets = []
    for engine in ("torch", "numba"):
        model = LectureDQN(env=make(), use_masking=True, engine=engine, batch_size=batch_size, seed=0)
        nets.append(model.learn(total_timesteps=100).q_net.state_dict())
    th.testing.assert_close(*nets, rtol=1e-5, atol=1e-5)
