"""What a page shows of each moment, computed by the model's own networks, loss and optimiser in PyTorch."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.masks import best_allowed
from sb3_lecture_dqn.envs.exact import policy_figures
from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD
from sb3_lecture_dqn.show.page.arrays import packed, packed_values
from sb3_lecture_dqn.show.page.moment import Moment
from sb3_lecture_dqn.show.page.world import World

#: Moves of other values that are listed, at most, and the smallest move that counts
MAX_MOVED, SMALLEST_MOVE = 12, 1e-6
#: How many times the largest possible return an action value is shown
_BEYOND = 10.0


class Figures:
    """
    Computes the figures of moments on a copy of a model, so that the model does not change.

    :param model: A model of this package that fits the moments
    :param world: Its environment
    """

    def __init__(self, model: Any, world: World) -> None:
        self.world = world
        self.model: Any = copy.copy(model)
        attributes = vars(self.model)
        attributes["policy"] = copy.deepcopy(vars(model)["policy"])
        attributes["engine"] = "torch"
        self.model._create_aliases()
        self.model._make_engine()
        self.model.policy.set_training_mode(False)
        self._states = self.model.policy.obs_to_tensor(np.arange(world.table.n_states))[0]
        self._moment: Moment | None = None

    def set(self, moment: Moment) -> None:
        """
        Bring the copy to a moment.

        :param moment: The moment
        :raises ValueError: If its arrays do not fit the networks
        """
        self._moment = moment
        online, target = self.model._networks
        _set_arrays(online, moment.online)
        if target is not online:
            _set_arrays(target, moment.online if moment.target is None else moment.target)
        self.model.policy.optimizer.load_state_dict(copy.deepcopy(moment.optimizer))

    def model_at(self, moment: Moment) -> Any:
        """
        Bring the copy to a moment with its counters, and with its memory if the moment has all of it.

        :param moment: The moment
        :return: The copy, to be looked at; further moments change it
        """
        self.set(moment)
        model = self.model
        model.num_timesteps, model._episode_num = moment.step, moment.episode
        model.exploration_rate = moment.epsilon
        model._make_replay_buffer()
        memory, rows = model.replay_buffer, moment.sample
        if isinstance(memory, SuccessFailReplayBuffer) and len(rows) == moment.n_successes + moment.n_failures:
            for partition, part in (
                (memory.success, rows[: moment.n_successes]),
                (memory.fail, rows[moment.n_successes :]),
            ):
                partition.reserve(len(part))[0][: len(part)] = part
            memory.set_sizes(moment.n_successes, moment.n_failures)
        return model

    @property
    def _masks(self) -> dict[str, Any]:
        return {} if self.world.valid is None else {"action_masks": self.world.valid}

    def values(self) -> np.ndarray:
        """
        Return the values of all actions in all states now.

        :return: float32 of shape ``(S, A)``
        """
        with th.no_grad():
            values: np.ndarray = self.model._action_values(self._states).cpu().numpy()
        return values

    def greedy(self) -> np.ndarray:
        """
        Return the action that the model chooses in every state.

        :return: int64 of shape ``(S,)``
        """
        actions: np.ndarray = self.model.predict(
            np.arange(self.world.table.n_states), deterministic=True, **self._masks
        )[0]
        return actions

    def batch(self, rows: np.ndarray) -> Any:
        """
        Make a minibatch of transitions.

        :param rows: See :class:`moment.Moment`
        :return: The minibatch, as the replay memory returns it
        """
        model = self.model
        has_masks = model.use_masking and rows.shape[1] > 4
        memory = SuccessFailReplayBuffer(
            len(rows), model.observation_space, model.action_space, device=model.device, deduplicate=False, seed=0,
            use_masking=has_masks,
        )  # fmt: skip
        words = memory.fail.reserve(len(rows))[0]
        words[: len(rows)] = rows
        memory.fail.set_size(len(rows))
        return memory._get_samples(np.arange(len(rows)))

    def loss(self, rows: np.ndarray) -> float | None:
        """
        Compute the loss of the run over transitions.

        :param rows: See :class:`moment.Moment`
        :return: The loss; ``None`` without transitions, or if it is not finite
        """
        if len(rows) == 0:
            return None
        with th.no_grad():
            loss = float(self.model.compute_loss(self.batch(rows)))
        return rounded(loss)

    def updates(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """
        Learn each of some transitions with the optimiser of the run, say what it does, and take it back.

        :param rows: See :class:`moment.Moment`
        :return: The updates in numbers, as JSON
        """
        assert self._moment is not None
        if len(rows) == 0:
            return []
        model, batch = self.model, self.batch(rows)
        before = self.values()
        with th.no_grad():
            target = model._networks[1](self._states)
        target_values = target.mean(dim=1) if target.dim() == 3 else target
        selecting = th.as_tensor(before, device=target.device) if model.double_q else target_values
        next_states = batch.next_observations.long().reshape(-1)
        best = best_allowed(selecting[next_states], getattr(batch, "next_action_masks", None))
        highest = target_values[next_states, best].tolist()
        found = []
        for i, row in enumerate(rows):
            one = type(batch)(*(None if part is None else part[i : i + 1] for part in batch))
            after = self._values_after(one)
            described: dict[str, Any] = {"s": int(row[0]), "a": int(row[2]), "r": float(one.rewards), "s2": int(row[1])}
            done = bool(one.dones)
            y = described["r"] + (0.0 if done else float(model.gamma) * highest[i])
            described |= {"done": done, "max": rounded(highest[i]), "best": int(best[i]), "y": rounded(y)}
            found.append(described | self._moves(before, after, described["s"], described["a"]))
        return found

    def _values_after(self, batch: Any) -> np.ndarray:
        """Return the action values after an update, which is taken back."""
        assert self._moment is not None
        model = self.model
        optimizer = model.policy.optimizer
        optimizer.zero_grad()
        model.compute_loss(batch).backward()
        if model.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(model.policy.parameters(), model.max_grad_norm)
        optimizer.step()
        after = self.values()
        _set_arrays(model._networks[0], self._moment.online)
        if optimizer.state:
            optimizer.load_state_dict(copy.deepcopy(self._moment.optimizer))
        return after

    def _moves(self, before: np.ndarray, after: np.ndarray, state: int, action: int) -> dict[str, Any]:
        """Describe how an update of one value moves it and the others."""
        moves = after.astype(np.float64) - before
        moves[~self.world.acting] = 0.0
        moves[state, action] = 0.0
        sizes = np.abs(moves).ravel()
        largest = [
            pair for pair in np.argsort(-sizes, kind="stable")[:MAX_MOVED].tolist() if sizes[pair] > SMALLEST_MOVE
        ]
        n_actions = self.world.table.n_actions
        return {
            "before": rounded(float(before[state, action])),
            "after": rounded(float(after[state, action])),
            "moved": [[pair // n_actions, pair % n_actions, rounded(moves.flat[pair])] for pair in largest],
            "n_moved": int(np.count_nonzero(sizes > SMALLEST_MOVE)),
        }


def rounded(number: float) -> float | None:
    """
    Round a number, which is shorter as text.

    :param number: The number
    :return: The number with 7 decimals; ``None`` if it is not finite
    """
    return round(float(number), 7) if np.isfinite(number) else None


def _set_arrays(network: th.nn.Module, arrays: dict[str, np.ndarray]) -> None:
    state = network.state_dict()
    if state.keys() != arrays.keys():
        raise ValueError(f"the recording has the arrays {sorted(arrays)}, and the model's network {sorted(state)}")
    for name, tensor in state.items():
        array = th.tensor(arrays[name])
        if array.shape != tensor.shape:
            raise ValueError(
                f"{name}: the recording has the shape {tuple(array.shape)}, the model {tuple(tensor.shape)}"
            )
        tensor.copy_(array)


def moments_data(figures: Figures, moments: Sequence[Moment]) -> dict[str, Any]:
    """
    Compute what a page shows of the moments of a run.

    A moment whose action values are not finite is left out, and the one before it is marked as ``"diverged"``.

    :param figures: The computation
    :param moments: The moments, in the order of time
    :return: JSON, see the page's script
    :raises ValueError: If no moment has finite action values
    """
    world, table = figures.world, figures.world.table
    starts, acting = table.start_states, world.acting
    counted = (
        np.repeat(acting[:, None], table.n_actions, axis=1) if world.valid is None else world.valid & acting[:, None]
    )
    kept: list[Moment] = []
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for moment in moments:
        figures.set(moment)
        values = figures.values()
        if not np.isfinite(values).all():
            if kept and "diverged" not in kept[-1].why:
                kept[-1] = dataclasses.replace(kept[-1], why=[*kept[-1].why, "diverged"])
            continue
        kept.append(moment)
        actions = figures.greedy()
        played = policy_figures(table, actions, world.limit, PENALTY_REWARD)
        of_moment = {
            "q": values,
            "greedy": actions,
            "solved": table.mean_over_starts(played.successes),
            "reward": rounded(table.mean_over_starts(played.returns)),
            "steps": rounded(table.mean_over_starts(played.steps)),
            "penalties": rounded(table.mean_over_starts(played.penalties)),
            "loss": figures.loss(moment.sample),
            "q_error": rounded(float(np.abs(values - world.optimal_q)[counted].mean())),
            "optimal_share": rounded(float(world.optimal_actions[np.arange(table.n_states), actions][acting].mean())),
            "fails": played.successes[starts] < 0.5,
            "updates": figures.updates(moment.drawn_rows),
        }
        for name, value in of_moment.items():
            columns[name].append(value)
    if not kept:
        raise ValueError("no moment of the run has finite action values")
    return _packed_moments(figures, kept, columns)


_COLUMNS = (
    "q", "greedy", "solved", "reward", "steps", "penalties", "loss", "q_error", "optimal_share", "fails", "updates",
)  # fmt: skip


def _packed_moments(figures: Figures, kept: list[Moment], columns: dict[str, list[Any]]) -> dict[str, Any]:
    table = figures.world.table
    arrays = {
        "q": packed_values(np.stack(columns["q"]), _largest_shown(figures)),
        "greedy": packed(np.stack(columns["greedy"]), "uint8" if table.n_actions <= 256 else "int32", delta=True),
        "fails": packed(np.stack(columns["fails"]), "uint8"),
    }
    held = [moment.held for moment in kept if moment.held is not None]
    return {
        "n": len(kept),
        "step": [moment.step for moment in kept],
        "episode": [moment.episode for moment in kept],
        "why": [moment.why for moment in kept],
        "epsilon": [rounded(moment.epsilon) for moment in kept],
        **columns,
        **arrays,
        "drawn": [moment.drawn for moment in kept],
        "memory": {
            "successes": [moment.n_successes for moment in kept],
            "failures": [moment.n_failures for moment in kept],
            "held": packed(np.stack(held), "uint8", delta=True) if len(held) == len(kept) else None,
            "success_list": [_listed(moment.successes) for moment in kept],
        },
    }


def _listed(rows: np.ndarray) -> list[list[Any]]:
    rewards = np.ascontiguousarray(rows).view(np.float32)[:, 6]
    return [[int(row[0]), int(row[2]), float(reward), int(row[1])] for row, reward in zip(rows, rewards, strict=True)]


def _largest_shown(figures: Figures) -> float:
    """Return the largest action value that is shown as it is."""
    largest, gamma = float(np.abs(figures.world.table.rewards).max()), float(figures.model.gamma)
    possible = largest / (1 - gamma) if gamma < 1 else largest * figures.world.limit
    return _BEYOND * max(possible, float(np.abs(figures.world.optimal_q).max()), 1e-3)
