"""Why the greedy policy of a model is not optimal: the rules that find causes, most important first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch as th

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.engine.divergence import LECTURES_UNUSED_LR
from sb3_lecture_dqn.envs.tabular import TabularModel
from sb3_lecture_dqn.evaluation.failures import Failures
from sb3_lecture_dqn.evaluation.training_record import TrainingRecord

#: Share of the range of values that a trained network can tell apart
_RESOLUTION = 1e-3
#: Action values that differ by less than this tie
TIE = 1e-6
#: Discount factor for the question which actions are right, unless the model's is nearer to 1
_FAR_GAMMA = 0.99
#: Discount factors to suggest
_GAMMAS = (0.75, 0.8, 0.9, 0.95, 0.97, 0.99)
#: A cause that explains this share of the wrong states is a main cause
_MAIN = 0.5
#: A memory that holds less than this share of the actions of all states is too small
_SMALL = 0.25


@dataclass(frozen=True)
class Fact:
    """
    A finding without words.

    :param kind: Its kind
    :param sentences: Keys of its sentences
    :param numbers: Numbers in the sentences
    :param advice: Keys of its pieces of advice
    :param states: States that it is about
    :param ends: States in which successful episodes end, to be named in a sentence
    :param drawing: Lines of text that draw the states
    :param is_main: Whether it explains most failures; if not, it comes after the causes that do
    """

    kind: str
    sentences: tuple[str, ...]
    numbers: dict[str, Any] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    states: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    drawing: str = ""
    is_main: bool = True


@dataclass(frozen=True)
class Case:
    """
    Everything that the rules look at, for a model on a tabular environment.

    :param model: The model
    :param table: The environment
    :param q: Its action values, float64 of shape ``(S, A)``
    :param valid: Actions that the model may choose, bool of shape ``(S, A)``
    :param actions: Its greedy actions, int64 of shape ``(S,)``
    :param failures: What its policy does
    :param record: What is known of its training
    """

    model: Any
    table: TabularModel
    q: np.ndarray
    valid: np.ndarray
    actions: np.ndarray
    failures: Failures
    record: TrainingRecord
    acting: np.ndarray = field(init=False)
    right: np.ndarray = field(init=False)
    wrong: np.ndarray = field(init=False)
    optimal_q: np.ndarray | None = field(init=False)

    def __post_init__(self) -> None:
        gamma, put = float(self.model.gamma), object.__setattr__
        put(self, "acting", self.table.acting_states())
        put(self, "right", self.right_actions(max(gamma, _FAR_GAMMA) if gamma < 1 else _FAR_GAMMA))
        is_right = self.right[np.arange(len(self.right)), self.actions]
        put(self, "wrong", np.flatnonzero(self.failures.visited & self.acting & ~is_right))
        put(self, "optimal_q", self.values_at(gamma))

    def values_at(self, gamma: float) -> np.ndarray | None:
        """Return the optimal action values at a discount factor; ``None`` if they do not converge."""
        try:
            values: np.ndarray = self.table.optimal_action_values(gamma)
        except ValueError:
            return None
        return values

    def right_actions(self, gamma: float) -> np.ndarray:
        """Return which valid actions are optimal at a discount factor, bool of shape ``(S, A)``."""
        values = self.values_at(gamma)
        assert values is not None, "values converge below 1"
        values = np.where(self.valid, values, -np.inf)
        best = values.max(axis=1, keepdims=True)
        right: np.ndarray = values >= best - 1e-9 * np.maximum(1, np.abs(best))
        return right

    def value_range(self, values: np.ndarray) -> float:
        """Return how far the values of the states to act in are apart."""
        best = np.where(self.valid, values, -np.inf).max(axis=1)[self.acting]
        return float(np.ptp(best)) or 1.0

    def gaps(self, values: np.ndarray) -> np.ndarray:
        """Return how much the right actions are better than the others by some values, shape ``(S,)``."""
        right = np.where(self.right, values, -np.inf).max(axis=1)
        others = np.where(self.valid & ~self.right, values, -np.inf).max(axis=1)
        gaps: np.ndarray = np.subtract(right, others, where=np.isfinite(others), out=np.full(len(right), np.inf))
        return gaps


def largest_return(rewards: np.ndarray, gamma: float, limit: int | None) -> float | None:
    """
    Compute a bound of all returns.

    :param rewards: All rewards
    :param gamma: The discount factor
    :param limit: Steps of an episode at most, for a discount factor of 1
    :return: The bound of their absolute values; ``None`` if there is none
    """
    largest = float(np.abs(rewards).max(initial=0))
    if gamma < 1:
        return largest / (1 - gamma)
    return None if limit is None else largest * limit


def against_divergence(model: Any) -> tuple[str, ...]:
    """Return the advice against divergence, except what the model has."""
    ideas = []
    optimizer = model.policy.optimizer
    if not getattr(model, "double_dqn", True):
        ideas.append("target_network")
    if not getattr(model, "store_and_replay", True):
        ideas.append("replay")
    ideas.append("lower_lr")
    if optimizer.param_groups[0]["lr"] >= LECTURES_UNUSED_LR and isinstance(optimizer, th.optim.SGD):
        ideas.append("slide_lr")
    if getattr(model, "loss", None) == "mse":
        ideas.append("huber")
    if getattr(model, "max_grad_norm", None) is None:
        ideas.append("clip")
    return (*ideas, "tuned")


def tuned_settings(model: Any) -> tuple[str, ...]:
    """Return the advice to take the recommended settings, if the model is of this package and has not got them."""
    has_them = getattr(model, "_default_timesteps", None) is not None
    return ("tuned",) if hasattr(model, "engine_in_use") and not has_them else ()


def divergence(
    model: Any, q: np.ndarray, valid: np.ndarray, bound: float | None, states: np.ndarray | None
) -> Fact | None:
    """
    Look whether the action values are not finite, or larger than any return.

    :param model: The model
    :param q: Action values, shape ``(n, A)``
    :param valid: Which of them count, bool of shape ``(n, A)``
    :param bound: A bound of all returns, ``None`` if it is not known
    :param states: The states of the n rows, if they have numbers
    :return: The finding, ``None`` if there is none
    """
    finite = np.isfinite(q)
    if not (finite | ~valid).all() or not all(bool(p.isfinite().all()) for p in model.policy.parameters()):
        numbers = {"share": float(1 - finite[valid].mean()) if valid.any() else 0.0}
        at = () if states is None else tuple(states[~(finite | ~valid).all(axis=1)][:20].tolist())
        return Fact("diverged", ("not_finite",), numbers, against_divergence(model), at)
    size = np.where(valid, np.abs(q), 0.0)
    if bound is None or bound == 0 or size.max(initial=0) <= 1.05 * bound:
        return None
    beyond = size > bound
    numbers = {"largest": float(size.max()), "bound": bound, "share": float(beyond.sum() / valid.sum())}
    worst = np.argsort(-size.max(axis=1), kind="stable")[: min(20, int(beyond.any(axis=1).sum()))]
    at = () if states is None else tuple(states[worst].tolist())
    sentences = ("beyond_bound",) if states is None else ("beyond_bound", "beyond_where")
    return Fact("diverged", sentences, numbers, against_divergence(model), at)


def _diverged(case: Case) -> Fact | None:
    states = np.flatnonzero(case.acting)
    possible = case.table.rewards[case.acting][case.table.probabilities[case.acting] > 0]
    bound = largest_return(possible, float(case.model.gamma), case.failures.limit)
    return divergence(case.model, case.q[states], case.valid[states], bound, states)


def _untrained(case: Case) -> Fact | None:
    if case.record.steps == 0:
        return Fact("untrained", ("untrained",), {}, ("train", "tuned"))
    return no_update(case.model, case.record)


def no_update(model: Any, record: TrainingRecord) -> Fact | None:
    """
    Look whether the model has never been updated.

    :param model: The model
    :param record: What is known of its training, which made steps
    :return: The finding, or ``None``
    """
    waits = record.steps <= model.learning_starts or model.gradient_steps == 0
    if model._n_updates > 0 or not waits:
        return None
    names = ("learning_starts", "gradient_steps")
    numbers = {"steps": record.steps, **{name: int(getattr(model, name)) for name in names}}
    return Fact("no_update", ("no_update",), numbers, ("updates",))


def time_limit(case: Case) -> Fact | None:
    """
    Look whether no policy can succeed within the step limit.

    :param case: The model and its environment
    :return: The finding, ``None`` if there is none
    """
    starts, failures = case.table.start_states, case.failures
    lost = starts[(failures.best_successes[starts] == 0) & failures.can_succeed[starts]]
    if len(lost) == 0:
        return None
    numbers = {"n": len(lost), "n_starts": len(starts), "limit": failures.limit}
    is_main = len(lost) >= len(failures.worse)
    return Fact("time_limit", ("time_limit",), numbers, ("step_limit",), tuple(lost.tolist()), is_main=is_main)


def _epsilon_gone(case: Case) -> Fact | None:
    record, epsilon = case.record, case.record.epsilon
    if not record.keeps_ends or record.seen_ends(case.table).any() or not case.table.successes.any():
        return None
    return epsilon_gone(case.model, record) if epsilon.share_at_floor >= 0.5 else None


def epsilon_gone(model: Any, record: TrainingRecord) -> Fact:
    """
    Make the finding that ε was at its lowest value for most of a training without a success.

    :param model: The model
    :param record: What is known of its training, with ``epsilon.floor_since``
    :return: The finding
    """
    epsilon = record.epsilon
    numbers = {"epsilon": epsilon.now, "since": epsilon.floor_since, "share": epsilon.share_at_floor}
    return Fact("epsilon_gone", (f"epsilon_gone_{epsilon.unit}",), numbers, (*_explore_longer(model), "longer"))


def _explore_longer(model: Any) -> tuple[str, ...]:
    by_episodes = getattr(model, "exploration_decay", None) is not None
    ideas = ["epsilon_decay" if by_episodes else "epsilon_fraction", "epsilon_floor"]
    if getattr(model, "explore_least_tried", None) is False:
        ideas.append("least_tried")
    return tuple(ideas)


def _never_seen(case: Case) -> Fact | None:
    table, record = case.table, case.record
    if case.failures.figures.successes[table.start_states].max(initial=0) >= 1 and not record.keeps_ends:
        return None
    seen = record.seen_ends(table)
    all_ends = np.zeros(table.n_states, dtype=bool)
    all_ends[table.next_states[table.successes]] = True
    missing = np.flatnonzero(all_ends & ~seen)
    if len(missing) == 0 or (record.n_held == 0 and record.steps > 0) or not record.has_replay:
        return None
    if not record.keeps_ends and seen.any():
        return None  # the memory forgets, and those that it holds are enough to learn from
    numbers: dict[str, Any] = {
        "n": len(missing),
        "n_ends": int(all_ends.sum()),
        "episodes": record.episodes,
        "steps": record.steps,
        "epsilon": record.epsilon.now,
    }
    known = "never_seen" if record.keeps_ends else "not_in_memory"
    share = "all_ends_missing" if len(missing) == all_ends.sum() else "ends_missing"
    explains = _share_of_failing(case, missing)
    if explains is not None and explains < 0.1:
        return None  # the policy does not need them
    ideas = ["longer", *_explore_longer(case.model)]
    if _can_mask(case):
        ideas.append("masks")
    is_main = (len(missing) / numbers["n_ends"] if explains is None else explains) >= _MAIN
    at = tuple(missing.tolist())
    return Fact(known, (known, share), numbers, tuple(ideas), at, at, is_main=is_main)


def _share_of_failing(case: Case, ends: np.ndarray) -> float | None:
    """The share of failing starts from which an optimal policy ends in some states, if outcomes are certain."""
    table = case.table
    if not table.deterministic or len(case.failures.worse) == 0:
        return None
    actions = case.right.argmax(axis=1)
    every = np.arange(table.n_states)
    following, ended = table.next_states[every, actions, 0], table.terminated[every, actions, 0]
    last = np.where(ended, following, -1)
    states = case.failures.worse
    found = np.full(len(states), -1)
    for _ in range(table.n_states):
        found = np.where(found < 0, last[states], found)
        states = following[states]
        if (found >= 0).all():
            break
    return float(np.isin(found, ends).mean())


def _can_mask(case: Case) -> bool:
    return case.table.action_masks is not None and getattr(case.model, "use_masking", None) is False


def _gamma_small(case: Case) -> Fact | None:
    gamma = float(case.model.gamma)
    if case.optimal_q is None or len(case.wrong) == 0 or _FAR_GAMMA <= gamma < 1:
        return None
    far = case.values_at(_FAR_GAMMA)
    assert far is not None, "values converge below 1"
    decidable = ~_unclear(case, far)  # some actions are nearly as good as others at any discount factor
    unclear = _unclear(case, case.optimal_q) & decidable
    share = float(unclear[case.wrong].mean())
    if share < _MAIN:
        return None
    states = tuple(case.wrong[unclear[case.wrong]].tolist())
    if gamma >= 1:
        numbers = {"gamma": gamma, "share": share, "n_wrong": len(case.wrong), "better_gamma": _FAR_GAMMA}
        return Fact("gamma_one", ("gamma_one",), numbers, ("gamma",), states)
    visited = case.failures.visited & case.acting & decidable
    for better in _GAMMAS:
        values = case.values_at(better) if better > gamma else None
        if values is not None and not _unclear(case, values)[visited].any():
            break
    else:
        better = _FAR_GAMMA
    gaps = case.gaps(case.optimal_q)[case.wrong]
    numbers = {
        "gamma": gamma,
        "share": share,
        "n_wrong": len(case.wrong),
        "gap": float(max(0.0, np.median(gaps))),
        "range": case.value_range(case.optimal_q),
        "horizon": 1 / (1 - gamma),
        "better_gamma": better,
    }
    return Fact("gamma_small", ("gamma_small",), numbers, ("gamma",), states)


def _unclear(case: Case, values: np.ndarray) -> np.ndarray:
    """In which states a right action is not better than the others by more than a network can tell apart."""
    unclear: np.ndarray = case.gaps(values) <= _RESOLUTION * case.value_range(values)
    return unclear


def _memory_small(case: Case) -> Fact | None:
    record, needed = case.record, int(case.valid[case.acting].sum())
    if not record.has_replay:
        return Fact("no_replay", ("no_replay",), {"needed": needed}, ("replay",))
    held = int((record.held(case.table) & case.valid & case.acting[:, None]).sum())
    if not record.forgets or held >= _SMALL * needed:
        return None
    numbers = {"held": held, "needed": needed, "share": held / needed, "buffer_size": int(case.model.buffer_size)}
    return Fact("memory_small", ("memory_small",), numbers, ("buffer_size",))


def _memory_distorts(case: Case) -> Fact | None:
    memory = case.model.replay_buffer
    if case.table.deterministic or not isinstance(memory, SuccessFailReplayBuffer) or not case.record.has_replay:
        return None
    ideas, sentences = [], []
    if memory.deduplicate:
        ideas.append("no_deduplicate")
        sentences.append("stored_once")
    if memory.success_fraction is not None:
        ideas.append("no_success_fraction")
        sentences.append("drawn_by_share")
    if case.record.forgets and not memory.deduplicate and memory.success.size < memory.fail.size:
        ideas.append("buffer_size")
        sentences.append("forgets_failures")
    if not ideas:
        return None
    numbers = {"n_outcomes": case.table.n_outcomes, **_errors(case)}
    return Fact("memory_distorts", ("memory_distorts", *sentences), numbers, tuple(ideas))


def _errors(case: Case) -> dict[str, float]:
    """The mean and the largest distance of the highest action values from the optimal ones."""
    if case.optimal_q is None:
        return {"mean_over": float("nan"), "max_over": float("nan")}
    best = np.where(case.valid, case.q, -np.inf).max(axis=1)
    optimal = np.where(case.valid, case.optimal_q, -np.inf).max(axis=1)
    over = (best - optimal)[case.acting]
    return {"mean_over": float(over.mean()), "max_over": float(over.max())}


def _never_tried(case: Case) -> Fact | None:
    tried = case.record.tried(case.table)
    if tried is None or len(case.wrong) == 0:
        return None
    untried = case.wrong[~(tried & case.right)[case.wrong].any(axis=1)]
    if len(untried) < _MAIN * len(case.wrong):
        return None
    possible = case.valid & case.acting[:, None]
    numbers = {
        "n": len(untried),
        "n_wrong": len(case.wrong),
        "pairs": int((possible & ~tried).sum()),
        "n_pairs": int(possible.sum()),
    }
    ideas = (*_explore_longer(case.model), "longer")
    return Fact("never_tried", ("never_tried",), numbers, ideas, tuple(untried.tolist()))


def _ties(case: Case) -> Fact | None:
    if len(case.wrong) == 0:
        return None
    values = np.sort(np.where(case.valid, case.q, -np.inf)[case.wrong], axis=1)
    if values.shape[1] < 2:
        return None
    tied = case.wrong[values[:, -1] - values[:, -2] < TIE]
    if len(tied) < _MAIN * len(case.wrong):
        return None
    numbers = {"n": len(tied), "n_wrong": len(case.wrong), "tie": TIE}
    return Fact("ties", ("ties",), numbers, ("longer", *_explore_longer(case.model)), tuple(tied.tolist()))


def _overestimated(case: Case) -> Fact | None:
    if case.optimal_q is None or len(case.wrong) == 0:
        return None
    q, optimal, wrong = case.q[case.wrong], case.optimal_q[case.wrong], case.actions[case.wrong]
    rows = np.arange(len(wrong))
    over = q[rows, wrong] - optimal[rows, wrong]
    under = (np.where(case.right[case.wrong], optimal, -np.inf)).max(axis=1)
    under = under - np.where(case.right[case.wrong], q, -np.inf).max(axis=1)
    # Values of actions that were not learnt may be too high because the network began so
    learnt = case.record.held(case.table)[case.wrong, wrong]
    too_high = learnt & (over > np.maximum(under, 0)) & (over > 0.05 * case.value_range(case.optimal_q))
    if too_high.sum() < _MAIN * len(wrong):
        return None
    most = int(np.argmax(np.where(too_high, over, -np.inf)))
    numbers = {
        "n": int(too_high.sum()),
        "n_wrong": len(wrong),
        "mean": float(over[too_high].mean()),
        "most": float(over[most]),
        "q": float(q[most, wrong[most]]),
        "optimal_q": float(optimal[most, wrong[most]]),
        "action": int(wrong[most]),
        **_errors(case),
    }
    ideas = [] if getattr(case.model, "double_dqn", True) else ["target_network"]
    if getattr(case.model, "double_q", None) is False:
        ideas.append("double_q")
    order = np.argsort(-over, kind="stable")
    states = tuple(case.wrong[order][too_high[order]].tolist())
    return Fact("overestimated", ("overestimated",), numbers, (*ideas, "lower_lr", "longer"), states)


#: Causes, the most important first. A cause is named if it holds; the first is what to change first
_CAUSES: tuple[Callable[[Case], Fact | None], ...] = (
    _untrained,
    _diverged,
    time_limit,
    _epsilon_gone,
    _never_seen,
    _gamma_small,
    _memory_small,
    _memory_distorts,
    _never_tried,
    _ties,
    _overestimated,
)
#: Causes that are only looked for without these others, which lead to them
_WITHOUT = {
    "never_seen": ("epsilon_gone",),
    "never_tried": ("epsilon_gone", "never_seen"),
    "ties": ("epsilon_gone", "never_seen", "not_in_memory", "gamma_one", "never_tried"),
    "overestimated": (
        "gamma_one",
        "epsilon_gone",
        "never_seen",
        "not_in_memory",
        "memory_small",
        "no_replay",
        "memory_distorts",
        "never_tried",
    ),
}
#: Causes that explain everything: no other cause is looked for
CONCLUSIVE = ("untrained", "no_update", "diverged")


def find_causes(case: Case) -> list[Fact]:
    """
    Find the causes for which a policy is not optimal.

    :param case: The model and its environment
    :return: The findings, the most important first
    """
    facts: list[Fact] = []
    for cause in _CAUSES:
        fact = cause(case)
        if fact is None or {other.kind for other in facts} & set(_WITHOUT.get(fact.kind, ())):
            continue
        facts.append(fact)
        if fact.kind in CONCLUSIVE:
            break
    return sorted(facts, key=lambda fact: not fact.is_main)


def late_first_success(record: TrainingRecord) -> Fact | None:
    """
    Look whether the tests saw the first success only after ε had reached its lowest value.

    :param record: What is known of the training
    :return: The finding, ``None`` if there is none
    """
    epsilon, first = record.epsilon, record.first_solved
    if epsilon.unit != "episode" or epsilon.floor_since is None or first is None or first <= epsilon.floor_since:
        return None
    numbers = {"first": first, "since": epsilon.floor_since, "epsilon": epsilon.floor}
    return Fact("epsilon_late", ("epsilon_late",), numbers, ("epsilon_decay", "epsilon_floor"))


def not_learned(case: Case) -> Fact | None:
    """
    Describe how far the action values are from those of a model that has learnt all.

    :param case: The model and its environment
    :return: The finding, ``None`` if the optimal values are not known or no greedy action is wrong
    """
    if case.optimal_q is None or len(case.wrong) == 0:
        return None
    possible = case.valid & case.acting[:, None]
    numbers: dict[str, Any] = {
        "n": len(case.wrong),
        "n_visited": int((case.failures.visited & case.acting).sum()),
        "mean": float(np.abs(case.q - case.optimal_q)[possible].mean()),
        "range": case.value_range(case.optimal_q),
        **_errors(case),
    }
    sentences = ["not_learned"]
    error = _memory_error(case)
    if error is not None:
        numbers["memory_error"] = error
        sentences.append("memory_error")
    ideas = ["longer"]
    if getattr(case.model, "use_masking", None) is False and case.table.action_masks is not None:
        ideas.append("masks")
    if case.record.forgets and case.record.has_replay:
        ideas.append("buffer_size")
    ideas += tuned_settings(case.model)
    return Fact("not_learned", tuple(sentences), numbers, tuple(ideas), tuple(case.wrong.tolist()))


def _memory_error(case: Case) -> float | None:
    """The mean distance between the action values of the memory's transitions and their own targets."""
    rows = case.record.transitions
    if rows is None or rows.next_observations is None or not case.record.has_replay:
        return None
    states, following = (o.reshape(len(o)).astype(np.int64) for o in (rows.observations, rows.next_observations))
    best = np.where(case.valid, case.q, -np.inf).max(axis=1)
    targets = rows.rewards + case.model.gamma * ~rows.terminal * best[following]
    return float(np.abs(case.q[states, rows.actions] - targets).mean())
