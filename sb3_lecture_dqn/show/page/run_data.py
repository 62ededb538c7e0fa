"""A run as the data of a page."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD
from sb3_lecture_dqn.show.hparams import model_settings
from sb3_lecture_dqn.show.page.figures import Figures, moments_data
from sb3_lecture_dqn.show.page.moment import Moment
from sb3_lecture_dqn.show.page.world import World


def run_data(name: str, model: Any, world: World, moments: Sequence[Moment]) -> dict[str, Any]:
    """
    Compute the data of one run.

    :param name: Name of the run
    :param model: Its model, which stays unchanged
    :param world: Its environment
    :param moments: Its moments, in the order of time
    :return: JSON
    """
    data = moments_data(Figures(model, world), moments)
    return {
        "name": name,
        "env_id": world.looks["env_id"],
        "kind": world.looks["kind"],
        "settings": [[setting, str(value)] for setting, value in model_settings(model).items()],
        "gamma": float(model.gamma),
        "limit": world.limit,
        "penalty_reward": PENALTY_REWARD,
        "use_masking": bool(model.use_masking),
        "learning": {
            "loss": getattr(model, "loss", "quantile huber"),
            "double_q": bool(model.double_q),
            "target_network": bool(model.double_dqn),
            "replay": bool(model.store_and_replay),
            "optimizer": type(model.policy.optimizer).__name__,
            "learning_rate": float(model.policy.optimizer.param_groups[0]["lr"]),
            "batch_size": int(model.batch_size),
        },
        "world": world.data(),
        "moments": data,
        "events": _events(data),
        "diagnosis": {"en": [], "ko": []},
    }


def _events(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Find the first moments at which something new is seen."""
    events: list[dict[str, Any]] = []

    def add(kind: str, moment: int, **more: Any) -> None:
        events.append({"kind": kind, "episode": data["episode"][moment], "step": data["step"][moment], **more})

    first = next((m for m, n in enumerate(data["memory"]["successes"]) if n), None)
    if first is not None and data["memory"]["success_list"][first]:
        state, action, *_ = data["memory"]["success_list"][first][0]
        add("first_success", first, state=state, action=action)
    solved = next((m for m, share in enumerate(data["solved"]) if np.isclose(share, 1.0, atol=1e-12)), None)
    if solved is not None:
        add("all_solved", solved)
    for m, why in enumerate(data["why"]):
        if "diverged" in why:
            add("diverged", m)
    return events
