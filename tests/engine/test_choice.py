"""Which engine trains a model, and what is said of it."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from sb3_lecture_dqn import LectureDQN, LecturePolicy, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.duplicates import DictIndex
from sb3_lecture_dqn.common.torch_layers import TableNetwork
from sb3_lecture_dqn.kernels import available
from tests.engine.comparison import assert_near, run

pytest.importorskip("numba")


class OneLayer(LecturePolicy):
    """Another network by the same policy."""

    class Net(TableNetwork):
        def forward(self, obs):
            return 2 * super().forward(obs)

    def make_q_net(self):
        return self.Net(self.observation_space, self.action_space)


class Normalised(LecturePolicy):
    """The lecture's network with a normalisation in place of an activation."""

    def make_q_net(self):
        net = super().make_q_net()
        net.layers[2] = nn.LayerNorm(net.layers[1].out_features)
        return net


class Halved(FlattenExtractor):
    """Another features extractor."""

    def forward(self, observations):
        return super().forward(observations) / 2


class ManySlopes(LecturePolicy):
    """The lecture's network with a slope for each unit."""

    def make_q_net(self):
        net = super().make_q_net()
        net.layers[2] = nn.PReLU(net.layers[1].out_features)
        return net


class Frozen(LecturePolicy):
    """The lecture's network with an embedding that is not trained."""

    def make_q_net(self):
        net = super().make_q_net()
        net.layers[0].requires_grad_(False)
        return net


class OwnSample(SuccessFailReplayBuffer):
    """A memory that gives other rewards than it holds."""

    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(rewards=batch.rewards / 20)


def kwargs_of(optimizer_class, **options):
    return {"policy_kwargs": {"optimizer_class": optimizer_class, "optimizer_kwargs": options}}


def policy_of(**options):
    return {"policy": "MlpPolicy", "policy_kwargs": options}


UNKNOWN = {
    "other network": ({"policy": OneLayer}, "does not know a network of type Net"),
    "own extractor": (policy_of(features_extractor_class=Halved), "does not know the features extractor Halved"),
    "LayerNorm": ({"policy": Normalised}, "does not know the activation LayerNorm"),
    "GELU": (policy_of(activation_fn=nn.GELU), "does not know the activation GELU"),
    "Adamax": (kwargs_of(th.optim.Adamax), "Adamax"),
    "centered": (kwargs_of(th.optim.RMSprop, centered=True), "centered=True"),
    "amsgrad": (kwargs_of(th.optim.Adam, amsgrad=True), "amsgrad=True"),
    "frozen": ({"policy": Frozen}, ""),
    "dampening": (kwargs_of(th.optim.SGD, dampening=0.5, momentum=0.9), "dampening=0.5"),
    "maximize": (kwargs_of(th.optim.SGD, maximize=True), "maximize=True"),
    "slopes": ({"policy": ManySlopes}, ""),
    "own sample": ({"replay_buffer_class": OwnSample}, "OwnSample"),
}


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        *(pytest.param(*case, id=name) for name, case in UNKNOWN.items()),
    ],
)
def test_what_the_compiled_engine_does_not_know_is_refused_and_left_to_pytorch_by_auto(kwargs, reason, capsys):
    with pytest.raises(ValueError, match=f"(?s)engine='numba'.*{reason}.*'auto' or 'torch'"):
        LectureDQN(env="Taxi-v3", engine="numba", **kwargs)
    assert capsys.readouterr().out == ""
    model = LectureDQN(env="Taxi-v3", verbose=1, seed=0, **kwargs)
    assert model.engine_in_use == "torch"
    model.learn(4, log_interval=None)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "engine" in line]
    assert line.startswith("Using the torch engine (")


def observing(space):
    class Observing(gym.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return space.sample(), {}

    return Observing()


@pytest.mark.parametrize("policy", ["LecturePolicy", "CnnPolicy"])
def test_why_it_is_pytorch_is_said_in_one_short_line(policy, capsys):
    LectureDQN(policy, observing(spaces.Box(0, 255, (36, 36, 3), np.uint8)), verbose=1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "engine" in line]
    assert len(line) < 200
    assert ("images" if policy == "LecturePolicy" else "NatureCNN") in line


@pytest.mark.parametrize("optimizer", [th.optim.SGD, th.optim.Adam, th.optim.AdamW, th.optim.RMSprop])
@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiDiscrete([4, 2, 2]),
        spaces.MultiBinary(3),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(0, 1, (2,))}),
        spaces.Box(-1, 1, (2, 3)),
    ],
    ids=lambda space: type(space).__name__,
)
@pytest.mark.parametrize("policy", ["LecturePolicy", "ActionInPolicy", "usual"])
def test_what_is_no_picture_is_compiled(policy, space, optimizer):
    if policy == "usual":
        policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    model = LectureDQN(policy, observing(space), policy_kwargs={"optimizer_class": optimizer})
    assert model.engine_in_use == "numba"


def test_large_networks_are_left_to_pytorch_unless_asked_otherwise():
    kwargs = {"policy_kwargs": {"net_arch": [1000, 1000]}, "batch_size": 128}
    assert LectureDQN("MlpPolicy", "CartPole-v1", **kwargs).engine_in_use == "torch"
    assert LectureDQN("MlpPolicy", "CartPole-v1", engine="numba", **kwargs).engine_in_use == "numba"
    model = LectureDQN("MlpPolicy", "CartPole-v1", **{**kwargs, "batch_size": 1})
    assert model.engine_in_use == "numba"
    # A large embedding costs nothing.
    assert LectureDQN("LecturePolicy", observing(spaces.Discrete(200_000)), batch_size=64).engine_in_use == "numba"


@pytest.mark.parametrize("engine", ["auto", "numba"])
def test_the_compiled_engine_is_announced_once(engine, capsys):
    model = LectureDQN("Taxi-v3", engine=engine, verbose=1, seed=0)
    model.learn(4)
    model.learn(4)
    assert [line for line in capsys.readouterr().out.splitlines() if "engine" in line] == ["Using the numba engine"]


def test_nothing_is_announced_without_verbose(capsys):
    LectureDQN("Taxi-v3", seed=0).learn(4)
    LectureDQN("MlpPolicy", "Taxi-v3", seed=0).learn(4)
    assert capsys.readouterr().out == ""


def test_an_engine_that_there_is_not_is_answered_with_those_that_there_are():
    with pytest.raises(ValueError, match="engine='gpu' must be one of 'auto', 'torch', 'numba'"):
        LectureDQN("Taxi-v3", engine="gpu")


def test_an_engine_set_later_that_cannot_be_is_refused_before_anything_is_trained():
    model = LectureDQN("MlpPolicy", "Taxi-v3", seed=0, policy_kwargs={"activation_fn": nn.GELU})
    model.engine = "numba"
    with pytest.raises(ValueError, match="engine='numba'"):
        model.learn(4)
    assert model._n_updates == 0


def test_without_numba_everything_is_pytorchs(monkeypatch, capsys, tmp_path):
    with_numba, _ = run("numba", 60)
    with_numba.save(tmp_path / "model")
    with_numba.save_replay_buffer(tmp_path / "memory")

    monkeypatch.setattr(available, "find_spec", lambda name: None)
    model, _ = run("auto", 60, verbose=1)
    assert "torch engine (engine='numba' cannot be used: numba is not installed" in capsys.readouterr().out
    assert model.engine_in_use == "torch"
    assert isinstance(model.replay_buffer.fail.index, DictIndex)
    assert_near(model, with_numba)
    with pytest.raises(ValueError, match=r"engine='numba'.*numba is not installed.*sb3-lecture-dqn\[fast\]"):
        run("numba", 1)
    # What was saved with numba is read without it.
    loaded = LectureDQN.load(tmp_path / "model", engine="auto")
    loaded.load_replay_buffer(tmp_path / "memory")
    assert isinstance(loaded.replay_buffer.fail.index, DictIndex)
    loaded.replay_buffer.check_valid()
    assert loaded.replay_buffer.size() == with_numba.replay_buffer.size()


def test_numba_that_cannot_be_imported_is_as_none(monkeypatch, capsys):
    """As when NumPy is newer than it knows."""

    def fail(name):
        raise ImportError("Numba needs NumPy 2.4 or less")

    monkeypatch.setattr(available, "import_module", fail)
    model, _ = run("auto", 20, verbose=1)
    assert "cannot be used: numba cannot be imported: Numba needs NumPy 2.4 or less)" in capsys.readouterr().out
    assert isinstance(model.replay_buffer.fail.index, DictIndex)


def test_a_learner_class_of_version_1_is_refused_by_name():
    with pytest.raises(TypeError, match=r"Old\.torch_learner_class: override compute_loss\(batch\) instead"):
        type("Old", (LectureDQN,), {"torch_learner_class": object})
