"""Rows of the table beyond tables: vectors, observations of several parts, and quantiles."""

from collections.abc import Callable
from typing import Any

import contestants
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from measure import Plan, RowResult, interleave, lines_beside, seconds
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_lecture_dqn import LectureDQN, LectureQRDQN

SB3, CONTRIB, SBX, TORCH = "SB3 DQN", "sb3-contrib QRDQN", "SBX DQN", "ours, engine='torch'"
Measure = Callable[[int], float]
#: The settings of RL Zoo for Acrobot and LunarLander
OF_ZOO: dict[str, Any] = {
    "learning_rate": 6.3e-4,
    "batch_size": 128,
    "buffer_size": 50_000,
    "learning_starts": 0,
    "gamma": 0.99,
    "target_update_interval": 250,
    "train_freq": 4,
    "gradient_steps": -1,
    "exploration_fraction": 0.12,
    "exploration_final_eps": 0.1,
    "policy_kwargs": {"net_arch": [256, 256]},
}


class Parts(gym.Env):
    """Observes anything of a space; a step costs next to nothing."""

    action_space = spaces.Discrete(4)

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space = space
        self._observations = [space.sample() for _ in range(1000)]
        self._at = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See gymnasium's ``Env``."""
        super().reset(seed=seed)
        return self._observations[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """See gymnasium's ``Env``."""
        self._at = (self._at + 1) % 1000
        return self._observations[self._at], float(action == 0), self._at % 50 == 0, False, {}


def steps_per_second(make: Callable[[int], BaseAlgorithm], steps: int, warm_up: int = 200) -> Measure:
    """Measure environment steps per second of training, after some steps that compile and fill the memory."""

    def measure(seed: int) -> float:
        model = make(seed)
        model.learn(warm_up)
        return steps / seconds(lambda: model.learn(steps, reset_num_timesteps=False))

    return measure


def cartpole(plan: Plan) -> RowResult:
    """SB3's default settings on CartPole, end to end."""
    fast, slow = plan.size(40_000, 400), plan.size(8_000, 200)

    def stock(cls: Any, steps: int) -> Measure:
        return steps_per_second(lambda seed: cls("MlpPolicy", "CartPole-v1", seed=seed, device="cpu"), steps)

    def own(seed: int) -> BaseAlgorithm:
        return LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", seed=seed, engine="numba")

    measures = {"ours": steps_per_second(own, fast), SB3: stock(DQN, slow)}
    if contestants.has("sbx"):
        import sbx

        measures[SBX] = steps_per_second(lambda seed: sbx.DQN("MlpPolicy", "CartPole-v1", seed=seed), slow)
    found = interleave(plan, "CartPole", measures)
    return RowResult(lines_beside("CartPole, SB3's default settings", "env steps/s", found, {SB3: (5, 8), SBX: (2, 4)}))


def wide(plan: Plan) -> RowResult:
    """Layers of 256 with RL Zoo's settings."""
    fast, slow = plan.size(4_000, 200), plan.size(2_000, 200)
    result = RowResult([])
    for env in ("Acrobot-v1", "LunarLander-v3"):
        try:
            gym.make(env).close()
        except gym.error.DependencyNotInstalled as error:
            result.remarks.append(f"{env} is left out: {error}")
            continue

        def own(seed: int, env: str = env) -> BaseAlgorithm:
            return LectureDQN.with_sb3_defaults("MlpPolicy", env, seed=seed, **OF_ZOO)

        def stock(seed: int, env: str = env) -> BaseAlgorithm:
            return DQN("MlpPolicy", env, seed=seed, device="cpu", **OF_ZOO)

        measures = {"ours": steps_per_second(own, fast), SB3: steps_per_second(stock, slow)}
        found = interleave(plan, env, measures)
        result.lines += lines_beside(f"{env}, RL Zoo's settings, 256 × 256", "env steps/s", found, {SB3: (1.3, 2)})
    return result


def updates_of_vectors(plan: Plan) -> RowResult:
    """One update of SB3's default network on CartPole."""
    fast, slow = plan.size(1_000, 20), plan.size(200, 10)
    result = RowResult([])
    models: dict[str, BaseAlgorithm] = {
        "ours": LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", seed=0, engine="numba"),
        SB3: DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu"),
    }
    for model in models.values():
        model.learning_starts = 10**9  # type: ignore[attr-defined]
        model.learn(5_000)
        contestants.silence(model)
    for batch_size, goals in ((32, (20, 35)), (128, (9, 14))):

        def per_update(model: Any, updates: int, batch_size: int = batch_size) -> Measure:
            model.train(gradient_steps=2, batch_size=batch_size)
            return lambda _: seconds(lambda: model.train(gradient_steps=updates, batch_size=batch_size)) / updates * 1e6

        measures = {"ours": per_update(models["ours"], fast), SB3: per_update(models[SB3], slow)}
        found = interleave(plan, f"64 × 64, batch {batch_size}", measures)
        work = f"one update, 64 × 64 ReLU, Adam, batch {batch_size}"
        result.lines += lines_beside(work, "µs", found, {SB3: goals})
    return result


def parts(plan: Plan) -> RowResult:
    """The lecture's settings and networks on observations of several parts."""
    fast, slow = plan.size(10_000, 200), plan.size(300, 40)
    cases: dict[str, Callable[[], Any]] = {
        "MultiDiscrete([4, 2, 2, 2, 2])": lambda: Parts(spaces.MultiDiscrete([4, 2, 2, 2, 2])),
        "Blackjack": lambda: "Blackjack-v1",
        "Dict with a Box": lambda: Parts(
            spaces.Dict({"at": spaces.Discrete(16), "speed": spaces.Box(-1, 1, (3,), np.float32)})
        ),
    }
    result = RowResult([])
    for name, make in cases.items():

        def model(engine: str, make: Callable[[], Any] = make) -> Callable[[int], BaseAlgorithm]:
            return lambda seed: LectureDQN("LecturePolicy", make(), seed=seed, engine=engine)

        measures = {
            "ours": steps_per_second(model("numba"), fast, warm_up=20),
            TORCH: steps_per_second(model("torch"), slow, warm_up=20),
        }
        found = interleave(plan, name, measures)
        result.lines += lines_beside(f"`LecturePolicy`, {name}", "env steps/s", found, {TORCH: (40, 60)})
    return result


def quantiles(plan: Plan) -> RowResult:
    """QR-DQN with sb3-contrib's default settings."""
    fast, slow = plan.size(20_000, 300), plan.size(1_000, 200)

    def own(seed: int) -> BaseAlgorithm:
        return LectureQRDQN.with_sb3_defaults("MlpPolicy", "FrozenLake-v1", seed=seed, engine="numba")

    def stock(seed: int) -> BaseAlgorithm:
        return QRDQN("MlpPolicy", "FrozenLake-v1", seed=seed, device="cpu")

    measures = {"ours": steps_per_second(own, fast), CONTRIB: steps_per_second(stock, slow)}
    found = interleave(plan, "QR-DQN", measures)
    work = "QR-DQN on FrozenLake, sb3-contrib's default settings, 200 quantiles"
    return RowResult(lines_beside(work, "env steps/s", found, {CONTRIB: (15, 30)}))


def tuned_networks(plan: Plan) -> RowResult:
    """Recommended settings that PyTorch trained before; it does a part of the budget here."""
    result = RowResult([])
    for cls, env, slow, goals in (
        (LectureDQN, "CartPole-v1", plan.size(5_000, 1_100), (2, 3)),
        (LectureQRDQN, "Taxi-v3", plan.size(1_500, 300), (5, 10)),
    ):

        def model(engine: str, cls: Any = cls, env: str = env) -> Callable[[int], BaseAlgorithm]:
            return lambda seed: cls.tuned(env, seed=seed, engine=engine)

        warm_up = 200 if plan.quick else 500 + cls.tuned(env).learning_starts  # so that updates have begun
        measures = {
            "ours": steps_per_second(model("numba"), plan.size(30_000, 300), warm_up),
            TORCH: steps_per_second(model("torch"), slow, warm_up),
        }
        found = interleave(plan, f"tuned {env}", measures)
        result.lines += lines_beside(f"`{cls.__name__}.tuned({env!r})`", "env steps/s", found, {TORCH: goals})
    return result
