"""LectureQRDQN: sb3-contrib's QR-DQN, with the lecture's network, memory and schedule."""

import copy
import inspect

import numpy as np
import pytest
import torch as th
from sb3_contrib import QRDQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from torch import nn

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, LectureQuantilePolicy, SuccessFailReplayBuffer, exact_test

SMALL = {"hidden_dim": 4, "n_quantiles": 7}


def test_keywords_are_those_of_qrdqn_and_then_those_of_lecture_dqn():
    theirs, dqn, ours = (list(inspect.signature(c.__init__).parameters) for c in (QRDQN, LectureDQN, LectureQRDQN))
    assert ours[: len(theirs) - 1] == theirs[:-1]
    assert ours == [name for name in dqn if name != "loss"]


def test_an_update_is_bit_by_bit_that_of_sb3_contrib():
    settings = {"batch_size": 16, "gamma": 0.9, "learning_rate": 1e-2, "max_grad_norm": 1.0, "seed": 0, "device": "cpu"}
    ours = LectureQRDQN("Taxi-v3", replay_buffer_class=ReplayBuffer, policy_kwargs=SMALL, engine="torch", **settings)
    ours.learn(total_timesteps=50)
    theirs = QRDQN(LectureQuantilePolicy, ours.get_env(), buffer_size=1000, policy_kwargs=dict(SMALL), **settings)
    theirs.set_parameters(copy.deepcopy(ours.get_parameters()))
    theirs.replay_buffer = copy.deepcopy(ours.replay_buffer)
    losses = []
    for model in (ours, theirs):
        for weight in model.quantile_net_target.parameters():
            weight.data *= 1.5
        model.set_logger(configure(None, []))
        np.random.seed(1)  # noqa: NPY002  # from which SB3's buffer draws
        model.train(10, 16)
        losses.append(model.logger.name_to_value["train/loss"])
    assert losses[0] == losses[1]
    weights = (model.policy.state_dict() for model in (ours, theirs))
    assert all(th.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))


@pytest.mark.parametrize("n_quantiles", [5, 11])
def test_quantiles_far_from_their_targets_are_compiled_as_pytorch_has_them(n_quantiles):
    """Taxi's rewards of -10 are further away than the 1 at which Huber's loss becomes straight."""
    weights = []
    for engine in ("torch", "numba"):
        kwargs = {"hidden_dim": 4, "n_quantiles": n_quantiles}
        model = LectureQRDQN("Taxi-v3", engine=engine, seed=0, gradient_steps=0, device="cpu", policy_kwargs=kwargs)
        model.learn(total_timesteps=60)
        model.set_logger(configure(None, []))
        model.train(3, 8)
        weights.append(model.policy.state_dict())
    for name, weight in weights[0].items():
        th.testing.assert_close(weights[1][name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("double_q", [False, True])
def test_the_target_is_that_of_the_best_valid_action(double_q):
    model = LectureQRDQN("Taxi-v3", use_masking=True, double_q=double_q, policy_kwargs=SMALL, seed=0, device="cpu")
    model.learn(total_timesteps=30)
    with th.no_grad():
        for weight in model.quantile_net_target.parameters():
            weight += th.randn_like(weight)
        batch = model.replay_buffer.sample(20)
        target, online = (net(batch.next_observations).numpy() for net in model._networks[::-1])
        quantiles = model.quantile_net(batch.observations).numpy()
        loss = model.compute_loss(batch).item()
    n = SMALL["n_quantiles"]
    total, chosen = 0.0, []
    for i in range(20):
        values = (online if double_q else target)[i].mean(axis=0)
        valid = np.flatnonzero(batch.next_action_masks[i].numpy())
        best = valid[values[valid].argmax()]
        chosen.append(best == values.argmax())
        y = float(batch.rewards[i]) + (1 - float(batch.dones[i])) * model.gamma * target[i, :, best]
        for k in range(n):  # equations 9 and 10 of Dabney et al. 2018, with κ = 1
            u = y - quantiles[i, k, int(batch.actions[i])]
            huber = np.where(abs(u) <= 1, u**2 / 2, abs(u) - 0.5)
            total += (abs((k + 0.5) / n - (u < 0)) * huber).mean() / 20
    assert not all(chosen)  # masks make a difference
    assert loss == pytest.approx(total, rel=1e-5)


def test_the_network_is_the_lectures_with_a_quantile_head():
    model = LectureQRDQN("Taxi-v3", policy_kwargs={"n_quantiles": 9})
    layers = model.quantile_net.quantile_net.layers
    kinds = [nn.Embedding, nn.Linear, nn.PReLU, nn.Linear, nn.PReLU, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert [tuple(layers[i].weight.shape) for i in (0, 1, 3, 5)] == [(500, 64), (64, 64), (32, 64), (54, 32)]
    assert model.quantile_net(th.tensor([1, 2])).shape == (2, 9, 6)
    assert isinstance(model.replay_buffer, SuccessFailReplayBuffer)
    assert (model.n_quantiles, model.engine_in_use) == (9, "numba")


def test_settings():
    options = {"n_quantiles": 9, "optimizer_kwargs": {"eps": 1e-3}}
    model = LectureQRDQN("Taxi-v3", policy_kwargs=options)
    assert (type(model.policy.optimizer), model.policy.optimizer.defaults["eps"]) == (th.optim.Adam, 1e-3)
    assert options == {"n_quantiles": 9, "optimizer_kwargs": {"eps": 1e-3}}
    # Without any, what sb3-contrib takes
    assert LectureQRDQN("Taxi-v3", batch_size=4).policy.optimizer.defaults["eps"] == 0.01 / 4
    alone = LectureQRDQN("Taxi-v3", double_dqn=False)
    assert alone.quantile_net_target is alone.quantile_net
    assert alone.learn(total_timesteps=3).quantile_net_target is alone.quantile_net


CENTERED = {"policy_kwargs": {"optimizer_class": th.optim.RMSprop, "optimizer_kwargs": {"centered": True}}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "numba", **CENTERED}, "engine='numba' cannot be used.*centered"),
        ({"policy_kwargs": {"n_quantiles": 0}}, "n_quantiles=0 must be an integer at least 1"),
        ({"policy_kwargs": {"hidden_dim": 0}}, "hidden_dim=0"),
        ({"double_q": True, "double_dqn": False}, "double_q=True needs a target network"),
        ({"gamma": 2}, "gamma=2"),
    ],
)
def test_what_cannot_be_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        LectureQRDQN("Taxi-v3", **arguments)


def test_a_model_is_saved_whole_and_is_no_model_of_another_algorithm(tmp_path):
    model = LectureQRDQN("Taxi-v3", policy_kwargs=SMALL, use_masking=True, seed=0).learn(total_timesteps=20)
    model.save(tmp_path / "quantiles")
    loaded = LectureQRDQN.load(tmp_path / "quantiles")
    assert exact_test(loaded, "Taxi-v3") == exact_test(model)
    loaded.learn(total_timesteps=5)
    LectureDQN("Taxi-v3").save(tmp_path / "values")
    with pytest.raises(ValueError, match=r"quantiles.*holds no LectureDQN model.*QR-DQN"):
        LectureDQN.load(tmp_path / "quantiles")
    with pytest.raises(ValueError, match=r"values.*holds no LectureQRDQN model.*QR-DQN"):
        LectureQRDQN.load(tmp_path / "values")


def test_the_schedule_is_that_of_episodes():
    model = LectureQRDQN("Taxi-v3", max_episode_steps=3, target_update_interval=(2, "episode"), seed=0)
    copies = []

    class EveryEpisode(BaseCallback):
        def _on_rollout_start(self):
            pairs = zip(*(net.parameters() for net in model._networks), strict=True)
            copies.append(all(th.equal(a, b) for a, b in pairs))

        def _on_step(self):
            assert model.exploration_rate == model.epsilon(model._episode_num + 1) or model.num_timesteps % 3 == 0
            return True

    model.learn(total_episodes=4, callback=EveryEpisode())
    assert copies == [step % 6 == 0 for step in range(12)]
