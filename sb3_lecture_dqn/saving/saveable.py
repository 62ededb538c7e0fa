"""The methods of a model that read and write files: those of SB3 without pickles, and those for checkpoints."""

import io
import pathlib
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import get_system_info
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.common.stock import stock_algorithm
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.checkpoint_file import Checkpoint
from sb3_lecture_dqn.saving.checkpoint_folder import newest_whole
from sb3_lecture_dqn.saving.files import written_whole
from sb3_lecture_dqn.saving.from_file import (
    fitting_weights,
    make_model,
    set_weights,
    settings_beside_stock,
    settings_for_stock,
)
from sb3_lecture_dqn.saving.memory_file import (
    is_archive,
    is_described_memory,
    memory_file,
    read_memory,
    write_memory,
)
from sb3_lecture_dqn.saving.model_env import update_env_settings
from sb3_lecture_dqn.saving.model_file import add_description, check_is_model, read_model, read_parameters
from sb3_lecture_dqn.saving.run_folder import first_log_of, keep_confirmed_folder
from sb3_lecture_dqn.saving.run_state import read_run, write_run
from sb3_lecture_dqn.saving.weights_checks import check_moments

SelfSaveable = TypeVar("SelfSaveable", bound="Saveable")


class Saveable(OffPolicyAlgorithm):
    """
    Base class with the methods that read and write files. They unpickle nothing unless the caller trusts the file.
    """

    #: The word by which files name the algorithm
    word_in_files: ClassVar[str]

    env_id: str | None
    max_episode_steps: int | None
    #: Whether ``buffer_size`` limits only the failures for all observation spaces, as in files of version 1
    _version_1_memory: bool
    #: Folder of the logs, if it has the lecture's name
    _run_folder: str | None = None
    #: The first event file of the last training, relative to `tensorboard_log`
    _log_file: str | None = None
    #: Folder of the logs that a file names, if nothing else confirms it
    _log_of_file: str | None = None
    #: The end of the names of this run's event files
    _log_mark: str | None = None
    #: The checkpoint from which the next call of `learn` continues, and the folder of its logs
    _resumed: Checkpoint | None = None
    _resumed_logs: pathlib.Path | None = None
    #: Callback of the last call of `learn`, and the numbers in it and its children when training started
    _callback: Any = None
    _callback_start: list[dict[str, Any]]
    #: Time of the call of `learn` by :func:`time.monotonic_ns`, moved forward by the time in which the run was stopped
    _learning_since: int | None = None
    #: Whether the model is in the middle of a rollout
    _in_rollout = False

    @classmethod
    def load(
        cls: type[SelfSaveable],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: gym.Env | VecEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfSaveable:
        """
        Load the model from a zip-file, without running code from the file.

        :param path: A file that :meth:`save` wrote (path or file-like)
        :param env: The new environment to run the loaded model on. If ``None``, the model can predict; :meth:`learn`
            makes a new environment if the model was made with an id
        :param device: Device on which the code should run
        :param custom_objects: Objects that replace settings of the file, by the names of the settings. They also
            replace functions and classes inside of settings: ``{"features_extractor_class": MyExtractor}`` keeps the
            rest of ``policy_kwargs``
        :param print_system_info: Whether to print system info from the saved model and the current system info
        :param force_reset: Whether to reset the environment before training
        :param trust: Whether to unpickle the file, as SB3 does. This runs any code in the file, so use it only for
            files from a known origin. It is needed for files of SB3's ``DQN``, and for models with custom functions or
            classes
        :param kwargs: Extra arguments to change the model when loading. Without ``tensorboard_log``, the model logs to
            the folder that the file names only if the logs of its last training are there: a file alone must not
            decide where this process writes
        :return: New model instance with loaded parameters
        :raises UnsafeFileError: If the file is damaged, contains no model of this class, or contains code as a setting
            that is not in ``custom_objects``; it is a ``ValueError``
        """
        stock = stock_algorithm(cls).__name__
        if trust:
            check_is_model(path, cls.__name__, stock)
            kwargs = {**settings_beside_stock(cls, path, custom_objects or {}), **kwargs}
            model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
            update_env_settings(model)
            return model
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
        settings, parameters = read_model(
            path, cls.__name__, cls.word_in_files, stock, cls.policy_aliases, custom_objects, print_system_info
        )
        model = make_model(cls, path, settings, parameters, env, device, force_reset, kwargs)
        if "tensorboard_log" not in {**kwargs, **(custom_objects or {})}:
            keep_confirmed_folder(model)
        return model

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save all the attributes of the object and the model parameters in a zip-file.

        The file has SB3's format, and also a description without pickles for :meth:`load`. An existing file is replaced
        only when the new one is complete and on the disk.

        :param path: Path to the file (or a file-like) where the model should be saved
        :param exclude: Names of attributes that should be excluded in addition to the default ones
        :param include: Names of attributes that might be excluded but should be included anyway
        """
        attributes = {**self.__dict__, "_log_file": first_log_of(self)}
        stock = object.__new__(type(self))  # a shallow copy with settings that stock SB3 understands
        stock.__dict__.update(attributes, **settings_for_stock(self))
        with written_whole(path, "zip") as file:
            super(Saveable, stock).save(file, exclude, include)  # type: ignore[arg-type]
            add_description(file, self.word_in_files, attributes, self.policy_aliases)

    def set_parameters(
        self,
        load_path_or_dict: Any,
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """
        Load parameters from a file, also one of stock SB3, or from a dictionary. Nothing is unpickled.

        :param load_path_or_dict: A file that :meth:`save` wrote, or a dictionary that :meth:`get_parameters` returned.
            In a file, weights must have the dtype of the network. In a dictionary, other floating-point dtypes are
            rounded to it
        :param exact_match: Whether all weights must be present
        :param device: Device on which the code should run
        :raises UnsafeFileError: If the file is damaged, or its weights do not fit
        :raises ValueError: If the weights of a dictionary do not fit; the message says which and why
        """
        if isinstance(load_path_or_dict, dict):
            if isinstance(state := load_path_or_dict.get("policy.optimizer"), dict):
                try:
                    check_moments(state.get("state", {}), self.policy.optimizer, exactly=False)
                except UnsafeFileError as error:
                    raise ValueError(str(error)) from None
                except (LookupError, TypeError, AttributeError):
                    pass  # not the state of this optimiser; PyTorch raises the error below
            fit = fitting_weights(self, load_path_or_dict, exact_match, from_file=False)
            super().set_parameters(fit, exact_match, device)
            return
        parameters = read_parameters(load_path_or_dict)
        try:
            set_weights(self, parameters, exact_match, device)
        except DAMAGED as error:
            raise UnsafeFileError(f"path={str(load_path_or_dict)!r}: {error}") from None

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """
        Save the replay buffer as arrays, in a file that ``numpy.load`` can also read.

        SB3's ``HerReplayBuffer`` and buffers of classes from outside this package are pickled as in SB3.

        :param path: Path to the file (or a file-like). A name without a suffix gets ``.npz``, or ``.pkl`` for a pickle
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
        Load a replay buffer from a file without unpickling. The buffer keeps the settings of this model.

        :param path: The argument ``path`` of :meth:`save_replay_buffer` (path or file-like)
        :param truncate_last_traj: See SB3's ``load_replay_buffer``, for ``HerReplayBuffer``
        :param trust: Whether to unpickle a file without arrays, as SB3 does. This runs any code in the file
        :raises UnsafeFileError: If the file is damaged, does not fit this model, or is a pickle without ``trust``
        """
        if self.replay_buffer is None:
            self._make_replay_buffer()  # type: ignore[attr-defined]
        path = memory_file(path, self.replay_buffer)
        if trust and not is_archive(path):
            super().load_replay_buffer(path, truncate_last_traj)
            return
        self.replay_buffer = read_memory(path, self.replay_buffer)
        self.replay_buffer.device = self.device

    def save_checkpoint(self, path: str | pathlib.Path) -> None:
        """
        Save a checkpoint of the training run, for :meth:`resume`.

        In addition to the content of :meth:`save`, it contains the replay memory, all random generators, the positions
        of the environments in their episodes, and the state of the callbacks of :meth:`learn`. The file appears when it
        is complete and on the disk.

        :param path: Path to the file; ``.zip`` is added to a name without a suffix
        :raises ValueError: If the model is in the middle of a rollout, as in a callback or after an exception; use
            :class:`LectureCheckpointCallback`, which waits for the end of the rollout. Also if the replay memory is of
            a class that cannot be described as data
        :raises DivergedError: If weights are not finite
        """
        if self._resumed is not None:
            raise ValueError("the model was resumed and not trained since: its state is that of the resumed checkpoint")
        if self._in_rollout:
            raise ValueError(
                "a checkpoint can only be saved between two rollouts, but the model is in the middle of one, or a "
                "callback ended its training there: use LectureCheckpointCallback, which waits for the end of a rollout"
            )
        write_run(self, pathlib.Path(path))

    @classmethod
    def resume(
        cls: type[SelfSaveable],
        path: str | pathlib.Path,
        env: gym.Env | VecEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        exact: bool = True,
    ) -> SelfSaveable:
        """
        Load the model of a training run that was stopped, so that :meth:`learn` continues as if it had not stopped.

        The first call of :meth:`learn` continues the call that was stopped. Pass the same callbacks. Without a budget,
        it ends where the stopped call would have ended; a new budget counts from the start of the stopped call. If the
        checkpoint is in the folder of the run or below, as by default, this call removes what the run has written to
        TensorBoard after the checkpoint; it does not change the logs of other runs.

        Unlike a file of :meth:`save`, a checkpoint contains no code: pass custom functions and classes as
        ``custom_objects``. Nothing is unpickled.

        :param path: A checkpoint, a folder of checkpoints, or the folder of a run. Of several the newest is used; a
            damaged one is passed over, with a warning
        :param env: An environment that was made and wrapped like the one of the run. If ``None``, it is made by the id
            of the run's environment. If its position in the episode cannot be restored, it is reset, with a warning
        :param device: Device on which the code should run; ``"auto"`` for the one that the run was on, if there is one
        :param custom_objects: As for :meth:`load`
        :param exact: Whether to refuse a checkpoint if the run would go on with other rounding: by another engine,
            unless ``custom_objects`` has one, by another version of the compiled engine, such as that of 1.0, or on
            another kind of processor or GPU. With it, a run that PyTorch computed goes on by PyTorch
        :return: A model in the middle of its training
        :raises UnsafeFileError: If all checkpoints are damaged, or the one to use does not fit this algorithm
        :raises FileNotFoundError: If there is no checkpoint
        :raises ValueError: If ``env`` is needed, or differs from the environment of the run
        :raises OtherArithmeticError: A ``ValueError``, see ``exact``
        """
        return read_run(cls, newest_whole(path), env, device, custom_objects, exact)  # type: ignore[no-any-return]

    def set_env(self, env: gym.Env | VecEnv, force_reset: bool = True) -> None:
        """
        Set the environment to train on, as in SB3.

        :param env: The environment. Files that are saved later do not contain its id, so it must be passed again after
            loading, unless the model has this environment already
        :param force_reset: Whether to reset the environment before training
        """
        old_env = self.env
        super().set_env(env, force_reset)
        if self.env is not old_env:
            update_env_settings(self)

    def _excluded_save_params(self) -> list[str]:
        of_a_run = ["_resumed", "_resumed_logs", "_callback", "_callback_start", "_learning_since", "_in_rollout"]
        return [*super()._excluded_save_params(), "_log_mark", *of_a_run]
