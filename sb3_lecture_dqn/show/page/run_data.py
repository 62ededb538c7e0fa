"""A run as the data of a page."""

from typing import Any

import numpy as np

from sb3_lecture_dqn.engine.divergence import has_finite_weights
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.evaluation.diagnosis import diagnose
from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD
from sb3_lecture_dqn.show.hparams import model_settings
from sb3_lecture_dqn.show.page.figures import Figures, moments_data
from sb3_lecture_dqn.show.page.runs import Source

#: Title of the summary of the diagnosis, by language
_SUMMARY = {"en": "In short", "ko": "요약"}


def run_data(source: Source) -> dict[str, Any]:
    """
    Compute the data of one run.

    :param source: The run
    :return: JSON
    """
    model, world = source.model, source.world
    figures = Figures(model, world)
    data = moments_data(figures, source.moments)
    return {
        "name": source.name,
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
        "diagnosis": _diagnosis(source, figures, data),
    }


def _diagnosis(source: Source, figures: Figures, data: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Diagnose the model at the last moment, in every language of the page."""
    model = source.last
    if model is None or not has_finite_weights(model):
        last = next(moment for moment in reversed(source.moments) if moment.step == data["step"][-1])
        model = figures.model_at(last)
    made_by_id = model.env is not None or model.env_id is not None
    env = None if made_by_id else TabularVecEnv(source.world.table, max_episode_steps=source.world.limit)
    diagnosis = diagnose(model, env, solved=dict(zip(data["episode"], data["solved"], strict=True)))
    found = {}
    for language, title in _SUMMARY.items():
        worded = diagnosis.in_language(language)
        summary = {"kind": "summary", "title": title, "text": worded.summary, "advice": "", "states": []}
        findings = [finding.to_dict() for finding in worded.findings]
        found[language] = [summary, *({name: finding[name] for name in summary} for finding in findings)]
    return found


def _events(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Find the first moments at which something new is seen."""
    events: list[dict[str, Any]] = []

    def add(kind: str, moment: int, **more: Any) -> None:
        events.append({"kind": kind, "episode": data["episode"][moment], "step": data["step"][moment], **more})

    # What the first moment of a training already has may be older: of a run with few checkpoints, it is late.
    first = next((m for m, n in enumerate(data["memory"]["successes"]) if n), None)
    if first is not None and (first > 0 or data["step"][0] == 0) and data["memory"]["success_list"][first]:
        state, action, *_ = data["memory"]["success_list"][first][0]
        add("first_success", first, state=state, action=action)
    solved = next((m for m, share in enumerate(data["solved"]) if np.isclose(share, 1.0, atol=1e-12)), None)
    if solved is not None and (solved > 0 or data["step"][0] == 0):
        add("all_solved", solved)
    for m, why in enumerate(data["why"]):
        if "diverged" in why:
            add("diverged", m)
    return events
