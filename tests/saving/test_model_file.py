import copy
import math
import os
from contextlib import nullcontext

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_lecture_dqn import LectureDQN, LecturePolicy, LectureQRDQN, UnsafeFileError
from tests.saving.helpers import MODELS, Own, no_unpickling, same_state


class Extractor(FlattenExtractor):
    pass


@pytest.mark.parametrize("given", ["features_extractor_class", "policy_kwargs.features_extractor_class"])
@pytest.mark.parametrize("method", ["load", "resume"])
def test_a_class_can_be_given_alone(method, given, tmp_path):
    kwargs = {"features_extractor_class": Extractor, "net_arch": [3], "activation_fn": th.nn.Tanh}
    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0, policy_kwargs=kwargs).learn(total_timesteps=5)
    getattr(model, {"load": "save", "resume": "save_checkpoint"}[method])(tmp_path / "file.zip")
    load = getattr(LectureDQN, method)
    with pytest.raises(UnsafeFileError, match=r"custom_objects={'features_extractor_class': \.\.\.}") as caught:
        load(tmp_path / "file.zip")
    assert ("trust=True" in str(caught.value)) == (method == "load")
    loaded = load(tmp_path / "file.zip", custom_objects={given: Extractor})
    assert type(loaded.q_net.features_extractor) is Extractor
    assert same_state(loaded, model)


def test_a_schedule_of_ones_own_is_given_by_either_of_its_names(tmp_path):
    LectureDQN("Taxi-v3", learning_rate=schedule).save(tmp_path / "model")
    for name in ("learning_rate", "lr_schedule"):
        loaded = LectureDQN.load(tmp_path / "model", custom_objects={name: schedule})
        assert loaded.lr_schedule(0.5) == schedule(0.5)
    zoo = {"learning_rate": 0.0, "lr_schedule": schedule, "clip_range": schedule}
    assert LectureDQN.load(tmp_path / "model", custom_objects=zoo).lr_schedule(0.5) == 0


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_a_model_and_its_memory_are_loaded_without_unpickling(make, tmp_path):
    model = make().learn(total_timesteps=45)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    with no_unpickling():
        loaded = type(model).load(tmp_path / "model")
    assert same_state(loaded, model)
    assert loaded.num_timesteps == model.num_timesteps >= 45
    names = model.__dict__.keys() - set(model._excluded_save_params()) - {"policy", "q_net", "q_net_target"}
    names -= {"quantile_net", "quantile_net_target"}
    assert names == loaded.__dict__.keys() & names
    for name in names - {"device", "env"}:
        assert repr(getattr(loaded, name)) == repr(getattr(model, name)), name
    with no_unpickling():
        loaded.load_replay_buffer(tmp_path / "memory")
    assert type(loaded.replay_buffer) is type(model.replay_buffer)
    assert loaded.replay_buffer.size() == model.replay_buffer.size()
    np.random.seed(1)  # noqa: NPY002 (which SB3's buffers draw with)
    expected = model.replay_buffer.sample(50)
    np.random.seed(1)  # noqa: NPY002
    assert repr(loaded.replay_buffer.sample(50)) == repr(expected)
    said = pytest.warns(UserWarning, match="no counts") if model.explore_least_tried else nullcontext()
    with said:
        loaded.learn(total_timesteps=6, reset_num_timesteps=False)
    assert loaded.num_timesteps >= model.num_timesteps + 6


def schedule(progress):
    return 1e-3 * progress


class OwnPolicy(LecturePolicy):
    pass


CODE = {
    "learning_rate": ({"learning_rate": schedule}, schedule),
    "policy_class": ({"policy": OwnPolicy}, OwnPolicy),
    "replay_buffer_kwargs": (
        {"replay_buffer_kwargs": {"success_criterion": lambda reward, terminal, info: reward > 5}},
        {"success_criterion": "terminal"},
    ),
    "policy_kwargs": (
        {"policy": "MlpPolicy", "policy_kwargs": {"activation_fn": Own, "net_arch": [4]}},
        {"activation_fn": Own, "net_arch": [4]},
    ),
}


@pytest.mark.parametrize("entry", CODE)
def test_code_is_named_and_has_two_ways_on(entry, tmp_path):
    settings, given_object = CODE[entry]
    model = LectureDQN(**{"policy": "LecturePolicy", "env": "Taxi-v3", **settings})
    model.save(tmp_path / "model")
    with pytest.raises(UnsafeFileError, match=rf"{entry}.*custom_objects={{'{entry}': \.\.\.}}.*trust=True"):
        LectureDQN.load(tmp_path / "model")
    assert same_state(LectureDQN.load(tmp_path / "model", custom_objects={entry: given_object}), model)
    assert same_state(LectureDQN.load(tmp_path / "model", trust=True), model)


def test_a_file_of_stock_sb3_loads_when_it_is_trusted_and_behaves_as_there(tmp_path):
    stock = DQN("MlpPolicy", "CartPole-v1", learning_starts=0, seed=0, policy_kwargs={"net_arch": [8]}).learn(20)
    stock.save(tmp_path / "stock")
    with pytest.raises(UnsafeFileError, match=r"stock.*pickles.*trust=True"):
        LectureDQN.load(tmp_path / "stock")
    loaded = LectureDQN.load(tmp_path / "stock", env="CartPole-v1" and gym.make("CartPole-v1"), trust=True)
    assert same_state(loaded, stock)
    assert (loaded.exploration_decay, loaded.loss) == (None, "huber")
    loaded.learn(total_timesteps=10, reset_num_timesteps=False)
    assert loaded.exploration_rate == stock.exploration_schedule(1 - 30 / 30) or loaded.exploration_rate < 1
    other = LectureDQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8], "optimizer_class": th.optim.Adam})
    other.set_parameters(tmp_path / "stock")
    assert same_state(other, stock)


def test_pickles_are_noticed(tmp_path):
    """By the other tests here."""
    LectureDQN("Taxi-v3").save(tmp_path / "model")
    with pytest.raises(AssertionError, match="LecturePolicy"), no_unpickling():
        LectureDQN.load(tmp_path / "model", trust=True)


def test_options_of_the_optimizer_may_be_numbers_of_numpy(tmp_path):
    options = {"eps": np.float64(1e-5), "betas": (np.float64(0.5), 0.75), "weight_decay": np.float32(0)}
    policy = {"optimizer_class": th.optim.Adam, "optimizer_kwargs": options}
    model = LectureDQN("Taxi-v3", seed=0, engine="torch", policy_kwargs=policy).learn(total_timesteps=20)
    model.save(tmp_path / "model")
    with no_unpickling():
        loaded = LectureDQN.load(tmp_path / "model")
    for other in (loaded, DQN.load(tmp_path / "model")):
        assert str(other.get_parameters()["policy"]) == str(model.get_parameters()["policy"])
        (group,) = other.policy.optimizer.param_groups
        assert (group["eps"], group["betas"]) == (1e-5, (0.5, 0.75))
        assert type(group["eps"]) is float
    loaded.learn(total_timesteps=5, reset_num_timesteps=False)


def test_stock_sb3_loads_our_files(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0).learn(total_timesteps=20)
    model.save(tmp_path / "model")
    stock = DQN.load(tmp_path / "model")
    assert same_state(stock, model)
    assert stock.predict(5, deterministic=True)[0] == model.predict(5, deterministic=True)[0]


@pytest.mark.filterwarnings("ignore:`n_steps=3` is ignored")  # which SB3 says of its own files too
def test_our_files_are_for_stock_algorithms_to_learn_on_and_for_ours_as_they_were(tmp_path):
    kinds = {**MODELS, "plain": lambda: LectureDQN("FrozenLake-v1"), "no clipping": lambda: LectureQRDQN("Taxi-v3")}
    kinds["clipping"] = lambda: LectureDQN("FrozenLake-v1", max_grad_norm=3.5, target_update_interval=7)
    for name, make in kinds.items():
        model = make().learn(total_timesteps=20)
        model.save(tmp_path / "model")
        algorithm = QRDQN if isinstance(model, LectureQRDQN) else DQN
        stock = algorithm.load(tmp_path / "model", env=model.get_env())
        assert same_state(stock, model)
        assert type(stock.target_update_interval) is int
        before = copy.deepcopy(stock.policy.state_dict())
        stock.learning_starts = 0
        stock.learn(10)
        assert stock.num_timesteps >= 10
        weights = stock.policy.state_dict()
        assert any((before[key] != weight).any() for key, weight in weights.items()), name
        for trust in (False, True):
            ours = type(model).load(tmp_path / "model", trust=trust)
            for key in ("target_update_interval", "max_grad_norm", "train_freq", "batch_size", "exploration_decay"):
                assert getattr(ours, key) == getattr(model, key), (name, key)
    clipped = DQN.load(tmp_path / "model")
    assert (clipped.max_grad_norm, clipped.target_update_interval) == (3.5, 7)


def test_stock_copies_the_target_about_as_often_as_ours_did(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.save(tmp_path / "new")
    LectureDQN("FrozenLake-v1", target_update_interval=np.int64(30)).save(tmp_path / "numpy")
    assert DQN.load(tmp_path / "numpy").target_update_interval == 30
    assert DQN.load(tmp_path / "new").target_update_interval == 10_000
    model.learn(total_episodes=30).save(tmp_path / "trained")
    assert DQN.load(tmp_path / "trained").target_update_interval == 20 * model.num_timesteps // 30
    other = LectureDQN.load(tmp_path / "trained", trust=True, custom_objects={"target_update_interval": 5})
    assert other.target_update_interval == 5


def test_a_wrong_keyword_is_the_callers_mistake_and_not_the_files(tmp_path):
    LectureDQN("Taxi-v3").save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"gamma=1\.5") as caught:
        LectureDQN.load(tmp_path / "model", gamma=1.5)
    assert caught.type is ValueError
    with pytest.raises(ValueError, match="policy kwargs"):
        LectureDQN.load(tmp_path / "model", policy_kwargs={"hidden_dim": 3})
    with pytest.raises(ValueError, match="spaces do not match"):
        LectureDQN.load(tmp_path / "model", env=gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="must be a dict"):
        LectureDQN.load(tmp_path / "model", custom_objects=[1])


def test_an_id_that_imports_a_module_is_code(tmp_path):
    """`gymnasium.make("module:Name-v0")` imports the module."""
    model = LectureDQN("Taxi-v3")
    model.env_id = "antigravity:Evil-v0"
    model.save(tmp_path / "model")
    with pytest.raises(UnsafeFileError, match="env_id"):
        LectureDQN.load(tmp_path / "model")
    assert LectureDQN.load(tmp_path / "model", custom_objects={"env_id": "Taxi-v3"}).env_id == "Taxi-v3"


@pytest.mark.parametrize("wrong", ["weights", "a description", "a space"])
def test_what_could_not_be_loaded_is_not_saved(wrong, tmp_path, monkeypatch):
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.save(tmp_path / "model")
    before = (tmp_path / "model.zip").read_bytes()
    if wrong == "weights":
        with th.no_grad():
            next(iter(model.q_net.parameters()))[0] = math.nan
        message = r"policy\.q_net\..* has weights that are NaN or infinite"
    elif wrong == "a description":
        monkeypatch.setattr("sb3_lecture_dqn.saving.files.MAX_ENTRIES", 50)
        message = "has more than 50 entries"
    else:
        monkeypatch.setattr("sb3_lecture_dqn.saving.codec.MAX_NUMBERS", 50)
        model.observation_space = spaces.Box(-1, 1, (30,))
        message = "more numbers are declared in arrays than the 50 that are allowed"
    with pytest.raises(ValueError, match=f"the model is not saved, because it could not be loaded: .*{message}"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").read_bytes() == before
    assert os.listdir(tmp_path) == ["model.zip"]
