"""
What the RL Zoo reads of a folder, read as data.

The zoo itself runs what these files say: ``config.yml`` and ``args.yml`` are read with YAML's tags for Python, some of
their entries are evaluated, others name classes to be imported, ``vecnormalize.pkl`` and its other files are pickles.
"""

import ast
import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import yaml
from stable_baselines3.common import base_class, off_policy_algorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_lecture_dqn.common.checks import UnsafeFileError, check_number, shown
from sb3_lecture_dqn.common.user_yaml import MAX_BYTES as YAML_BYTES
from sb3_lecture_dqn.common.user_yaml import PlainLoader, open_regular, read_yaml
from sb3_lecture_dqn.saving.env_state import _set_moments
from sb3_lecture_dqn.zoo.pickled_data import MAX_BYTES, Made, read_pickle

HOW_TO_TRUST = "if you trust where it comes from, add --trust: then the zoo runs what its files say"
#: Wrappers that a folder may name: they run nothing else that they are given, and neither write nor show anything
WRAPPERS = {
    *(
        f"sb3_lecture_dqn{module}.{name}"
        for module in ("", ".common.wrappers")
        for name in ("DiscreteObservationWrapper", "TupleToDictWrapper")
    ),
    *(
        f"gymnasium.wrappers.{name}"
        for name in (
            *("ClipAction", "ClipReward", "DelayObservation", "DiscretizeAction", "DiscretizeObservation"),
            *("FilterObservation", "FlattenObservation", "FrameStackObservation", "GrayscaleObservation"),
            *("MaxAndSkipObservation", "NormalizeObservation", "NormalizeReward", "OrderEnforcing"),
            *("PassiveEnvChecker", "RecordEpisodeStatistics", "RepeatAction", "RescaleAction", "RescaleObservation"),
            *("ReshapeObservation", "ResizeObservation", "StickyAction", "TimeAwareObservation", "TimeLimit"),
        )
    ),
    *(
        f"rl_zoo3.wrappers.{name}"
        for name in (
            *("YAMLCompatResizeObservation", "TruncatedOnSuccessWrapper", "ActionNoiseWrapper"),
            *("ActionSmoothingWrapper", "DelayedRewardWrapper", "HistoryWrapper", "HistoryWrapperObsDict"),
            *("FrameSkip", "MaskVelocityWrapper"),
        )
    ),
    *(
        f"stable_baselines3.common.atari_wrappers.{name}"
        for name in (
            *("AtariWrapper", "ClipRewardEnv", "EpisodicLifeEnv", "FireResetEnv", "MaxAndSkipEnv", "NoopResetEnv"),
            *("StickyActionEnv", "WarpFrame"),
        )
    ),
    "sb3_contrib.common.wrappers.TimeFeatureWrapper",
    "minigrid.wrappers.FlatObsWrapper",
    "minigrid.wrappers.ImgObsWrapper",
}
VEC_WRAPPERS = {
    f"stable_baselines3.common.vec_env.{name}"
    for name in ("VecCheckNan", "VecFrameStack", "VecMonitor", "VecNormalize", "VecTransposeImage")
}
#: Most that a number among a wrapper's arguments may be, and frames in a stack: each takes memory
_MAX_ARGUMENT, _MAX_FRAMES = 10_000, 100
_NORMALIZE = {
    "norm_obs": bool,
    "norm_reward": bool,
    "training": bool,
    "clip_obs": float,
    "clip_reward": float,
    "gamma": float,
    "epsilon": float,
    "norm_obs_keys": list,
}
_ENV_ID = re.compile(r"([\w-]+/)?[\w.-]+")


class _Name(str):
    """A class or a function of Python that a tag names; it stays a name."""


class _Code(str):
    """A tag by which something would be made; it stays the tag."""


class _RecordLoader(PlainLoader):
    """Reads what the zoo writes of its settings: plain data, ordered tables and tuples; what is code, by its name."""

    def construct_ordered(self, node: yaml.Node) -> Any:
        """Make a table of a list of pairs."""
        if isinstance(node, yaml.SequenceNode) and len(node.value) == 1:
            (pairs,) = self.construct_sequence(node, deep=True)
            if isinstance(pairs, list) and all(
                isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
            ):
                return dict(pairs)
        return _Code(node.tag)

    def construct_tuple(self, node: yaml.Node) -> Any:
        """Make a tuple."""
        return (
            tuple(self.construct_sequence(node, deep=True)) if isinstance(node, yaml.SequenceNode) else _Code(node.tag)
        )

    def construct_name(self, suffix: str, node: yaml.Node) -> _Name:
        """Keep the name of a class."""
        return _Name(suffix)

    def refuse(self, node: yaml.Node) -> Any:
        """Keep the tag: which entry has it is known when all of them are there."""
        return _Code(node.tag)


_PYTHON = "tag:yaml.org,2002:python"
_RecordLoader.add_constructor(f"{_PYTHON}/object/apply:collections.OrderedDict", _RecordLoader.construct_ordered)
_RecordLoader.add_constructor(f"{_PYTHON}/tuple", _RecordLoader.construct_tuple)
_RecordLoader.add_multi_constructor(f"{_PYTHON}/name:", _RecordLoader.construct_name)
_RecordLoader.add_constructor(None, _RecordLoader.refuse)


class _Record:
    """What takes the place of a loader of YAML where the zoo reads ``config.yml`` and ``args.yml``."""

    def __init__(self, stream: Any) -> None:
        self._path = pathlib.Path(getattr(stream, "name", "config.yml"))
        self._text = stream if isinstance(stream, str | bytes) else stream.read(YAML_BYTES + 1)

    def get_single_data(self) -> dict[str, Any]:
        return read_record(self._path, self._text)

    def dispose(self) -> None:
        pass


def read_record(path: pathlib.Path, text: str | bytes) -> dict[str, Any]:
    """
    Read the settings that the zoo has written beside a model, as data.

    :param path: ``config.yml`` or ``args.yml``
    :param text: Its content
    :return: Its entries. Classes in them that the zoo does not use again are their names
    :raises UnsafeFileError: If an entry is code, or is none that the zoo writes; the message names it
    """
    name = ""
    try:
        entries = read_yaml(path.name, text, _RecordLoader)
        if isinstance(entries, _Code):
            raise ValueError(f"it would make a {shown(entries, 100)}, which is code")
        if not isinstance(entries, dict):
            raise ValueError("it is no table of settings")
        for name, value in list(entries.items()):
            if found := next(_parts(value, _Code), None):
                raise ValueError(f"it would make a {shown(found, 100)}, which is code")
            if name not in _CHECKS:
                entries[name] = _plain(value)
            elif value is None:
                del entries[name]
            else:
                entries[name] = _CHECKS[name](value)
        name = ""
        if path.name == "args.yml":
            entries.setdefault("env_kwargs", None)
            entries.setdefault("env", "")
    except (ValueError, RecursionError) as error:
        entry = f"entry {shown(str(name), 100)!r}: " if name else ""
        raise UnsafeFileError(f"{shown(str(path), 1000)}: {entry}{error}; {HOW_TO_TRUST}") from error
    return entries


def _parts(value: Any, *kinds: type) -> Iterator[Any]:
    """All that is of some type in containers; each container once, for it may be in many places."""
    left, seen = [value], set()
    while left:
        part = left.pop()
        if isinstance(part, kinds):
            yield part
        elif isinstance(part, dict | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            left += part.values() if isinstance(part, dict) else part


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return str(value) if isinstance(value, str) else value


def _checked_keywords(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) and key.isidentifier() for key in value):
        raise ValueError(f"{value!r} is no table of keywords")
    if (found := next(_parts(value, _Name), None)) is not None:
        raise ValueError(f"it has {shown(found, 100)}, which is code")
    return value


def _checked_wrappers(value: Any, known: set[str]) -> list[str | dict[str, Any]]:
    found: list[str | dict[str, Any]] = []
    for wrapper in value if isinstance(value, list) else [value]:
        (name, keywords), *others = wrapper.items() if isinstance(wrapper, dict) and wrapper else [(wrapper, None)]
        if others or not isinstance(name, str):
            raise ValueError(f"{wrapper!r} names no wrapper")
        if name not in known:
            raise ValueError(f"{shown(name, 100)} is none of the wrappers that a folder may name: {_short(known)}")
        keywords = _checked_keywords(keywords or {})
        for number in _parts(keywords, int, float):
            check_number(name, float(number), -_MAX_ARGUMENT, _MAX_ARGUMENT)
        found.append({str(name): keywords} if keywords else str(name))
    return found


def _short(names: set[str]) -> str:
    return "those of " + ", ".join(sorted({name.rpartition(".")[0] for name in names}))


def _checked_normalize(value: Any) -> bool | dict[str, Any]:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        value = _evaluated(value)
    return _checked_normalize_keywords(_checked_keywords(value))


def _checked_normalize_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    for name, option in keywords.items():
        kind = _NORMALIZE.get(name)
        if kind is None:
            raise ValueError(f"{name!r} is no argument of VecNormalize; there are {', '.join(_NORMALIZE)}")
        if kind is float:
            check_number(name, option, -1e30, 1e30)
        elif kind is bool and not isinstance(option, bool):
            raise ValueError(f"{name}={option!r} must be true or false")
        elif kind is list and not (option is None or (isinstance(option, list) and all(map(_is_text, option)))):
            raise ValueError(f"{name}={option!r} must be a list of text")
    return keywords


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _evaluated(text: str) -> Any:
    """What the zoo evaluates: ``dict(norm_obs=True)`` or ``{'norm_obs': True}``."""
    problem = f"{shown(text, 100)!r} is no dict(...) of numbers, text, true and false"
    if len(text) > 1000:
        raise ValueError(problem)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "dict" and not tree.args:
            return {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords}
        return ast.literal_eval(tree)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(problem) from error


def _checked_frames(value: Any) -> int:
    check_number("frame_stack", value, 0, _MAX_FRAMES, integer=True)
    return int(value)


def _checked_env(value: Any) -> str:
    if not isinstance(value, str) or _ENV_ID.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no id of an environment, or one that would have a module imported")
    return value


def _checked_steps(value: Any) -> int | float:
    check_number("n_timesteps", value, -1, 1e30)
    return value  # type: ignore[no-any-return]


#: What the zoo uses again of a folder's settings, and what each has to be
_CHECKS: dict[str, Any] = {
    "normalize": _checked_normalize,
    "env_kwargs": _checked_keywords,
    "env_wrapper": lambda value: _checked_wrappers(value, WRAPPERS),
    "vec_env_wrapper": lambda value: _checked_wrappers(value, VEC_WRAPPERS),
    "frame_stack": _checked_frames,
    "env": _checked_env,
    "n_timesteps": _checked_steps,
}


def load_statistics(load_path: str, venv: VecEnv) -> VecNormalize:
    """
    Load the statistics that ``VecNormalize.save`` pickled, without unpickling.

    :param load_path: The file
    :param venv: What it is put around
    :return: The wrapper
    :raises UnsafeFileError: If the file holds anything else
    """
    try:
        with open_regular(load_path) as file:
            made = read_pickle(file.read(MAX_BYTES + 1))
        if not isinstance(made, Made) or made.name != f"{VecNormalize.__module__}.{VecNormalize.__name__}":
            what = made.name if isinstance(made, Made) else type(made).__name__
            raise ValueError(f"it is no VecNormalize, but {shown(what, 100)}")
        state = _table(made.state)
        options = _checked_normalize_keywords({name: state[name] for name in _NORMALIZE if name in state})
        wrapper = VecNormalize(venv, **options)
        if wrapper.norm_obs:
            _set_moments(wrapper.obs_rms, _moments(state["obs_rms"]))
        _set_moments(wrapper.ret_rms, _moments(state["ret_rms"]))
    except (ValueError, LookupError, TypeError) as error:
        raise UnsafeFileError(f"{shown(load_path, 1000)}: {shown(str(error), 300)}; {HOW_TO_TRUST}") from error
    return wrapper


def _table(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"there is {type(value).__name__} where a table is expected")
    return value


def _moments(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _moments(part) for key, part in value.items()}
    if not isinstance(value, Made) or value.name != f"{RunningMeanStd.__module__}.{RunningMeanStd.__name__}":
        raise ValueError("its statistics are no RunningMeanStd")
    return {name: _table(value.state)[name] for name in ("mean", "var", "count")}


def load_results(file: Any) -> Any:
    """
    Load what ``all_plots --output`` pickled, without unpickling.

    :param file: An open file
    :return: Tables of numbers and arrays
    :raises UnsafeFileError: If the file holds anything else
    """
    try:
        results = read_pickle(file.read(MAX_BYTES + 1))
        if (found := next(_parts(results, Made), None)) is not None:
            raise ValueError(f"it has {shown(found.name, 100)}, which is code")
        if not isinstance(_table(results).get("results_table"), dict):
            raise ValueError("it has no 'results_table', as what `all_plots --output` writes has")
    except ValueError as error:
        raise UnsafeFileError(f"{shown(str(file.name), 1000)}: {shown(str(error), 300)}; {HOW_TO_TRUST}") from error
    return results


def _refuse_stock(path: Any, *args: Any, **kwargs: Any) -> Any:
    raise UnsafeFileError(
        f"{shown(str(path), 1000)} is of an algorithm of Stable-Baselines3, which unpickles it, and so runs what it "
        f"says; {HOW_TO_TRUST}"
    )


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """
    Have something else under a name for a while.

    :param owner: A module or a class that has it itself
    :param name: The name
    :param value: What takes its place
    """
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def read_as_data() -> Iterator[None]:
    """Within this context, the zoo reads a folder's files as data, and refuses what cannot be."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(yaml, "UnsafeLoader", _Record))
        stack.enter_context(replaced(VecNormalize, "load", staticmethod(load_statistics)))
        stack.enter_context(replaced(base_class, "load_from_zip_file", _refuse_stock))
        stack.enter_context(replaced(off_policy_algorithm, "load_from_pkl", _refuse_stock))
        yield
