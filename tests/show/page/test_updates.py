"""The update in numbers is the one that the compiled engine does."""

import copy
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_lecture_dqn import LectureDQN, LectureQRDQN
from sb3_lecture_dqn.evaluation.values import action_values
from sb3_lecture_dqn.show.page.figures import MAX_MOVED, Figures
from sb3_lecture_dqn.show.page.moment import Taker
from sb3_lecture_dqn.show.page.world import World

CASES: dict[str, dict[str, Any]] = {
    "lecture": {},
    "no target network": {"double_dqn": False},
    "double Q": {"double_q": True},
    "Adam, minibatches, Huber, clipped": {"batch_size": 16, "loss": "huber", "max_grad_norm": 0.5, "adam": True},
    "masks": {"use_masking": True, "double_q": True, "batch_size": 8, "adam": True},
    "table": {"policy": "TablePolicy"},
    "quantiles": {"cls": LectureQRDQN, "policy_kwargs": {"n_quantiles": 8}, "batch_size": 4, "use_masking": True},
}


def _model(cls: Any = LectureDQN, adam: bool = False, policy: str = "LecturePolicy", **settings: Any) -> Any:
    if adam:
        settings["policy_kwargs"] = {"optimizer_class": th.optim.Adam}
    model = cls(policy, "Taxi-v3", seed=3, engine="numba", target_update_interval=100, **settings)
    return model.learn(total_timesteps=350)


def _learn_by_engine(model: Any, row: np.ndarray) -> np.ndarray:
    """Let the compiled engine of a model learn one transition, and return all action values afterwards."""
    memory = model.replay_buffer
    memory.reset()
    words = memory.fail.reserve(1)[0]
    words[0] = row
    memory.set_sizes(0, 1)
    assert model._engine.name == "numba"
    model._engine.train(1, 1)
    return action_values(model, np.arange(500))


@pytest.mark.parametrize("name", CASES)
def test_the_update_is_that_of_the_compiled_engine(name: str) -> None:
    settings = CASES[name]
    model = _model(**settings)
    world = World.of_model(model)
    moment = Taker(model, world.table, 0).take(["end"])
    rows = moment.drawn_rows.copy()
    assert moment.drawn == "last"
    assert len(rows) == min(5, 5 if model.batch_size == 1 else model.batch_size)
    figures = Figures(model, world)
    figures.set(moment)
    updates = figures.updates(rows)
    before = figures.values()
    assert np.array_equal(before, action_values(model, np.arange(500)))  # taken back
    parameters = copy.deepcopy(model.get_parameters())
    for row, update in zip(rows, updates, strict=True):
        model.set_parameters(copy.deepcopy(parameters))
        model._make_engine()
        after = _learn_by_engine(model, row)
        s, a = update["s"], update["a"]
        assert (s, a, update["s2"]) == (row[0], row[2], row[1])
        assert update["before"] == pytest.approx(before[s, a], abs=1e-6, rel=1e-6)
        assert update["after"] == pytest.approx(after[s, a], abs=1e-6, rel=1e-6)
        moves = np.where(world.acting[:, None], after.astype(float) - before, 0)
        moves[s, a] = 0
        for other, action, difference in update["moved"]:
            assert difference == pytest.approx(moves[other, action], abs=4e-6)
        sizes = np.sort(np.abs(moves).ravel())[::-1]
        assert [abs(move[2]) for move in update["moved"]] == pytest.approx(sizes[: len(update["moved"])], abs=4e-6)
        assert (sizes > 5e-6).sum() <= update["n_moved"] <= np.count_nonzero(sizes)
        assert len(update["moved"]) == min(update["n_moved"], MAX_MOVED)
