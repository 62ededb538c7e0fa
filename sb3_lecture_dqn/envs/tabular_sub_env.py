"""One environment of a ``TabularVecEnv``, for users who look at it."""

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.envs.tabular import TabularModel

_TOGETHER = (
    "a TabularVecEnv steps its environments together, so a single one has no {}: call that of the "
    "TabularVecEnv, or give the model an environment made by gymnasium.make"
)


class _Venv(Protocol):
    """The attributes of a ``TabularVecEnv`` that are used here."""

    model: TabularModel
    num_envs: int
    observation_space: spaces.Discrete
    action_space: spaces.Discrete
    max_episode_steps: int | None
    rng: np.random.Generator
    spec: EnvSpec | None
    metadata: dict[str, Any]
    _states: Any
    _pairs: Any

    def action_masks(self) -> np.ndarray: ...

    def _steps_of(self, index: int) -> int: ...

    def _draw(self, state: int, action: int | None) -> np.ndarray: ...


class TabularSubEnv(gym.Env):
    """
    One environment of a :class:`TabularVecEnv`, with the attributes of a toy-text environment.

    The state ``s`` and the generator can be set. Setting another attribute that the environment has is an error,
    because it would have no effect. All else, such as Taxi's ``decode``, comes from an environment of the same model.

    :param venv: The ``TabularVecEnv``
    :param index: Number of the environment in it
    """

    _tabular_venv: _Venv
    _tabular_index: int

    def __init__(self, venv: _Venv, index: int) -> None:
        vars(self).update(_tabular_venv=venv, _tabular_index=index)

    def __getattr__(self, name: str) -> Any:
        venv: _Venv | None = vars(self).get("_tabular_venv")
        if venv is not None and not name.startswith("__"):
            if name == "action_masks" and venv.model.action_masks is not None:
                return self._action_masks
            if venv.model.env is not None and hasattr(venv.model.env, name):
                return getattr(venv.model.env, name)
        raise AttributeError(
            f"an environment of a TabularVecEnv has no attribute {name!r}; if the environment itself has it, use "
            "gymnasium.make(...)"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("s", "np_random") or name in vars(self).keys() - {"_tabular_venv", "_tabular_index"}:
            super().__setattr__(name, value)
        elif hasattr(self, name):
            raise AttributeError(
                f"{name!r} cannot be set: it would have no effect, because a TabularVecEnv steps on other arrays. "
                "Give the model an environment with the new value, made by gymnasium.make, or "
                "TabularVecEnv(TabularModel(P, initial_state_distrib, ...))"
            )
        else:
            vars(self)[name] = value

    @property
    def s(self) -> int:
        """The state, under its name in toy-text environments."""
        return int(self._tabular_venv._states[self._tabular_index])

    @s.setter
    def s(self, state: int) -> None:
        check_number("s", state, 0, self.model.n_states - 1, integer=True)
        self._tabular_venv._states[self._tabular_index] = int(state)

    @property
    def lastaction(self) -> int | None:
        """The action that led to the state, ``None`` at the start of an episode."""
        pairs = self._tabular_venv._pairs
        if pairs is None or self._tabular_venv._steps_of(self._tabular_index) == 0:
            return None
        return int(np.ravel(pairs)[self._tabular_index]) % self._tabular_venv.model.n_actions

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that all environments of a ``TabularVecEnv`` share."""
        return self._tabular_venv.rng

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        if self._tabular_venv.num_envs > 1:
            raise AttributeError(
                f"np_random cannot be set for one of {self._tabular_venv.num_envs} environments, which share one "
                "generator: set the `rng` of the TabularVecEnv, or seed() it"
            )
        if not isinstance(value, np.random.Generator):
            raise TypeError(f"np_random={value!r} must be a numpy.random.Generator")
        self._tabular_venv.rng = value

    @property
    def np_random_seed(self) -> int:
        """The seed of the generator, -1 if it is not known."""
        entropy = getattr(getattr(self.np_random.bit_generator, "seed_seq", None), "entropy", None)
        return entropy if isinstance(entropy, int) else -1

    # The attributes of `TimeLimit`, if there is a step limit

    @property
    def _elapsed_steps(self) -> int:
        _ = self._max_episode_steps
        return self._tabular_venv._steps_of(self._tabular_index)

    @property
    def _max_episode_steps(self) -> int:
        if self._tabular_venv.max_episode_steps is None:
            raise AttributeError("there is no step limit")
        return self._tabular_venv.max_episode_steps

    @property
    def model(self) -> TabularModel:
        """The model of the environment."""
        return self._tabular_venv.model

    @property
    def P(self) -> Any:
        """See :attr:`TabularModel.P`."""
        return self.model.P

    @property
    def initial_state_distrib(self) -> np.ndarray:
        """See :class:`TabularModel`."""
        return self.model.initial_state_distrib

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """See gymnasium's ``Env``."""
        return self._tabular_venv.spec

    @property
    def metadata(self) -> dict[str, Any]:  # type: ignore[override]
        """See gymnasium's ``Env``."""
        return self._tabular_venv.metadata if self.model.env is None else self.model.env.metadata

    @property
    def render_mode(self) -> str | None:  # type: ignore[override]
        """See gymnasium's ``Env``; SB3 makes environments with ``"rgb_array"`` too."""
        return "rgb_array" if self._tabular_venv.metadata["render_modes"] else None

    @property
    def observation_space(self) -> spaces.Discrete:  # type: ignore[override]
        """See gymnasium's ``Env``."""
        return self._tabular_venv.observation_space

    @property
    def action_space(self) -> spaces.Discrete:  # type: ignore[override]
        """See gymnasium's ``Env``."""
        return self._tabular_venv.action_space

    def _action_masks(self) -> np.ndarray:
        masks: np.ndarray = self._tabular_venv.action_masks()[self._tabular_index]
        return masks

    def reset(self, **kwargs: Any) -> Any:
        """Raise an error."""
        raise NotImplementedError(_TOGETHER.format("reset()"))

    def step(self, action: Any) -> Any:
        """Raise an error."""
        raise NotImplementedError(_TOGETHER.format("step()"))

    def render(self) -> np.ndarray:
        """Draw the present state."""
        return self._tabular_venv._draw(self.s, self.lastaction)
