"""One transition as a record of numbers: its fields, and how they are written, read and checked."""

import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape

from sb3_lecture_dqn.common.checks import Observation, check_stored
from sb3_lecture_dqn.common.masks import n_mask_words, pack_masks

# A network with more actions does not fit into memory. This limit is checked before masks of that size are allocated.
_MAX_MASKED_ACTIONS = 2**24


def transition_dtype(fields: list[tuple[str, np.dtype, tuple[int, ...]]]) -> np.dtype:
    """
    Build the record type of a transition.

    :param fields: Name, dtype and shape of every field
    :return: A packed record, padded to whole 64-bit words, because the duplicate index compares rows word by word
    """
    size = np.dtype(fields).itemsize
    filler = [("_filler", np.dtype(np.uint8), (-size % 8,))] if size % 8 else []
    return np.dtype(fields + filler)


#: The record of a transition between ``Discrete`` states, without masks
DISCRETE_ROW = transition_dtype(
    [
        ("observations", np.dtype(np.int64), (1,)),
        ("next_observations", np.dtype(np.int64), (1,)),
        ("actions", np.dtype(np.int64), (1,)),
        ("rewards", np.dtype(np.float32), ()),
        ("dones", np.dtype(np.float32), ()),
    ]
)
# Where the fields of DISCRETE_ROW are in a row, read as int64 words or as float32. The kernels have the same numbers
# in `kernels/updates.py`: numba's cache on disk does not see a change of constants in another file.
STATE_WORD, NEXT_STATE_WORD, ACTION_WORD = 0, 1, 2
REWARD_FLOAT, DONE_FLOAT = 6, 7


class TransitionRow:
    """
    The transition that a memory is about to store, as one record.

    :param observation_space: Observation space of the memory
    :param action_space: Action space of the memory
    :param use_masking: Whether the record has the valid actions of the next state, one bit each
    :raises ValueError: If masks are wanted and the actions are not ``Discrete``, or too many
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], use_masking: bool
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        # SB3 names the parts of a Dict observation; a plain observation is one part without a name.
        self._spaces: Mapping[Any, spaces.Space[Any]] = (
            observation_space.spaces if isinstance(observation_space, spaces.Dict) else {None: observation_space}
        )
        self._fields = {part: "observations" if part is None else f"observations/{part}" for part in self._spaces}
        self._action_dim = get_action_dim(action_space)
        fields: list[tuple[str, np.dtype, tuple[int, ...]]] = []
        for prefix in ("", "next_"):
            for part, space in self._spaces.items():
                shape: Any = get_obs_shape(space)
                fields.append((prefix + self._fields[part], np.dtype(space.dtype), shape))
        action_dtype = np.dtype(ReplayBuffer._maybe_cast_dtype(action_space.dtype))
        fields.append(("actions", action_dtype, (self._action_dim,)))
        fields.append(("rewards", np.dtype(np.float32), ()))
        fields.append(("dones", np.dtype(np.float32), ()))
        #: Whether the record is DISCRETE_ROW, with the words of the mask after it; the compiled loops read only this
        self.is_discrete = isinstance(observation_space, spaces.Discrete) and transition_dtype(fields) == DISCRETE_ROW
        if use_masking:
            if not isinstance(action_space, spaces.Discrete):
                raise ValueError(f"use_masking=True needs a Discrete action space, not {action_space}")
            self.n_actions = int(action_space.n)
            if self.n_actions > _MAX_MASKED_ACTIONS:
                raise ValueError(f"use_masking=True allows {_MAX_MASKED_ACTIONS} actions at most, not {action_space}")
            self._all_valid = pack_masks(np.ones((1, self.n_actions), dtype=bool))[0]
            fields.append(("next_action_masks", np.dtype(np.int64), (n_mask_words(self.n_actions),)))
        self.dtype = transition_dtype(fields)
        self._record = np.zeros(1, self.dtype)
        #: The record as 64-bit integers, of shape ``(1, words)``
        self.words = self._record.view(np.int64).reshape(1, -1)
        self._floats = self._record.view(np.float32)

    def write(
        self, i: int, obs: Observation, next_obs: Observation, action: np.ndarray, reward: float, terminal: bool
    ) -> None:
        """
        Write all fields but the mask.

        :param i: Which of the environments has made the step
        :param obs: Observations of all environments before the step
        :param next_obs: Observations after it
        :param action: Actions of all environments
        :param reward: Reward of environment ``i``
        :param terminal: Whether its episode terminated
        """
        # Adding 0.0 turns -0.0 into 0.0. The two are equal numbers with different bytes, and duplicates are found by
        # their bytes.
        if self.is_discrete:  # a quarter of the time of the code below
            words, floats = self.words[0], self._floats
            words[STATE_WORD] = obs.item(i)  # type: ignore[union-attr]
            words[NEXT_STATE_WORD] = next_obs.item(i)  # type: ignore[union-attr]
            words[ACTION_WORD] = action.item(i)
            floats[REWARD_FLOAT] = reward + 0.0
            floats[DONE_FLOAT] = terminal
            return
        record = self._record
        for part, field in self._fields.items():
            for name, value in ((field, obs), ("next_" + field, next_obs)):
                observed = np.asarray(value[part] if part is not None else value)[i]
                record[name] = observed + 0.0 if observed.dtype.kind == "f" else observed
        record["actions"] = action.reshape(-1, self._action_dim)[i]
        record["rewards"] = reward + 0.0
        record["dones"] = terminal

    def write_mask(self, mask: list[int], terminal: bool) -> bool:
        """
        Write the valid actions of the next state, and warn if they are not known.

        :param mask: Words of the mask, see :func:`pack_masks`
        :param terminal: Whether the episode terminated. Then all actions are stored as valid: the value of the next
            state is multiplied by 0 and must only be finite
        :return: Whether the valid actions are known; if not, the transition must not be stored
        """
        self._record["next_action_masks"][0] = self._all_valid if terminal else mask
        known = terminal or any(mask)
        if not known:
            warnings.warn(
                "a transition that a time limit cut is not stored, because the valid actions of its last state are not "
                "known; put sb3_lecture_dqn's ActionMaskInfo around every sub-environment to make them known"
            )
        return known

    def observations(self, rows: np.ndarray, prefix: str = "") -> Observation:
        """
        Read the observations of some records.

        :param rows: Records
        :param prefix: ``"next_"`` for the next observations
        :return: An array, or a dictionary of arrays for a ``Dict`` space
        """
        if None in self._fields:
            plain: np.ndarray = rows[prefix + "observations"]
            return plain
        return {str(part): rows[prefix + field] for part, field in self._fields.items()}

    def state_key(self, row: np.ndarray) -> Hashable:
        """
        Read the state of one record as a value that a set can hold.

        :param row: A record
        :return: An integer for ``Discrete``, nested tuples for an array, pairs ``(key, tuples)`` for a ``Dict``
        """
        if None not in self._fields:
            return tuple((part, _as_tuples(row[field].tolist())) for part, field in self._fields.items())
        if isinstance(self.observation_space, spaces.Discrete):
            return int(row["observations"][0])
        return _as_tuples(row["observations"].tolist())

    def check(self, rows: np.ndarray) -> None:
        """
        Check records that come from outside, because the compiled loops use them as indices.

        :param rows: Records of one of the partitions
        :raises ValueError: If an observation, an action, a reward or a terminal flag has an impossible value
        """
        for part, field in self._fields.items():
            for name in (field, "next_" + field):
                check_stored(name, rows[name], self._spaces[part])
        discrete = isinstance(self.action_space, spaces.Discrete)
        check_stored("actions", rows["actions"], self.action_space if discrete else None)
        check_stored("rewards", rows["rewards"], None)
        check_stored("dones", rows["dones"], None)


def _as_tuples(value: Any) -> Hashable:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
