"""The settings and final results of a run in TensorBoard's tab HParams, and a note on its axes in the tab Text."""

import contextlib
import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.type_aliases import TrainFreq
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from sb3_lecture_dqn.envs.tabular import NotTabularError
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError
from sb3_lecture_dqn.evaluation.environment import tabular_env
from sb3_lecture_dqn.evaluation.like_model import step_limit_of
from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD, exact_test_on
from sb3_lecture_dqn.saving.logs import outliving_full_disks
from sb3_lecture_dqn.training.due import Due, check_is_called_itself

#: Attributes that are shown besides the keywords of the constructor
_MORE_ATTRIBUTES = ("env_id", "env_wrapper", "n_envs", "engine_in_use")
#: Keywords that are not shown: they say nothing about the training, or are shown in another way
_HIDDEN_KEYWORDS = {"self", "policy", "env", "tensorboard_log", "verbose", "_init_setup_model"}

#: The note in the tab Text, in Markdown
X_AXES = """\
The horizontal axis of the curves counts one of two things:

| curves | the axis counts |
|---|---|
| `Steps`, `Penalty`, `Reward`, `Solved` (the lecture's test) | finished **episodes** |
| all others, histograms and images | environment **steps** |

So 5000 on one axis and 400,000 on the other can be the same moment. In the lecture's run, an
episode has up to 1000 steps at first and about 13 at the end."""


def model_settings(model: Any) -> dict[str, int | float | str]:
    """
    Return the settings of a model for TensorBoard: every keyword of its constructor, and the entries of dictionaries.

    :param model: The model
    :return: Finite numbers as numbers, all other values as text, by name
    """
    settings: dict[str, Any] = {
        "algorithm": type(model).__name__,
        "policy": type(model.policy).__name__,
        "optimizer": type(model.policy.optimizer).__name__,
    }
    for name in (*_keywords(type(model)), *_MORE_ATTRIBUTES):
        attribute = name if hasattr(model, name) else f"_{name}"  # SB3 stores `stats_window_size` with an underscore
        if name not in _HIDDEN_KEYWORDS and hasattr(model, attribute):
            settings[name] = getattr(model, attribute)
    for name, value in list(settings.items()):
        _add_entries(settings, name, value)
    return {name: _number_or_text(value) for name, value in settings.items()}


def _keywords(cls: type) -> list[str]:
    """Return the keywords of a constructor. If it has ``**kwargs``, add the keywords of its base class."""
    keywords: dict[str, None] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
            keywords |= dict.fromkeys(parameter.name for parameter in parameters if parameter.kind in named)
            if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
                break
    return list(keywords)


def _add_entries(settings: dict[str, Any], name: str, value: Any) -> None:
    """Add every entry of a dictionary as a setting, so that runs can be sorted and compared by it."""
    for key, entry in value.items() if isinstance(value, dict) else ():
        entry_name = str(key) if str(key) not in settings else f"{name}.{key}"
        settings[entry_name] = entry
        _add_entries(settings, entry_name, entry)


def _number_or_text(value: Any) -> int | float | str:
    plain = value.item() if isinstance(value, np.generic) else value
    # As text, because torch would write True as 1.0
    return plain if type(plain) in (int, float) and math.isfinite(plain) else _text(plain)


def _text(value: Any) -> str:
    """Describe a value, in the same way in every run: without addresses in memory."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, TrainFreq):
        return f"{value.frequency} {value.unit.value}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, type):
        return value.__name__
    if callable(value):  # a schedule
        name = getattr(value, "__qualname__", type(value).__qualname__)
        with contextlib.suppress(Exception):
            return f"{name}: {', '.join(f'{value(progress):g}' for progress in (1.0, 0.5, 0.0))}"
        return name
    return str(value) if type(value).__repr__ is not object.__repr__ else type(value).__name__  # type: ignore[comparison-overlap]


class HParamsCallback(BaseCallback):
    """
    Writes to two tabs of TensorBoard.

    - *HParams*: the settings, and at the end of training ``final/*``: on tabular environments with a step limit the
      results of :func:`exact_test`, else the means of the last training episodes.
    - *Text*: what the x axes of the curves count.

    The command `train` uses it in every run.

    :raises ValueError: At the start of training, if the model's logger does not write to TensorBoard
    """

    def _on_training_start(self) -> None:
        check_is_called_itself(self)
        model = self.model
        self.writer = _writer(self.logger.output_formats, type(self).__name__)
        self.limit: int | None = None
        self.tabular: TabularVecEnv | None = None
        try:
            self.tabular = tabular_env(model, None, None)
        except NotTabularError:
            pass
        except CannotCopyError as error:
            self._has_no_table(error)
        else:
            self.limit = step_limit_of(self.tabular)
        metrics = ["reward", "steps"] + ["penalties", "success_rate", "optimality"] * (self.limit is not None)
        self._hparams = hparams(model_settings(model), {f"final/{metric}": 0.0 for metric in metrics})
        self._prepare()
        if self.num_timesteps == 0 and getattr(model, "_resumed", None) is None:  # a resumed run has its beginning
            self._begin_run()

    def _has_no_table(self, error: CannotCopyError) -> None:
        """Do nothing: the final figures are those of training."""

    def _prepare(self) -> None:
        """Do nothing. A subclass prepares what it writes."""

    def _begin_run(self) -> None:
        experiment, session_start, _ = self._hparams
        self._events.add_summary(experiment)
        self._events.add_summary(session_start)
        self.writer.add_text("x axes of the curves", X_AXES, 0)

    @property
    def _events(self) -> Any:
        return self.writer.file_writer

    @property
    def _is_open(self) -> bool:
        """Whether the logger still writes to this writer; it does not after a full disk."""
        return any(getattr(output, "writer", None) is self.writer for output in self.logger.output_formats)

    def _on_step(self) -> bool:
        return True

    def next_due(self) -> Due:
        """
        Return that no call is due, see :class:`Due`.

        :return: Never
        """
        return Due()

    def _on_training_end(self) -> None:
        if self._is_open:
            with outliving_full_disks(self.logger):
                self._write_end()
                self.writer.flush()

    def _write_end(self) -> None:
        self._write_final()

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint.

        :return: An empty dictionary
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Do nothing, since there is no state.

        :param state: Return value of :meth:`get_state`
        """

    def _scalar(self, name: str, value: float) -> None:
        self.writer.add_scalar(name, value, self.num_timesteps)

    def _write_final(self) -> None:
        if self.tabular is not None and self.limit is not None:
            result = exact_test_on(self.model, self.tabular, self.limit, PENALTY_REWARD)
            final: dict[str, float | None] = {
                "reward": result.mean_reward,
                "steps": result.mean_steps,
                "penalties": result.mean_penalties,
                "success_rate": result.success_rate,
                "optimality": result.optimality,
            }
        else:
            episodes: list[dict[str, float]] = list(self.model.ep_info_buffer or [])
            final = {
                name: float(np.mean([episode[key] for episode in episodes])) if episodes else None
                for name, key in (("reward", "r"), ("steps", "l"))
            }
        for name, value in final.items():
            if value is not None:
                self._scalar(f"final/{name}", value)
        self._events.add_summary(self._hparams[2])


def _writer(outputs: Sequence[Any], purpose: str) -> SummaryWriter:
    for output in outputs:
        if isinstance(output, TensorBoardOutputFormat):
            return output.writer
    raise ValueError(
        f"{purpose}: the model's logger does not write to TensorBoard; give the model a "
        "tensorboard_log, or a logger with the format 'tensorboard'"
    )
