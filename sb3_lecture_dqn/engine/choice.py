"""Which engine trains a model."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from sb3_lecture_dqn.engine.compiled import CompiledEngine
from sb3_lecture_dqn.engine.known import why_not_compiled
from sb3_lecture_dqn.engine.torch_engine import TorchEngine

ENGINES = ("auto", "torch", "numba")


class Engine(Protocol):
    """Trains the networks of a model, and says which actions they would choose."""

    name: str

    def train(self, gradient_steps: int, batch_size: int) -> float:
        """
        Do updates, each on a minibatch of its own.

        :param gradient_steps: Number of updates
        :param batch_size: Transitions in a minibatch
        :return: Mean loss
        :raises DivergedError: If a loss is NaN or infinite; the weights are then those before that update
        """

    def greedy_actions(self, obs: Any, action_masks: np.ndarray | None = None) -> np.ndarray:
        """
        Choose the actions of highest value.

        :param obs: Observations with a leading dimension of ``n_envs``
        :param action_masks: Which actions are valid, bool of shape ``(n_envs, n_actions)``; ``None``: all
        :return: int64 of shape ``(n_envs,)``
        """

    def is_current(self, networks: bool = True) -> bool:
        """
        Look whether the model still asks for this engine, and is as it was when the engine was made.

        :param networks: Whether the networks or their optimiser may have been changed
        :return: ``False`` if the model needs another engine
        """


def make_engine(model: Any, say: Callable[[str], None] = lambda line: None) -> Engine:
    """
    Make the engine that ``model.engine`` asks for.

    :param model: A model that is set up but for its engine
    :param say: Is called with one line that names the engine, and the reason if it is not the compiled one
    :return: The engine
    :raises ValueError: If ``model.engine`` is ``"numba"``, and the compiled engine does not know the configuration
    """
    reason = "engine='torch'" if model.engine == "torch" else why_not_compiled(model)
    if reason is not None and model.engine == "numba":
        raise ValueError(f"engine='numba' cannot be used: {reason}; use engine='auto' or 'torch'")
    say("Using the numba engine" if reason is None else f"Using the torch engine ({reason})")
    return CompiledEngine(model) if reason is None else TorchEngine(model)
