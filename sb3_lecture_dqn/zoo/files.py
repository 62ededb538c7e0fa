"""
Reading the files of a run's folder as data.

The zoo itself runs code in these files: it reads ``config.yml`` and ``args.yml`` with YAML's tags for Python, evaluates
some of their entries and imports classes that others name; ``vecnormalize.pkl`` and its other files are pickles.
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
from sb3_lecture_dqn.zoo.patching import replaced
from sb3_lecture_dqn.zoo.pickled_data import MAX_BYTES, PickledObject, read_pickle

HOW_TO_TRUST = "if you trust its origin, add --trust: then the zoo runs code in its files"
#: Wrappers that a folder may name. They call none of their arguments, write no files and open no windows
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
#: Largest number among a wrapper's arguments, and most frames in a stack: each takes memory
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
    """The name of a class or function of Python in a tag. It is not looked up."""


class _Code(str):
    """A tag that would call Python. It is not called."""


class _RecordLoader(PlainLoader):
    """Reads plain data, ordered tables and tuples, and keeps tags with code as :class:`_Name` and :class:`_Code`."""

    def construct_ordered(self, node: yaml.Node) -> Any:
        """Make a dictionary of a list of pairs."""
        if isinstance(node, yaml.SequenceNode) and len(node.value) == 1:
            (pairs,) = self.construct_sequence(node, deep=True)
            if isinstance(pairs, list) and all(
                isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
            ):
                return dict(pairs)
        return _Code(node.tag)

    def construct_tuple(self, node: yaml.Node) -> Any:
        """Make a tuple."""
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.construct_sequence(node, deep=True))
        return _Code(node.tag)

    def construct_name(self, suffix: str, node: yaml.Node) -> _Name:
        """Keep the name of a class."""
        return _Name(suffix)

    def construct_code(self, node: yaml.Node) -> Any:
        """Keep the tag. :func:`read_record` refuses it by the name of its entry."""
        return _Code(node.tag)


_PYTHON = "tag:yaml.org,2002:python"
_RecordLoader.add_constructor(f"{_PYTHON}/object/apply:collections.OrderedDict", _RecordLoader.construct_ordered)
_RecordLoader.add_constructor(f"{_PYTHON}/tuple", _RecordLoader.construct_tuple)
_RecordLoader.add_multi_constructor(f"{_PYTHON}/name:", _RecordLoader.construct_name)
_RecordLoader.add_constructor(None, _RecordLoader.construct_code)
# The zoo writes YAML 1.1, in which 1e-3 is text
_RecordLoader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver in yaml.SafeLoader.yaml_implicit_resolvers.get(first, ())]
    for first, resolvers in PlainLoader.yaml_implicit_resolvers.items()
}


class _Record:
    """Replaces PyYAML's loader where the zoo reads ``config.yml`` and ``args.yml``."""

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
    :param text: Content of the file
    :return: The entries. Classes in entries that the zoo does not use again become their names
    :raises UnsafeFileError: If an entry is code, or has a value that the zoo does not write; the message names it
    """
    name = ""
    try:
        entries = read_yaml(path.name, text, _RecordLoader)
        if isinstance(entries, _Code):
            raise ValueError(f"{shown(entries, 100)} is code")
        if not isinstance(entries, dict):
            raise ValueError("the file is not a table of settings")
        for name, value in list(entries.items()):
            if code := next(_parts(value, _Code), None):
                raise ValueError(f"{shown(code, 100)} is code")
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
    """Yield all parts of some types, also in nested containers. A container in many places is visited once."""
    to_visit, visited = [value], set()
    while to_visit:
        part = to_visit.pop()
        if isinstance(part, kinds):
            yield part
        elif isinstance(part, dict | list | tuple) and id(part) not in visited:
            visited.add(id(part))
            to_visit += part.values() if isinstance(part, dict) else part


def _plain(value: Any) -> Any:
    """Make plain text of names."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return str(value) if isinstance(value, str) else value


def _checked_keywords(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) and key.isidentifier() for key in value):
        raise ValueError(f"{value!r} is not a table of keywords")
    if (name := next(_parts(value, _Name), None)) is not None:
        raise ValueError(f"{shown(name, 100)} is code")
    return value


def _checked_wrappers(value: Any, allowed: set[str]) -> list[str | dict[str, Any]]:
    wrappers: list[str | dict[str, Any]] = []
    for wrapper in value if isinstance(value, list) else [value]:
        (name, keywords), *others = wrapper.items() if isinstance(wrapper, dict) and wrapper else [(wrapper, None)]
        if others or not isinstance(name, str):
            raise ValueError(f"{wrapper!r} is not the name of a wrapper")
        if name not in allowed:
            modules = ", ".join(sorted({known.rpartition(".")[0] for known in allowed}))
            raise ValueError(f"{shown(name, 100)} is not allowed as a wrapper; allowed are some of {modules}")
        keywords = _checked_keywords(keywords or {})
        for number in _parts(keywords, int, float):
            check_number(name, float(number), -_MAX_ARGUMENT, _MAX_ARGUMENT)
        wrappers.append({str(name): keywords} if keywords else str(name))
    return wrappers


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
            raise ValueError(f"{name!r} is not an argument of VecNormalize; known are {', '.join(_NORMALIZE)}")
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
    """Evaluate ``dict(norm_obs=True)`` or ``{'norm_obs': True}``, as the zoo does, without running code."""
    problem = f"{shown(text, 100)!r} is not a dict(...) of numbers, text, True and False"
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
        raise ValueError(f"{value!r} must be an environment id that imports no module")
    return value


def _checked_steps(value: Any) -> int | float:
    check_number("n_timesteps", value, -1, 1e30)
    return value  # type: ignore[no-any-return]


#: The entries that the zoo uses again, and their checks
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
    :param venv: The environments for the wrapper
    :return: The wrapper
    :raises UnsafeFileError: If the file holds anything else
    """
    try:
        with open_regular(load_path) as file:
            pickled = read_pickle(file.read(MAX_BYTES + 1))
        if not _is_a(pickled, VecNormalize):
            name = pickled.name if isinstance(pickled, PickledObject) else type(pickled).__name__
            raise ValueError(f"it holds {shown(name, 100)}, not VecNormalize")
        state = _table(pickled.state)
        options = _checked_normalize_keywords({name: state[name] for name in _NORMALIZE if name in state})
        wrapper = VecNormalize(venv, **options)
        if wrapper.norm_obs:
            _set_moments(wrapper.obs_rms, _moments(state["obs_rms"]))
        _set_moments(wrapper.ret_rms, _moments(state["ret_rms"]))
    except (ValueError, LookupError, TypeError) as error:
        raise UnsafeFileError(f"{shown(load_path, 1000)}: {shown(str(error), 300)}; {HOW_TO_TRUST}") from error
    return wrapper


def _is_a(value: Any, kind: type) -> bool:
    return isinstance(value, PickledObject) and value.name == f"{kind.__module__}.{kind.__name__}"


def _table(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"it has {type(value).__name__} where a dictionary is expected")
    return value


def _moments(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _moments(part) for key, part in value.items()}
    if not _is_a(value, RunningMeanStd):
        raise ValueError("its statistics are not a RunningMeanStd")
    return {name: _table(value.state)[name] for name in ("mean", "var", "count")}


def load_results(file: Any) -> Any:
    """
    Load the results that ``all_plots --output`` pickled, without unpickling.

    :param file: An open file
    :return: Tables of numbers and arrays
    :raises UnsafeFileError: If the file holds anything else
    """
    try:
        results = read_pickle(file.read(MAX_BYTES + 1))
        if (code := next(_parts(results, PickledObject), None)) is not None:
            raise ValueError(f"{shown(code.name, 100)} is code")
        if not isinstance(_table(results).get("results_table"), dict):
            raise ValueError("it has no 'results_table': `all_plots --output` has not written it")
    except ValueError as error:
        raise UnsafeFileError(f"{shown(str(file.name), 1000)}: {shown(str(error), 300)}; {HOW_TO_TRUST}") from error
    return results


def _refuse_stock(path: Any, *args: Any, **kwargs: Any) -> Any:
    raise UnsafeFileError(
        f"{shown(str(path), 1000)} belongs to an algorithm of Stable-Baselines3, which would unpickle it and run code "
        f"in it; {HOW_TO_TRUST}"
    )


@contextlib.contextmanager
def read_as_data() -> Iterator[None]:
    """Within this context, the zoo reads the files of a folder as data, and refuses files with code."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(yaml, "UnsafeLoader", _Record))
        stack.enter_context(replaced(VecNormalize, "load", staticmethod(load_statistics)))
        stack.enter_context(replaced(base_class, "load_from_zip_file", _refuse_stock))
        stack.enter_context(replaced(off_policy_algorithm, "load_from_pkl", _refuse_stock))
        yield
