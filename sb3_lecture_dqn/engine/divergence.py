"""The error for training that diverges, with its diagnosis and its advice."""

import math
from typing import Any

import numpy as np
import torch as th

from sb3_lecture_dqn.common.checks import UnsafeFileError, check_finite

#: Learning rate in the lecture's settings object. The lecture's optimiser does not use it, but a tenth of it
LECTURES_UNUSED_LR = 0.01


class DivergedError(ValueError):
    """
    Training has diverged: a loss or a weight is NaN or infinite.

    The message tells when it happened, how far the action values are outside the possible range, and what helps. If a
    loss was not finite, the model keeps the weights from before that update. The error is also a ``ValueError``, as in
    version 1.0.
    """


def loss_not_finite(model: Any, loss: float, done: int = 0) -> DivergedError:
    """
    Make the error for a loss that is NaN or infinite.

    :param model: A model of this package, with the weights from before that update
    :param loss: The loss
    :param done: Number of updates that this call of ``train`` has finished
    :return: The error, not raised yet
    """
    fact = f"the loss of update {model._n_updates + done + 1} (environment step {model.num_timesteps}) is {loss}"
    return DivergedError(f"{fact}: {_diverged(model)}{_how_far(model)} {what_helps(model)}")


def check_weights(model: Any) -> None:
    """
    Check that all weights and the state of the optimiser are finite. The last update has no loss after it to show this.

    :param model: A model of this package
    :raises DivergedError: If a number is NaN or infinite; the message names it
    """
    policy = model.policy
    # Not `optimizer.state_dict()`, which fails if a trained parameter was removed from the optimiser.
    optimizer_state = {"state": list(policy.optimizer.state.values())}
    try:
        check_finite({"policy": policy.state_dict(), "policy.optimizer": optimizer_state})
    except UnsafeFileError as error:
        when = f"after update {model._n_updates} (environment step {model.num_timesteps})"
        raise DivergedError(f"{when}, {error}: {_diverged(model)} {what_helps(model)}") from error


def has_finite_weights(model: Any) -> bool:
    """
    Check whether a model can act and be saved.

    :param model: A model of this package
    :return: Whether all weights and the state of the optimiser are finite
    """
    try:
        check_weights(model)
    except DivergedError:
        return False
    return True


def what_helps(model: Any) -> str:
    """
    Suggest settings that prevent divergence, except those that the model has already.

    :param model: A model of this package
    :return: Sentences for the message of an error
    """
    optimizer = model.policy.optimizer
    lr = optimizer.param_groups[0]["lr"]
    ideas = []
    if not model.double_dqn:
        ideas.append("a separate target network (double_dqn=True), as otherwise every update moves its own targets")
    if not model.store_and_replay:
        ideas.append("a replay memory (store_and_replay=True)")
    ideas.append(f"a lower learning_rate (it is {lr:g})")
    if getattr(model, "loss", None) == "mse":
        ideas.append("loss='huber'")
    if model.max_grad_norm is None:
        ideas.append("max_grad_norm=10")
    text = f"What helps: {'; '.join(ideas)}; or {type(model).__name__}.tuned(env), which chooses all of it."
    if lr >= LECTURES_UNUSED_LR and isinstance(optimizer, th.optim.SGD):
        text += (
            f" The lecture's settings say lr={LECTURES_UNUSED_LR:g}, but its optimiser trains with lr=0.001, which is "
            "the default here."
        )
    return text


def _diverged(model: Any) -> str:
    return f"training has diverged after {model._episode_num} whole episodes."


def _how_far(model: Any) -> str:
    """Compare the action values of the current state with the largest possible return."""
    if not has_finite_weights(model):
        return " The weights are not finite either: the update before this one was too large."
    if model._last_obs is None:
        return ""
    network = model._networks[0]
    training = network.training
    network.train(False)  # do not change running statistics
    with th.no_grad():
        largest = float(model._action_values(model.policy.obs_to_tensor(model._last_obs)[0]).abs().max())
    network.train(training)
    is_beyond = f"is {largest:.3g}" if math.isfinite(largest) else "is beyond the range of float32"
    text = f" The largest action value of the current state {is_beyond}"
    memory, gamma = model.replay_buffer, model.gamma
    if not model.store_and_replay or memory.size() == 0 or gamma == 1 or model._vec_normalize_env is not None:
        return f"{text}."
    rewards = np.asarray(memory.rewards)[: memory.size()]
    low, high = float(rewards.min()), float(rewards.max())
    bound = max(abs(low), abs(high)) / (1 - gamma)
    if largest <= bound:
        return f"{text}."
    return (
        f"{text}, while no return of the rewards so far ({low:g} to {high:g}) at gamma={gamma:g} is beyond {bound:.3g}."
    )
