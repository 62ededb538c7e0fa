"""The choice of the engine that trains a model."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from sb3_lecture_dqn.engine.compiled import CompiledEngine
from sb3_lecture_dqn.engine.known import why_not_compiled
from sb3_lecture_dqn.engine.torch_engine import TorchEngine

ENGINES = ("auto", "torch", "numba")


class Engine(Protocol):
    """Protocol of the engines. An engine updates the networks of a model and chooses their greedy actions."""

    name: str

    @property
    def arithmetic(self) -> str:
        """Name of how the engine rounds: two engines of the same name compute the same bits."""

    @property
    def was_in_version_1(self) -> bool:
        """Whether a compiled engine trained such a model in version 1.0 too."""

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """
        Update the online network, each time with a new minibatch.

        :param gradient_steps: Number of updates
        :param batch_size: Number of transitions in each minibatch
        :return: Mean loss of the updates
        :raises DivergedError: If a loss is NaN or infinite; the weights are then those from before that update
        """

    def copy_target(self, tau: float) -> None:
        """
        Move the target network towards the online network: ``target = (1 - tau) * target + tau * online``.

        :param tau: Share of the online network, in [0, 1]
        """

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """
        Choose the actions with the highest values.

        :param obs: Batch of ``n_envs`` observations
        :param action_masks: Valid actions, bool of shape ``(n_envs, n_actions)``; ``None`` if all are valid
        :return: Actions, int64 of shape ``(n_envs,)``
        """

    def is_current(self, networks: bool = True) -> bool:
        """
        Check whether the engine still fits the model, since settings, networks or the optimiser may have changed.

        :param networks: Whether to check the networks and the optimiser too
        :return: ``False`` if the model needs a new engine
        """


def make_engine(model: Any, say: Callable[[str], None] = lambda line: None) -> Engine:
    """
    Make the engine that the setting ``model.engine`` selects.

    :param model: A model that is set up except for its engine
    :param say: Function that is called with a line that names the engine, and the reason if it is PyTorch
    :return: The engine
    :raises ValueError: If ``model.engine`` is ``"numba"`` and the compiled engine does not support the model
    """
    if model.engine == "torch":
        say("Using the torch engine (engine='torch')")
        return TorchEngine(model)
    reason = why_not_compiled(model)
    if reason is None:
        say("Using the numba engine")
        return CompiledEngine(model)
    if model.engine == "numba":
        raise ValueError(f"engine='numba' cannot be used: {reason}; use engine='auto' or 'torch'")
    say(f"Using the torch engine (engine='numba' cannot be used: {reason})")
    return TorchEngine(model)
