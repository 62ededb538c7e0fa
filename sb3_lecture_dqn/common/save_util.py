"""
Files of models and memories: written whole or not at all, read without running anything that they say.

A model's file is SB3's zip archive with one member more, :data:`DESCRIPTION`, which says as data what SB3's member
``data`` says as pickles. A model is made anew from it and from the weights, which :func:`read_tensors` reads. A file
of a memory is one of ``numpy.savez`` with the member :data:`MEMORY` besides.
"""

import ast
import contextlib
import copy
import errno
import functools
import hashlib
import io
import json
import math
import os
import pathlib
import pickle
import secrets
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import open_path
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from torch.utils._python_dispatch import TorchDispatchMode

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer, copy_rows
from sb3_lecture_dqn.common.checks import UnsafeFileError, check_stored, shown
from sb3_lecture_dqn.common.description import CodeInFileError, Place, check_declared, describe, path_of, restore
from sb3_lecture_dqn.common.seeding import generator_state
from sb3_lecture_dqn.common.tensor_file import DAMAGED, opened_archive, read_members, read_tensors

Path = str | pathlib.Path | io.BufferedIOBase

#: The member of a model's file that :func:`read_model` reads, and the layout of what it holds
DESCRIPTION, DESCRIPTION_VERSION = "sb3_lecture_dqn.json", 1
#: The same of a memory's file
MEMORY, MEMORY_VERSION = "sb3_lecture_dqn_memory.json", 1
#: The member that a checkpoint has, and no other file
MANIFEST = "manifest.json"
#: Largest description in bytes, and most entries that it may have: each takes far more memory than it has letters
MAX_DESCRIPTION, MAX_ENTRIES = 2**26, 2**20
#: Most bytes of an array's header besides the names of its fields
_MAX_HEADER = 2**16

#: Attributes that `_setup_model` makes anew, whatever a file says
DERIVED = {"lr_schedule", "exploration_schedule", "batch_norm_stats", "batch_norm_stats_target"}
# What SB3's environment checks rely on. Without the first four there is no model to make.
_KINDS = {
    "policy_class": type,
    "policy_kwargs": dict,
    "observation_space": spaces.Space,
    "action_space": spaces.Space,
    "replay_buffer_kwargs": dict,
    "verbose": int,
}
_NECESSARY = set(list(_KINDS)[:4])
# Some of these are in the file of a DQN or QR-DQN, whatever `save` was told to leave out, and in that of no other.
_DQN_SETTINGS = {"exploration_initial_eps", "exploration_final_eps", "exploration_fraction", "target_update_interval"}
_NOT_DESCRIBED = (
    f"it has no {DESCRIPTION!r}, as files of stock Stable-Baselines3 have none. What it says otherwise are pickles, "
    "which can run anything: say load(..., trust=True) if you trust where it comes from"
)
# What a file is that was given to the wrong method, by the member that tells.
_OTHER_FILES = {
    MANIFEST: "it is a checkpoint of a training run, and what goes on with it is {algorithm}.resume(path)",
    DESCRIPTION: "it is a model, which {algorithm}.load(path) loads",
    MEMORY: "it is a replay memory, which model.load_replay_buffer(path) loads",
}
# Members of a model's file besides weights, and most members of one.
_MEMBERS, _MAX_MEMBERS = {"data", "_stable_baselines3_version", "system_info.txt", DESCRIPTION}, 32
# Largest sizes that a file may ask for: some take that much memory at once, others while training goes on.
_MAX_SIZES = {"buffer_size": 10**10, "batch_size": 2**24, "n_steps": 2**16}
_MAX_INFOS = 2**22  # of `HerReplayBuffer`, which makes a dictionary for each at once
_SB3_BUFFERS = (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer)


@contextlib.contextmanager
def written_whole(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    """
    Open a file that appears under its name only when all of it is on the disk.

    It is written beside its place, flushed to the disk, and renamed; then the folder is flushed. Whatever happens in
    between, there is the old file or the new one under the name. Names are as SB3 makes them.

    :param path: Where to write; folders are made, ``suffix`` is added to a name without one, and a folder's name gets
        ``_2``. Or an open file, to which all is written at the end
    :param suffix: Without its dot
    :return: Binary file, to be read and written
    """
    if not isinstance(path, str | pathlib.Path):
        given = open_path(path, "w", suffix=suffix)
        content = io.BytesIO()
        yield content
        given.write(content.getbuffer())
        return
    target = _target(pathlib.Path(path), suffix)
    if target.exists() and not target.is_file():  # a device or a pipe, which has to stay one
        with target.open("w+b") as file:
            yield file
        return
    # The system allows for names of so many bytes, which those of files may have to the last one.
    beside = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.tmp")
    if target.exists():
        target.open("r+b").close()  # one that is protected against writing stays as it is
    try:
        with beside.open("x+b") as file:
            if target.exists():
                beside.chmod(target.stat().st_mode & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_folder(target.parent)


def flush_folder(folder: pathlib.Path) -> None:
    """
    Have a folder's names on the disk, where the system can do that.

    :param folder: The folder.
    """
    with contextlib.suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _target(path: pathlib.Path, suffix: str) -> pathlib.Path:
    if path.suffix == "":
        path = pathlib.Path(f"{path}.{suffix}")
    if path.is_dir():
        warnings.warn(f"Path '{path}' is a folder. Will save instead to {path}_2")
        path = pathlib.Path(f"{path}_2")
    if not path.parent.exists():
        warnings.warn(f"Path '{path.parent}' does not exist. Will create it.")
        path.parent.mkdir(exist_ok=True, parents=True)
    return path.resolve() if path.is_symlink() else path  # so that a symbolic link stays one


@contextlib.contextmanager
def reading(path: Path, suffix: str, what: str) -> Iterator[tuple[IO[bytes], int]]:
    """
    Open a file, and have whatever is wrong with it named.

    :param path: The file, with or without its suffix, or an open one, which is left at its start
    :param suffix: Without its dot
    :param what: What it is to hold, for messages
    :return: Binary file and its length in bytes
    :raises UnsafeFileError: If anything in it is not as it has to be
    :raises FileNotFoundError: If there is none
    """
    if isinstance(path, str | pathlib.Path) and not any(map(os.path.exists, (path, f"{path}.{suffix}"))):
        # SB3 would name one that was given with its suffix with two.
        name = f"{str(path).removesuffix(f'.{suffix}')}.{suffix}"
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    file = open_path(path, "r", verbose=0, suffix=suffix)
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        yield file, size
    except CodeInFileError as error:
        raise CodeInFileError(f"path={str(path)!r} holds a {what}, and not all of it is data: {error}") from None
    except UnsafeFileError as error:
        raise UnsafeFileError(f"path={str(path)!r} holds no {what}: {error}") from None
    except DAMAGED as error:  # which is not shown besides: it may have text of the file in it
        raise UnsafeFileError(f"path={str(path)!r} holds no {what}, or it is damaged: {error!r}") from None
    finally:
        if file is path:
            file.seek(0)
        else:
            file.close()


def add_description(file: IO[bytes], algorithm: str, attributes: Mapping[str, Any], names: Mapping[str, type]) -> None:
    """
    Add the description to a file that SB3 has written.

    :param file: The file, to be read and written
    :param algorithm: What SB3 or sb3-contrib calls the algorithm
    :param attributes: Those of the model; only what SB3 has saved is described
    :param names: Names of policies
    :raises ValueError: If weights are not finite, or the settings are more than :func:`read_model` reads
    """
    policy = attributes["policy"]
    _write_plain_options(file, policy.optimizer.state_dict())
    with zipfile.ZipFile(file, "a") as archive:
        data = archive.read("data")
        saved = json.loads(data).keys() - DERIVED
        settings = {name: describe(attributes[name], names) for name in sorted(saved)}
        description = {
            "version": DESCRIPTION_VERSION,
            "algorithm": algorithm,
            "settings": settings,
            "members": {name: _checksum(archive.read(name)) for name in archive.namelist()},
        }
        content = json.dumps(description, indent=1, allow_nan=False).encode()
        try:
            check_finite({"policy": policy.state_dict(), "policy.optimizer": policy.optimizer.state_dict()})
            check_declared(settings)
            for text in (data, content):
                parse_json(text)
        except UnsafeFileError as error:
            raise ValueError(f"the model is not saved, because it could not be loaded: {error}") from error
        archive.writestr(DESCRIPTION, content)


def _write_plain_options(file: IO[bytes], state: dict[str, Any]) -> None:
    """Write the optimizer's state anew if SB3 has written numbers of NumPy among its options: to a reader, code."""
    groups = state["param_groups"]
    if b"numpy" not in pickle.dumps(groups):
        return
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO()
    th.save({**state, "param_groups": _plain(groups)}, content)
    members["policy.optimizer.pth"] = content.getvalue()
    file.seek(0)
    file.truncate()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _checksum(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_model(
    path: Path,
    name: str,
    algorithm: str,
    names: Mapping[str, type],
    custom_objects: dict[str, Any] | None,
    print_system_info: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Read a model's file without unpickling.

    :param path: The file, with or without ``.zip``, or an open one
    :param name: What messages call the model
    :param algorithm: What SB3 or sb3-contrib calls the algorithm that it has to be of
    :param names: Names of policies
    :param custom_objects: What takes the place of entries of the file
    :param print_system_info: Whether to print where the file was written
    :return: Settings by name, and state dictionaries by name
    :raises UnsafeFileError: If the file is damaged, of something else, or has entries that are code
    """
    if custom_objects is not None and not isinstance(custom_objects, dict):
        raise ValueError("custom_objects argument must be a dict or None")
    with reading(path, "zip", f"{name} model") as (file, size):
        members = _model_members(file, size, name)
        _check_algorithm(members, algorithm)
        if print_system_info:
            print("== SAVED MODEL SYSTEM INFO ==")
            for line in members.get("system_info.txt", b"").decode().splitlines()[:100]:
                print(shown(line, 300))
        settings = _read_settings(members, algorithm, names, custom_objects or {})
        return settings, state_dicts(members)


def read_parameters(path: Path) -> dict[str, Any]:
    """
    Read the weights of a model's file, also of one that stock SB3 has written.

    :param path: The file, with or without ``.zip``, or an open one
    :return: State dictionaries by name
    :raises UnsafeFileError: If the file is damaged, or has anything else among its weights
    """
    with reading(path, "zip", "model's weights") as (file, size):
        return state_dicts(_model_members(file, size))


class ModelSummary(NamedTuple):
    """
    What a model's file says of itself, before the model is made.

    :param algorithm: What SB3 or sb3-contrib calls the algorithm
    :param env_id: Id of the environment it was trained on, ``None`` where it had none or one that imports a module
    :param max_episode_steps: Its step limit, ``None`` for the registered one
    """

    algorithm: str
    env_id: str | None
    max_episode_steps: int | None = None


def read_summary(path: Path) -> ModelSummary:
    """
    Read what a model's file is of, but neither its settings nor its weights.

    :param path: The file, with or without ``.zip``, or an open one
    :return: The summary. That the rest of the file is whole is not checked
    :raises UnsafeFileError: If the file is damaged, or no model of this package
    """
    what = "LectureDQN or LectureQRDQN model"
    with reading(path, "zip", what) as (file, size), opened_archive(file, size, _MAX_MEMBERS) as archive:
        check_is_no_other(archive, DESCRIPTION)
        if DESCRIPTION not in archive.namelist():
            raise UnsafeFileError(_NOT_DESCRIBED)
        described = _read_json_member(archive, DESCRIPTION, DESCRIPTION_VERSION)
        algorithm, env_id = described["algorithm"], described["settings"].get("env_id")
        if not isinstance(algorithm, str):
            raise UnsafeFileError(f"its algorithm is {shown(repr(algorithm))}")
        limit = described["settings"].get("max_episode_steps")
        return ModelSummary(
            algorithm,
            env_id if isinstance(env_id, str) and ":" not in env_id else None,
            limit if type(limit) is int and 0 < limit <= 10**6 else None,
        )


def check_is_model(path: Path, name: str, algorithm: str) -> None:
    """
    Check that a file is one of a DQN's, before anything in it is unpickled.

    :param path: The file, with or without ``.zip``, or an open one, which is left at its start
    :param name: What messages call the model
    :param algorithm: As for :func:`read_model`
    :raises UnsafeFileError: If it is not a zip file, or one without the settings and the weights of such a DQN
    """
    with reading(path, "zip", f"{name} model") as (file, _), zipfile.ZipFile(file) as archive:
        check_is_no_other(archive, DESCRIPTION, name)
        _check_algorithm(
            {name: archive.read(name) if name == "data" else b"" for name in archive.namelist()}, algorithm
        )


def own_settings(path: Path) -> dict[str, Any] | None:
    """
    Read the settings for which a model's file has other values for stock SB3 than for this package.

    :param path: The file, with or without ``.zip``, or an open one, which is left at its start
    :return: Values by name, see :data:`OTHERWISE_IN_STOCK`; ``None`` for a file that stock SB3 has written
    """
    with reading(path, "zip", "model") as (file, _), zipfile.ZipFile(file) as archive:
        if DESCRIPTION not in archive.namelist():
            return None
        settings = _read_json_member(archive, DESCRIPTION, DESCRIPTION_VERSION)["settings"]
        own = {name: restore(settings[name], {}) for name in OTHERWISE_IN_STOCK if name in settings}
        return {**own, "_version_1_memory": settings.get("_version_1_memory") is not False}  # which 1.0 did not write


#: Settings that stock SB3 and sb3-contrib know too, and not all values of
OTHERWISE_IN_STOCK = ("target_update_interval", "max_grad_norm")


def memory_file(path: Path, buffer: Any) -> Path:
    """
    Find a memory's file under the name that it was saved by, which gets another suffix if the memory is pickled.

    :param path: The name, with or without a suffix, or an open file
    :param buffer: The memory that is to take its content
    :return: The file, or the name as it was given where there is none
    """
    if not isinstance(path, str | pathlib.Path) or pathlib.Path(path).is_file():
        return path
    suffixes = ("npz", "pkl") if is_described_memory(buffer) else ("pkl", "npz")
    files = [pathlib.Path(f"{path}.{suffix}") for suffix in suffixes]
    return next((file for file in files if file.is_file()), path)


def is_archive(path: Path) -> bool:
    """
    Look whether a memory's file is one of arrays.

    :param path: The file, with or without ``.npz``, or an open one, which is left at its start
    :return: ``False`` for a pickle
    """
    if isinstance(path, str | pathlib.Path) and not any(map(os.path.exists, (path, f"{path}.npz"))):
        return False
    with reading(path, "npz", "memory") as (file, _):
        return zipfile.is_zipfile(file)


def _check_algorithm(members: Mapping[str, bytes], algorithm: str) -> None:
    if missing := {"data", "policy.pth"} - members.keys():
        raise UnsafeFileError(f"it has no member {', '.join(map(repr, sorted(missing)))}")
    settings = parse_json(members["data"])
    if not isinstance(settings, dict) or not settings.keys() & _DQN_SETTINGS:
        raise UnsafeFileError("its settings are not those of a DQN")
    found = "QRDQN" if "n_quantiles" in settings else "DQN"
    if found != algorithm:
        titles = {"DQN": "DQN", "QRDQN": "QR-DQN"}
        raise UnsafeFileError(f"its settings are those of a {titles[found]}, not of a {titles[algorithm]}")


def _model_members(file: IO[bytes], size: int, name: str = "LectureDQN") -> dict[str, bytes]:
    with opened_archive(file, size, _MAX_MEMBERS) as archive:
        check_is_no_other(archive, DESCRIPTION, name)
        names = archive.namelist()
        if others := [name for name in names if name not in _MEMBERS and ("/" in name or not name.endswith(".pth"))]:
            raise UnsafeFileError(f"it has the members {', '.join(shown(repr(name)) for name in others[:10])} besides")
        return read_members(archive)


def check_is_no_other(archive: zipfile.ZipFile, own: str, algorithm: str = "LectureDQN") -> None:
    """
    Check that an archive is not one of this package's that something else loads.

    :param archive: The archive
    :param own: The member that tells which kind it has to be
    :param algorithm: Name of the class that loads it
    :raises UnsafeFileError: If it is of another kind; the message says of which, and what loads it
    """
    names = archive.namelist()
    for member, message in _OTHER_FILES.items():
        if member in names and own not in names:
            raise UnsafeFileError(f"it has no {own!r}: {message.format(algorithm=algorithm)}")


def _read_settings(
    members: Mapping[str, bytes], algorithm: str, names: Mapping[str, type], custom_objects: Mapping[str, Any]
) -> dict[str, Any]:
    if DESCRIPTION not in members:
        raise UnsafeFileError(_NOT_DESCRIBED)
    described = _read_json(members[DESCRIPTION], DESCRIPTION_VERSION)
    others = {name: _checksum(content) for name, content in members.items() if name != DESCRIPTION}
    declared = described["members"]
    if wrong := sorted(name for name in others.keys() | declared.keys() if others.get(name) != declared.get(name)):
        names_ = ", ".join(shown(repr(name)) for name in wrong[:10])
        raise UnsafeFileError(f"its members {names_} are not those that were saved")
    if described["algorithm"] != algorithm:
        raise UnsafeFileError(f"its settings are those of a {shown(described['algorithm'])}, not of a {algorithm}")
    return restored_settings(described["settings"], names, custom_objects)


def restored_settings(
    settings: dict[str, Any], names: Mapping[str, type], custom_objects: Mapping[str, Any], **how: Any
) -> dict[str, Any]:
    """
    Make the attributes of a model from their description.

    :param settings: Descriptions by name
    :param names: Names of policies
    :param custom_objects: What takes the place of some of them, and of code in others
    :param how: Keywords of :func:`restore`
    :return: Values by name
    :raises UnsafeFileError: If they are not those of a model, or code that is not among ``custom_objects``
    """
    if missing := _NECESSARY - settings.keys():
        raise UnsafeFileError(f"its settings have no {', '.join(sorted(missing))}")
    if "lr_schedule" in custom_objects and "learning_rate" not in custom_objects:  # as SB3's documentation has it
        custom_objects = {**custom_objects, "learning_rate": custom_objects["lr_schedule"]}
    own = {name: value for name, value in settings.items() if name not in custom_objects}
    if isinstance(env_id := own.get("env_id"), str) and ":" in env_id:
        own["env_id"] = describe(_ImportingId, {})  # gymnasium imports what stands before the colon
    inner = {name: value for name, value in custom_objects.items() if name not in settings}
    restored = restore(own, names, inner, **how)
    for name, kind in _KINDS.items():
        if name in restored and not isinstance(restored[name], kind):
            raise UnsafeFileError(f"{name}={shown(repr(restored[name]))} is no {kind.__name__}")
    _check_sizes(restored, custom_objects)
    return {**restored, **{name: value for name, value in custom_objects.items() if name in settings}}


def _check_sizes(restored: dict[str, Any], custom_objects: Mapping[str, Any]) -> None:
    """Check what a file asks for that takes memory, before there is anything of that size."""
    memory = restored.get("replay_buffer_kwargs", {})
    largest = dict(_MAX_SIZES)
    if {**restored, **custom_objects}.get("replay_buffer_class") is HerReplayBuffer:
        largest["buffer_size"] = _MAX_INFOS
    sizes = {name: ("", restored.get(name), most) for name, most in largest.items()}
    for name, most in {"success_capacity": largest["buffer_size"], "n_steps": largest["n_steps"]}.items():
        if name in memory and memory[name] != math.inf:  # which takes no memory before there are transitions
            sizes[name] = ("replay_buffer_kwargs", memory[name], most)
    for name, (inside, value, most) in sizes.items():
        if isinstance(value, int | float | np.number) and value > most:
            raise UnsafeFileError(
                f"{name}={shown(value)}, and a file may ask for {most} at most. If you want that many, give it, "
                f"custom_objects={{{inside or name!r}: ...}}"
            )


class _ImportingId:
    """An environment id such as ``"package:Name-v0"``, which has a package imported."""


def _read_json_member(archive: zipfile.ZipFile, name: str, version: int) -> dict[str, Any]:
    if archive.getinfo(name).file_size > MAX_DESCRIPTION:
        raise UnsafeFileError(f"its member {name!r} is too large")
    return _read_json(archive.read(name), version)


def _read_json(content: bytes, version: int) -> dict[str, Any]:
    described = parse_json(content)
    if not isinstance(described, dict) or described.get("version") != version:
        found = described.get("version") if isinstance(described, dict) else None
        raise UnsafeFileError(
            f"its description is of version {shown(repr(found))}, and this package reads version {version}"
        )
    return described


def parse_json(content: bytes) -> Any:
    """
    Parse JSON that is not too large.

    :param content: UTF-8
    :return: What it says
    :raises UnsafeFileError: If it is larger than a description can be
    """
    if len(content) > MAX_DESCRIPTION:
        raise UnsafeFileError(f"its description has {len(content)} bytes, and {MAX_DESCRIPTION} are the most allowed")
    if sum(content.count(sign) for sign in (b",", b"[", b"{")) > MAX_ENTRIES:
        raise UnsafeFileError(f"its description has more than {MAX_ENTRIES} entries")
    return json.loads(content.decode())


def state_dicts(members: Mapping[str, bytes]) -> dict[str, Any]:
    """
    Read the weights among the members of an archive.

    :param members: Content by name
    :return: State dictionaries by name
    :raises UnsafeFileError: If there is anything else among them, or numbers are not finite
    """
    parameters = {}
    for name in members:
        if name.endswith(".pth"):
            try:
                parameters[name.removesuffix(".pth")] = state = read_tensors(members[name])
                check_finite(state)
            except UnsafeFileError as error:
                raise UnsafeFileError(f"{shown(name)}: {error}") from error
    parameters.pop("pytorch_variables", None)  # SB3 always writes it, and a DQN has none
    return parameters


def check_finite(value: Any) -> None:
    """
    Check weights.

    :param value: Tensors, in containers
    :raises UnsafeFileError: If one has a number that is NaN or infinite; the message says which
    """
    left: list[tuple[Place, Any]] = [(None, value)]
    seen = {id(value)}
    while left:
        at, value = left.pop()
        if isinstance(value, th.Tensor):
            # A finite sum says the same of its parts, several times faster; of large numbers, it need not be finite.
            if value.is_floating_point() and not (math.isfinite(value.sum()) or value.isfinite().all()):
                raise UnsafeFileError(f"{path_of(at)} has weights that are NaN or infinite")
        elif isinstance(value, dict | list | tuple):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if id(item) not in seen:
                    seen.add(id(item))
                    left.append(((at, key), item))


def check_optimizer_state(state: Any, optimizer: th.optim.Optimizer) -> None:
    """
    Check that options and moments fit an optimizer, which PyTorch does not and the compiled loops rely on.

    :param state: Of ``optimizer.state_dict()``
    :param optimizer: The optimizer that is to take it over
    :raises UnsafeFileError: If a moment is no number and no tensor, or has another shape than its parameter, or an
        option is of another kind
    """
    for group, own_group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        if not all(type(number) is int for number in group["params"]):
            raise UnsafeFileError("policy.optimizer: params are not all integers")
        for name in own_group.keys() & group.keys() - {"params"}:
            value = group[name]
            if not _is_option(value, own_group[name]):
                what = repr(value) if isinstance(value, int | float) else type(value).__name__
                raise UnsafeFileError(f"policy.optimizer: {name}={what} is none for it")
    check_moments(state["state"], optimizer, exactly=True)


def check_moments(moments: Any, optimizer: th.optim.Optimizer, *, exactly: bool) -> None:
    """
    Check that moments are of the kind that an optimizer keeps.

    :param moments: Under ``"state"`` in ``optimizer.state_dict()``
    :param optimizer: The optimizer that is to take them over
    :param exactly: Whether they have the dtype of their parameter; otherwise PyTorch rounds floating-point numbers
    :raises UnsafeFileError: If one is no number and no tensor, or has another shape or dtype than its parameter
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for at, entries in moments.items():
        own = parameters[at]
        for name, moment in entries.items():
            is_number, is_tensor = isinstance(moment, int | float), isinstance(moment, th.Tensor)
            if name in _LIKE_PARAMETERS:
                rounded = is_tensor and not exactly and moment.is_floating_point()
                fits = moment is None or (
                    is_tensor and moment.shape == own.shape and (rounded or moment.dtype == own.dtype)
                )
            elif name in _OF_ONE_NUMBER:
                fits = is_number or (is_tensor and moment.dtype == th.float32 and moment.numel() == 1)
            else:
                fits = moment is None or is_number or is_tensor
            if not fits:
                raise UnsafeFileError(f"policy.optimizer: {shown(name)} of parameter {shown(at)} does not fit it")


# Moments of PyTorch's optimizers, and of SB3's, that have the shape of their parameter, and those that are one number
_LIKE_PARAMETERS = {
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "acc_delta"),
    *("sum", "prev", "step_size", "ax"),
}
_OF_ONE_NUMBER = {"step", "mu_product", "eta", "mu"}


def _is_option(value: Any, own: Any) -> bool:
    if isinstance(own, tuple):
        return isinstance(value, tuple) and len(value) == len(own) and all(map(_is_option, value, own))
    if isinstance(own, int | float) and not isinstance(own, bool):
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return bool(value == own)  # a switch


class AllocationLimit(TorchDispatchMode):
    """
    Within this context PyTorch makes only so many numbers: what a file says of a network may cost no more than it has.

    :param n_numbers: Most numbers of all new tensors together
    """

    #: What a tensor counts for however small it is: with its module, it takes thousands of bytes. What small ones count
    #: for more than they have is limited by itself, whatever the file has
    LEAST, MAX_SMALL = 2**10, 2**23

    def __init__(self, n_numbers: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left, self.left_for_small = n_numbers, self.MAX_SMALL

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what a call makes; before it is made, where the first argument is a size."""
        arguments = func._schema.arguments
        by_size = bool(arguments) and arguments[0].name == "size" and bool(args)
        if by_size:
            self._count(args[0])
        made = func(*args, **(kwargs or {}))
        if not by_size:
            results = made if isinstance(made, list | tuple) else (made,)
            for result, declared in zip(results, func._schema.returns, strict=False):
                if isinstance(result, th.Tensor) and declared.alias_info is None:  # such as a copy, and no view
                    self._count(result.shape)
        return made

    def _count(self, size: Any) -> None:
        n = math.prod(size)
        self.left -= n
        self.left_for_small -= max(self.LEAST - n, 0)
        if min(self.left, self.left_for_small) < 0:
            raise UnsafeFileError(f"a tensor of shape {tuple(size)} is declared, for which there are no weights")


def n_numbers(parameters: Mapping[str, Any]) -> int:
    """
    Count the weights of a file.

    :param parameters: See :func:`read_parameters`
    :return: Their number
    """
    return sum(tensor.numel() for tensor in parameters["policy"].values())


# Memories


def is_described_memory(buffer: BaseBuffer) -> bool:
    """
    Whether a memory is one that :func:`write_memory` knows all of.

    :param buffer: The memory
    :return: ``False`` for classes of users and for SB3's ``HerReplayBuffer``, which holds infos of any kind
    """
    return type(buffer) in (SuccessFailReplayBuffer, LatestTransitionBuffer, *_SB3_BUFFERS)


def write_memory(file: IO[bytes], buffer: Any) -> None:
    """
    Write a memory as arrays.

    :param file: The file
    :param buffer: A memory for which :func:`is_described_memory` says yes
    """
    described: dict[str, Any] = {"version": MEMORY_VERSION, "buffer": _kind(buffer)}
    if isinstance(buffer, SuccessFailReplayBuffer):
        arrays = {name: part.rows[: part.size] for name, part in _partitions(buffer).items()}
        described["rng"] = generator_state(buffer.rng)
    else:
        # The memory-efficient variant has the last next observation one further.
        n_rows = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
        arrays = {name: array[:n_rows] for name, array in _sb3_arrays(buffer).items()}
        described |= {"pos": int(buffer.pos), "full": bool(buffer.full)}
    described["arrays"] = list(arrays)
    with zipfile.ZipFile(file, "w") as archive:
        # Without the time, see `checkpoint`.
        archive.writestr(zipfile.ZipInfo(MEMORY), json.dumps(described))
        for i, array in enumerate(arrays.values()):
            with archive.open(zipfile.ZipInfo(f"{i}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_memory(path: Path, buffer: Any) -> Any:
    """
    Read what :func:`write_memory` wrote, in chunks: it takes no more memory than the transitions do.

    :param path: The file, with or without ``.npz``, or an open one
    :param buffer: A memory of the same kind, spaces and settings, of which the file's content takes the place
    :return: The memory with the file's content, which may be another object
    :raises UnsafeFileError: If the file is damaged, or does not fit; the memory is left as it was
    """
    with reading(path, "npz", f"memory for this model, a {type(buffer).__name__}") as (file, size):
        if not zipfile.is_zipfile(file):
            raise UnsafeFileError(
                "it is no file of arrays. If it is a pickle of Stable-Baselines3's, it can run anything: say "
                "trust=True if you trust where it comes from"
            )
        with opened_archive(file, size) as archive:
            check_is_no_other(archive, MEMORY)
            names = archive.namelist()
            if MEMORY not in names:
                raise UnsafeFileError(f"it has no member {MEMORY!r}")
            described = _read_json_member(archive, MEMORY, MEMORY_VERSION)
            if described["buffer"] != _kind(buffer):
                raise UnsafeFileError(f"it is of a {shown(described['buffer'])}")
            if others := set(names) - {MEMORY, *(f"{i}.npy" for i in range(len(described["arrays"])))}:
                raise UnsafeFileError(
                    f"it has the members {', '.join(shown(repr(name)) for name in sorted(others)[:10])} besides"
                )
            if isinstance(buffer, SuccessFailReplayBuffer):
                return _read_partitions(archive, described, buffer)
            return _read_sb3_arrays(archive, described, buffer)


def _kind(buffer: Any) -> str:
    # Which of the two is decided by a switch that may change between saving and loading.
    return "SuccessFailReplayBuffer" if isinstance(buffer, SuccessFailReplayBuffer) else type(buffer).__name__


def _partitions(buffer: SuccessFailReplayBuffer) -> dict[str, Any]:
    return {"success": buffer.success, "fail": buffer.fail}


def _sb3_arrays(buffer: Any) -> dict[str, np.ndarray]:
    arrays = {}
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        value = getattr(buffer, name, None)
        if isinstance(value, dict):
            arrays.update({f"{name}/{part}": array for part, array in value.items()})
        elif value is not None:
            arrays[name] = value
    return arrays


class _StoredRows:
    """The array of a ``.npy`` member, read slice by slice, first to last."""

    def __init__(
        self,
        archive: zipfile.ZipFile,
        at: int,
        dtype: np.dtype,
        check: Callable[..., None],
        n_filled: int = sys.maxsize,
    ) -> None:
        name = f"{at}.npy"
        self.dtype = dtype
        self.n_filled = n_filled
        self._check = check
        self._member = archive.open(name)
        major, _ = np.lib.format.read_magic(self._member)
        n_bytes = int.from_bytes(self._member.read(2 if major == 1 else 4), "little")
        if n_bytes > _MAX_HEADER + len(str(dtype.descr)):
            raise UnsafeFileError(f"{name} has a header of {n_bytes} bytes")
        text = self._member.read(n_bytes).decode("utf8" if major >= 3 else "latin1")
        if not text.rstrip("\n").isprintable():  # of which Python would show some in a warning
            raise UnsafeFileError(f"{name} has a header that is no text")
        try:
            header = ast.literal_eval(text)
        except SyntaxError as error:
            raise UnsafeFileError(f"{name} has a header that is none: {error}") from error
        self._stored = np.lib.format.descr_to_dtype(header["descr"])
        self.shape = tuple(header["shape"])
        self.ndim = len(self.shape)
        if _fields(self._stored) != _fields(dtype) or header["fortran_order"]:
            raise UnsafeFileError(f"{name} has rows of {self._stored}, and those of this memory are {dtype}")
        self._row = self._stored.itemsize * math.prod(self.shape[1:])
        if not all(type(n) is int and n >= 0 for n in self.shape) or self.ndim < 1:
            raise UnsafeFileError(f"{name} has the shape {self.shape}")
        if len(self) * self._row != archive.getinfo(name).file_size - self._member.tell():
            raise UnsafeFileError(f"{name} declares an array of shape {self.shape}, which is not what it has")
        self._next = 0

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: slice, /) -> np.ndarray:
        start, stop, _ = index.indices(len(self))
        assert start == self._next
        self._next = stop
        content = self._member.read((stop - start) * self._row)
        stored = np.frombuffer(content, self._stored).reshape(stop - start, *self.shape[1:])
        if stop == len(self):
            self._member.read(1)  # at the end of which the checksum is compared
        rows = stored
        if self.dtype.names is not None and stored.dtype != self.dtype:  # in another order
            rows = np.zeros(stored.shape, self.dtype)
            for name in _fields(self.dtype):
                rows[name] = stored[name]
        self._check(rows[: max(0, self.n_filled - start)])
        return rows


def _fields(dtype: np.dtype) -> dict[str, np.dtype]:
    """The fields of a record that mean something."""
    if dtype.names is None:
        return {"": dtype}
    return {name: dtype[name] for name in sorted(dtype.names) if name != "_filler"}


def _read_partitions(archive: zipfile.ZipFile, described: dict[str, Any], buffer: SuccessFailReplayBuffer) -> Any:
    state: dict[str, Any] = {"rng": described["rng"]}
    for name, part in _partitions(buffer).items():
        at = described["arrays"].index(name)
        state[name] = _StoredRows(archive, at, part.rows.dtype, buffer.check_rows)
    buffer.set_state(state)
    return buffer


def _read_sb3_arrays(archive: zipfile.ZipFile, described: dict[str, Any], buffer: Any) -> Any:
    own = _sb3_arrays(buffer)
    if sorted(described["arrays"]) != sorted(own):
        raise UnsafeFileError(f"it has the arrays {shown(described['arrays'])}, and this memory {list(own)}")
    pos, full = int(described["pos"]), bool(described["full"])
    n_rows = buffer.buffer_size if full else min(pos + 1, buffer.buffer_size)
    if not 0 <= pos < buffer.buffer_size:
        raise UnsafeFileError(f"it has {pos} rows, and this memory {buffer.buffer_size} at most")
    stored = {}
    for i, name in enumerate(described["arrays"]):
        check = functools.partial(check_stored, name, space=_space_of(buffer, name))
        # Row `pos` is the next to be filled: but for the last next observation, it has zeros, which may be no state.
        has_next = buffer.optimize_memory_usage and name == "observations" and pos > 0
        n_filled = n_rows if full else min(pos + has_next, n_rows)
        stored[name] = rows = _StoredRows(archive, i, own[name].dtype, check, n_filled)
        if rows.shape != (n_rows, *own[name].shape[1:]):
            raise UnsafeFileError(
                f"{name} has the shape {rows.shape}, and {(n_rows, *own[name].shape[1:])} is expected"
            )
    filled = copy.copy(buffer)
    arrays = {name: np.zeros_like(array) for name, array in own.items()}
    for name, rows in stored.items():
        copy_rows(rows, arrays[name])
        arrays[name][rows.n_filled :] = 0
    for name, array in arrays.items():
        field, _, part = name.partition("/")
        if part:
            setattr(filled, field, {**getattr(filled, field), part: array})
        else:
            setattr(filled, field, array)
    filled.pos, filled.full = pos, full
    return filled


def _space_of(buffer: Any, name: str) -> spaces.Space[Any] | None:
    field, _, part = name.partition("/")
    if field == "actions":
        return buffer.action_space if isinstance(buffer.action_space, spaces.Discrete) else None
    if not field.endswith("observations"):
        return None
    space: spaces.Space[Any] = buffer.observation_space[part] if part else buffer.observation_space
    return space
