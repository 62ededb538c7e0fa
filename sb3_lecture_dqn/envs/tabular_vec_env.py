"""A tabular environment that is stepped on arrays, with the interface of SB3's vectorised environments."""

import copy
import functools
import math
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn, VecEnvWrapper

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.common.masks import pack_masks
from sb3_lecture_dqn.common.seeding import generator_state, set_generator_state
from sb3_lecture_dqn.envs.tabular import TabularModel
from sb3_lecture_dqn.envs.tabular_sub_env import TabularSubEnv


class TabularVecEnv(VecEnv):
    """
    SB3's ``VecEnv`` over a :class:`TabularModel`: it steps arrays, not a Python object for every environment.

    Steps, rewards, ``infos`` and resets are those of a ``DummyVecEnv`` of environments with ``TimeLimit`` and
    ``Monitor``. The caller owns the ``infos``; the masks in them are shared and read-only.

    All randomness comes from one generator, :attr:`rng`; :meth:`seed` replaces it at the next reset. Options for resets
    have no effect, as in toy-text environments.

    :param env: A model, or an environment, or an id, see :meth:`TabularModel.from_env`
    :param n_envs: Number of environments
    :param max_episode_steps: Steps after which an episode is truncated. ``None`` for the limit of the environment,
        -1 for no limit, as in ``gymnasium.make``
    :param seed: Seed of the generator, ``None`` for one from the operating system
    :raises NotTabularError: If the environment has no model; the message says why
    :raises ValueError: If an argument is out of range, or a class that says it is tabular has no valid table
    """

    observation_space: spaces.Discrete
    action_space: spaces.Discrete

    def __init__(
        self,
        env: TabularModel | gym.Env | str,
        n_envs: int = 1,
        max_episode_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        check_number("n_envs", n_envs, 1, integer=True)
        model = self.model = env if isinstance(env, TabularModel) else TabularModel.from_env(env)
        if max_episode_steps is None:
            max_episode_steps = model.max_episode_steps
        elif max_episode_steps == -1:
            max_episode_steps = None
        else:
            check_number("max_episode_steps", max_episode_steps, 1, integer=True)
        self.max_episode_steps = max_episode_steps
        self.rng = np.random.default_rng(seed)
        self.spec = copy.copy(model.spec)
        self.metadata: dict[str, Any] = {"render_modes": []}
        if self.spec is not None:
            self.spec.max_episode_steps = max_episode_steps
            if model.draws:
                self.metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 4}
        self._render_env: gym.Env | None = None
        self._sub_envs = tuple(TabularSubEnv(self, index) for index in range(n_envs))
        metadata = self.metadata
        super().__init__(n_envs, spaces.Discrete(model.n_states), spaces.Discrete(model.n_actions))
        self.metadata = metadata  # SB3's constructor drops the frames per second

        self._limit = math.inf if max_episode_steps is None else max_episode_steps
        self._next_states, self._rewards = model.next_states.ravel(), model.rewards.ravel()
        self._terminated, self._probabilities = model.terminated.ravel(), model.probabilities.ravel()
        self._rewards32 = self._rewards.astype(np.float32)
        # A single environment is stepped without NumPy, whose calls take longer than work on single numbers.
        self._one = n_envs == 1
        self._was_reset = False
        self._pairs: Any  # state * A + action of the last or next step: int64 of shape (n_envs,), an int for one
        self._t_start = time.time()
        # The running episodes. The arrays stay the same objects, because compiled loops hold them.
        self._states, self._began = np.zeros(n_envs, np.int64), np.zeros(n_envs, np.int64)
        self._returns = np.zeros(n_envs)
        self._set_episodes(self._states, self._began, self._returns)

    @property
    def envs(self) -> tuple[gym.Env, ...]:
        """
        The environments one by one, as in ``DummyVecEnv``. They cannot be stepped or replaced.

        They have the attributes of toy-text environments (``unwrapped``, ``P``, ``desc``, ``decode``, ``s``,
        ``np_random``).
        """
        return self._sub_envs

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_render_env": None}  # windows cannot be copied

    # Python objects for steps, made by the first step, because tests on arrays need none

    @functools.cached_property
    def _infos(self) -> list[dict[str, Any]]:
        """The info of a step into every state. A copy is faster than a new dictionary."""
        plain = {"prob": 1.0, "TimeLimit.truncated": False}
        if self.model.action_masks is None:
            return [plain] * self.model.n_states
        return [{**plain, "action_mask": mask} for mask in self.model.action_masks.view(np.int8)]

    @functools.cached_property
    def _outcomes(self) -> list[tuple[int, float, bool, float]]:
        """Next state, reward, terminated and probability of every outcome."""
        columns = (self._next_states, self._rewards, self._terminated, self._probabilities)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    @functools.cached_property
    def _cumulative(self) -> list[list[float]]:
        """Cumulative probabilities of the outcomes of every state and action."""
        cumulative: list[list[float]] = self.model.cumulative.tolist()
        return cumulative

    def _set_episodes(self, states: np.ndarray, lengths: np.ndarray, returns: np.ndarray) -> None:
        """Set the running episodes: their states, numbers of steps and sums of rewards."""
        # There is one clock, and a start time for every episode. So a step counts nothing for every environment, and
        # checks no limits before the earliest deadline.
        self._clock, self._pairs = 0, None
        self._states[:], self._began[:], self._returns[:] = states, -lengths, returns
        self._deadline = self._began.min() + self._limit

    def reset(self) -> np.ndarray:
        """
        Begin an episode in every environment.

        :return: The first states, int64 of shape ``(n_envs,)``
        """
        states = self.draw_starts(self.num_envs)
        self._reset_options()
        self._set_episodes(states, np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs))
        self.reset_infos = [self._reset_info(state) for state in states.tolist()]
        self._was_reset = True
        return states

    def draw_starts(self, n: int) -> np.ndarray:
        """
        Draw first states of episodes as a reset does, but without a reset.

        :param n: How many
        :return: int64 of shape ``(n,)``
        """
        if self._seeds[0] is not None:
            self.rng = np.random.default_rng(self._seeds[0])
            self._reset_seeds()
        return self.model.draw_starts(n, self.rng)

    def step_async(self, actions: np.ndarray) -> None:
        """
        Set the actions of the next :meth:`step_wait`.

        :param actions: Integers of shape ``(n_envs,)``
        :raises ValueError: If they are not, or an action is out of range
        """
        if not self._was_reset:
            raise gym.error.ResetNeeded("reset() the environment before the first step")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions must be integers of shape ({self.num_envs},), not {actions.dtype} of shape {actions.shape}"
            )
        n_actions = self.model.n_actions
        if self._one:
            action = actions.item()
            if not 0 <= action < n_actions:
                raise ValueError(f"action {action} is not in 0, …, {n_actions - 1}")
            self._pairs = self._states.item() * n_actions + action
            return
        try:
            # It also checks the range, faster than comparisons do.
            self._pairs = np.ravel_multi_index((self._states, actions), (self.model.n_states, n_actions))
        except ValueError:
            index = int(np.argmax((actions < 0) | (actions >= n_actions)))
            raise ValueError(
                f"action {actions[index]} of environment {index} is not in 0, …, {n_actions - 1}"
            ) from None

    def step_wait(self) -> VecEnvStepReturn:
        """
        Step all environments; an environment whose episode ends is reset at once.

        :return: States (int64), rewards (float32) and dones (bool), each of shape ``(n_envs,)``, and infos
        """
        self._clock += 1
        if self._one:
            return self._step_one()
        outcomes = self.model.draw_outcomes(self._pairs, self.rng)
        states = self._next_states[outcomes]
        dones = terminated = self._terminated[outcomes]
        if self._clock >= self._deadline:
            dones = terminated | (self._clock - self._began >= self._limit)
        self._returns += self._rewards[outcomes]
        table = self._infos
        infos = [table[state].copy() for state in states.tolist()]
        if not self.model.deterministic:
            for info, probability in zip(infos, self._probabilities[outcomes].tolist(), strict=True):
                info["prob"] = probability
        ended = dones.nonzero()[0].tolist()
        for index in ended:
            states[index] = self._end_episode(index, infos[index], int(states[index]), bool(terminated[index]))
        if ended:
            self._deadline = self._began.min() + self._limit
        self._states[:] = states
        return states, self._rewards32[outcomes], dones, infos

    def _step_one(self) -> VecEnvStepReturn:
        outcome = self._pairs
        if not self.model.deterministic:
            outcome = outcome * self.model.n_outcomes + bisect_right(self._cumulative[outcome], self.rng.random())
        state, reward, terminated, probability = self._outcomes[outcome]
        self._returns[0] += reward
        info = self._infos[state].copy()
        info["prob"] = probability
        done = terminated or self._clock >= self._deadline
        if done:
            state = self._end_episode(0, info, state, terminated)
            self._deadline = self._clock + self._limit
        self._states[0] = state
        return np.array([state], np.int64), np.array([reward], np.float32), np.array([done]), [info]

    # What a compiled loop needs to step the environments itself, see `training/stretches.py`

    def tables(self, action_masks: bool) -> tuple[np.ndarray, ...]:
        """
        Return what decides a step.

        :param action_masks: Whether to return the valid actions
        :return: By state, action and outcome, flat: next states (int64), rewards (float64 and float32), ends (bool) and
            cumulative probabilities. Also the first states of episodes, their cumulative probabilities, and the valid
            actions as bits, int64 of shape ``(S, words)``, with 0 words without ``action_masks``
        """
        model = self.model
        masks = np.zeros((model.n_states, 0), np.int64)
        if action_masks:
            assert model.action_masks is not None
            masks = pack_masks(model.action_masks)
        rewards = self._rewards, self._rewards32
        ends = self._terminated, model.cumulative.ravel(), model.start_states, model.start_cumulative
        tables = self._next_states, *rewards, *ends, masks
        # So that the loop is compiled once, whoever made the tables
        return tuple(_read_only(table) for table in tables)

    def running_episodes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the running episodes.

        :return: Of shape ``(n_envs,)``: the states, the clock at the beginning of the episodes, and the sums of their
            rewards. A compiled loop changes these arrays in place, and then calls :meth:`note_steps`
        """
        return self._states, self._began, self._returns

    @property
    def clock(self) -> int:
        """Steps of each environment, which tells the lengths of the running episodes."""
        return self._clock

    def note_steps(self, clock: int, outcomes: np.ndarray, begun: np.ndarray | None) -> None:
        """
        Note that a compiled loop has stepped the environments.

        :param clock: The clock now
        :param outcomes: Outcomes of the last step as indices into the tables, int64 of shape ``(n_envs,)``
        :param begun: First states of the running episodes that have begun meanwhile, -1 for others, of the same shape;
            ``None`` if none has begun
        """
        self._clock = clock
        n_outcomes = self.model.n_outcomes
        self._pairs = outcomes.item() // n_outcomes if self._one else outcomes // n_outcomes
        if begun is not None:
            self._deadline = self._began.min() + self._limit
            for index in (begun >= 0).nonzero()[0].tolist():
                self.reset_infos[index] = self._reset_info(int(begun[index]))

    def step_results(self, outcomes: np.ndarray, dones: np.ndarray, ended: list[tuple[float, int]]) -> VecEnvStepReturn:
        """
        Return what :meth:`step` would have returned for the step that has led to the running episodes.

        :param outcomes: Outcomes of the step as indices into the tables, int64 of shape ``(n_envs,)``
        :param dones: Whether it ended the episodes, bool of shape ``(n_envs,)``
        :param ended: Return and length of the episodes that it ended
        :return: See :meth:`step_wait`
        """
        infos, table, episodes = [], self._outcomes, iter(ended)
        for outcome, done in zip(outcomes.tolist(), dones.tolist(), strict=True):
            state, _, terminated, probability = table[outcome]
            info = self._infos[state].copy()
            info["prob"] = probability
            if done:
                self._describe_end(info, state, terminated, *next(episodes))
            infos.append(info)
        return self._states.copy(), self._rewards32[outcomes], dones.copy(), infos

    @property
    def age(self) -> float:
        """Seconds since the environments were made, as in ``info["episode"]["t"]``."""
        return round(time.time() - self._t_start, 6)

    @property
    def rewards(self) -> np.ndarray:
        """The rewards of :meth:`tables`, float32."""
        return self._rewards32

    @property
    def step_limit(self) -> float:
        """Steps after which an episode is truncated, infinity for none."""
        return self._limit

    @property
    def was_reset(self) -> bool:
        """Whether there are running episodes."""
        return self._was_reset

    @property
    def states(self) -> np.ndarray:
        """A copy of the present states, int64 of shape ``(n_envs,)``."""
        return np.array(self._states, np.int64)

    def is_at(self, obs: np.ndarray) -> bool:
        """
        Look whether these are the present states: a user can set a state, or reset the environments.

        :param obs: Integers of shape ``(n_envs,)``
        :return: Whether they are
        """
        return bool(obs.tolist() == self._states.tolist())

    def _steps_of(self, index: int) -> int:
        return self._clock - int(self._began[index])

    def _reset_info(self, state: int) -> dict[str, Any]:
        info = self._infos[state].copy()
        del info["TimeLimit.truncated"]
        return info

    def _end_episode(self, index: int, info: dict[str, Any], state: int, terminated: bool) -> int:
        """Complete the info of an episode's last step, begin the next episode, and return its first state."""
        self._describe_end(info, state, terminated, float(self._returns[index]), self._steps_of(index))
        start = self.model.draw_start(self.rng)
        self._began[index] = self._clock
        self._returns[index] = 0.0
        self.reset_infos[index] = self._reset_info(start)
        return start

    def _describe_end(
        self, info: dict[str, Any], state: int, terminated: bool, episode_return: float, length: int
    ) -> None:
        info["episode"] = {"r": round(episode_return, 6), "l": length, "t": self.age}
        info["TimeLimit.truncated"] = not terminated
        info["terminal_observation"] = state

    def action_masks(self) -> np.ndarray:
        """
        Return which actions are valid now.

        :return: bool of shape ``(n_envs, A)``
        :raises ValueError: If the model has no masks
        """
        if self.model.action_masks is None:
            raise ValueError("the model of the environment has no action_masks")
        masks: np.ndarray = self.model.action_masks[self._states]
        return masks

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """
        Seed all environments at the next reset.

        :param seed: The seed, ``None`` for a seed from the operating system
        :return: A seed for every environment; the first is used for all
        """
        # SB3 would draw a seed from NumPy's global generator.
        return super().seed(int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed))

    def get_state(self) -> dict[str, Any]:
        """
        Return everything that decides the next steps.

        :return: Arrays of shape ``(n_envs,)``, plain numbers, and the state of the generator
        """
        return {
            "states": self._states.copy(),
            "lengths": self._clock - self._began,
            "returns": self._returns.copy(),
            "was_reset": self._was_reset,
            "seed": self._seeds[0],
            "rng": generator_state(self.rng),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Restore a state.

        :param state: The result of :meth:`get_state` for an environment of the same model and size
        :raises ValueError: If it does not fit this environment
        """
        for name in ("states", "lengths", "returns"):
            if np.shape(state[name]) != (self.num_envs,):
                raise ValueError(f"{name} has the shape {np.shape(state[name])}, it must have ({self.num_envs},)")
        states, lengths = (np.asarray(state[name]) for name in ("states", "lengths"))
        if states.dtype.kind not in "iu" or lengths.dtype.kind not in "iu":
            raise ValueError(f"states and lengths are {states.dtype} and {lengths.dtype}, they must be integers")
        self._check_states(states)
        if not ((lengths >= 0) & (lengths <= min(self._limit, 2**53))).all():
            raise ValueError(f"lengths {lengths} are not all in 0, …, {self._limit}")
        returns = np.asarray(state["returns"], np.float64)
        if not np.isfinite(returns).all():
            raise ValueError(f"returns {returns} are not all finite")
        if state["seed"] is not None:
            check_number("seed", state["seed"], 0, integer=True)
        set_generator_state(self.rng, state["rng"])
        self._set_episodes(states.astype(np.int64), lengths.astype(np.int64), returns)
        self._was_reset = bool(state["was_reset"])
        self._reset_seeds()
        if state["seed"] is not None:
            self.seed(state["seed"])

    def _check_states(self, states: np.ndarray) -> None:
        if not ((states >= 0) & (states < self.model.n_states)).all():
            raise ValueError(f"states {states} are not all in 0, …, {self.model.n_states - 1}")

    def tightest_limit(self, max_episode_steps: int | None) -> int:
        """
        Find the number of steps after which an episode is cut.

        :param max_episode_steps: A limit besides the environment's own, or ``None``
        :return: The smaller limit
        :raises ValueError: If there is none
        """
        limits = [limit for limit in (self.max_episode_steps, max_episode_steps) if limit is not None]
        if not limits:
            raise ValueError("max_episode_steps=None and the environment has no limit of its own: give one")
        return min(limits)

    def close(self) -> None:
        """Close the window of the environment that draws, if there is one."""
        if self._render_env is not None:
            self._render_env.close()
            self._render_env = None

    def get_images(self) -> Sequence[np.ndarray | None]:
        """
        Draw all environments.

        :return: RGB arrays, uint8 of shape ``(height, width, 3)``
        :raises ValueError: If there is no gymnasium environment of the model
        """
        return [env.render() for env in self._sub_envs]

    def _draw(self, state: int, lastaction: int | None) -> np.ndarray:
        if self._render_env is None:
            if self.model.env is None:
                raise ValueError("there is no picture: the model was not read from an environment and has no spec")
            self._render_env = copy.copy(self.model.env)
            self._render_env.render_mode = "rgb_array"
        vars(self._render_env).update(s=state, lastaction=lastaction, taxi_orientation=0)
        picture: np.ndarray = self._render_env.render()  # type: ignore[assignment]
        return picture

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """See SB3's ``VecEnv``; the state is ``s``, as in toy-text environments."""
        return [getattr(self._sub_envs[index], attr_name) for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """See SB3's ``VecEnv``; the state is ``s``, as in toy-text environments."""
        for index in self._get_indices(indices):
            setattr(self._sub_envs[index], attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """See SB3's ``VecEnv``."""
        return [method(*method_args, **method_kwargs) for method in self.get_attr(method_name, indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """See SB3's ``VecEnv``. ``Monitor`` and ``TimeLimit`` count as wrappers, because this class does their work."""
        limited = wrapper_class is TimeLimit and self.max_episode_steps is not None
        return [wrapper_class is Monitor or limited for _ in self._get_indices(indices)]


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def without_wrappers(env: VecEnv, *more: type[VecEnvWrapper]) -> VecEnv:
    """
    Strip the wrappers that leave actions alone, and observations of a ``Discrete`` space.

    :param env: A vectorised environment
    :param more: Other wrappers to strip
    :return: The environment inside
    """
    while type(env) in (VecNormalize, VecMonitor, VecCheckNan, *more):
        env = env.venv  # type: ignore[attr-defined]
    return env
