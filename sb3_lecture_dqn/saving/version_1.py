"""
Descriptions that versions before 2.0 wrote, translated into the JSON that :mod:`codec` reads today.

These are models of description version 1 and checkpoints of version 2. JSON comes in and JSON goes out. What a setting
of 1.0 means is decided where it is used; comments that name 1.0 mark these places.
"""

import sys
from typing import Any

import numpy as np

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown

#: Words of version 1, which were source paths, and the words of today
OLD_WORDS = {
    f"{module}.{name}": name
    for module, names in {
        "stable_baselines3.common.buffers": ("ReplayBuffer", "DictReplayBuffer", "NStepReplayBuffer"),
        "stable_baselines3.her.her_replay_buffer": ("HerReplayBuffer",),
        "stable_baselines3.common.torch_layers": ("FlattenExtractor", "NatureCNN", "CombinedExtractor"),
        "stable_baselines3.common.sb2_compat.rmsprop_tf_like": ("RMSpropTFLike",),
        "sb3_lecture_dqn.common.buffers": ("SuccessFailReplayBuffer", "LatestTransitionBuffer"),
        "sb3_lecture_dqn.common.torch_layers": ("DiscreteEmbeddingExtractor",),
        "sb3_lecture_dqn.common.wrappers": ("DiscreteObservationWrapper", "TupleToDictWrapper"),
        "sb3_lecture_dqn.common.callbacks": (
            "LectureTestCallback",
            "LectureCheckpointCallback",
            "EpisodeProgressBarCallback",
        ),
        "sb3_lecture_dqn.common.tensorboard": ("LectureTensorBoardCallback",),
        "sb3_lecture_dqn.study.trial": ("CurveCallback", "_CheckpointsOfClaim"),
    }.items()
    for name in names
}
# Figures of a test, by the order in which 1.0 kept them
_FIGURES = ("mean_steps", "mean_penalties", "mean_reward", "success_rate", "n_episodes", "optimality")
# How lists of numbers, tensors, and dictionaries whose keys are no text were packed in the states of callbacks
_NUMBERS, _SCALARS, _TENSOR, _ITEMS = "numbers of a list", "NumPy's numbers of a list", "a tensor", "keys and values"


def model_description(described: dict[str, Any]) -> dict[str, Any]:
    """
    Translate the description of a model.

    :param described: Of version 1
    :return: As of version 2, without weights
    """
    return {**described, "settings": _value(described["settings"])}


def checkpoint_state(described: dict[str, Any]) -> dict[str, Any]:
    """
    Translate the JSON of a checkpoint.

    :param described: Of version 2
    :return: As of version 3
    :raises UnsafeFileError: If its weights are none
    """
    return {
        "settings": _value(described["settings"]),
        "state": _run_state(_value(described["state"])),
        "callbacks": [_callback(callback) for callback in described["callbacks"]],
        "parameters": _weights(described["weights"]),
    }


def parts_of_run(state: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """
    Find the states of parts, which had other names and places.

    :param state: The decoded state of a run, of any version
    :param settings: The decoded settings of its model
    :return: States of parts by their names of today; empty for a state of today
    """
    if "exploration" in state:
        return {}
    steps_before, episodes_before = settings.get("_began_at", (0, 0))
    until_episode = settings.get("_total_episodes")
    return {
        "exploration": {"rng": state["exploration_rng"], "counts": state["action_counts"]},
        "transitions": state["last_masks"],
        "budget": {
            "steps_before": steps_before,
            "episodes_before": episodes_before,
            "until_steps": settings.get("_total_timesteps", 0) if until_episode is None else sys.maxsize,
            "until_episode": until_episode,
        },
        "goal": None,
    }


def _value(described: Any) -> Any:
    """Translate words of classes, and parts of spaces and schedules, which had no tags."""
    if isinstance(described, list):
        return [_value(item) for item in described]
    if not isinstance(described, dict):
        return described
    translated = {key: _value(item) for key, item in described.items()}
    tag = described.get("$")
    if tag == "class":
        translated["name"] = _word(described.get("name"))
    elif tag == "space":
        _tag_parts_of_space(translated)
    elif tag == "schedule":
        part = translated
        while isinstance(part.get("of"), dict):
            part = part["of"]
            part["$"] = "schedule"
    return translated


def _word(word: Any) -> Any:
    return OLD_WORDS.get(word, word) if isinstance(word, str) else word


def _tag_parts_of_space(space: dict[str, Any]) -> None:
    for name in ("low", "high", "nvec", "start"):
        if isinstance(space.get(name), dict):
            space[name]["$"] = "array"
    for part in space.get("parts", ()):
        part[1]["$"] = "space"
        _tag_parts_of_space(part[1])


def _run_state(state: dict[str, Any]) -> dict[str, Any]:
    numpy = state["generators"]["numpy"]
    if "rest" in numpy:
        position, has_gauss, gauss = numpy["rest"]
        numpy = {
            "bit_generator": numpy["name"],
            "state": {"key": numpy["words"], "pos": position},
            "has_gauss": has_gauss,
            "gauss": gauss,
        }
    return {**state, "generators": {**state["generators"], "numpy": numpy}}


def _callback(callback: dict[str, Any]) -> dict[str, Any]:
    state = _unpacked(_value(callback["state"]))
    own = state.get("own")
    if isinstance(own, dict) and isinstance(own.get("results"), list):
        own["results"] = [_result(result) for result in own["results"]]
    return {**callback, "class": _word(callback["class"]), "state": state}


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, content),) = value.items()
        if key == _NUMBERS:
            return {**content, "$": "numbers"}
        if key == _SCALARS:
            return {**content, "$": "scalars"}
        if key == _TENSOR:
            return {**content, "$": "tensor", "dtype": np.dtype(str(content["dtype"])).name}
        if key == _ITEMS:
            keys, values = map(_unpacked, content)
            return {"$": "dict", "keys": keys, "values": values}
    return {key: _unpacked(item) for key, item in value.items()}


def _result(result: Any) -> Any:
    """Name the figures of a test."""
    if not isinstance(result, list) or (len(result) == 2 and isinstance(result[1], dict)):
        return result
    episode, *figures = result
    return [episode, dict(zip(_FIGURES, figures, strict=True))]


def _weights(tree: Any) -> Any:
    """Translate a tree of weights, which had lists that began with their kind."""
    if isinstance(tree, dict):
        raise UnsafeFileError("there is an object in the tree of the weights")
    if not isinstance(tree, list):
        return tree
    kind, *parts = tree
    if kind == "tensor":
        dtype, shape = parts
        return {"$": "tensor", "dtype": str(dtype).removeprefix("torch."), "shape": shape}
    (items,) = parts
    if kind == "dict":
        return {"$": "dict", "keys": [key for key, _ in items], "values": [_weights(item) for _, item in items]}
    if kind not in ("list", "tuple"):
        raise UnsafeFileError(f"{shown(repr(kind))} is no part of weights")
    branches = [_weights(item) for item in items]
    return branches if kind == "list" else {"$": "tuple", "items": branches}
