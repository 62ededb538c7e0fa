"""Masks of valid actions: as bits, in minibatches, and in the choice of actions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, TensorDict

from sb3_lecture_dqn.common.checks import Observation


class MaskableReplayBufferSamples(NamedTuple):
    """
    SB3's ``ReplayBufferSamples`` with masks.

    :param next_action_masks: Which actions are valid in the next state, bool of shape ``(batch, n_actions)``; all
        actions if it is terminal
    """

    observations: th.Tensor | TensorDict
    actions: th.Tensor
    next_observations: th.Tensor | TensorDict
    dones: th.Tensor
    rewards: th.Tensor
    next_action_masks: th.Tensor
    discounts: None = None  # n-step returns have no masks


def given_masks(action_masks: Any, n: int, n_actions: int) -> np.ndarray:
    """
    Check masks that were given to ``predict``.

    :param action_masks: Shape ``(n, n_actions)``, or ``(n_actions,)`` for one observation
    :param n: Number of observations
    :param n_actions: Number of actions
    :return: bool of shape ``(n, n_actions)``
    :raises ValueError: If the shape is another, or a mask allows no action
    """
    masks = np.asarray(action_masks)
    if masks.shape != (n, n_actions) and not (n == 1 and masks.shape == (n_actions,)):
        raise ValueError(f"action_masks has the shape {masks.shape}, it must have ({n}, {n_actions})")
    masks = masks.reshape(n, n_actions).astype(bool)
    if not masks.any(axis=1).all():
        raise ValueError(f"action_masks[{int(masks.any(axis=1).argmin())}] allows no action")
    return masks


def best_allowed(values: th.Tensor, masks: th.Tensor | None) -> th.Tensor:
    """
    Choose the valid actions of highest value.

    :param values: float of shape ``(batch, n_actions)``
    :param masks: bool of the same shape, ``None`` if all actions are valid
    :return: int64 of shape ``(batch,)``
    """
    return values.argmax(dim=1) if masks is None else values.masked_fill(~masks, -th.inf).argmax(dim=1)


def predict_greedily(
    policy: BasePolicy, action_values: Callable[[PyTorchObs], th.Tensor], observation: Observation, action_masks: Any
) -> np.ndarray:
    """
    Choose actions as ``policy.predict`` does, but among the valid ones.

    :param policy: The policy, which converts observations to tensors
    :param action_values: Returns the values of observations, shape ``(batch, n_actions)``
    :param observation: The observation(s)
    :param action_masks: See :func:`given_masks`
    :return: The action(s)
    """
    policy.set_training_mode(False)
    obs, vectorized = policy.obs_to_tensor(observation)
    with th.no_grad():
        values = action_values(obs)
    masks = th.as_tensor(given_masks(action_masks, *values.shape), device=values.device)
    actions: np.ndarray = best_allowed(values, masks).cpu().numpy()
    return actions if vectorized else actions[0:1].reshape(())


class MaskablePolicyMixin(BasePolicy):
    """Gives a policy of action values a ``predict`` with masks. It must be the first base class."""

    def action_values(self, obs: PyTorchObs) -> th.Tensor:
        """
        Return the value of every action.

        :param obs: Observations
        :return: float32 of shape ``(batch, n_actions)``
        """
        raise NotImplementedError

    def predict(
        self,
        observation: Observation,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose the actions of highest value.

        :param observation: The observation(s)
        :param state: Not used
        :param episode_start: Not used
        :param deterministic: Not used: the choice is always deterministic
        :param action_masks: Which actions are valid, bool of shape ``(n_actions,)``, with a leading dimension for
            several observations. ``None``: all
        :return: The action(s), and ``state`` unchanged
        :raises ValueError: If the masks are of another shape, or a mask allows no action
        """
        if action_masks is None:
            return super().predict(observation, state, episode_start, deterministic)
        return predict_greedily(self, self.action_values, observation, action_masks), state


def draw_allowed(rng: np.random.Generator, masks: np.ndarray) -> np.ndarray:
    """
    Draw valid actions uniformly. If all are valid, the draws are those of :func:`seeding.draw_indices`.

    :param rng: The generator
    :param masks: bool of shape ``(n, n_actions)``, with at least one valid action each
    :return: int64 of shape ``(n,)``
    """
    if len(masks) == 1:  # the usual case; the same draw as below
        valid: np.ndarray = masks[0].nonzero()[0]
        return valid[[int(rng.random() * len(valid))]]
    rank = (rng.random(len(masks)) * masks.sum(axis=1)).astype(np.int64)
    actions: np.ndarray = (masks.cumsum(axis=1) > rank[:, None]).argmax(axis=1)
    return actions


def n_mask_words(n_actions: int) -> int:
    """
    Count the 64-bit words of a mask.

    :param n_actions: Number of actions, one bit each
    :return: The number of words
    """
    return -(-n_actions // 64)


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """
    Convert masks to bits: action a is bit ``a % 64`` of word ``a // 64``.

    :param masks: bool of shape ``(n, n_actions)``
    :return: int64 of shape ``(n, words)``
    """
    n, n_actions = masks.shape
    octets = np.packbits(masks, axis=1, bitorder="little")
    padded = np.zeros((n, 8 * n_mask_words(n_actions)), dtype=np.uint8)
    padded[:, : octets.shape[1]] = octets
    return padded.view("<i8").astype(np.int64, copy=False)


def unpack_masks(words: np.ndarray, n_actions: int) -> np.ndarray:
    """
    Convert bits to masks: the inverse of :func:`pack_masks`.

    :param words: int64 of shape ``(n, words)``
    :param n_actions: Number of actions
    :return: bool of shape ``(n, n_actions)``
    """
    octets = np.ascontiguousarray(words).astype("<i8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=n_actions, bitorder="little").astype(bool)
