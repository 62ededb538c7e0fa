"""Models and training runs as files: saved and loaded without pickles, and gone on with as if never stopped."""

import contextlib
import inspect
import io
import math
import operator
import pathlib
import re
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, is_vecenv_wrapped

from sb3_lecture_dqn.common.checks import (
    UnsafeFileError,
    check_number,
    check_observations,
    is_figure,
    parse_frequency,
    shown,
)
from sb3_lecture_dqn.common.seeding import (
    generator_state,
    global_generators,
    new_generator,
    set_generator_state,
    set_global_generators,
)
from sb3_lecture_dqn.engine.divergence import check_weights
from sb3_lecture_dqn.evaluation.env_copies import CannotCopyError
from sb3_lecture_dqn.evaluation.like_model import check_made_by_id, step_limit_of
from sb3_lecture_dqn.saving import checkpoint_file, checkpoint_folder
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.callback_state import callback_data, callback_numbers, set_callback_data
from sb3_lecture_dqn.saving.codec import is_data
from sb3_lecture_dqn.saving.env_state import EpisodeNotReplayedError, env_state, set_env_state, set_wrapper_states
from sb3_lecture_dqn.saving.event_files import check_mark, new_mark, write_as_last
from sb3_lecture_dqn.saving.files import written_whole
from sb3_lecture_dqn.saving.logs import (
    first_log,
    has_logs,
    hide_later_events,
    is_log,
    log_folder,
    log_state,
    pending_logs,
    rewind_logs,
    set_pending_logs,
)
from sb3_lecture_dqn.saving.memory_file import is_archive, is_described_memory, memory_file, read_memory, write_memory
from sb3_lecture_dqn.saving.model_file import (
    DERIVED,
    add_description,
    check_is_model,
    own_settings,
    read_model,
    read_parameters,
)
from sb3_lecture_dqn.saving.weights_checks import (
    AllocationLimit,
    check_moments,
    check_optimizer_state,
    fitting,
    n_numbers,
)

SelfPersistent = TypeVar("SelfPersistent", bound="PersistenceMixin")

# Settings that need not be a number where their default is one; they are checked as arguments are.
_OF_SEVERAL_KINDS = {"learning_rate", "train_freq", "target_update_interval"}


def _of_kind(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise UnsafeFileError(f"{name}={shown(repr(value))} must be {getattr(kind, '__name__', kind)}")
    return value


def _as_data(episode: dict[str, Any]) -> dict[str, Any]:
    """What an environment says of an episode, without what is no data, such as an object among Monitor's keywords."""
    return {name: value for name, value in episode.items() if is_data(value)}


def _check_names(settings: dict[str, Any]) -> None:
    for name in ("env_id", "tensorboard_log", "_run_folder", "_log_file", "_log_of_file"):
        _of_kind(name, settings.get(name), str | pathlib.PurePath | None)
    env_id, run = settings.get("env_id"), settings.get("_run_folder")
    if env_id is not None and not re.fullmatch(r"[\w:./-]{1,200}", str(env_id)):
        raise UnsafeFileError(f"env_id={shown(repr(env_id))} is no id of an environment")
    if run is not None and pathlib.Path(run).name in ("", ".."):
        raise UnsafeFileError(f"_run_folder={shown(repr(run))} is no folder of a run")


class PersistenceMixin(OffPolicyAlgorithm):
    """
    Files of a DQN of SB3 or sb3-contrib: models, memories, and checkpoints of training runs.

    Nothing of them is unpickled, unless a file is trusted.
    """

    env_id: str | None
    env_wrapper: type[gym.Wrapper] | None
    max_episode_steps: int | None
    _run_folder: str | None
    action_counts: np.ndarray
    exploration_rng: np.random.Generator
    _last_masks: np.ndarray | None = None
    #: Whether ``buffer_size`` bounds failures only, whatever the observations are: so it was in files of version 1
    _version_1_memory: bool
    #: Whether the model is in the middle of a rollout, where it is not known how to go on
    _in_rollout = False
    #: Callbacks of the last call of `learn`, and what of them described it at its start
    _callback: BaseCallback | None = None
    _callback_start: list[dict[str, Any]]
    #: What is left to restore when `learn` goes on with a run, and where the logs of that are
    _resumed: checkpoint_file.Checkpoint | None = None
    _resumed_logs: pathlib.Path | None = None
    #: When `learn` was called, by :func:`time.monotonic_ns`, without the time in which the run was stopped
    _learning_since: int | None = None
    _began_at: tuple[int, int]
    #: What the names of this run's event files end with
    _log_mark: str | None = None
    #: The first event file that TensorBoard wrote of the last training, below `tensorboard_log`
    _log_file: str | None = None
    #: Where a file says that the model logs, and nothing else does
    _log_of_file: str | None = None

    @classmethod
    def load(
        cls: type[SelfPersistent],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfPersistent:
        """
        Load a model without running anything that its file says.

        :param path: A file that :meth:`save` wrote, or an open one
        :param env: The environment to train on; without one the model can predict, and is given a new environment by
            :meth:`learn` if it was made with an id
        :param device: Device on which the code should run
        :param custom_objects: What takes the place of settings of the file, by their names, and of functions and
            classes in others, by theirs: ``{"features_extractor_class": MyExtractor}`` leaves the rest of
            ``policy_kwargs`` as it is
        :param print_system_info: Whether to print the system info of the saved model and the current one
        :param force_reset: Whether to begin a new episode before training
        :param trust: Load as SB3 does, by unpickling. This runs whatever code the file holds, so only for files whose
            origin is known; for those of SB3's ``DQN``, and of models with functions or classes of one's own
        :param kwargs: Extra arguments to change the model when loading. Without a ``tensorboard_log``, it logs to the
            one of its file only if that has the logs of the model's last training: a file's word is not enough to write
            to any folder that it names
        :return: A new model
        :raises UnsafeFileError: If the file is damaged, holds no model of this kind, or has settings that are code and
            are not among ``custom_objects``; it is a ``ValueError``
        """
        if trust:
            check_is_model(path, cls.__name__, cls._algorithm())
            kwargs = {**cls._settings_beside_stock(path, custom_objects or {}), **kwargs}
            model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
            model._know_env()
            return model
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
        settings, parameters = read_model(
            path, cls.__name__, cls._algorithm(), cls.policy_aliases, custom_objects, print_system_info
        )
        model = cls._made_of(path, settings, parameters, env, device, force_reset, kwargs)
        if "tensorboard_log" not in {**kwargs, **(custom_objects or {})}:
            model._log_where_it_did()
        return model

    @classmethod
    def _made_of(
        cls: type[SelfPersistent],
        path: Any,
        settings: dict[str, Any],
        parameters: dict[str, Any],
        env: GymEnv | None,
        device: th.device | str,
        force_reset: bool,
        changes: dict[str, Any],
    ) -> SelfPersistent:
        """A model of what a file says, with some changes to that."""
        policy_kwargs = settings["policy_kwargs"]
        policy_kwargs.pop("device", None)
        if "policy_kwargs" in changes and changes["policy_kwargs"] != policy_kwargs:
            raise ValueError(
                "The specified policy kwargs do not equal the stored policy kwargs. "
                f"Stored kwargs: {policy_kwargs}, specified kwargs: {changes['policy_kwargs']}"
            )
        memory_kwargs = settings.get("replay_buffer_kwargs", {})
        if settings.get("replay_buffer_class") is NStepReplayBuffer and "n_steps" in memory_kwargs:
            settings["replay_buffer_class"] = None  # SB3 chooses it anew, and does not take it for the user's choice
        if env is not None:
            env = cls._wrap_env(env, settings.get("verbose", 0))
            check_for_correct_spaces(env, settings["observation_space"], settings["action_space"])
            settings["n_envs"] = env.num_envs
            if force_reset:
                settings["_last_obs"] = None
        try:
            policy: Any = settings["policy_class"]
            device = cls._device_for(
                device, policy, settings["observation_space"], changes.get("engine", settings.get("engine"))
            )
            model = cls(policy=policy, env=env, device=device, _init_setup_model=False)  # type: ignore[arg-type, call-arg]
            model._check_loaded(settings)
            model.__dict__.update(settings)
            model._know_env()
            model._version_1_memory = settings.get("_version_1_memory", True)
            model._check_settings()
        except DAMAGED as error:
            raise UnsafeFileError(f"path={str(path)!r}: {error}") from None
        model.__dict__.update(changes)
        if model.env is not None and "max_episode_steps" in changes:
            model._set_own_step_limit(model.env, changes["max_episode_steps"])
        try:
            with AllocationLimit(2 * n_numbers(parameters) + 2**20):
                model._setup_model()
            model._set_loaded_parameters(parameters, exact_match=True, device=device)
        except DAMAGED as error:
            if changes and isinstance(error, ValueError) and not isinstance(error, UnsafeFileError):
                raise
            raise UnsafeFileError(f"path={str(path)!r}: {error}") from None
        return model

    @classmethod
    def _algorithm(cls) -> str:
        """What SB3 or sb3-contrib calls it: ``"DQN"`` or ``"QRDQN"``."""
        theirs = ("stable_baselines3", "sb3_contrib")
        return next(base.__name__ for base in cls.__mro__ if base.__module__.split(".")[0] in theirs)

    @classmethod
    def _settings_beside_stock(
        cls, path: str | pathlib.Path | io.BufferedIOBase, custom_objects: dict[str, Any]
    ) -> dict[str, Any]:
        """Settings that stock SB3 has not: of our file its own, of a file that SB3 wrote those by which SB3 behaves."""
        own = own_settings(path)
        if own is not None:
            return {name: value for name, value in own.items() if name not in custom_objects}
        loss = {"loss": "huber"} if cls._algorithm() == "DQN" else {}
        return {"exploration_decay": None, "max_episode_steps": None, **loss}

    def _settings_for_stock(self) -> dict[str, Any]:
        """What stock SB3 and sb3-contrib understand, in place of settings of which they do not know all values."""
        interval, unit = parse_frequency("target_update_interval", self.target_update_interval)  # type: ignore[attr-defined]
        if unit == "episode":  # as many steps as so many episodes have had, else what theirs is by default
            steps = interval * self.num_timesteps // self._episode_num if self._episode_num else 10_000
            interval = max(1, steps)
        norm = self.max_grad_norm  # type: ignore[attr-defined]
        no_clipping = math.inf if self._algorithm() == "DQN" else None
        return {"target_update_interval": interval, "max_grad_norm": no_clipping if norm is None else norm}

    def _check_loaded(self, settings: dict[str, Any]) -> None:
        """Check that what a file calls settings are attributes that a saved model has."""
        excluded = set(self._excluded_save_params())
        for name, value in settings.items():
            known = inspect.getattr_static(type(self), name, None)
            if callable(known) or isinstance(known, property | classmethod | staticmethod) or name.startswith("__"):
                raise UnsafeFileError(f"{shown(repr(name))} is no setting")
            if name in excluded and value is not None:
                raise UnsafeFileError(f"{name!r} is a part of the model that is not loaded as a setting")
            default = self.__dict__.get(name)
            if isinstance(default, bool) and not isinstance(value, bool):
                raise UnsafeFileError(f"{name}={value!r} must be True or False")
            is_number = isinstance(default, int | float) and not isinstance(default, bool)
            if is_number and value is not None and name not in _OF_SEVERAL_KINDS:
                check_number(name, value, -sys.float_info.max)
        self._check_progress(settings)

    def _check_progress(self, settings: dict[str, Any]) -> None:
        """Check how far a training has come, for a model that is loaded, and for a checkpoint before it is written."""
        for name in ("num_timesteps", "_episode_num", "_n_updates", "_n_calls", "_total_timesteps"):
            check_number(name, settings.get(name, 0), 0, integer=True)
        for name in ("_total_episodes", "_default_timesteps", "max_episode_steps"):
            if settings.get(name) is not None:
                check_number(name, settings[name], 0, integer=True)
        steps_before, episodes_before = _of_kind("_began_at", settings.get("_began_at", (0, 0)), tuple)
        for count in (steps_before, episodes_before):
            check_number("_began_at", count, 0, integer=True)
        _check_names(settings)
        _of_kind("action_noise", settings.get("action_noise"), ActionNoise | None)
        for episode in _of_kind("ep_info_buffer", settings.get("ep_info_buffer") or deque(), deque):
            if not (isinstance(episode, dict) and is_figure(episode.get("r")) and is_figure(episode.get("l"))):
                raise UnsafeFileError(f"ep_info_buffer has {episode!r}, which is no episode")
        for success in _of_kind("ep_success_buffer", settings.get("ep_success_buffer") or deque(), deque):
            if not is_figure(success):
                raise UnsafeFileError(f"ep_success_buffer has {success!r}, which is no number")
        check_number("n_envs", settings.get("n_envs", 1), 1, 2**16, integer=True)  # as many as `learn` makes
        check_number("exploration_rate", settings.get("exploration_rate", 0), 0, 1)

    def _set_loaded_parameters(self, parameters: dict[str, Any], exact_match: bool, device: th.device | str) -> None:
        """Set weights that a file says."""
        known, _ = self._get_torch_save_params()
        if others := [name for name in parameters if name not in known]:
            raise UnsafeFileError(f"it has weights of {shown(others)}, and those of {', '.join(known)} are read")
        if "policy.optimizer" in parameters:
            check_optimizer_state(parameters["policy.optimizer"], self.policy.optimizer)
        super().set_parameters(self._fitting(parameters, exact_match, from_file=True), exact_match, device)

    def _fitting(self, parameters: dict[str, Any], exact_match: bool, *, from_file: bool) -> dict[str, Any]:
        """The same parameters for the networks that there are, of which PyTorch copies the weights and nothing else."""
        fit = self._for_own_networks(parameters)
        for name, state in fit.items():
            module = None
            with contextlib.suppress(AttributeError, TypeError):  # which SB3 says better
                module = operator.attrgetter(name)(self)
            if isinstance(module, th.nn.Module) and isinstance(state, Mapping):
                fit = {**fit, name: fitting(name, state, module, exact_match, from_file=from_file)}
        return fit

    def set_parameters(
        self,
        load_path_or_dict: Any,
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """
        Set the weights in place, from a file without unpickling; also from one of stock SB3.

        :param load_path_or_dict: A file that :meth:`save` wrote, or what :meth:`get_parameters` returned. Weights that
            are given have the dtype of the network's, or are other floating-point numbers, which are rounded to it; in
            a file they have the same
        :param exact_match: Whether all weights must be given
        :param device: Device on which the code should run
        :raises UnsafeFileError: If the file is damaged, or its weights do not fit
        :raises ValueError: If weights that are given do not fit; the message says which and why
        """
        if isinstance(load_path_or_dict, dict):
            if isinstance(state := load_path_or_dict.get("policy.optimizer"), dict):
                try:
                    check_moments(state.get("state", {}), self.policy.optimizer, exactly=False)
                except UnsafeFileError as error:
                    raise ValueError(str(error)) from None
                except (LookupError, TypeError, AttributeError):
                    pass  # of another number of parameters, or none at all: PyTorch says what is wrong
            super().set_parameters(self._fitting(load_path_or_dict, exact_match, from_file=False), exact_match, device)
            return
        parameters = read_parameters(load_path_or_dict)
        try:
            self._set_loaded_parameters(parameters, exact_match, device)
        except DAMAGED as error:
            raise UnsafeFileError(f"path={str(load_path_or_dict)!r}: {error}") from None

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save the model in SB3's zip file, with a description from which :meth:`load` needs no pickles.

        A file that was there before is replaced only when the new one is whole and on the disk.

        :param path: Path to the file, or an open one
        :param exclude: Names of settings that are left out in addition to the default ones
        :param include: Names of settings that would be left out but should not be
        """
        attributes = {**self.__dict__, "_log_file": self._first_log()}
        stock = object.__new__(type(self))  # a view of the model, to be written as stock SB3 understands it
        stock.__dict__.update(attributes, **self._settings_for_stock())
        with written_whole(path, "zip") as file:
            super(PersistenceMixin, stock).save(file, exclude, include)  # type: ignore[arg-type]
            add_description(file, self._algorithm(), attributes, self.policy_aliases)

    def _first_log(self) -> str | None:
        """See :attr:`_log_file`."""
        if self.tensorboard_log is None or not hasattr(self, "_logger"):
            return self._log_file
        return first_log(self.logger, pathlib.Path(self.tensorboard_log)) or self._log_file

    def _log_where_it_did(self) -> None:
        """Log to a folder that a file names only if it has the logs that the model wrote."""
        root = self.tensorboard_log if self.tensorboard_log is not None else self._log_of_file
        self.tensorboard_log = self._log_of_file = None
        run, self._run_folder = self._run_folder, None
        if root is None:
            return
        if self._log_file is not None and is_log(pathlib.Path(root), self._log_file):
            self.tensorboard_log = root
            if run is not None and pathlib.Path(run).parent == pathlib.Path(root):
                self._run_folder = run
        else:
            self._log_of_file = str(root)  # to be asked for when there is something to log

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self._log_of_file is not None and self.tensorboard_log is None and not self._custom_logger:
            warnings.warn(
                f"tensorboard_log={shown(repr(self._log_of_file), 300)} is what the model's file says, and the logs of "
                "its training are not there, so nothing is logged: give load(path, tensorboard_log=...) to log, there "
                "or elsewhere"
            )
            self._log_of_file = None
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """
        Save the replay memory as arrays, in a file that ``numpy.load`` reads too.

        A memory of a class that this package does not know, and SB3's ``HerReplayBuffer``, is pickled as in SB3.

        :param path: Path to the file, or an open one. A name without a suffix gets ``.npz``, for a pickle ``.pkl``
        """
        assert self.replay_buffer is not None, "The replay buffer is not defined"
        known = is_described_memory(self.replay_buffer)
        with written_whole(path, "npz" if known else "pkl") as file:
            if known:
                write_memory(file, self.replay_buffer)
            else:
                super().save_replay_buffer(file)  # type: ignore[arg-type]

    def load_replay_buffer(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        truncate_last_traj: bool = True,
        *,
        trust: bool = False,
    ) -> None:
        """
        Load a replay memory without unpickling, into a memory of this model's settings.

        :param path: A file that :meth:`save_replay_buffer` wrote, by the name that this was given, or an open one
        :param truncate_last_traj: See SB3's ``load_replay_buffer``, for ``HerReplayBuffer``
        :param trust: Whether a file that is no file of arrays is unpickled as in SB3, which runs whatever code it holds
        :raises UnsafeFileError: If the file is damaged, does not fit this model, or is a pickle that is not trusted
        """
        if self.replay_buffer is None:
            self._make_replay_buffer()
        path = memory_file(path, self.replay_buffer)
        if trust and not is_archive(path):
            super().load_replay_buffer(path, truncate_last_traj)
            return
        self.replay_buffer = read_memory(path, self.replay_buffer)
        self.replay_buffer.device = self.device

    def save_checkpoint(self, path: str | pathlib.Path) -> None:
        """
        Save all that this training run is, for :meth:`resume`.

        That is what :meth:`save` saves and also the replay memory, every generator, where the environments are in their
        episodes, and the state of the callbacks of :meth:`learn`. The file appears when all of it is on the disk.

        :param path: Path to the file, ``.zip`` is added to a name without a suffix
        :raises ValueError: If the model is in the middle of a rollout, as in callbacks and after an exception: there,
            :class:`LectureCheckpointCallback` waits for the moment. Or if the replay memory is of a class that cannot
            be described as data
        :raises DivergedError: If weights are not finite
        """
        if self._resumed is not None:
            raise ValueError("the model has been resumed and not gone on: its checkpoint is the one it was made from")
        if self._in_rollout:
            raise ValueError(
                "a checkpoint can be saved between two rollouts, and the model is in the middle of one, or a callback "
                "ended its training there: leave it to LectureCheckpointCallback, which waits for the end of a rollout"
            )
        self._write_checkpoint(pathlib.Path(path))

    def _write_checkpoint(self, path: pathlib.Path) -> None:
        """In the middle of a rollout it is not known where the running episodes are: :meth:`resume` begins new ones."""
        self._check_can_be_resumed()
        parameters = self.get_parameters()
        check_weights(self)
        counts = getattr(self, "action_counts", None)
        state = {
            "exploration_rng": generator_state(self.exploration_rng),
            "generators": global_generators(),
            "action_counts": counts,
            "last_masks": self._last_masks,
            "env": None if self.env is None else env_state(self.env, with_episodes=not self._in_rollout),
            "in_rollout": self._in_rollout,
            "elapsed_ns": 0 if self._learning_since is None else time.monotonic_ns() - self._learning_since,
            "logs": log_state(self.logger, path, self._log_mark) if hasattr(self, "_logger") else None,
            "log_mark": self._log_mark,
            "pending_logs": pending_logs(self.logger) if hasattr(self, "_logger") else {},
        }
        callbacks = []
        if self._callback is not None:
            callbacks = callback_data(self._callback, self._callback_start)
        left_out = {*self._excluded_save_params(), *DERIVED}
        settings = {name: value for name, value in self.__dict__.items() if name not in left_out}
        episodes: Any = self.ep_info_buffer
        if episodes is not None:
            settings["ep_info_buffer"] = deque(map(_as_data, episodes), episodes.maxlen)
        try:
            self._check_progress(settings)
        except ValueError as error:
            raise checkpoint_file.UnreadableCheckpointError(f"it could not be read again: {error}") from error
        checkpoint_file.write_checkpoint(
            path, self._algorithm(), settings, state, callbacks, parameters, self.replay_buffer, self.policy_aliases
        )

    def _check_can_be_resumed(self) -> None:
        """Check that all of the model can be described as data."""
        if self.replay_buffer is None or not is_described_memory(self.replay_buffer):
            raise ValueError(
                f"replay_buffer_class={type(self.replay_buffer).__name__}: this memory cannot be described as data, so "
                "it cannot be part of a checkpoint; SuccessFailReplayBuffer and SB3's ReplayBuffer, DictReplayBuffer "
                "and NStepReplayBuffer can"
            )

    @classmethod
    def resume(
        cls: type[SelfPersistent],
        path: str | pathlib.Path,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
    ) -> SelfPersistent:
        """
        Make the model of a training run that was stopped, so that :meth:`learn` goes on as if it had not been.

        The first :meth:`learn` after this is the one that was stopped: it counts on from where that was, without a
        budget up to that one's, and with a budget up to that many steps or episodes from where that one had begun. Give
        it the same callbacks. What the run had given to TensorBoard since the checkpoint is removed then, if the
        checkpoint is in the folder of the run or one below, as by default; nothing of others is.

        Other than :meth:`save`'s file a checkpoint cannot hold code: functions and classes of one's own are to be given
        as ``custom_objects``. Nothing is unpickled.

        :param path: A checkpoint, a folder of them, or the folder of a run; of several, the newest that is whole
        :param env: An environment made like that of the run, wrapped in the same way. ``None``: made anew, if the run's
            was given by its id. One that does not come to where the other one was is reset, with a warning
        :param device: Device on which the code should run
        :param custom_objects: As for :meth:`load`
        :return: A model in the middle of its training
        :raises UnsafeFileError: If no checkpoint is whole and of this algorithm
        :raises FileNotFoundError: If there is no checkpoint
        :raises ValueError: If ``env`` is needed, or not like the run's
        """
        path = checkpoint_folder.newest_whole(path)
        found = checkpoint_file.read_checkpoint(path, cls._algorithm(), cls.policy_aliases, custom_objects)
        model = cls._made_of(path, found.settings, found.parameters, None, device, False, {})
        if env is None and model.env_id is None:
            raise ValueError("env=None, and the run had an environment that was given as an object: give one like it")
        try:
            if env is None:
                check_made_by_id(model)
            new_env = cls._wrap_env(model._make_env() if env is None else env, model.verbose)
            if env is None:
                check_for_correct_spaces(new_env, model.observation_space, model.action_space)
        except CannotCopyError:
            raise
        except (gym.error.Error, *DAMAGED) as error:
            if env is not None:
                raise
            raise UnsafeFileError(f"path={str(path)!r}: env_id={model.env_id!r}: {error}") from None
        if new_env.num_envs != model.n_envs:
            raise ValueError(f"env has {new_env.num_envs} environments, and the run had {model.n_envs}")
        if env is None:
            model._set_made_env(new_env)
        else:
            model.set_env(new_env, force_reset=False)
        if model.seed is not None:
            new_env.seed(model.seed)
        try:
            model._set_state(found.state, path)
            if (mark := found.state.get("log_mark")) is not None:
                check_mark(mark)
            logs = log_folder(path, found.state["logs"])
            if "tensorboard_log" not in (custom_objects or {}):
                model._log_where_the_run_did(logs, mark)
        except UnsafeFileError as error:
            raise UnsafeFileError(f"path={str(path)!r}: {error}") from None
        except (gym.error.Error, *DAMAGED) as error:
            raise UnsafeFileError(f"path={str(path)!r}: {error!r}") from None
        model._resumed, model._resumed_logs = found, logs
        return model

    def _log_where_the_run_did(self, folder: pathlib.Path | None, mark: str | None) -> None:
        """
        Go on with logs that are there; a file's word is not enough to write to any folder that it names.

        :param folder: Where the logs are, if they are with the checkpoint
        :param mark: What the names of the run's event files end with, ``None`` in files of versions before 2.0
        """
        if self.tensorboard_log is None:
            return
        run = None if self._run_folder is None else pathlib.Path(self._run_folder)
        as_named = run is not None and run.parent == pathlib.Path(self.tensorboard_log)
        if folder is not None:
            if not as_named or run.resolve() != folder:  # type: ignore[union-attr] # it may have been moved
                self.tensorboard_log, self._run_folder = str(folder.parent), str(folder)
        elif not as_named or not has_logs(run, mark):  # type: ignore[arg-type]
            warnings.warn(
                f"the logs of the run are neither with the checkpoint nor in {shown(run)}, so it goes on without: "
                "give custom_objects={'tensorboard_log': ...} for new ones"
            )
            self.tensorboard_log = self._run_folder = None

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        # Here SB3 has set what it counts and made the logger, and nothing has been logged to that.
        self._begin_clock()
        self._begin_logs()
        return super()._init_callback(callback, progress_bar)

    def _begin_clock(self) -> None:
        """Count steps and time from where `learn` was called, also when it goes on with a call that was stopped."""
        elapsed = 0 if self._resumed is None else self._resumed.state.get("elapsed_ns")
        self._learning_since = time.monotonic_ns()
        if elapsed is not None:  # which versions before 2.0 did not keep
            self._learning_since -= elapsed
            self._num_timesteps_at_start = self._began_at[0]

    def dump_logs(self) -> None:
        """Write the log, as in SB3; the time that has passed is that of a clock that does not go back."""
        if self._learning_since is not None:
            self.start_time = time.time_ns() - (time.monotonic_ns() - self._learning_since)
        super().dump_logs()

    def _begin_logs(self) -> None:
        """Log to event files of this run's own; what is going to be trained anew is taken out of those that it has."""
        resumed, folder = self._resumed, self._resumed_logs
        if resumed is None:
            if self._log_mark is None or self.num_timesteps == 0:
                self._log_mark = new_mark()
        elif self._log_mark is None:
            kept = resumed.state.get("log_mark") or (resumed.state["logs"] or {}).get("mark")
            self._log_mark = kept or new_mark()
        current = write_as_last(self.logger, self._log_mark)
        if folder is not None:
            there = [file.parent.resolve() for file in current]
            if folder in there:
                run = None if self.tensorboard_log is None or self._run_folder is None else self._run_folder
                own_folder = run is not None and pathlib.Path(run).resolve() == folder
                rewind_logs(folder, resumed.state["logs"], own_folder, current)  # type: ignore[union-attr]
            elif not there and self.tensorboard_log is None:
                warnings.warn(
                    f"the run logged to {folder} by a logger that it was given, and goes on without: give one, as in "
                    f"model.set_logger(configure({str(folder)!r}, ['tensorboard']))"
                )
        self._resumed_logs = None

    # Which environment a file may name

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Set the environment to train on, as in SB3.

        :param env: The environment. Files that are saved from now on do not know how to make it, unless it is the one
            that the model has
        :param force_reset: Whether to begin a new episode before training
        """
        before = self.env
        super().set_env(env, force_reset)
        if self.env is not before:
            self._know_env()

    def _set_made_env(self, env: GymEnv | None = None) -> None:
        """Set an environment that was made by the model's id."""
        if env is None:
            check_made_by_id(self)
        OffPolicyAlgorithm.set_env(self, self._make_env() if env is None else env, force_reset=env is None)

    def _know_env(self) -> None:
        """After settings came from a file, or an environment from the user: of which environment the settings are."""
        if self.env is not None:
            self.env_id = self.env_wrapper = None
            self.max_episode_steps = step_limit_of(self.env)
        elif self.env_id is not None and self.max_episode_steps is None:
            # Version 1.0 wrote None for the registered limit, which of the lecture's tasks is not that of their ids.
            spec = gym.registry.get(self.env_id.rpartition(":")[2])
            self.max_episode_steps = None if spec is None else spec.max_episode_steps

    def _set_own_step_limit(self, env: VecEnv, asked_for: int | None) -> None:
        """Keep the step limit of the environment, where it is what was asked for."""
        self.max_episode_steps = step_limit_of(env)
        if asked_for is not None and self.max_episode_steps != asked_for:
            raise ValueError(
                f"max_episode_steps={asked_for} is for an environment that is given by its id; the one that was given "
                f"has {self.max_episode_steps or 'no limit'}: put gymnasium's TimeLimit around it, or leave this out"
            )

    # What a model of this package knows besides

    def _make_env(self) -> GymEnv:
        raise NotImplementedError

    def _for_own_networks(self, parameters: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def _device_for(cls, device: th.device | str, policy: Any, observation_space: Any, engine: Any) -> th.device | str:
        raise NotImplementedError

    def _check_settings(self) -> None:
        raise NotImplementedError

    def _make_replay_buffer(self) -> None:
        raise NotImplementedError

    def _set_state(self, state: dict[str, Any], path: pathlib.Path) -> None:
        check_number("elapsed_ns", state.get("elapsed_ns", 0), 0, 2**63 - 1, integer=True)
        self.exploration_rng = new_generator(state["exploration_rng"])
        set_generator_state(self.exploration_rng, state["exploration_rng"])
        for name, value in (("action_counts", state["action_counts"]), ("_last_masks", state["last_masks"])):
            if value is not None:
                setattr(self, name, self._checked_array(name, value))
        self.replay_buffer = checkpoint_file.read_checkpoint_memory(path, self.replay_buffer)
        self.replay_buffer.device = self.device
        assert self.env is not None
        if self._last_obs is None:
            return  # training had not begun
        try:
            if state["env"] is None or state["in_rollout"]:
                if state["env"] is not None:
                    set_wrapper_states(self.env, state["env"])
                where = "in the middle of a step" if state["in_rollout"] else "by a model without an environment"
                raise EpisodeNotReplayedError(f"the checkpoint was left {where}")
            self._check_last_obs(self.env)
            set_env_state(self.env, state["env"])
        except EpisodeNotReplayedError as error:
            warnings.warn(f"the environment is not where it was, so new episodes begin: {shown(error, 1000)}")
            self._last_obs = self._last_masks = None

    def _checked_array(self, name: str, value: Any) -> np.ndarray:
        n_actions = self.action_space.n  # type: ignore[attr-defined]
        rows, dtype = (self.n_envs, np.bool_) if name == "_last_masks" else (len(self.action_counts), np.int64)
        if not isinstance(value, np.ndarray) or value.shape != (rows, n_actions) or value.dtype != dtype:
            raise UnsafeFileError(f"{name} is no array of shape {(rows, n_actions)}")
        return value

    def _check_last_obs(self, env: VecEnv) -> None:
        def check(obs: Any, space: spaces.Space[Any], normalized: bool) -> None:
            if isinstance(space, spaces.Dict):
                for key, part in space.spaces.items():
                    check(obs[key], part, normalized)
                return
            fits = isinstance(obs, np.ndarray) and obs.shape == (env.num_envs, *(space.shape or ()))
            if not fits or (not normalized and not np.can_cast(obs.dtype, np.dtype(space.dtype), "same_kind")):
                raise UnsafeFileError(f"the last observation is none of {space}")
            check_observations(obs, space, self.num_timesteps, normalized=normalized)

        normalize = self._vec_normalize_env
        without_bounds = normalize is not None or is_vecenv_wrapped(env, VecFrameStack)
        check(self._last_obs, env.observation_space, without_bounds)
        if normalize is not None:
            check(self._last_original_obs, normalize.venv.observation_space, is_vecenv_wrapped(env, VecFrameStack))

    def _begin_or_go_on(
        self, callback: BaseCallback, has_checkpoints: bool, callback_made: list[dict[str, Any]]
    ) -> None:
        """At the start of training, when callbacks have begun: restore what beginning would have changed."""
        self._callback, self._callback_start = callback, callback_numbers(callback) if has_checkpoints else []
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return
        hide_later_events(self.logger, self.num_timesteps)
        try:
            set_callback_data(callback, resumed.callbacks, callback_made)
            set_pending_logs(self.logger, resumed.state["pending_logs"])
            set_global_generators(resumed.state["generators"])
        except UnsafeFileError:
            raise
        except DAMAGED as error:
            raise UnsafeFileError(f"the checkpoint's state does not fit: {error!r}") from error

    def _excluded_save_params(self) -> list[str]:
        passing = ["_in_rollout", "_callback", "_callback_start", "_resumed", "_resumed_logs", "_log_mark"]
        of_its_own = ["exploration_rng", "action_counts", "_last_masks", "_learning_since"]
        return [*super()._excluded_save_params(), *of_its_own, *passing]
