"""Environment wrappers: flat and numbered observations, and the replay of a running episode."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.monitor import Monitor

from sb3_lecture_dqn.common.checks import UnsupportedSpaceError
from sb3_lecture_dqn.common.seeding import generator_state, set_generator_state
from sb3_lecture_dqn.common.state_numbers import MAX_STATES, children_of, discrete_parts
from sb3_lecture_dqn.common.step_checks import StepCheck

#: Most steps that are replayed to restore the running episodes
MAX_REPLAYED = 10**6


class TupleToDictWrapper(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """
    Makes ``Tuple`` and nested observations a flat ``Dict``, which SB3 can use.

    The key of a part is its position in a ``Tuple``, or its key in a ``Dict``. The keys of nested parts are joined by
    ``_``::

        >>> TupleToDictWrapper(gym.make("Blackjack-v1")).observation_space
        Dict('0': Discrete(32), '1': Discrete(11), '2': Discrete(2))

    :param env: An environment with ``Tuple`` or ``Dict`` observations
    :raises ValueError: If it has other observations, or two parts would get the same key
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Tuple | spaces.Dict):
            raise UnsupportedSpaceError(f"env has the observation space {space}, it must be a Tuple or a Dict")
        self.observation_space = spaces.Dict(_flat(space, space))

    def observation(self, observation: Any) -> dict[str, Any]:
        """
        Flatten an observation.

        :param observation: An observation of the environment
        :return: Its parts
        """
        return _flat(observation, self.env.observation_space)


def _flat(value: Any, space: spaces.Space[Any], key: str = "") -> dict[str, Any]:
    """Return the parts of an observation, or of a space, by their keys."""
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return {key: value}
    if isinstance(value, tuple | list) and len(value) != len(space.spaces):
        raise ValueError(f"env observed {value}, which is not in {space}")
    parts: dict[str, Any] = {}
    for name, child in children_of(space).items():
        for child_key, part in _flat(value[name], child, f"{key}_{name}" if key else str(name)).items():
            if child_key in parts:
                raise ValueError(f"two parts of the observation space {space} would have the key {child_key!r}")
            parts[child_key] = part
    return parts


class DiscreteObservationWrapper(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """
    Numbers observations of several discrete parts, for ``TablePolicy``, the compiled engine and
    ``explore_least_tried``. The last part counts fastest, as in ``np.ravel_multi_index``::

        >>> DiscreteObservationWrapper(gym.make("Blackjack-v1")).observation_space
        Discrete(704)

    :param env: An environment whose observations are ``MultiDiscrete``, ``MultiBinary``, or a ``Tuple`` or ``Dict``,
        nested or not, of these and ``Discrete`` parts
    :raises ValueError: If it has other observations, or more than a million states
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        parts = None if isinstance(space, spaces.Discrete) else discrete_parts(space)
        if parts is None:
            raise UnsupportedSpaceError(
                f"env has the observation space {space}, it must be a MultiDiscrete, a MultiBinary, or a Tuple or Dict "
                "of Discrete, MultiDiscrete and MultiBinary parts"
            )
        sizes, starts = zip(*parts, strict=True) if parts else ((), ())
        n_states = math.prod(sizes)
        if n_states > MAX_STATES:
            raise UnsupportedSpaceError(
                f"env has the observation space {space} of {n_states:,} states, there may be {MAX_STATES:,} at most"
            )
        self.observation_space = spaces.Discrete(n_states)
        self._numbered_sizes, self._numbered_starts = np.array(sizes, np.int64), np.array(starts, np.int64)
        self._numbered_strides = n_states // np.cumprod(self._numbered_sizes)

    def observation(self, observation: Any) -> int:
        """
        Number an observation.

        :param observation: An observation of the environment
        :return: Its number
        :raises ValueError: If it is outside the environment's space, because two observations could get one number
        """
        try:
            numbers = np.array(_numbers(observation, self.env.observation_space))
            parts = numbers - self._numbered_starts
            fits = numbers.dtype.kind in "biuf" and numbers.shape == self._numbered_sizes.shape
        except (KeyError, IndexError, TypeError, ValueError):
            fits = False
        if not fits or np.any((parts < 0) | (parts >= self._numbered_sizes) | (parts % 1 != 0)):
            raise ValueError(f"env observed {observation}, which is not in {self.env.observation_space}")
        return int(parts.astype(np.int64) @ self._numbered_strides)


def _numbers(value: Any, space: spaces.Space[Any]) -> list[Any]:
    """Return all numbers of an observation, in the order of :func:`discrete_parts`."""
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        if np.shape(value) != (space.shape or ()):
            raise ValueError("another shape")
        return list(np.ravel(value))
    if isinstance(space, spaces.Tuple) and len(value) != len(space.spaces):
        raise ValueError("another number of parts")
    return [number for key, child in children_of(space).items() for number in _numbers(value[key], child)]


def needs_flattening(space: spaces.Space[Any]) -> bool:
    """
    Look whether a space is nested in a way that SB3 cannot take.

    :param space: Observation space
    :return: Whether it is a ``Tuple``, or a ``Dict`` that contains a ``Tuple`` or ``Dict``
    """
    if isinstance(space, spaces.Dict):
        return any(isinstance(part, spaces.Tuple | spaces.Dict) for part in space.spaces.values())
    return isinstance(space, spaces.Tuple)


def check_observation_space(space: spaces.Space[Any]) -> None:
    """
    Check that SB3 can take observations of a space.

    :param space: Observation space
    :raises UnsupportedSpaceError: If it must be flattened first; the message says how. Or if SB3 cannot take it
    """
    if needs_flattening(space):
        raise UnsupportedSpaceError(
            f"env has the observation space {space}: SB3 takes no Tuple and nothing nested; make it a Dict with "
            "sb3_lecture_dqn.TupleToDictWrapper(env)"
        )
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else [space]:
        if not isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            raise UnsupportedSpaceError(
                f"env has the observation space {space}: SB3 takes Box, Discrete, MultiDiscrete, MultiBinary, and a "
                "Dict of these"
            )


class OwnName(str):
    """
    The name of a method of a :class:`TransparentWrapper` itself; a plain ``str`` names the environment's method.

    A ``VecEnv`` calls methods of its environments by name, and all plain names belong to the user.
    """


class TransparentWrapper(gym.Wrapper):
    """
    A wrapper that the package puts around a user's environment, and that the user does not notice.

    Attributes that are read, set or called through a ``VecEnv`` are the environment's, even if this wrapper has the
    same name; so is ``spec``. The exceptions are ``reset`` and ``step``. An :class:`OwnName` reaches the wrapper's own
    methods.

    :param env: The environment
    """

    _transparent_made = False

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        vars(self)["_transparent_made"] = True

    # Such a wrapper sets its own attributes by `vars(self)`.

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._transparent_made or (name == "env" and _is_around(value, self.env)):
            super().__setattr__(name, value)
        else:
            setattr(_owner_of(self.env, name), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.env, name)

    def __getattr__(self, name: str) -> Any:
        if "env" not in vars(self) or (name.startswith("__") and name.endswith("__")):  # asked for during a copy
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.env, name)

    def get_wrapper_attr(self, name: str) -> Any:
        """Return the environment's attribute, unless the name is an :class:`OwnName`; see gymnasium's ``Wrapper``."""
        if name in ("reset", "step") or (isinstance(name, OwnName) and hasattr(type(self), name)):
            return getattr(self, name)
        return self.env.get_wrapper_attr(name)

    def has_wrapper_attr(self, name: str) -> bool:
        """See gymnasium's ``Wrapper``."""
        try:
            self.get_wrapper_attr(name)
        except AttributeError:
            return False
        return True

    def set_wrapper_attr(self, name: str, value: Any, **more: Any) -> bool:
        """See gymnasium's ``Wrapper``."""
        return self.env.set_wrapper_attr(name, value, **more)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The environment's ``spec`` without this wrapper, so that it makes the user's environment."""
        return self.env.spec


def _owner_of(env: gym.Env, name: str) -> gym.Env:
    """Find the environment or wrapper that has an attribute, so that it is not set on SB3's Monitor around it."""
    outermost = None
    while isinstance(env, gym.Wrapper):
        if name in vars(env) or hasattr(type(env), name):
            return env
        if outermost is None and not isinstance(env, Monitor | TransparentWrapper):
            outermost = env
        env = env.env
    return env if outermost is None or hasattr(env, name) else outermost


def _is_around(env: Any, inner: gym.Env) -> bool:
    """Whether ``env`` contains ``inner``. If it were set as an attribute of ``inner``, it would contain itself."""
    while isinstance(env, gym.Wrapper):
        if env is inner:
            return True
        env = env.env
    return env is inner


@dataclass
class _Record:
    """The memory of a :class:`ResumableEnv`."""

    start: dict[str, Any] | None = None
    actions: list[int] = field(default_factory=list)
    obs: Any = None
    total: float = 0.0
    check: StepCheck | None = None


class ResumableEnv(TransparentWrapper):
    """
    Records the running episode, so that another environment can replay it.

    It records the state of the environment's generator before the reset, and the actions since. Few environments can
    save their state, but all can be stepped. The algorithms of this package put it around the sub-environments of a
    ``DummyVecEnv`` themselves. Put it around environments in other processes yourself, as the outermost wrapper:
    ``make_vec_env(..., wrapper_class=ResumableEnv, vec_env_cls=SubprocVecEnv)``.

    The replay is exact if all random numbers of the environment come from its ``np_random``, and if a reset keeps
    nothing of earlier episodes.

    The last observation and info of an episode are copied, because an environment may reuse their memory.

    :param env: The environment, with discrete actions
    """

    _resumable_record: _Record

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        vars(self)["_resumable_record"] = _Record()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See gymnasium's ``Env``."""
        record = self._resumable_record
        record.start = {"generator": self._generator_state(), "seed": seed, "options": options}
        record.actions, record.total = [], 0.0
        more = {} if options is None else {"options": options}  # as in SB3: an environment may lack this argument
        record.obs, info = self.env.reset(seed=seed, **more)
        if record.check is not None:
            record.check.check_observation(record.obs)
        return record.obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See gymnasium's ``Env``."""
        record = self._resumable_record
        obs, reward, terminated, truncated, info = self.env.step(action)
        if record.check is not None:
            record.check.check_observation(obs)
            record.check.check_outcome(reward, terminated, truncated)
        if terminated or truncated:
            obs, info = copy.deepcopy((obs, info))
        record.obs = obs
        if len(record.actions) <= MAX_REPLAYED:  # one action more than the limit shows that there are too many
            record.actions.append(int(action))
        record.total += float(reward)
        return obs, reward, terminated, truncated, info

    def check_steps(self, env: int) -> None:
        """
        From now on, check the values that the environment returns.

        A ``DummyVecEnv`` converts them without a check: a text becomes a number, 2.5 becomes 2, and one number fills an
        array. Values from another process are not converted, and an error would end that process.

        :param env: Number of the environment, for messages
        """
        self._resumable_record.check = StepCheck(self.env.observation_space, env)

    def _generator_state(self) -> dict[str, Any] | None:
        """``None`` if the generator is not a ``numpy.random.Generator``."""
        return generator_state(self.unwrapped.np_random)

    def episode_state(self) -> dict[str, Any] | None:
        """
        Return the record of the running episode.

        :return: The generator before the reset and the reset's arguments, the actions since, and for comparison the
            last observation, the sum of rewards and the present generator. ``None`` if the state of the generator
            cannot be read
        """
        if self._generator_state() is None:
            return None
        record = self._resumable_record
        return {
            "start": record.start,
            "actions": np.array(record.actions, np.int64),
            "observation": copy.deepcopy(record.obs),
            "return": record.total,
            "generator": self._generator_state(),
        }

    def replay_episode(self, state: dict[str, Any]) -> str | None:
        """
        Replay the running episode of another environment.

        :param state: The other environment's :meth:`episode_state`
        :return: ``None``, or a message if the result differs. (An exception would end the environment's process.)
        """
        start = state["start"]
        set_generator_state(self.unwrapped.np_random, state["generator"] if start is None else start["generator"])
        if start is None:  # before its first episode
            return None
        self.reset(seed=start["seed"], options=start["options"])
        ended = False
        for action in state["actions"]:
            if ended:
                return f"the episode ended after {len(self._resumable_record.actions)} steps"
            *_, terminated, truncated, _ = self.step(action)
            ended = terminated or truncated
        replayed, n_actions = self.episode_state(), len(self._resumable_record.actions)
        for part in ("observation", "return", "generator"):
            now = None if replayed is None else replayed[part]
            if not _equal(now, state[part]):
                return f"after the same {n_actions} actions its {part} is {now}, and was {state[part]}"
        return None


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f"))
