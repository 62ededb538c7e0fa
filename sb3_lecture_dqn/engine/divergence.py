"""The error for training that diverges, with its diagnosis and its advice."""

import math
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_lecture_dqn.common.checks import UnsafeFileError, check_finite
from sb3_lecture_dqn.engine.known import from_known_package

#: Learning rate in the lecture's settings object. The lecture's optimiser does not use it, but a tenth of it
LECTURES_UNUSED_LR = 0.01
#: The values of all states are measured if there are at most so many, else those of the current states
_MAX_STATES = 1000


class DivergedError(ValueError):
    """
    Training has diverged: a loss or a weight is NaN or infinite.

    The message tells when it happened, how far the action values are outside the possible range, how they grew, and
    what helps. If a loss was not finite, the model keeps the weights from before that update. The error is also a
    ``ValueError``, as in version 1.0.

    :param fact: What happened
    :param advice: What helps
    """

    def __init__(self, fact: str, advice: str = "") -> None:
        super().__init__(fact, advice)
        self.fact = fact
        self.advice = advice
        #: How the action values grew; the training loop sets it, if it knows
        self.growth = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.fact, self.growth, self.advice)))


class Growth:
    """
    A record of the largest action value during a training, for the message of a :class:`DivergedError`.

    A value is measured each time the number of environment steps has grown by half: some thirty times in a run. Nothing
    is measured with a network of other packages, whose forward pass might change something.

    :param model: A model of this package, set up for training
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        #: (environment step, largest absolute action value) of each measurement
        self.entries: list[tuple[int, float]] = []
        #: The environment step of the next one
        self.next: float = 0 if _is_known(model) else math.inf

    def note(self) -> None:
        """Measure, if it is time."""
        steps = self.model.num_timesteps
        if steps >= self.next:
            self.next = steps + steps // 2 + 1
            self.entries.append((steps, largest_value(self.model)))

    def __str__(self) -> str:
        finite = [entry for entry in self.entries if math.isfinite(entry[1])]
        if not finite:
            return ""
        some = [finite[i] for i in sorted({0, len(finite) // 2, len(finite) - 1})]
        words = [f"{value:.3g} {'at the start' if steps == 0 else f'at step {steps}'}" for steps, value in some]
        return f"Before, the largest action value was {', '.join(words)}."


def _is_known(model: Any) -> bool:
    """Return whether all modules of the network are of known packages, without hooks."""
    handed_out = model._access.handed_out
    modules = [*model._networks[0].modules()]
    model._access.handed_out = handed_out
    return all(
        from_known_package(type(module)) and not module._forward_hooks and not module._forward_pre_hooks
        for module in modules
    )


def largest_value(model: Any) -> float:
    """
    Compute the largest absolute action value of all states, or of the current states if they are not a few numbers.

    :param model: A model of this package, which has been reset
    :return: The value, which may be NaN or infinite
    """
    space, obs = model.observation_space, model._last_obs
    if isinstance(space, spaces.Discrete) and space.n <= _MAX_STATES:
        obs = np.arange(space.start, space.start + space.n)
    handed_out = model._access.handed_out
    network = model._networks[0]
    training = network.training
    if training:
        network.train(False)  # do not change running statistics
    with th.no_grad():
        largest = float(model._action_values(model.policy.obs_to_tensor(obs)[0]).abs().max())
    if training:
        network.train(True)
    model._access.handed_out = handed_out  # user code has not seen the network
    return largest


def loss_not_finite(model: Any, loss: float, done: int = 0) -> DivergedError:
    """
    Make the error for a loss that is NaN or infinite.

    :param model: A model of this package, with the weights from before that update
    :param loss: The loss
    :param done: Number of updates that this call of ``train`` has finished
    :return: The error, not raised yet
    """
    fact = f"the loss of update {model._n_updates + done + 1} (environment step {model.num_timesteps}) is {loss}"
    return DivergedError(f"{fact}: {_diverged(model)}{_how_far(model)}", what_helps(model))


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
        raise DivergedError(f"{when}, {error}: {_diverged(model)}", what_helps(model)) from error


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
    return f"training has diverged after {model._episode_num} whole episodes, in episode {model._episode_num + 1}."


def _how_far(model: Any) -> str:
    """Compare the largest action value with the largest possible return."""
    if not has_finite_weights(model):
        return " The weights are not finite either: the update before this one was too large."
    if model._last_obs is None:
        return ""
    largest = largest_value(model)
    is_beyond = f"is {largest:.3g}" if math.isfinite(largest) else "is beyond the range of float32"
    text = f" The largest action value {is_beyond}"
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
