"""Rows of the table on updates alone: minibatches beside SB3, single transitions beside C by hand."""

from collections.abc import Callable
from typing import Any

import contestants
import numpy as np
import torch as th
from by_hand import UpdatesByHand, why_not_by_hand
from measure import Plan, RowResult, interleave, lines_beside, seconds
from stable_baselines3 import DQN

from sb3_lecture_dqn import LectureDQN, LecturePolicy

SB3, BY_HAND = "SB3 DQN", "AVX2 C by hand"


def adam_updates(plan: Plan) -> RowResult:
    """One update with Adam and Huber's loss on a minibatch, gradients clipped at 10 as SB3 always does."""
    fast, slow = plan.size(1_000, 20), plan.size(200, 10)
    settings: dict[str, Any] = {"learning_rate": 1e-3, "gamma": 0.75, "max_grad_norm": 10, "device": "cpu", "seed": 0}
    adam = {"optimizer_class": th.optim.Adam}
    result = RowResult([])
    for batch_size, goals in ((32, (28, 35)), (64, (22, 27)), (256, (11, 14))):
        ours = {
            engine: LectureDQN("LecturePolicy", "Taxi-v3", loss="huber", policy_kwargs=adam, engine=engine, **settings)
            for engine in ("numba", "torch")
        }
        stock = DQN(LecturePolicy, "Taxi-v3", buffer_size=1_004, policy_kwargs=adam, **settings)
        for model in (*ours.values(), stock):
            result.notes["transitions"] = contestants.fill_memory(model)
            contestants.silence(model)

        def per_update(model: Any, updates: int, batch_size: int = batch_size) -> Callable[[int], float]:
            model.train(gradient_steps=2, batch_size=batch_size)
            return lambda _: seconds(lambda: model.train(gradient_steps=updates, batch_size=batch_size)) / updates * 1e6

        measures = {
            "ours": per_update(ours["numba"], fast),
            SB3: per_update(stock, slow),
            "ours, engine='torch'": per_update(ours["torch"], slow),
        }
        if contestants.has("sbx"):
            jax_model = contestants.sbx_dqn(0.1, 0)
            jax_model.learn(total_timesteps=1_100)
            jax_model.train(gradient_steps=slow, batch_size=batch_size)  # compiles for this number of updates
            measures["SBX DQN"] = per_update(jax_model, slow)
        found = interleave(plan, f"Adam, batch {batch_size}", measures)
        work = f"one Adam + Huber update, batch {batch_size}"
        result.lines += lines_beside(work, "µs", found, {SB3: goals})
    return result


def updates_by_hand(plan: Plan) -> RowResult:
    """Five updates on single transitions by plain SGD, beside C that is written by hand for them."""
    import drivers

    n = plan.size(40_000, 200)
    model = LectureDQN("Taxi-v3", seed=0, device="cpu")
    size = contestants.fill_memory(model)
    contestants.silence(model).train(gradient_steps=5)
    engine, success, fail = model._engine, model.replay_buffer.success, model.replay_buffer.fail
    rows = (success.words, success.floats, fail.words, fail.floats, success.size)
    positions = np.random.default_rng(0).integers(size, size=(n, 5))
    gamma, learning_rate = float(model.gamma), float(model.lr_schedule(1))
    memory = np.concatenate([success.words[: success.size], fail.words[: fail.size]])
    online, target = engine.online.copy(), engine.target.copy()

    def own(positions: np.ndarray) -> None:
        drivers.train_many(rows, positions[:, :, None], 0, gamma, engine.arguments(1, 0))

    works = {"ours": own}
    missing = why_not_by_hand()
    if not missing:
        works[BY_HAND] = UpdatesByHand(online, target, memory, gamma, learning_rate).train
    for work in works.values():
        work(positions[:200])  # compiles
    if not missing and not np.allclose(engine.online, online, rtol=0, atol=1e-5):
        raise RuntimeError(f"the weights differ by {np.abs(engine.online - online).max():.1e}")
    measures = {
        name: lambda _, work=work: seconds(lambda: work(positions)) / n * 1e6  # type: ignore[misc]
        for name, work in works.items()
    }
    found = interleave(plan, "five updates", measures)
    lines = lines_beside("five updates on one transition each", "µs", found, {BY_HAND: (1.15, 1)}, "cost")
    return RowResult(lines, remarks=[f"there is no C here: {missing}."] if missing else [])
