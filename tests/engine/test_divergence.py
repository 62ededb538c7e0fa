"""Training that diverges: the error of its own, what it says, and what is left."""

import pickle
import re

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

import sb3_lecture_dqn
from sb3_lecture_dqn import DivergedError, LectureCheckpointCallback, LectureDQN, LectureQRDQN
from sb3_lecture_dqn.common.checks import check_finite
from sb3_lecture_dqn.engine import divergence
from sb3_lecture_dqn.engine.divergence import Growth, check_weights, loss_not_finite, what_helps
from sb3_lecture_dqn.study import Plan
from sb3_lecture_dqn.study.report import left_out
from sb3_lecture_dqn.study.runner import _summary
from sb3_lecture_dqn.study.trial import attempt, reason

ADAM = {"optimizer_class": th.optim.Adam}


class Pit(gym.Env):
    """A corridor of 8 cells between a goal and a pit, whose rewards are too large for the lecture's settings."""

    observation_space, action_space = gym.spaces.Discrete(8), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(2, 6))
        return self.at, {}

    def step(self, action):
        self.at += 1 if action else -1
        end = self.at in (0, 7)
        return self.at, {0: -1000.0, 7: 500.0}.get(self.at, -1.0), end, False, {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: LectureDQN("Taxi-v3", learning_rate=0.01, engine="numba", seed=0),
        lambda: LectureDQN("Taxi-v3", learning_rate=0.01, engine="torch", seed=0),
        lambda: LectureDQN("Taxi-v3", learning_rate=0.01, store_and_replay=False, double_dqn=False, seed=0),
        lambda: LectureDQN(Pit(), seed=0),
        lambda: LectureDQN(
            "MlpPolicy", "CartPole-v1", learning_rate=1e3, policy_kwargs={"optimizer_class": th.optim.SGD}
        ),
        lambda: LectureQRDQN("Taxi-v3", learning_rate=1e20, seed=0),
    ],
    ids=["numba", "torch", "naive", "own", "vectors", "quantiles"],
)
def test_it_is_an_error_of_its_own_that_says_when_how_far_and_what_helps(make, tmp_path):
    model = make()
    with pytest.raises(DivergedError) as caught:
        model.learn(2000)
    text = str(caught.value)
    assert f"(environment step {model.num_timesteps}) is " in text
    number = model._episode_num
    assert f"diverged after {number} whole episodes, in episode {number + 1}." in text
    assert "The largest action value" in text
    assert re.search(
        r"Before, the largest action value was [\d.]+ at the start(, [\d.]+ at step \d+)*\. What helps: ", text
    )
    assert f"{type(model).__name__}.tuned(env)" in text
    assert "\n" not in text  # logs and tables have a line for it
    # The weights are those from before, and can be kept.
    check_finite(model.get_parameters())
    model.save(tmp_path / "model")
    type(model).load(tmp_path / "model")


def test_code_that_caught_a_value_error_goes_on_and_other_processes_can_hand_it_over():
    assert issubclass(DivergedError, ValueError)
    assert "DivergedError" in sb3_lecture_dqn.__all__
    copy = pickle.loads(pickle.dumps(DivergedError("when and why")))
    assert (type(copy), str(copy)) == (DivergedError, "when and why")
    error = DivergedError("When.", "What helps.")
    error.growth = "Before."
    assert str(pickle.loads(pickle.dumps(error))) == "When. Before. What helps."


@pytest.mark.parametrize("double_dqn", [True, False])
@pytest.mark.parametrize("store_and_replay", [True, False])
@pytest.mark.parametrize("loss", ["mse", "huber", None])
@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_only_what_the_model_does_not_have_is_said_to_help(double_dqn, store_and_replay, loss, max_grad_norm):
    """QR-DQN (no ``loss`` here) has no such argument."""
    kwargs = {"double_dqn": double_dqn, "store_and_replay": store_and_replay, "max_grad_norm": max_grad_norm}
    model = LectureQRDQN("Taxi-v3", **kwargs) if loss is None else LectureDQN("Taxi-v3", loss=loss, **kwargs)
    text = what_helps(model)
    assert ("double_dqn=True" in text) == (not double_dqn)
    assert ("store_and_replay=True" in text) == (not store_and_replay)
    assert ("loss='huber'" in text) == (loss == "mse")
    assert ("max_grad_norm=" in text) == (max_grad_norm is None)
    assert "learning_rate (it is 0.001)" in text


@pytest.mark.parametrize(
    ("lr", "policy_kwargs", "told"),
    [(0.01, {}, True), (0.1, {}, True), (0.009, {}, False), (0.01, {"policy_kwargs": ADAM}, False)],
)
def test_the_rate_that_the_lecture_writes_and_does_not_use_is_explained(lr, policy_kwargs, told):
    text = what_helps(LectureDQN("Taxi-v3", learning_rate=lr, **policy_kwargs))
    assert ("lr=0.01, but its optimiser trains with lr=0.001" in text) == told


def with_value(value, **kwargs):
    """A model of Pit that has learnt a little, whose table then has one value everywhere."""
    model = LectureDQN("TablePolicy", Pit(), learning_rate=1e-3, seed=0, **kwargs).learn(50)
    model.q_net.layers[0].weight.data[:] = value
    return model


def test_how_far_the_values_are_from_what_is_possible():
    model = with_value(-3e9, gamma=0.75)
    rewards = model.replay_buffer.rewards
    bound = max(abs(rewards.min()), abs(rewards.max())) / 0.25
    text = str(loss_not_finite(model, np.inf, done=2))
    assert text.startswith(f"the loss of update {model._n_updates + 3} (environment step 50) is inf: ")
    assert "The largest action value is 3e+09" in text
    assert f"({rewards.min():g} to {rewards.max():g}) at gamma=0.75 is beyond {bound:.3g}." in text


@pytest.mark.parametrize(("value", "kwargs"), [(1.0, {}), (3e9, {"gamma": 1.0}), (3e9, {"store_and_replay": False})])
def test_no_bound_is_told_where_it_is_kept_or_not_known(value, kwargs):
    assert "no return" not in str(loss_not_finite(with_value(value, **kwargs), np.nan))


def test_the_message_changes_nothing():
    model = with_value(3e9)
    model.policy.set_training_mode(True)
    state = repr((model.replay_buffer.get_state(), model.exploration_rng.bit_generator.state, th.get_rng_state().sum()))
    loss_not_finite(model, np.nan)
    after = repr((model.replay_buffer.get_state(), model.exploration_rng.bit_generator.state, th.get_rng_state().sum()))
    assert after == state
    assert model.q_net.training


def test_the_growth_is_that_of_the_largest_value_of_all_states():
    model = with_value(1.0)
    growth = Growth(model)
    for steps, value in ((0, 1.0), (4, -2.0), (5, 7.0), (6, 3.0), (9, 8.0), (20, -9.5)):
        model.num_timesteps = steps
        model.q_net.layers[0].weight.data.zero_()[3, 1] = value
        growth.note()
    assert growth.entries == [(0, 1.0), (4, 2.0), (9, 8.0), (20, 9.5)]
    assert str(growth) == "Before, the largest action value was 1 at the start, 8 at step 9, 9.5 at step 20."
    growth.entries = [(7, 2.0), (12, np.nan), (20, np.inf)]
    assert str(growth) == "Before, the largest action value was 2 at step 7."


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_it_is_measured_at_the_same_steps_in_every_run(engine, monkeypatch):
    """The compiled loop stops where a measurement is due."""
    steps = []
    monkeypatch.setattr(divergence, "largest_value", lambda model: steps.append(model.num_timesteps) or 1.0)
    LectureDQN("Taxi-v3", seed=0, engine=engine).learn(70)
    assert steps == [0, 1, 2, 4, 7, 11, 17, 26, 40, 61]


def test_a_network_of_ones_own_is_not_called_for_the_growth():
    """Its forward pass might change something, and so might a hook."""

    class Own(th.nn.Linear):
        pass

    model = LectureDQN("Taxi-v3", seed=0, engine="torch")
    assert Growth(model).next == 0
    hook = model.q_net.layers[2].register_forward_hook(lambda *args: None)
    assert Growth(model).next == np.inf
    hook.remove()
    model.q_net.layers[5] = Own(32, 6)
    growth = Growth(model)
    growth.note()
    assert (growth.entries, str(growth)) == ([], "")


def test_measuring_the_growth_changes_nothing(monkeypatch):
    runs = []
    for measures in (True, False):
        monkeypatch.setattr(Growth, "note", Growth.note if measures else lambda self: None)
        for engine in ("numba", "torch"):
            model = LectureDQN("Taxi-v3", seed=0, engine=engine).learn(150)
            runs.append((model.exploration_rng.random(), model.replay_buffer.rng.random(), model.q_net.state_dict()))
    for one, other in zip(runs[:2], runs[2:], strict=True):
        assert one[:2] == other[:2]
        assert all(th.equal(weights, other[2][name]) for name, weights in one[2].items())


class SpoilsWeights(BaseCallback):
    """As an update that is too large would, in a state that no later loss has seen."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def _on_step(self):
        if self.num_timesteps == self.at:
            with th.no_grad():
                self.model.q_net.layers[0].weight[0] = np.nan
        return True


def test_weights_that_no_loss_has_seen_are_found_at_the_end_and_in_checkpoints(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0)
    with pytest.raises(DivergedError, match=r"environment step 60\), .*weights that are NaN.*What helps"):
        model.learn(60, callback=SpoilsWeights(55))
    with pytest.raises(DivergedError):
        check_weights(model)
    model = LectureDQN("Taxi-v3", seed=0)
    callbacks = [SpoilsWeights(45), LectureCheckpointCallback(20, tmp_path)]
    with pytest.raises(DivergedError, match="environment step 60"):
        model.learn(100, callback=callbacks)
    assert LectureDQN.resume(tmp_path).num_timesteps == 40


def test_settings_that_diverge_on_an_environment_of_ones_own_are_told_of_those_that_do_not():
    for seed in range(3):
        with pytest.raises(DivergedError, match=r"LectureDQN\.tuned\(env\)"):
            LectureDQN(Pit(), seed=seed).learn(5000)
        LectureDQN.tuned(Pit(), seed=seed).learn(2000)


def test_a_study_records_it_as_such(tmp_path):
    plan = Plan(["Taxi-v3"], {"lecture": {"learning_rate": 0.01}}, seeds=1, episodes=3)
    (trial,) = plan.trials()
    row = attempt(trial, tmp_path, 1000)
    assert "DivergedError: the loss of update" in row["error"]
    assert "Before, the largest" not in row["error"], "it depends on where a trial was stopped"
    short = reason(row["error"])
    assert short.startswith("diverged: the loss of update ")
    assert len(short) < 100
    assert _summary(row) == f"failed: {short}"
    (line,) = left_out([{"state": "failed", "task": "Taxi-v3", "setting": "lecture", "seed": 0, **row}])
    assert line == f"Failed, and left out: Taxi-v3, lecture, seed 0: {short}"
    assert reason("Traceback\n  somewhere\nKeyError: 3\n") == "KeyError: 3"


def test_a_parameter_that_is_no_longer_the_optimisers_does_not_stop_the_training():
    """Its moments are still there, of which PyTorch's ``state_dict`` says a bare KeyError."""
    policy = {"optimizer_class": th.optim.Adam, "hidden_dim": 8}
    model = LectureDQN("FrozenLake-v1", seed=0, engine="torch", policy_kwargs=policy).learn(5)
    model.q_net.layers[1] = th.nn.Linear(16, 16)
    model.policy.optimizer.param_groups[0]["params"][1:3] = model.q_net.layers[1].parameters()
    model.learn(5, reset_num_timesteps=False)
    assert model.num_timesteps == 10
