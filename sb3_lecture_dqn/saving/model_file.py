"""Files of models."""

import contextlib
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_lecture_dqn.common.checks import UnsafeFileError, check_finite, shown
from sb3_lecture_dqn.saving import version_1
from sb3_lecture_dqn.saving.archive import opened_archive, read_members
from sb3_lecture_dqn.saving.codec import CodeInFileError, decode, encode
from sb3_lecture_dqn.saving.files import (
    DESCRIPTION,
    Path,
    check_is_no_other,
    checked_json,
    parse_json,
    read_json_member,
    reading,
)
from sb3_lecture_dqn.saving.torch_file import read_tensors
from sb3_lecture_dqn.saving.weights import describe_weights, read_weights, with_tensors

#: Versions of descriptions that can be read, the one that is written last
DESCRIPTION_VERSIONS = (1, 2)
#: Attributes that `_setup_model` makes anew, whatever is in a file
DERIVED = {"lr_schedule", "exploration_schedule", "batch_norm_stats", "batch_norm_stats_target"}

# Kinds of settings that SB3's checks rely on. Without the first four no model can be made.
_KINDS = {
    "policy_class": type,
    "policy_kwargs": dict,
    "observation_space": spaces.Space,
    "action_space": spaces.Space,
    "replay_buffer_kwargs": dict,
    "verbose": int,
}

_NECESSARY = set(list(_KINDS)[:4])

# Each file of a DQN or QR-DQN has some of these, whatever `save` was told to leave out; no other file has any.
_DQN_SETTINGS = {"exploration_initial_eps", "exploration_final_eps", "exploration_fraction", "target_update_interval"}

_NOT_DESCRIBED = (
    f"it has no {DESCRIPTION!r}. It may be a file of stock Stable-Baselines3, whose settings are pickles, which can "
    "run anything: say load(..., trust=True) if you trust its origin"
)

# Members of a model's file besides weights, and most members of a file
_MEMBERS, _MAX_MEMBERS = {"data", "_stable_baselines3_version", "system_info.txt", DESCRIPTION}, 32

# Largest sizes that a file may ask for: some take so much memory at once, others during training
_MAX_SIZES = {"buffer_size": 10**10, "batch_size": 2**24, "n_steps": 2**16}

_MAX_INFOS = 2**22  # `HerReplayBuffer` makes a dictionary for each at once


def add_description(file: IO[bytes], algorithm: str, attributes: Mapping[str, Any], names: Mapping[str, type]) -> None:
    """
    Add the description to a file that SB3 has written.

    :param file: The file, to be read and written
    :param algorithm: What SB3 or sb3-contrib calls the algorithm
    :param attributes: Attributes of the model; only those that SB3 has saved are described
    :param names: Names of policies
    :raises ValueError: If :func:`read_model` could not read it
    """
    policy = attributes["policy"]
    states = {"policy": policy.state_dict(), "policy.optimizer": policy.optimizer.state_dict()}
    with zipfile.ZipFile(file) as archive:
        written = read_members(archive)
    members = dict(written)
    saved = json.loads(members["data"]).keys() - DERIVED
    settings = {name: encode(attributes[name], names) for name in sorted(saved)}
    try:
        check_finite(states)
        with contextlib.suppress(CodeInFileError):
            decode(settings, names)
        weights = {name: _describe_member(members, f"{name}.pth", state) for name, state in states.items()}
        description = {
            "version": DESCRIPTION_VERSIONS[-1],
            "algorithm": algorithm,
            "settings": settings,
            "weights": weights,
            "members": {name: _checksum(content) for name, content in members.items()},
        }
        described = json.dumps(description, indent=1, allow_nan=False).encode()
        for text in (members["data"], described):
            parse_json(text)
    except UnsafeFileError as error:
        raise ValueError(f"the model is not saved, because it could not be loaded: {error}") from error
    new = {DESCRIPTION: described}
    if any(members[name] is not content for name, content in written.items()):
        new = {**members, **new}
        file.seek(0)
        file.truncate()
    with zipfile.ZipFile(file, "a") as archive:
        for name, content in new.items():
            archive.writestr(name, content)


def _describe_member(members: dict[str, bytes], name: str, state: Any) -> Any:
    """Describe the weights that SB3 has written; write them anew where only a pickle could say which they are."""
    try:
        return describe_weights(members[name])
    except UnsafeFileError:  # tensors that share numbers or are strided, or options that are numbers of NumPy
        content = io.BytesIO()
        th.save(with_tensors(state, _copied), content)
        members[name] = content.getvalue()
        return describe_weights(members[name])


def _copied(tensor: th.Tensor) -> th.Tensor:
    return tensor.detach().clone(memory_format=th.contiguous_format)


def _checksum(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_model(
    path: Path,
    name: str,
    algorithm: str,
    stock: str,
    names: Mapping[str, type],
    custom_objects: dict[str, Any] | None,
    print_system_info: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Read a model's file without unpickling.

    :param path: The file, with or without ``.zip``, or an open file
    :param name: Name of the model in messages
    :param algorithm: The word for the algorithm that it has to be of
    :param stock: What SB3 or sb3-contrib calls the algorithm that this one extends
    :param names: Names of policies
    :param custom_objects: Replacements of entries of the file
    :param print_system_info: Whether to print where the file was written
    :return: Settings by name, and state dictionaries by name
    :raises UnsafeFileError: If the file is damaged, no such model, or has entries that are code
    """
    if custom_objects is not None and not isinstance(custom_objects, dict):
        raise ValueError(f"custom_objects={custom_objects!r} must be a dictionary or None")
    with reading(path, "zip", f"{name} model") as (file, size):
        members = _model_members(file, size, name)
        _check_algorithm(members, stock)
        if print_system_info:
            print("== SAVED MODEL SYSTEM INFO ==")
            for line in members.get("system_info.txt", b"").decode().splitlines()[:100]:
                print(shown(line, 300))
        if DESCRIPTION not in members:
            raise UnsafeFileError(_NOT_DESCRIBED)
        described = _description_of(members)
        if described["algorithm"] != algorithm:
            found = shown(described["algorithm"])
            raise UnsafeFileError(f"its settings are those of a {found}, not of a {algorithm}")
        settings = decoded_settings(described["settings"], names, custom_objects or {})
        return settings, _state_dicts(members, described["version"], described.get("weights"))


def read_parameters(path: Path) -> dict[str, Any]:
    """
    Read the weights of a model's file, also of one that stock SB3 has written.

    :param path: The file, with or without ``.zip``, or an open file
    :return: State dictionaries by name
    :raises UnsafeFileError: If the file is damaged, or its weights are not only weights
    """
    with reading(path, "zip", "model's weights") as (file, size):
        members = _model_members(file, size)
        described = _description_of(members) if DESCRIPTION in members else {}
        return _state_dicts(members, described.get("version"), described.get("weights"))


class ModelSummary(NamedTuple):
    """
    A few settings of a model's file, read without making the model.

    :param algorithm: What SB3 or sb3-contrib calls the algorithm
    :param env_id: Id of its environment; ``None`` if it has none or the id imports a module
    :param max_episode_steps: Its step limit, ``None`` for the registered one
    """

    algorithm: str
    env_id: str | None
    max_episode_steps: int | None = None


def read_summary(path: Path) -> ModelSummary:
    """
    Read the summary of a model's file.

    :param path: The file, with or without ``.zip``, or an open file
    :return: The summary; the rest of the file is not checked
    :raises UnsafeFileError: If the file is damaged or no model of this package
    """
    what = "LectureDQN or LectureQRDQN model"
    with reading(path, "zip", what) as (file, size), opened_archive(file, size, _MAX_MEMBERS) as archive:
        check_is_no_other(archive, DESCRIPTION)
        if DESCRIPTION not in archive.namelist():
            raise UnsafeFileError(_NOT_DESCRIBED)
        described = read_json_member(archive, DESCRIPTION, DESCRIPTION_VERSIONS)
        algorithm, env_id = described["algorithm"], described["settings"].get("env_id")
        if not isinstance(algorithm, str):
            raise UnsafeFileError(f"its algorithm is {shown(repr(algorithm))}")
        limit = described["settings"].get("max_episode_steps")
        return ModelSummary(
            algorithm,
            env_id if isinstance(env_id, str) and ":" not in env_id else None,
            limit if type(limit) is int and 0 < limit <= 10**6 else None,
        )


def check_is_model(path: Path, name: str, stock: str) -> None:
    """
    Check that a file is a model of the algorithm, before anything in it is unpickled.

    :param path: The file, with or without ``.zip``, or an open file, which is left at its start
    :param name: Name of the model in messages
    :param stock: As for :func:`read_model`
    :raises UnsafeFileError: If it is no zip file with the settings and the weights of such a model
    """
    with reading(path, "zip", f"{name} model") as (file, _), zipfile.ZipFile(file) as archive:
        check_is_no_other(archive, DESCRIPTION, name)
        _check_algorithm({name: archive.read(name) if name == "data" else b"" for name in archive.namelist()}, stock)


def own_settings(path: Path) -> dict[str, Any] | None:
    """
    Read the settings whose values for this package differ from those that the file has for stock SB3.

    :param path: The file, with or without ``.zip``, or an open file, which is left at its start
    :return: Values by name, see :data:`OTHERWISE_IN_STOCK`; ``None`` for a file that stock SB3 has written
    """
    with reading(path, "zip", "model") as (file, _), zipfile.ZipFile(file) as archive:
        if DESCRIPTION not in archive.namelist():
            return None
        settings = read_json_member(archive, DESCRIPTION, DESCRIPTION_VERSIONS)["settings"]
        own = {name: decode(settings[name], {}) for name in OTHERWISE_IN_STOCK if name in settings}
        return {**own, "_version_1_memory": settings.get("_version_1_memory") is not False}  # 1.0 did not write it


#: Settings of which stock SB3 and sb3-contrib know only some values
OTHERWISE_IN_STOCK = ("target_update_interval", "max_grad_norm")


def _check_algorithm(members: Mapping[str, bytes], stock: str) -> None:
    if missing := {"data", "policy.pth"} - members.keys():
        raise UnsafeFileError(f"it has no member {', '.join(map(repr, sorted(missing)))}")
    settings = parse_json(members["data"])
    if not isinstance(settings, dict) or not settings.keys() & _DQN_SETTINGS:
        raise UnsafeFileError("its settings are not those of a DQN")
    found = "QRDQN" if "n_quantiles" in settings else "DQN"
    if found != stock:
        titles = {"DQN": "DQN", "QRDQN": "QR-DQN"}
        raise UnsafeFileError(f"its settings are those of a {titles[found]}, not of a {titles[stock]}")


def _model_members(file: IO[bytes], size: int, name: str = "LectureDQN") -> dict[str, bytes]:
    with opened_archive(file, size, _MAX_MEMBERS) as archive:
        check_is_no_other(archive, DESCRIPTION, name)
        names = archive.namelist()
        if others := [name for name in names if name not in _MEMBERS and ("/" in name or not name.endswith(".pth"))]:
            raise UnsafeFileError(f"it has the members {', '.join(shown(repr(name)) for name in others[:10])} besides")
        return read_members(archive)


def _description_of(members: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the description of the newest version, when all members are those that were saved."""
    described = checked_json(members[DESCRIPTION], DESCRIPTION_VERSIONS)
    others = {name: _checksum(content) for name, content in members.items() if name != DESCRIPTION}
    declared = described["members"]
    if wrong := sorted(name for name in others.keys() | declared.keys() if others.get(name) != declared.get(name)):
        names = ", ".join(shown(repr(name)) for name in wrong[:10])
        raise UnsafeFileError(f"its members {names} are not those that were saved")
    return version_1.model_description(described) if described["version"] == 1 else described


def decoded_settings(
    settings: dict[str, Any], names: Mapping[str, type], custom_objects: Mapping[str, Any], **how: Any
) -> dict[str, Any]:
    """
    Decode the settings of a model.

    :param settings: JSON by name
    :param names: Names of policies
    :param custom_objects: Replacements of settings, and of code in settings
    :param how: Keywords of :func:`decode`
    :return: Values by name
    :raises UnsafeFileError: If they are not the settings of a model, or code without a replacement
    """
    if missing := _NECESSARY - settings.keys():
        raise UnsafeFileError(f"its settings have no {', '.join(sorted(missing))}")
    if "lr_schedule" in custom_objects and "learning_rate" not in custom_objects:  # as SB3's documentation has it
        custom_objects = {**custom_objects, "learning_rate": custom_objects["lr_schedule"]}
    own = {name: value for name, value in settings.items() if name not in custom_objects}
    if isinstance(env_id := own.get("env_id"), str) and ":" in env_id:
        own["env_id"] = encode(_ImportingId, {})  # gymnasium imports what stands before the colon
    inner = {name: value for name, value in custom_objects.items() if name not in settings}
    restored = decode(own, names, inner, **how)
    for name, kind in _KINDS.items():
        if name in restored and not isinstance(restored[name], kind):
            raise UnsafeFileError(f"{name}={shown(repr(restored[name]))} is no {kind.__name__}")
    _check_sizes(restored, custom_objects)
    return {**restored, **{name: value for name, value in custom_objects.items() if name in settings}}


def _check_sizes(restored: dict[str, Any], custom_objects: Mapping[str, Any]) -> None:
    """Check the sizes that a file asks for, before memory is taken."""
    memory = restored.get("replay_buffer_kwargs", {})
    largest = dict(_MAX_SIZES)
    if {**restored, **custom_objects}.get("replay_buffer_class") is HerReplayBuffer:
        largest["buffer_size"] = _MAX_INFOS
    sizes = {name: ("", restored.get(name), most) for name, most in largest.items()}
    for name, most in {"success_capacity": largest["buffer_size"], "n_steps": largest["n_steps"]}.items():
        if name in memory and memory[name] != math.inf:  # takes no memory before there are transitions
            sizes[name] = ("replay_buffer_kwargs", memory[name], most)
    for name, (inside, value, most) in sizes.items():
        if isinstance(value, int | float | np.number) and value > most:
            raise UnsafeFileError(
                f"{name}={shown(value)}, and a file may ask for {most} at most. If you want that many, give it, "
                f"custom_objects={{{inside or name!r}: ...}}"
            )


class _ImportingId:
    """An environment id such as ``"package:Name-v0"``, for which gymnasium imports a package."""


def _state_dicts(members: Mapping[str, bytes], version: int | None, weights: Any) -> dict[str, Any]:
    """
    Read the weights among the members of an archive.

    :param members: Content by name
    :param version: Version of the description. In files of version 1, and in files of stock SB3, which have none, the
        weights are in pickles
    :param weights: The description's part about weights
    :return: State dictionaries by name
    :raises UnsafeFileError: If there is anything else among them, or numbers are not finite
    """
    files = {name.removesuffix(".pth"): content for name, content in members.items() if name.endswith(".pth")}
    files.pop("pytorch_variables", None)  # SB3 always writes it, and a DQN has none
    are_pickled = version in (None, 1)
    if not are_pickled and weights.keys() != files.keys():
        raise UnsafeFileError(f"its weights are those of {shown(sorted(weights))}, and it has {shown(sorted(files))}")
    parameters = {}
    for name, content in files.items():
        try:
            parameters[name] = read_tensors(content) if are_pickled else read_weights(content, weights[name])
            check_finite(parameters[name])
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{shown(name)}.pth: {error}") from error
    return parameters
