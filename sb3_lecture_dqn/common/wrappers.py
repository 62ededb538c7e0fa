"""Environment wrappers."""

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
from sb3_lecture_dqn.common.step_checks import StepCheck

MAX_STATES = 1_000_000
#: Most steps that are replayed to bring environments to where they were
MAX_REPLAYED = 10**6


class TupleToDictWrapper(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """
    ``Tuple`` observations, and nested ones, as a flat ``Dict``, which is what SB3 can use of them.

    The key of a part is its position, or its key in a ``Dict``; of a part within a part, those joined by ``_``::

        >>> TupleToDictWrapper(gym.make("Blackjack-v1")).observation_space
        Dict('0': Discrete(32), '1': Discrete(11), '2': Discrete(2))

    :param env: An environment with ``Tuple`` or ``Dict`` observations
    :raises ValueError: If it has others, or two parts get the same key
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

        :param observation: What the environment observes
        :return: Its parts
        """
        return _flat(observation, self.env.observation_space)


def _flat(value: Any, space: spaces.Space[Any], key: str = "") -> dict[str, Any]:
    """The parts of an observation, or of a space, by their keys."""
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return {key: value}
    if isinstance(value, tuple | list) and len(value) != len(space.spaces):
        raise ValueError(f"env observed {value}, which is not in {space}")
    parts: dict[str, Any] = {}
    for name, child in _children(space).items():
        for child_key, part in _flat(value[name], child, f"{key}_{name}" if key else str(name)).items():
            if child_key in parts:
                raise ValueError(f"two parts of the observation space {space} would have the key {child_key!r}")
            parts[child_key] = part
    return parts


class DiscreteObservationWrapper(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """
    Observations of several discrete parts as one number, as ``TablePolicy``, the compiled engine and
    ``explore_least_tried`` need them. The last part counts fastest, as in ``np.ravel_multi_index``::

        >>> DiscreteObservationWrapper(gym.make("Blackjack-v1")).observation_space
        Discrete(704)

    :param env: An environment whose observations are ``MultiDiscrete`` or ``MultiBinary``, or a ``Tuple`` or ``Dict``
        whose parts are these, ``Discrete``, or made of such parts themselves
    :raises ValueError: If it has others, or more than a million states
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        parts = None if isinstance(space, spaces.Discrete) else _discrete_parts(space)
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

        :param observation: What the environment observes
        :return: Its number
        :raises ValueError: If it is outside the environment's space, where it would have the number of another
        """
        try:
            given = np.array(_numbers(observation, self.env.observation_space))
            parts = given - self._numbered_starts
            fits = given.dtype.kind in "biuf" and given.shape == self._numbered_sizes.shape
        except (KeyError, IndexError, TypeError, ValueError):
            fits = False
        if not fits or np.any((parts < 0) | (parts >= self._numbered_sizes) | (parts % 1 != 0)):
            raise ValueError(f"env observed {observation}, which is not in {self.env.observation_space}")
        return int(parts.astype(np.int64) @ self._numbered_strides)


def _discrete_parts(space: spaces.Space[Any]) -> list[tuple[int, int]] | None:
    """How many values every number of an observation can have, and the first; ``None`` if not all are discrete."""
    if isinstance(space, spaces.Discrete):
        return [(int(space.n), int(space.start))]
    if isinstance(space, spaces.MultiBinary):
        return [(2, 0)] * math.prod(space.shape)
    if isinstance(space, spaces.MultiDiscrete):
        starts = getattr(space, "start", np.zeros_like(space.nvec))
        return list(zip(space.nvec.ravel().tolist(), starts.ravel().tolist(), strict=True))
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        return None
    children = [_discrete_parts(child) for child in _children(space).values()]
    return None if None in children else [part for child in children for part in child or []]


def _numbers(value: Any, space: spaces.Space[Any]) -> list[Any]:
    """All numbers of an observation, in the order of :func:`_discrete_parts`."""
    if not isinstance(space, spaces.Tuple | spaces.Dict):
        if np.shape(value) != (space.shape or ()):
            raise ValueError("another shape")
        return list(np.ravel(value))
    if isinstance(space, spaces.Tuple) and len(value) != len(space.spaces):
        raise ValueError("another number of parts")
    return [number for key, child in _children(space).items() for number in _numbers(value[key], child)]


def _children(space: Any) -> dict[Any, spaces.Space[Any]]:
    """The parts of a space, by what an observation is asked for them with."""
    return dict(space.spaces) if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))


def needs_flattening(space: spaces.Space[Any]) -> bool:
    """
    Whether SB3 cannot take observations of a space because of how it is put together.

    :param space: Observation space
    :return: Whether it is a ``Tuple``, or a ``Dict`` with a ``Tuple`` or ``Dict`` in it
    """
    if isinstance(space, spaces.Dict):
        return any(isinstance(part, spaces.Tuple | spaces.Dict) for part in space.spaces.values())
    return isinstance(space, spaces.Tuple)


def check_not_nested(space: spaces.Space[Any]) -> None:
    """
    Check that SB3 can take observations of a space.

    :param space: Observation space
    :raises UnsupportedSpaceError: If it needs flattening; the message says how
    """
    if needs_flattening(space):
        raise UnsupportedSpaceError(
            f"env has the observation space {space}: SB3 takes no Tuple and nothing nested; make it a Dict with "
            "sb3_lecture_dqn.TupleToDictWrapper(env)"
        )


class OwnName(str):
    """
    The name of a method of a :class:`TransparentWrapper`, which a plain ``str`` never means.

    A ``VecEnv`` reaches what it steps by names alone, and every name that a plain ``str`` can be belongs to the user.
    """


class TransparentWrapper(gym.Wrapper):
    """
    A wrapper that is put around a user's environment unasked: every name is the environment's.

    Reading, setting and calling through a ``VecEnv`` reach the environment, also by names that this wrapper has itself,
    as does its ``spec``. The exceptions are ``reset`` and ``step``, which both have. :class:`OwnName` says that a
    wrapper's own method is meant.

    :param env: The environment
    """

    _transparent_made = False

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        vars(self)["_transparent_made"] = True

    # What a wrapper of this kind has itself it writes by `vars(self)`.

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._transparent_made or (name == "env" and _is_around(value, self.env)):
            super().__setattr__(name, value)
        else:
            setattr(_owner_of(self.env, name), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.env, name)

    def __getattr__(self, name: str) -> Any:
        if "env" not in vars(self) or (name.startswith("__") and name.endswith("__")):  # while it is copied
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.env, name)

    def get_wrapper_attr(self, name: str) -> Any:
        """See gymnasium's ``Wrapper``; the environment's attribute, unless the name is an :class:`OwnName`."""
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
        """The environment's, without this wrapper, so that a new one can be made by it wherever the first could."""
        return self.env.spec


def _owner_of(env: gym.Env, name: str) -> gym.Env:
    """Where an attribute is: Python would hide the environment's by setting the same of SB3's Monitor around it."""
    outermost = None
    while isinstance(env, gym.Wrapper):
        if name in vars(env) or hasattr(type(env), name):
            return env
        if outermost is None and not isinstance(env, Monitor | TransparentWrapper):
            outermost = env
        env = env.env
    return env if outermost is None or hasattr(env, name) else outermost


def _is_around(env: Any, inner: gym.Env) -> bool:
    """Whether one environment is in the other: as the inner one's attribute, the outer one would be in itself."""
    while isinstance(env, gym.Wrapper):
        if env is inner:
            return True
        env = env.env
    return env is inner


@dataclass
class _Record:
    """What :class:`ResumableEnv` remembers."""

    start: dict[str, Any] | None = None
    actions: list[int] = field(default_factory=list)
    obs: Any = None
    total: float = 0.0
    check: StepCheck | None = None


class ResumableEnv(TransparentWrapper):
    """
    Remembers how the running episode came about, so that another environment can be brought to the same place.

    That is the state of the environment's generator before the reset, and the actions since: few environments let their
    state be read and set, but all can be stepped. The algorithms of this package put it around the sub-environments of
    a ``DummyVecEnv`` themselves; put it around environments that run in processes of their own, as the outermost
    wrapper (``make_vec_env(..., wrapper_class=ResumableEnv, vec_env_cls=SubprocVecEnv)``).

    An environment comes back the same if all that it draws is from its ``np_random``, and a reset leaves nothing of
    the episodes before.

    The last observation and info of an episode are copies: an environment may write the next ones into the same memory.

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
        more = {} if options is None else {"options": options}  # as SB3, also for environments that know none
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
        if len(record.actions) <= MAX_REPLAYED:  # one more than what is replayed says that there are too many
            record.actions.append(int(action))
        record.total += float(reward)
        return obs, reward, terminated, truncated, info

    def check_steps(self, env: int) -> None:
        """
        From now on, check what the environment returns before a ``DummyVecEnv`` makes it a part of its arrays.

        There a text becomes a number, 2.5 becomes 2 and one number fills an array. What comes from another process
        hides nothing of this, and an error would end that process.

        :param env: Number of the environment, for messages
        """
        self._resumable_record.check = StepCheck(self.env.observation_space, env)

    def _generator_state(self) -> dict[str, Any] | None:
        """``None`` for a generator of another kind than NumPy's, such as its old ``RandomState``."""
        return generator_state(self.unwrapped.np_random)

    def episode_state(self) -> dict[str, Any] | None:
        """
        How the running episode came about.

        :return: The generator before the reset and the arguments of that, the actions since, and what is to be
            compared: the last observation, the sum of rewards, and the generator now. ``None``, if the state of its
            generator cannot be read
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
        Bring this environment to where another one was.

        :param state: What the other one's :meth:`episode_state` returned
        :return: ``None``, or what is not as it was. No exception, which would end an environment in its own process
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
        here, n_actions = self.episode_state(), len(self._resumable_record.actions)
        for what in ("observation", "return", "generator"):
            now = None if here is None else here[what]
            if not _equal(now, state[what]):
                return f"after the same {n_actions} actions its {what} is {now}, and was {state[what]}"
        return None


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f"))
