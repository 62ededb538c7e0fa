"""What a model has of files: the methods of SB3, without pickles, and those for runs that are stopped and go on."""

import io
import pathlib
from collections.abc import Iterable
from typing import Any, TypeVar

import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import get_system_info

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.common.stock import stock_algorithm
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
from sb3_lecture_dqn.saving.model_env import know_env
from sb3_lecture_dqn.saving.model_file import add_description, check_is_model, read_model, read_parameters
from sb3_lecture_dqn.saving.run_folder import first_log_of, log_where_it_did
from sb3_lecture_dqn.saving.run_state import read_run, write_run
from sb3_lecture_dqn.saving.torch_file import DAMAGED
from sb3_lecture_dqn.saving.weights_checks import check_moments

SelfSaveable = TypeVar("SelfSaveable", bound="Saveable")


class Saveable(OffPolicyAlgorithm):
    """
    The methods of a DQN of SB3 or sb3-contrib that write and read files. Nothing is unpickled unless a file is trusted.
    """

    env_id: str | None
    max_episode_steps: int | None
    #: Whether ``buffer_size`` bounds failures only, whatever the observations are: so it was in files of version 1
    _version_1_memory: bool
    #: Where the model logs, if the folder has the lecture's name
    _run_folder: str | None = None
    #: The first event file that TensorBoard wrote of the last training, below `tensorboard_log`
    _log_file: str | None = None
    #: Where a file says that the model logs, and nothing else does
    _log_of_file: str | None = None
    #: The end of the names of this run's event files
    _log_mark: str | None = None
    #: What is left to restore when `learn` goes on with a run, and where the logs of that are
    _resumed: Checkpoint | None = None
    _resumed_logs: pathlib.Path | None = None
    #: Callback of the last call of `learn`, and the numbers of it and its children at its start
    _callback: Any = None
    _callback_start: list[dict[str, Any]]
    #: When `learn` was called, by :func:`time.monotonic_ns`, without the time in which the run was stopped
    _learning_since: int | None = None
    #: Whether the model is in the middle of a rollout
    _in_rollout = False

    @classmethod
    def load(
        cls: type[SelfSaveable],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfSaveable:
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
        algorithm = stock_algorithm(cls).__name__
        if trust:
            check_is_model(path, cls.__name__, algorithm)
            kwargs = {**settings_beside_stock(cls, path, custom_objects or {}), **kwargs}
            model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
            know_env(model)
            return model
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
        settings, parameters = read_model(
            path, cls.__name__, algorithm, cls.policy_aliases, custom_objects, print_system_info
        )
        model = make_model(cls, path, settings, parameters, env, device, force_reset, kwargs)
        if "tensorboard_log" not in {**kwargs, **(custom_objects or {})}:
            log_where_it_did(model)
        return model

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
        attributes = {**self.__dict__, "_log_file": first_log_of(self)}
        stock = object.__new__(type(self))  # a view of the model, to be written as stock SB3 understands it
        stock.__dict__.update(attributes, **settings_for_stock(self))
        with written_whole(path, "zip") as file:
            super(Saveable, stock).save(file, exclude, include)  # type: ignore[arg-type]
            add_description(file, stock_algorithm(type(self)).__name__, attributes, self.policy_aliases)

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
            self._make_replay_buffer()  # type: ignore[attr-defined]
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
        write_run(self, pathlib.Path(path))

    @classmethod
    def resume(
        cls: type[SelfSaveable],
        path: str | pathlib.Path,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
    ) -> SelfSaveable:
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
        return read_run(cls, newest_whole(path), env, device, custom_objects)  # type: ignore[no-any-return]

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
            know_env(self)

    def _excluded_save_params(self) -> list[str]:
        of_a_run = ["_resumed", "_resumed_logs", "_callback", "_callback_start", "_learning_since", "_in_rollout"]
        return [*super()._excluded_save_params(), "_log_mark", *of_a_run]
