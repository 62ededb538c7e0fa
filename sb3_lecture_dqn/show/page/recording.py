"""
The recording of a training: a folder with a file of its moments, and one of what is needed to read them later.

The files are quick to write: nothing is compressed, and nothing waits for the disk. After a power cut the last moments
may be damaged; they are then left out, with a warning.
"""

import json
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_lecture_dqn.algorithms import ALGORITHMS
from sb3_lecture_dqn.common.checks import UnsafeFileError, check_finite, check_number
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.codec import ArraysInOrder, decode, encode
from sb3_lecture_dqn.saving.files import parse_json
from sb3_lecture_dqn.saving.from_file import make_model
from sb3_lecture_dqn.saving.model_file import DERIVED, decoded_settings
from sb3_lecture_dqn.saving.weights import with_tensors
from sb3_lecture_dqn.show.page.moment import WHY, Moment, on_cpu
from sb3_lecture_dqn.show.page.record_file import Record, RecordFile, read_records

RECORDING_VERSION = 1
_RUN, _MOMENTS = "run.bin", "moments.bin"
#: Fields of a moment that are JSON, and those that are arrays
_PLAIN = ("step", "episode", "why", "epsilon", "n_successes", "n_failures", "drawn")
_ARRAYS = ("held", "successes", "sample", "drawn_rows")


class Entry(NamedTuple):
    """
    A moment in a recording.

    :param step: Environment steps so far
    :param episode: Episodes that have ended
    :param why: Why it was taken
    """

    step: int
    episode: int
    why: list[str]


class Recording:
    """
    A folder of moments.

    :param folder: It need not exist
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        #: The moments, in the order of time
        self.entries: list[Entry] = []
        self._file = RecordFile(folder / _MOMENTS)

    def exists(self) -> bool:
        """
        Look whether there is a recording.

        :return: Whether the folder has one
        """
        return (self.folder / _RUN).is_file() and self._file.path.is_file()

    def begin(self, model: Any, world: dict[str, Any]) -> None:
        """
        Begin a recording.

        :param model: The model
        :param world: The description of its environment
        :raises OSError: If a file cannot be written
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        left_out = {*model._excluded_save_params(), *DERIVED, "ep_info_buffer", "ep_success_buffer"}
        settings = {name: value for name, value in vars(model).items() if name not in left_out}
        value = {
            "algorithm": model.word_in_files,
            "settings": encode(settings, model.policy_aliases),
            "parameters": with_tensors(model.get_parameters(), on_cpu),
            "world": world,
        }
        arrays = ArraysInOrder()
        described = {"version": RECORDING_VERSION, "value": encode(value, {}, arrays.put)}
        _write(self.folder / _RUN, described, [numbers.data for numbers in arrays.contents])

    def add(self, moment: Moment) -> None:
        """
        Add a moment.

        :param moment: The moment; one of the same step is replaced
        :raises OSError: If it cannot be written
        """
        groups, state = moment.optimizer["param_groups"], moment.optimizer["state"]
        arrays = {f"online/{name}": array for name, array in moment.online.items()}
        arrays |= {f"target/{name}": array for name, array in (moment.target or {}).items()}
        arrays |= {name: getattr(moment, name) for name in _ARRAYS if getattr(moment, name) is not None}
        rest: dict[str, dict[str, Any]] = {}
        for number, entries in state.items():
            for name, entry in entries.items():
                if isinstance(entry, th.Tensor):
                    arrays[f"optimizer/{number}/{name}"] = entry.numpy()
                else:
                    rest.setdefault(str(number), {})[name] = entry
        plain = {name: getattr(moment, name) for name in _PLAIN}
        self._file.append({"version": RECORDING_VERSION, **plain}, encode([groups, rest], {}), arrays)
        entry = Entry(moment.step, moment.episode, moment.why)
        self.entries = [other for other in self.entries if other.step != moment.step] + [entry]

    def go_on(self, before: float) -> None:
        """
        Take up a recording.

        :param before: Moments of this step or later are removed: the run was stopped after it, and goes on from there
        """
        entries: dict[int, Entry] = {}
        end = 0
        for record in self._records(lambda _: None):
            step = record.described["step"]
            if step >= before:
                break
            end = record.end
            if "removed" in record.described:
                for removed in record.described["removed"]:
                    entries.pop(removed, None)
            else:
                entries[step] = Entry(step, record.described["episode"], list(record.described["why"]))
        self.entries = list(entries.values())
        self._file.cut(end)

    def remove(self, entries: list[Entry]) -> None:
        """
        Remove moments. The file says that they are removed, and keeps their bytes.

        :param entries: Some of :attr:`entries`
        :raises OSError: If the file cannot be written
        """
        steps = [entry.step for entry in entries]
        self._file.append({"version": RECORDING_VERSION, "step": self.entries[-1].step, "removed": steps}, None, {})
        self.entries = [entry for entry in self.entries if entry not in entries]

    def run(self) -> tuple[Any, dict[str, Any]]:
        """
        Read what :meth:`begin` has written.

        :return: A model with the settings and networks of the run, and the description of its environment
        :raises UnsafeFileError: If the file is damaged, or has settings that are code
        """
        path = self.folder / _RUN
        described, numbers = _read(path)
        left = memoryview(numbers)

        def take(_: dict[str, Any], n_bytes: int) -> bytes:
            nonlocal left
            if n_bytes > len(left):
                raise UnsafeFileError("it ends before its arrays do")
            taken, left = bytes(left[:n_bytes]), left[n_bytes:]
            return taken

        try:
            value: dict[str, Any] = decode(described["value"], {}, take=take)
            classes = {algorithm.cls.word_in_files: algorithm.cls for algorithm in ALGORITHMS.values()}
            cls: Any = classes[value["algorithm"]]
            settings = decoded_settings(value["settings"], cls.policy_aliases, {}, way_on="")
            check_finite(value["parameters"])
            return make_model(cls, path, settings, value["parameters"], None, "auto", False, {}), value["world"]
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path}: {error}") from None
        except DAMAGED as error:
            raise UnsafeFileError(f"{path} is damaged: {error!r}") from None

    def moments(self) -> list[Moment]:
        """
        Read the moments. Of damaged ones, warn.

        :return: The moments, in the order of time
        """
        moments: dict[int, Moment] = {}
        damages: list[str] = []
        for record in self._records(damages.append):
            for step in record.described.get("removed", ()):
                moments.pop(step, None)
            if "removed" not in record.described:
                try:
                    moment = _moment(record)
                    moments[moment.step] = moment
                except UnsafeFileError as error:
                    damages.append(str(error))
        if damages:
            others = f", and {len(damages) - 1} others" if len(damages) > 1 else ""
            warnings.warn(f"{self._file.path}: a damaged moment is left out{others}: {damages[0]}")
        return list(moments.values())

    def _records(self, note_damage: Callable[[str], None]) -> Iterator[Record]:
        for record in read_records(self._file.path, note_damage) if self._file.path.is_file() else ():
            described = record.described if isinstance(record.described, dict) else {}
            version = described.get("version")
            if version != RECORDING_VERSION:
                return note_damage(f"it is of version {version}, and this package reads version {RECORDING_VERSION}")
            kinds: dict[str, type] = {"removed": list} if "removed" in described else {"episode": int, "why": list}
            needed = {"step": int, **kinds}
            if not all(isinstance(described.get(name), kind) for name, kind in needed.items()):
                note_damage("it does not say when it was and why")
                continue
            yield record


def _write(path: pathlib.Path, described: dict[str, Any], contents: Sequence[memoryview]) -> None:
    """Write a file: the length of the JSON, the JSON, and the numbers of the arrays one after the other."""
    text = json.dumps(described).encode()
    path.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *contents]))


def _read(path: pathlib.Path) -> tuple[dict[str, Any], bytes]:
    """Read the JSON of a file, and the bytes after it."""
    try:
        content = path.read_bytes()
        n = int.from_bytes(content[:8], "little")
        described: dict[str, Any] = parse_json(content[8 : 8 + n])
        if described.get("version") != RECORDING_VERSION:
            raise UnsafeFileError(f"it is of version {described.get('version')}, and this package reads version 1")
        return described, content[8 + n :]
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path}: {error}") from None
    except (AttributeError, *DAMAGED) as error:
        raise UnsafeFileError(f"{path} is no part of a recording, or it is damaged: {error!r}") from None


def _moment(record: Record) -> Moment:
    """Make a moment of a record."""
    described, arrays = record.described, record.arrays
    try:
        groups, state = decode(record.common, {})
        of_optimizer: dict[int, dict[str, Any]] = {int(number): dict(entries) for number, entries in state.items()}
        for name, array in _under("optimizer/", arrays).items():
            number, _, entry = name.partition("/")
            of_optimizer.setdefault(int(number), {})[entry] = th.tensor(array)
        return _checked(
            Moment(
                **{name: described[name] for name in _PLAIN},
                **{name: arrays.get(name) for name in _ARRAYS},  # type: ignore[arg-type]
                online=_under("online/", arrays),
                target=_under("target/", arrays) or None,
                optimizer={"state": of_optimizer, "param_groups": groups},
            )
        )
    except DAMAGED as error:
        reason = str(error) if isinstance(error, UnsafeFileError) else repr(error)
        raise UnsafeFileError(f"moment at step {described.get('step')}: {reason}") from None


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _checked(moment: Moment) -> Moment:
    """Check the numbers of a moment that do not depend on the model."""
    try:
        for name in ("step", "episode", "n_successes", "n_failures"):
            check_number(name, getattr(moment, name), 0, integer=True)
        check_number("epsilon", moment.epsilon, 0, 1)
        if not (isinstance(moment.why, list) and set(moment.why) <= set(WHY)):
            raise ValueError(f"why={moment.why!r} must be some of {WHY}")
        if moment.drawn not in (None, "last", "sample"):
            raise ValueError(f"drawn={moment.drawn!r}")
        for name in ("successes", "sample", "drawn_rows"):
            rows = getattr(moment, name)
            if not (isinstance(rows, np.ndarray) and rows.dtype == np.int64 and rows.ndim == 2 and rows.shape[1] >= 4):
                raise ValueError(f"{name} has no rows of transitions")
        if not (moment.held is None or (isinstance(moment.held, np.ndarray) and moment.held.dtype == np.uint8)):
            raise ValueError("held has no bits")
    except (ValueError, TypeError) as error:
        raise UnsafeFileError(str(error)) from None
    return moment
