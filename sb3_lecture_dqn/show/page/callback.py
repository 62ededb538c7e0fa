"""The callback that records a training for its page."""

import pathlib
import sys
import warnings
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.common.checks import check_number, parse_frequency
from sb3_lecture_dqn.common.run_files import RECORDING
from sb3_lecture_dqn.envs.tabular import NotTabularError
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError
from sb3_lecture_dqn.show.page.moment import Moment, Taker
from sb3_lecture_dqn.show.page.recording import Entry, Recording
from sb3_lecture_dqn.show.page.world import World
from sb3_lecture_dqn.training.algorithm import LectureAlgorithm
from sb3_lecture_dqn.training.callbacks import LectureTestCallback
from sb3_lecture_dqn.training.due import Due, check_is_called_itself
from sb3_lecture_dqn.training.schedule import Every

#: Moments of a recording, at most, and as many as there may be of large networks
MAX_MOMENTS, MIN_MOMENTS = 400, 50
#: Bytes of a recording: more would make the training longer by more than a few hundredths
MAX_BYTES = 36_000_000
#: Steps between two recorded copies of the target network, at least, if the interval is in steps
_STEPS_BETWEEN_COPIES = 200


def check_can_be_shown(model: Any) -> World:
    """
    Check that there can be a page of a model.

    :param model: The model, with its environment
    :return: Its environment, as a page shows it
    :raises ValueError: If the model is not of this package
    :raises NotTabularError: If its environment is not tabular; the message says why
    """
    if not isinstance(model, LectureAlgorithm):
        raise ValueError(f"a page shows models of LectureDQN and LectureQRDQN, not {type(model).__name__}")
    try:
        return World.of_model(model)
    except (NotTabularError, CannotCopyError) as error:
        raise NotTabularError(f"a page shows tabular environments only: {error}") from error


class LecturePageCallback(BaseCallback):
    """
    Record a training for its page, see :func:`write_page`.

    It takes a *moment* at the start, at every test, at every copy of the target network and at the end: the weights,
    the state of the optimiser, what the replay memory holds, the transitions that were drawn last, ε and the counters.
    Everything else is computed when the page is written, so that the training takes hardly longer; it does not change
    by a bit. If the training diverges, the last valid moment is marked.

    A recording has at most 400 moments, and at most about 36 MB: of large networks it has fewer moments, but 50 at
    least. If there are more copies of the target network than fit beside the tests, only every second, third, … copy is
    recorded; if there are more tests than fit, likewise. If that is not known before, as with copies by steps and a
    budget in episodes, every second one is removed when there is no more room.

    A run that is resumed goes on with its recording: moments later than the checkpoint are removed.

    :param save_path: The folder of the run, in which a folder ``recording`` is made. ``None``: that of the logs
    :param test_freq: Interval of the moments of tests, as in :class:`LectureTestCallback`. ``None``: that of the
        :class:`LectureTestCallback` beside it; without one, every 50th episode and the first
    :raises ValueError: If an argument is out of range; at the start of training, if the model is not of this package,
        its environment is not tabular (the message says why), it has no folder, or the folder has the recording of
        another run
    """

    def __init__(
        self, save_path: str | pathlib.Path | None = None, test_freq: int | tuple[int, str] | None = None
    ) -> None:
        super().__init__()
        self.save_path = None if save_path is None else pathlib.Path(save_path)
        self.test_freq = None if test_freq is None else parse_frequency("test_freq", test_freq)
        self.recording: Recording | None = None

    def _on_training_start(self) -> None:
        check_is_called_itself(self)
        model: Any = self.model
        world = check_can_be_shown(model)
        is_resumed = model._resumed is not None
        self._taker = Taker(model, world.table, 0 if is_resumed else model._n_updates)
        first = self._taker.take(["start"])
        self._make_intervals(first.n_bytes())
        self.recording = Recording(self._folder())
        if self.recording.exists() and not is_resumed and model.num_timesteps == 0:
            raise ValueError(
                f"{self.recording.folder} has the recording of another run: remove it, or choose another save_path"
            )
        self._is_open = True
        self._outliving(lambda recording: self._begin(recording, world, first, is_resumed))

    def _begin(self, recording: Recording, world: World, first: Moment, is_resumed: bool) -> None:
        step = self.model.num_timesteps
        is_new = step == 0 or not recording.exists()
        if is_new:
            recording.go_on(0)
            recording.begin(self.model, world.description())
        else:  # a training that is continued keeps the end of the one before
            recording.go_on(step if is_resumed else step + 1)
        is_there = is_resumed or any(entry.step == step for entry in recording.entries)
        if is_new or not is_there:
            recording.add(first)

    def _folder(self) -> pathlib.Path:
        model: Any = self.model
        if self.save_path is not None:
            return self.save_path / RECORDING
        if model.logger.dir is None or (model.tensorboard_log is None and not model._custom_logger):
            raise ValueError("save_path=None, but the model logs to no folder: set save_path or tensorboard_log")
        return pathlib.Path(model.logger.dir) / RECORDING

    def _test_interval(self) -> tuple[int, str]:
        if self.test_freq is not None:
            return self.test_freq
        root = self.locals.get("callback")
        beside = callback_tree(root) if isinstance(root, BaseCallback) else ()
        return next((child.test_freq for child in beside if isinstance(child, LectureTestCallback)), (50, "episode"))

    def _copy_interval(self) -> tuple[int, str] | None:
        model: Any = self.model
        online, target = model.network_names
        if vars(model)[online] is vars(model)[target]:
            return None
        return parse_frequency("target_update_interval", model.target_update_interval)

    def _make_intervals(self, n_bytes: int) -> None:
        """Choose which tests and copies of the target network are recorded, and count from here."""
        self._most = min(MAX_MOMENTS, max(MIN_MOMENTS, MAX_BYTES // n_bytes))
        tests, copies = self._test_interval(), self._copy_interval()
        self._intervals = {"test": Every(*tests, first=tests[1] == "episode")}
        if copies is not None:
            self._intervals["target_copy"] = Every(*copies)
        #: Steps or episodes between two events, and how many events stand for each that is recorded
        self._units = {name: every.n for name, every in self._intervals.items()}
        self._strides = dict.fromkeys(self._intervals, 1)
        # Beside the start, the first episode and the end, an eighth is for copies if there are as many tests
        room = {"test": self._most * 7 // 8 - 3, "target_copy": self._most - 3}
        for name, every in self._intervals.items():
            n_events = self._events_in_budget(every)
            if n_events is None:
                least = _STEPS_BETWEEN_COPIES if every.unit == "step" else 1
                self._strides[name] = max(1, -(-least // every.n))
            else:
                self._strides[name] = max(1, -(-n_events // room[name]))
                room["target_copy"] -= n_events // self._strides[name]
            every.n *= self._strides[name]
            every.start(self.model.num_timesteps, self.model._episode_num)

    def _events_in_budget(self, every: Every) -> int | None:
        """Compute how many intervals the budget has; ``None`` if it is counted in the other unit."""
        budget: Any = self.model._budget  # type: ignore[attr-defined]
        if every.unit == "episode":
            return None if budget.until_episode is None else (budget.until_episode - budget.episodes_before) // every.n
        return None if budget.until_steps == sys.maxsize else (budget.until_steps - budget.steps_before) // every.n

    def _on_rollout_start(self) -> None:  # after the updates that followed the last rollout
        counts = self.num_timesteps, self.model._episode_num
        why = [name for name, every in self._intervals.items() if every.due(*counts)]
        if why:
            self._record(why, has_updated=True)

    def _on_step(self) -> bool:
        return True

    def next_due(self) -> Due:
        """
        Return when the next moment is due, see :class:`Due`.

        :return: The earlier of the next test and the next copy of the target network
        """
        due = Due()
        for every in self._intervals.values():
            due = due.or_before(every.from_now(self.num_timesteps, self.model._episode_num))
        return due

    def _on_training_end(self) -> None:
        model: Any = self.model
        counts = self.num_timesteps, self.model._episode_num
        self._record(
            [*(name for name, every in self._intervals.items() if every.due(*counts)), "end"],
            not model._in_rollout,
        )

    def on_diverged(self) -> None:
        """Record the last moment of a training that has diverged; ``learn`` calls this before it raises the error."""
        self._record(["diverged"], has_updated=False)

    def _record(self, why: list[str], has_updated: bool) -> None:
        def add(recording: Recording) -> None:
            same = next((entry.why for entry in recording.entries if entry.step == self.num_timesteps), [])
            recording.add(self._taker.take([*same, *(word for word in why if word not in same)], has_updated))
            self._thin(recording)

        self._outliving(add)

    def _outliving(self, write: Any) -> None:
        """Write to the recording; if that fails, as on a full disk, warn and go on without it."""
        if not self._is_open or self.recording is None:
            return
        try:
            write(self.recording)
        except OSError as error:
            self._is_open = False
            warnings.warn(f"{self.recording.folder}: recording stops, and training goes on without it: {error}")

    def _thin(self, recording: Recording) -> None:
        """Remove every second copy of the target network if there are too many moments; without copies, also tests."""
        while len(recording.entries) > self._most:
            n_copies = sum(entry.why == ["target_copy"] for entry in recording.entries)
            for name in ["target_copy"] if n_copies > 1 else self._intervals:
                self._strides[name] *= 2
                self._intervals[name].n *= 2
            left_out = [e for e in recording.entries if all(self._is_left_out(word, e) for word in e.why)]
            recording.remove(left_out)

    def _is_left_out(self, word: str, entry: Entry) -> bool:
        """Whether the event for which a moment was taken is no longer recorded."""
        if word not in self._intervals:
            return False
        n_events = self._intervals[word].count(entry.step, entry.episode) // self._units[word]
        return n_events % self._strides[word] != 0

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint.

        :return: How far the intervals have counted, and how many events stand for each that is recorded
        """
        counts = self.num_timesteps, self.model._episode_num
        return {
            name: {"counted": every.get_state(*counts), "stride": self._strides[name]}
            for name, every in self._intervals.items()
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Continue from the state of another callback.

        :param state: The state that its :meth:`get_state` returned
        """
        for name, every in self._intervals.items():
            check_number(f"stride of {name}", state[name]["stride"], 1, integer=True)
            self._strides[name] = state[name]["stride"]
            every.n = self._units[name] * self._strides[name]
            every.set_state(state[name]["counted"])
