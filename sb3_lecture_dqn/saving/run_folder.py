"""The folder of a run's logs: its creation for a new run, and the search for it by loaded models and resumed runs."""

import inspect
import pathlib
import re
import warnings
from datetime import datetime
from typing import Any

from sb3_contrib import QRDQN
from stable_baselines3.common.logger import Logger, configure

from sb3_lecture_dqn.common.checks import shown
from sb3_lecture_dqn.registration import TAXI_IDS
from sb3_lecture_dqn.saving.event_files import new_mark, write_as_last
from sb3_lecture_dqn.saving.logs import first_log, has_logs, is_log, rewind_logs

_LECTURE_ALGORITHM = "LectureDQN"
#: Keywords that are not in the name of a run: they have words of their own, or do not change what is learned
_NOT_NAMED = {
    *("self", "policy", "env", "seed", "store_and_replay", "double_dqn", "use_masking", "max_episode_steps"),
    *("train_freq", "replay_buffer_class", "tensorboard_log", "stats_window_size", "verbose", "device", "engine"),
    "_init_setup_model",
}
#: Most words for settings in a name, and most letters of a word
_MAX_WORDS, _MAX_WORD = 4, 40


def new_folder(root: pathlib.Path, name: str) -> pathlib.Path:
    """
    Make a new folder. Several processes may do this at the same time.

    :param root: Parent folder; it is made if it does not exist
    :param name: Name of the folder; ``_2``, ``_3``, … is added if the name exists
    :return: The new folder
    """
    root.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        folder = root / (name if attempt == 1 else f"{name}_{attempt}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            attempt += 1


def make_run_folder(model: Any) -> pathlib.Path:
    """
    Make the folder of a new run, see :meth:`LectureDQN.make_run_folder`.

    :param model: The model of the run
    :return: The new folder
    """
    return new_folder(_folder_of_runs(model), f"{run_name(model)}_{datetime.now():%Y-%m-%d_%H-%M-%S}")


def run_name(model: Any) -> str:
    """
    Name a run after its settings.

    :param model: The model of the run
    :return: The lecture's name, ``SR_<store_and_replay>_DD_<double_dqn>``, if nothing else differs from the lecture's
        run. Otherwise the environment, what differs and the seed, such as ``taxi-v3_tuned_masks_seed1``
    """
    words = _what_differs(model)
    is_of_lecture = model.env_id in (None, *TAXI_IDS) and type(model).__name__ == _LECTURE_ALGORITHM
    if is_of_lecture and not words:
        return f"SR_{model.store_and_replay}_DD_{model.double_dqn}"
    words.insert(0, "environment" if model.env_id is None else model.env_id.lower())
    if type(model).__name__ != _LECTURE_ALGORITHM:
        words.insert(1, type(model).__name__.removeprefix("Lecture").lower())
    words += [
        word for word, is_on in (("no-replay", model.store_and_replay), ("no-target", model.double_dqn)) if not is_on
    ]
    words += [] if model.seed is None else [f"seed{model.seed}"]
    # A file may say what the settings are, so they must not lead to another folder.
    return "_".join(re.sub(r"[^A-Za-z0-9.+=-]+", "-", word)[:_MAX_WORD].strip(".-") for word in words)


def _what_differs(model: Any) -> list[str]:
    """
    Return a word for each setting that differs from the constructor's default, except the switches.

    Of a tuned model, these are the settings that replaced recommended ones.
    """
    masks = ["masks"] if model.use_masking else []
    is_tuned = model._default_timesteps is not None
    words = []
    for name, parameter in inspect.signature(type(model).__init__).parameters.items():
        value = getattr(model, name, parameter.default)
        differs = name in model._tuned_with if is_tuned else value != parameter.default
        if name in _NOT_NAMED or parameter.kind is inspect.Parameter.VAR_KEYWORD or not differs:
            continue
        entries = value.items() if isinstance(value, dict) else [(name, value)]
        if issubclass(type(model), QRDQN):  # its constructor adds them
            entries = [entry for entry in entries if entry[0] not in ("optimizer_class", "optimizer_kwargs")]
        words += [f"{key}={entry}" if isinstance(entry, int | float | str) else key for key, entry in entries]
    policy = next((word for word, cls in model.policy_aliases.items() if cls is model.policy_class), "policy")
    before = ["tuned"] if is_tuned else [policy] if policy != "LecturePolicy" else []
    words = [*before, *masks, *words]
    return words if len(words) <= _MAX_WORDS else [*words[:_MAX_WORDS], f"and-{len(words) - _MAX_WORDS}-more"]


def _folder_of_runs(model: Any) -> pathlib.Path:
    return pathlib.Path(model.tensorboard_log or "runs")


def lecture_logger(model: Any, new_run: bool) -> Logger:
    """
    Make the logger of a run whose folder has the lecture's name.

    :param model: The model of the run
    :param new_run: Whether to make a new folder even if the model has one
    :return: The logger
    """
    folder = model._run_folder
    if new_run or folder is None or pathlib.Path(folder).parent != _folder_of_runs(model):
        model._run_folder = str(make_run_folder(model))
    return configure(model._run_folder, ["stdout", "tensorboard"] if model.verbose else ["tensorboard"])


def first_log_of(model: Any) -> str | None:
    """
    Find the first event file of a model's last training.

    :param model: The model
    :return: Its path relative to ``tensorboard_log``; ``None`` if there is none
    """
    if model.tensorboard_log is None or not hasattr(model, "_logger"):
        return model._log_file  # type: ignore[no-any-return]
    return first_log(model.logger, pathlib.Path(model.tensorboard_log)) or model._log_file


# The following functions never let a model write to a folder only because a file names it.


def keep_confirmed_folder(model: Any) -> None:
    """
    Keep the log folder of a loaded model only if it contains the logs of the model's last training.

    :param model: The model, with the settings of its file
    """
    root = model.tensorboard_log if model.tensorboard_log is not None else model._log_of_file
    model.tensorboard_log = model._log_of_file = None
    run, model._run_folder = model._run_folder, None
    if root is None:
        return
    if model._log_file is not None and is_log(pathlib.Path(root), model._log_file):
        model.tensorboard_log = root
        if run is not None and pathlib.Path(run).parent == pathlib.Path(root):
            model._run_folder = run
    else:
        model._log_of_file = str(root)  # for the warning by `warn_of_missing_logs`


def warn_of_missing_logs(model: Any) -> None:
    """
    Warn that a loaded model does not log because the logs that its file names do not exist.

    :param model: The model, when training begins
    """
    if model._log_of_file is not None and model.tensorboard_log is None and not model._custom_logger:
        warnings.warn(
            f"the model's file has tensorboard_log={shown(repr(model._log_of_file), 300)}, but this folder does not "
            "contain the logs of its training, so nothing is logged: use load(path, tensorboard_log=...) to log"
        )
        model._log_of_file = None


def keep_confirmed_run_folder(model: Any, folder: pathlib.Path | None, mark: str | None) -> None:
    """
    Keep the log folder of a resumed run only if it contains the logs of the run.

    :param model: The model of the run
    :param folder: Folder of the logs if the checkpoint is in it or below it, otherwise ``None``
    :param mark: The end of the names of the run's event files; ``None`` for checkpoints of versions before 2.0
    """
    if model.tensorboard_log is None:
        return
    run = None if model._run_folder is None else pathlib.Path(model._run_folder)
    as_named = run is not None and run.parent == pathlib.Path(model.tensorboard_log)
    if folder is not None:
        if not as_named or run.resolve() != folder:  # type: ignore[union-attr] # it may have been moved
            model.tensorboard_log, model._run_folder = str(folder.parent), str(folder)
    elif not as_named or not has_logs(run, mark):  # type: ignore[arg-type]
        warnings.warn(
            f"the logs of the run are neither with the checkpoint nor in {shown(run)}, so nothing is logged: "
            "use custom_objects={'tensorboard_log': ...} for new logs"
        )
        model.tensorboard_log = model._run_folder = None


def goes_on_in_its_logs(model: Any) -> bool:
    """
    Tell whether a resumed run will log to the folder of its earlier logs, and not to another one or none.

    :param model: The model, before its logger is made
    :return: Whether :func:`begin_logs` will cut these logs
    """
    if model._custom_logger:
        folder = model.logger.dir
    elif model.tensorboard_log is not None and model._run_folder is not None:
        folder = model._run_folder if pathlib.Path(model._run_folder).parent == _folder_of_runs(model) else None
    else:
        folder = None
    return folder is not None and pathlib.Path(folder).resolve() == model._resumed_logs


def begin_logs(model: Any) -> None:
    """
    Start event files of this run. For a resumed run, remove the steps after the checkpoint from its earlier files.

    :param model: The model, when its logger is made and nothing has been logged
    """
    resumed, folder = model._resumed, model._resumed_logs
    if resumed is None:
        if model._log_mark is None or model.num_timesteps == 0:
            model._log_mark = new_mark()
    elif model._log_mark is None:
        stored_mark = resumed.state.get("log_mark") or (resumed.state["logs"] or {}).get("mark")
        model._log_mark = stored_mark or new_mark()
    new_files = write_as_last(model.logger, model._log_mark)
    if folder is not None:
        folders = [file.parent.resolve() for file in new_files]
        if folder in folders:
            run = None if model.tensorboard_log is None else model._run_folder
            is_of_run = run is not None and pathlib.Path(run).resolve() == folder
            rewind_logs(folder, resumed.state["logs"], is_of_run, new_files)
        elif not folders and model.tensorboard_log is None:
            warnings.warn(
                f"the run logged to {folder} by a custom logger, which is not restored: set it again, as in "
                f"model.set_logger(configure({str(folder)!r}, ['tensorboard']))"
            )
    model._resumed_logs = None
