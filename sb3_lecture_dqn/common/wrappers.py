"""Environment wrappers."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from stable_baselines3.common.monitor import Monitor

from sb3_lecture_dqn.common.checks import UnsupportedSpaceError

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
    if isinstance(space, spaces.Tuple):
        children: list[tuple[Any, spaces.Space[Any]]] = list(enumerate(space.spaces))
    elif isinstance(space, spaces.Dict):
        children = list(space.spaces.items())
    else:
        return {key: value}
    parts: dict[str, Any] = {}
    for name, child in children:
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

    :param env: An environment whose observations are a ``Tuple`` of ``Discrete`` parts, or ``MultiDiscrete``
    :raises ValueError: If it has others, or more than a million states
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if isinstance(space, spaces.MultiDiscrete):
            sizes, starts = space.nvec.ravel(), getattr(space, "start", np.zeros_like(space.nvec)).ravel()
        elif isinstance(space, spaces.Tuple) and all(isinstance(part, spaces.Discrete) for part in space):
            sizes, starts = np.array([(part.n, part.start) for part in space], np.int64).T
        else:
            raise UnsupportedSpaceError(
                f"env has the observation space {space}, it must be a Tuple of Discrete parts or a MultiDiscrete"
            )
        n_states = math.prod(sizes.tolist())
        if n_states > MAX_STATES:
            raise UnsupportedSpaceError(
                f"env has the observation space {space} of {n_states:,} states, there may be {MAX_STATES:,} at most"
            )
        self.observation_space = spaces.Discrete(n_states)
        self._sizes, self._starts = sizes.astype(np.int64), starts.astype(np.int64)
        self._strides = n_states // np.cumprod(self._sizes)

    def observation(self, observation: Any) -> int:
        """
        Number an observation.

        :param observation: What the environment observes
        :return: Its number
        :raises ValueError: If it is outside the environment's space, where it would have the number of another
        """
        parts = np.ravel(observation) - self._starts
        if np.any((parts < 0) | (parts >= self._sizes)):
            raise ValueError(f"env observed {observation}, which is not in {self.env.observation_space}")
        return int(parts @ self._strides)


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


class TransparentWrapper(gym.Wrapper, RecordConstructorArgs):
    """
    A wrapper through which public attributes of the environment in it are read and set.

    A ``VecEnv`` sets attributes of the outermost wrapper, and what a user means for an environment is not to end in one
    that was put around it unasked.

    :param env: The environment
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def __getattr__(self, name: str) -> Any:
        if name == "env" or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.env, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "env" or name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            setattr(_owner_of(self.env, name), name, value)


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


class ResumableEnv(TransparentWrapper):
    """
    Remembers how the running episode came about, so that another environment can be brought to the same place.

    That is the state of the environment's generator before the reset, and the actions since: few environments let their
    state be read and set, but all can be stepped. The algorithms of this package put it around the sub-environments of
    a ``DummyVecEnv`` themselves; put it around environments that run in processes of their own, as the outermost
    wrapper (``make_vec_env(..., wrapper_class=ResumableEnv, vec_env_cls=SubprocVecEnv)``).

    An environment comes back the same if all that it draws is from its ``np_random``, and a reset leaves nothing of
    the episodes before.

    :param env: The environment, with discrete actions
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._start: dict[str, Any] | None = None
        self._actions: list[int] = []
        self._obs: Any = None
        self._return = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See gymnasium's ``Env``."""
        self._start = {"generator": self._generator_state(), "seed": seed, "options": options}
        self._actions, self._return = [], 0.0
        more = {} if options is None else {"options": options}  # as SB3, also for environments that know none
        self._obs, info = self.env.reset(seed=seed, **more)
        return self._obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See gymnasium's ``Env``."""
        self._obs, reward, terminated, truncated, info = self.env.step(action)
        if len(self._actions) <= MAX_REPLAYED:  # one more than what is replayed says that there are too many
            self._actions.append(int(action))
        self._return += float(reward)
        return self._obs, reward, terminated, truncated, info

    def _generator_state(self) -> dict[str, Any] | None:
        """``None`` for a generator of another kind than gymnasium's, such as NumPy's old ``RandomState``."""
        bits: Any = getattr(self.unwrapped.np_random, "bit_generator", None)
        return None if bits is None else dict(bits.state)

    def episode_state(self) -> dict[str, Any] | None:
        """
        How the running episode came about.

        :return: The generator before the reset and the arguments of that, the actions since, and what is to be
            compared: the last observation, the sum of rewards, and the generator now. ``None``, if the state of its
            generator cannot be read
        """
        if self._generator_state() is None:
            return None
        return {
            "start": self._start,
            "actions": np.array(self._actions, np.int64),
            "observation": self._obs,
            "return": self._return,
            "generator": self._generator_state(),
        }

    def replay_episode(self, state: dict[str, Any]) -> str | None:
        """
        Bring this environment to where another one was.

        :param state: What the other one's :meth:`episode_state` returned
        :return: ``None``, or what is not as it was. No exception, which would end an environment in its own process
        """
        start = state["start"]
        generator = self.unwrapped.np_random.bit_generator
        generator.state = state["generator"] if start is None else start["generator"]
        if start is None:  # before its first episode
            return None
        self.reset(seed=start["seed"], options=start["options"])
        ended = False
        for action in state["actions"]:
            if ended:
                return f"the episode ended after {len(self._actions)} steps"
            *_, terminated, truncated, _ = self.step(action)
            ended = terminated or truncated
        here = self.episode_state()
        for what in ("observation", "return", "generator"):
            now = None if here is None else here[what]
            if not _equal(now, state[what]):
                return f"after the same {len(self._actions)} actions its {what} is {now}, and was {state[what]}"
        return None


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f"))
