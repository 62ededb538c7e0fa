"""On a GPU of NVIDIA, by PyTorch: training, files that go from there to a CPU and back, and stopped runs."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_lecture_dqn import (
    LectureCheckpointCallback,
    LectureDQN,
    LectureQRDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    diagnose,
    exact_test,
    make_env,
)
from sb3_lecture_dqn.common.checks import OtherArithmeticError
from tests.saving.test_checkpoint import Crash, CrashAt, equal

pytestmark = pytest.mark.gpu

SMALL = {"batch_size": 16, "learning_starts": 20, "train_freq": 4, "gradient_steps": 2}


class Images(gym.Env):
    """A bright row among noise says which of two actions is rewarded."""

    observation_space = gym.spaces.Box(0, 255, (1, 36, 36), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def _image(self):
        image = self.np_random.integers(0, 100, self.observation_space.shape, np.uint8)
        self.row, self.n_steps = int(self.np_random.integers(36)), self.n_steps + 1
        image[0, self.row] = 255
        return image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._image(), {}

    def step(self, action):
        reward = float(action == (self.row < 18))
        return self._image(), reward, False, self.n_steps > 10, {}


#: Algorithm, policy and environment
MODELS = {
    "CnnPolicy": (LectureDQN, "CnnPolicy", Images),
    "MlpPolicy": (LectureDQN, "MlpPolicy", lambda: gym.make("CartPole-v1")),
    "LecturePolicy": (LectureDQN, "LecturePolicy", lambda: make_env("Taxi-v3")),
    "CnnPolicy of QR-DQN": (LectureQRDQN, "CnnPolicy", Images),
    "MlpPolicy of QR-DQN": (LectureQRDQN, "MlpPolicy", lambda: gym.make("CartPole-v1")),
}


def made(name, **changes):
    cls, policy, env = MODELS[name]
    return cls(policy, env(), **{"seed": 0, "device": "cuda", **SMALL, **changes})


def weights(model):
    return {name: value.cpu().clone() for name, value in model.policy.state_dict().items()}


def observations(model, n):
    return np.array([model.observation_space.sample() for _ in range(n)])


@pytest.fixture(autouse=True)
def _a_run_leaves_no_setting():
    before = th.backends.cudnn.deterministic, th.backends.cudnn.benchmark
    yield
    th.backends.cudnn.deterministic, th.backends.cudnn.benchmark = before


def test_images_are_trained_on_the_gpu_by_default_and_the_lectures_network_is_not():
    assert LectureDQN("CnnPolicy", Images()).device.type == "cuda"
    assert LectureDQN("Taxi-v3").device.type == "cpu"


@pytest.mark.parametrize("name", MODELS)
def test_trained_there_loaded_on_a_cpu_and_back(name, tmp_path):
    model = made(name)
    before = weights(model)
    model.learn(200)
    assert model.engine_in_use == "torch"
    assert all(parameter.device.type == "cuda" for parameter in model.policy.parameters())
    assert not equal(weights(model), before)
    assert model._n_updates == (200 - 20) // 4 * 2

    model.save(tmp_path / "gpu")
    on_cpu = type(model).load(tmp_path / "gpu", env=MODELS[name][2](), device="cpu")
    assert all(parameter.device.type == "cpu" for parameter in on_cpu.policy.parameters())
    assert equal(weights(on_cpu), weights(model))
    model.observation_space.seed(0)
    obs = observations(model, 50)
    values, on_gpu = on_cpu.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
    assert np.mean(values == on_gpu) >= 0.98  # equal values may be told apart by their rounding
    on_cpu.learn(100, reset_num_timesteps=False)
    assert on_cpu.num_timesteps == 300

    on_cpu.save(tmp_path / "cpu")
    back = type(model).load(tmp_path / "cpu", env=MODELS[name][2](), device="cuda")
    assert all(parameter.device.type == "cuda" for parameter in back.policy.parameters())
    states = [entry for state in back.policy.optimizer.state.values() for entry in state.values()]
    assert all(entry.device.type == "cuda" for entry in states if isinstance(entry, th.Tensor) and entry.ndim > 0)
    assert equal(weights(back), weights(on_cpu))
    back.learn(100, reset_num_timesteps=False)
    assert back.num_timesteps == 400


def test_stock_sb3_reads_the_file_of_a_model_from_a_gpu(tmp_path):
    model = LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", seed=0, device="cuda").learn(200)
    model.save(tmp_path / "model")
    stock = DQN.load(tmp_path / "model", device="cpu")
    assert equal(weights(stock), weights(model))


def test_updates_are_those_of_stock_sb3_bit_by_bit():
    keywords = {"seed": 0, "device": "cuda", "learning_starts": 200, "buffer_size": 1000}
    stock = DQN("MlpPolicy", "CartPole-v1", **keywords).learn(200)
    ours = LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", replay_buffer_class=ReplayBuffer, **keywords)
    ours.learn(200)
    ours.policy.load_state_dict(weights(stock))
    ours.replay_buffer = stock.replay_buffer
    for model in (stock, ours):
        np.random.seed(3)  # noqa: NPY002
        model.train(8, 32)
    assert equal(weights(ours), weights(stock))


@pytest.mark.parametrize("name", MODELS)
def test_an_update_is_that_of_the_cpu_but_for_rounding(name):
    """One step of SGD on the same minibatch from the same weights, without TensorFloat-32."""
    there, here = made(name, learning_starts=10**6), made(name, learning_starts=10**6, device="cpu", engine="torch")
    here.policy.load_state_dict(weights(there))
    for model in (there, here):
        model.learn(64)
        model.replay_buffer.rng = np.random.default_rng(3)
        model.policy.optimizer = th.optim.SGD(model.policy.parameters(), 0.01)
        model.policy.load_state_dict(weights(there))
    assert there.replay_buffer.size() == here.replay_buffer.size()
    for model in (there, here):
        model.train(1, 32)
    for (key, one), other in zip(weights(there).items(), weights(here).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=key)


def checkpoints(folder):
    return LectureCheckpointCallback((100, "step"), folder, verbose=0)


def crash(model, folder):
    with pytest.raises(Crash):
        model.learn(400, [checkpoints(folder), CrashAt(250)])


def go_on(model, folder):
    return model.learn(callback=[checkpoints(folder), CrashAt(10**9)])


@pytest.mark.parametrize("name", MODELS)
def test_a_stopped_run_ends_as_one_that_was_not_bit_by_bit(name, tmp_path):
    whole = made(name).learn(400)
    again = made(name).learn(400)
    assert equal(weights(again), weights(whole))  # else the GPU itself is not exact
    crash(made(name), tmp_path)
    cls, _, env = MODELS[name]
    resumed = cls.resume(tmp_path, env=env())
    assert resumed.device.type == "cuda"  # without being told, since the run was there
    go_on(resumed, tmp_path)
    assert resumed.num_timesteps == 400
    assert equal(resumed.get_parameters(), whole.get_parameters())


def test_a_run_on_a_gpu_is_not_resumed_on_a_cpu_as_if_it_were_the_same(tmp_path):
    crash(made("MlpPolicy"), tmp_path)
    env = MODELS["MlpPolicy"][2]()
    with pytest.raises(OtherArithmeticError, match=r"computed by 'torch on cuda \(NVIDIA .*\)'.* by 'torch'"):
        LectureDQN.resume(tmp_path, env=env, device="cpu")
    resumed = LectureDQN.resume(tmp_path, env=env, device="cpu", exact=False)
    assert go_on(resumed, tmp_path).num_timesteps == 400


def test_a_run_on_a_cpu_goes_on_there_though_there_is_a_gpu(tmp_path):
    crash(made("CnnPolicy", device="cpu"), tmp_path)
    assert LectureDQN.resume(tmp_path, env=Images()).device.type == "cpu"


def test_masks_tests_pictures_and_the_diagnosis_of_a_model_on_a_gpu(tmp_path):
    model = LectureDQN(
        "Taxi-v3",
        use_masking=True,
        device="cuda",
        seed=0,
        tensorboard_log=str(tmp_path),
        batch_size=8,
        gradient_steps=1,
    )
    callbacks = [LectureTestCallback(test_freq=2, n_test_episodes=2, verbose=0), LectureTensorBoardCallback()]
    model.learn(total_episodes=4, callback=callbacks)
    result = exact_test(model)
    model.save(tmp_path / "model")
    on_cpu = LectureDQN.load(tmp_path / "model", env=make_env("Taxi-v3"), device="cpu")
    assert exact_test(on_cpu).mean_reward == pytest.approx(result.mean_reward)
    assert str(diagnose(model))


def test_the_compiled_engine_on_a_gpu_is_refused_by_name():
    with pytest.raises(ValueError, match=r"engine='numba' cannot be used: it works on the cpu, not on device cuda"):
        LectureDQN("Taxi-v3", device="cuda", engine="numba")


def test_tuned_on_a_gpu_is_solved():
    model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0, device="cuda").learn()
    assert exact_test(model).optimality == 1
