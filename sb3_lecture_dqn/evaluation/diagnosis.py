"""The diagnosis of a model: why its greedy policy is not optimal, in plain words."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_lecture_dqn.common.checks import check_choice
from sb3_lecture_dqn.envs.grids import GridLayout, grid_layout
from sb3_lecture_dqn.envs.masks import table_masks
from sb3_lecture_dqn.envs.tabular import NotTabularError, TabularModel
from sb3_lecture_dqn.evaluation import diagnosis_words as words
from sb3_lecture_dqn.evaluation.causes import (
    CONCLUSIVE,
    TIE,
    Case,
    Fact,
    divergence,
    epsilon_gone,
    find_causes,
    largest_return,
    late_first_success,
    no_update,
    not_learned,
    time_limit,
    tuned_settings,
)
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError
from sb3_lecture_dqn.evaluation.environment import tabular_env
from sb3_lecture_dqn.evaluation.failures import find_failures
from sb3_lecture_dqn.evaluation.like_model import step_limit_of
from sb3_lecture_dqn.evaluation.loop_drawing import draw_loop
from sb3_lecture_dqn.evaluation.run import EQUAL_RETURNS, PENALTY_REWARD, greedy_actions
from sb3_lecture_dqn.evaluation.training_record import MOST_ROWS, TrainingRecord, read_record
from sb3_lecture_dqn.evaluation.values import action_values, value_network

#: Width of a terminal
_WIDTH = 80
#: Most loops that are drawn
_MOST_DRAWN = 3
_NO_MEMORY = Fact("no_memory", ("no_memory",), {}, ("checkpoint",))
#: Step limit of a tabular environment that has none
_NO_LIMIT = 1000


@dataclass(frozen=True)
class Finding:
    """
    A finding of a diagnosis.

    :param kind: Its kind, a word that does not depend on the language, such as ``"never_seen"``
    :param title: The finding in a few words
    :param text: What was found, with numbers
    :param advice: What to change, with the present values of the settings; may be empty
    :param states: Numbers of the states that it is about, in tabular environments
    :param numbers: The numbers of the text by name
    :param drawing: Lines of text that draw the states; may be empty
    """

    kind: str
    title: str
    text: str
    advice: str
    states: tuple[int, ...]
    numbers: Mapping[str, Any]
    drawing: str = ""

    def to_dict(self) -> dict[str, Any]:
        """
        Convert the finding to plain data, for JSON.

        :return: The fields by name; a number that is not finite is ``None``
        """
        return {**vars(self), "states": list(self.states), "numbers": _plain(self.numbers)}


@dataclass(frozen=True)
class Diagnosis:
    """
    The result of :func:`diagnose`.

    :param is_optimal: Whether the greedy policy is optimal; ``None`` if it is not known
    :param summary: How good the policy is, in one sentence with figures
    :param findings: Why it is not better: causes first, the most important one at the start, then what they lead to
    :param numbers: The figures of the summary by name
    :param language: Language of all texts, ``"en"`` or ``"ko"``
    """

    is_optimal: bool | None
    summary: str
    findings: tuple[Finding, ...]
    numbers: Mapping[str, Any]
    language: str
    _facts: tuple[Fact, ...]
    _settings: Mapping[str, Any]
    _layout: GridLayout | None
    _state: str

    def in_language(self, language: str) -> "Diagnosis":
        """
        Translate the diagnosis.

        :param language: ``"en"`` or ``"ko"``
        :return: The same diagnosis in this language
        :raises ValueError: If the language is not known
        """
        check_choice("language", language, words.LANGUAGES)
        findings = tuple(_worded(fact, self._settings, self._layout, language) for fact in self._facts)
        summary = words.summary(self._state, self.numbers, language)
        return replace(self, summary=summary, findings=findings, language=language)

    def to_dict(self) -> dict[str, Any]:
        """
        Convert the diagnosis to plain data, for JSON.

        :return: Dictionaries, lists, texts and numbers; a number that is not finite is ``None``
        """
        return {
            "is_optimal": self.is_optimal,
            "summary": self.summary,
            "numbers": _plain(self.numbers),
            "findings": [finding.to_dict() for finding in self.findings],
            "language": self.language,
        }

    def __str__(self) -> str:
        lines = words.wrapped(self.summary, _WIDTH)
        for number, finding in enumerate(self.findings, 1):
            lines += ["", *words.wrapped(f"{number}. {finding.title}", _WIDTH, "   ")]
            lines += words.wrapped(finding.text, _WIDTH, "   ", first="   ")
            if finding.drawing:
                lines += ["", *textwrap.indent(finding.drawing, "     ").splitlines()]
            if finding.advice:
                lines += words.wrapped(f"→ {finding.advice}", _WIDTH, "     ", first="   ")
        return "\n".join(lines)


def diagnose(
    model: BaseAlgorithm,
    env: gym.Env | VecEnv | str | None = None,
    *,
    solved: Mapping[int, float] | None = None,
    language: str = "en",
) -> Diagnosis:
    """
    Find out why the greedy policy of a model is not optimal, and what to change.

    On a tabular environment, the policy is compared exactly with the best one, from all first states. Causes come from
    the exact optimal values, the replay memory, the counts of actions, ε and the settings. On other environments, only
    what the model and its memory tell is said. A file of :meth:`LectureDQN.save` has no memory; a checkpoint has.

        >>> print(diagnose(LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0).learn()))
        The policy is optimal: it solves 100 % of the starts, and its mean reward is
        1.000, the highest possible.

    Nothing is trained or stepped: the model, its environment and all random generators stay as they are.

    :param model: A DQN or QR-DQN of SB3, sb3-contrib or this package
    :param env: A tabular environment, or its id, to look at. ``None``: one like the model's own. A tabular environment
        without a step limit is looked at with 1000 steps
    :param solved: Share of solved episodes in the tests of the training, by the episode of the test, if known
    :param language: Language of the texts, ``"en"`` or ``"ko"``
    :return: The diagnosis; ``print`` it, or look at its findings
    :raises ValueError: If the model has no action values, the language is not known, or ``env`` does not fit the model
    :raises NotTabularError: If ``env`` is given and is not tabular
    """
    check_choice("language", language, words.LANGUAGES)
    value_network(model)
    try:
        tabular = tabular_env(model, env, None)
    except (NotTabularError, CannotCopyError) as error:
        if env is not None:
            raise
        return _diagnose_without_table(model, solved, language, is_known=isinstance(error, NotTabularError))
    table = tabular.model
    if not _fits(model, table):
        if env is None:
            return _diagnose_without_table(model, solved, language)
        raise ValueError(
            f"env has {table.n_states} states and {table.n_actions} actions, the model needs "
            f"{model.observation_space} and {model.action_space}"
        )
    limit = step_limit_of(tabular) or _NO_LIMIT
    return _diagnose_on_table(model, table, limit, solved, language)


def _fits(model: BaseAlgorithm, table: TabularModel) -> bool:
    needed: Any = model.observation_space
    fits = isinstance(needed, spaces.Discrete) and int(needed.n) == table.n_states and int(needed.start) == 0
    return fits and int(model.action_space.n) == table.n_actions  # type: ignore[attr-defined]


def _diagnose_on_table(
    model: Any, table: TabularModel, limit: int, solved: Mapping[int, float] | None, language: str
) -> Diagnosis:
    actions = greedy_actions(model, table)
    assert actions is not None, "a DQN is not recurrent"
    shape = table.n_states, table.n_actions
    valid = table_masks(table) if getattr(model, "use_masking", False) else np.ones(shape, dtype=bool)
    q = action_values(model, np.arange(table.n_states)).astype(np.float64)
    layout = grid_layout(table.env) if table.env is not None else None
    if layout is not None and len(layout.cells) != table.n_states:
        layout = None
    failures = find_failures(table, actions, limit, PENALTY_REWARD)
    record = read_record(model, solved)
    optimum, starts = table.optimum(limit), table.start_states
    reward = table.mean_over_starts(failures.figures.returns)
    best = optimum.mean_reward
    numbers = {
        "solved": table.mean_over_starts(failures.figures.successes),
        "solvable": table.mean_over_starts(failures.best_successes),
        "reward": reward,
        "optimum": best,
        "n_starts": len(starts),
        "n_failing": sum(map(len, failures.by_kind.values())),
        "n_detours": len(failures.detours),
    }
    tolerance = EQUAL_RETURNS * max(1.0, abs(best))
    span = best - optimum.random_mean_reward
    # A policy that does not depend on the steps left may be slightly worse than the best one under a step limit
    is_optimal = bool(np.isfinite(q[table.acting_states()]).all()) and reward >= best - tolerance
    is_nearly = not is_optimal and span > tolerance and numbers["n_failing"] < 0.01 * len(starts) + 1
    is_nearly = is_nearly and (best - reward) / span <= 0.01 and numbers["solved"] >= 0.98 * numbers["solvable"]
    facts: list[Fact] = []
    case = Case(model, table, q, valid, actions, failures, record)
    short = time_limit(case) if is_optimal else None
    if short is not None:
        facts.append(short)
    if not is_optimal:
        if not is_nearly:
            facts += find_causes(case)
            if (late := late_first_success(record)) is not None and "epsilon_gone" not in [f.kind for f in facts]:
                facts.append(late)
            if record.transitions is None and record.steps > 0:
                facts.append(_NO_MEMORY)
        is_conclusive = bool(facts) and facts[0].kind in CONCLUSIVE
        if not is_conclusive or np.isfinite(q).all():
            facts += _symptoms(case, layout)
        if not is_conclusive and (fact := not_learned(case)) is not None:
            facts.append(fact)
    state = "limited" if short is not None else "optimal" if is_optimal else "nearly" if is_nearly else "table"
    return _made(state, is_optimal, numbers, facts, _settings(model, record, limit), layout, language)


def _symptoms(case: Case, layout: GridLayout | None) -> list[Fact]:
    """What the policy does instead of succeeding."""
    failures, table = case.failures, case.table
    numbers = {"n_starts": len(table.start_states), "limit": failures.limit}
    kinds = sorted(failures.by_kind, key=lambda kind: -len(failures.by_kind[kind]))
    facts = []
    for kind in kinds:
        starts = failures.by_kind[kind]
        if len(starts) == 0:
            continue
        n: dict[str, Any] = {**numbers, "n": len(starts)}
        if kind in ("loop", "illegal"):
            loops = [loop for loop in failures.loops if loop.illegal == (kind == "illegal")]
            drawn = [draw_loop(loop.states, case.actions, layout) for loop in loops[:_MOST_DRAWN]]
            in_loops = tuple(dict.fromkeys(state for loop in loops for state in loop.states))
            can_mask = table.action_masks is not None and getattr(case.model, "use_masking", None) is False
            ideas = ("masks",) if kind == "illegal" and can_mask else ("longer", *tuned_settings(case.model))
            n |= {"n_loops": len(loops), "n_drawn": len(drawn), "n_first": loops[0].n_starts}
            n_standing = sum(len(loop.states) == 1 for loop in loops) if kind == "loop" else 0
            said = kind if n_standing == 0 else "stands" if n_standing == len(loops) else "loop_or_stands"
            facts.append(Fact(kind, (said, "loops_drawn"), n, ideas, in_loops, (), "\n\n".join(drawn)))
        elif kind == "bad_end":
            n["probability"] = float((failures.ended - failures.figures.successes)[starts].mean())
            n["least"] = float((failures.ended - failures.figures.successes)[starts].min())
            facts.append(Fact(kind, (kind,), n, (), tuple(starts.tolist())))
        else:
            facts.append(Fact(kind, (kind,), n, ("step_limit",), tuple(starts.tolist())))
    if len(failures.detours):
        lost = table.optimum(failures.limit).values[failures.detours] - failures.figures.returns[failures.detours]
        n = {**numbers, "n": len(failures.detours), "lost": float(lost.mean()), "n_wrong": len(case.wrong)}
        ideas = ("longer", *tuned_settings(case.model))
        facts.append(Fact("detour", ("detour",), n, ideas, tuple(failures.detours.tolist())))
    return facts


def _diagnose_without_table(
    model: Any, solved: Mapping[int, float] | None, language: str, is_known: bool = True
) -> Diagnosis:
    record = read_record(model, solved, MOST_ROWS)
    rows = record.transitions
    normalize = unwrap_vec_normalize(model.get_env()) if model.get_env() is not None else None
    facts: list[Fact] = []
    returns = [float(info["r"]) for info in (model.ep_info_buffer or ()) if "r" in info]
    numbers: dict[str, Any] = {"steps": record.steps, "episodes": record.episodes, "n_held": record.n_held}
    if record.steps == 0:
        facts.append(Fact("untrained", ("untrained",), {}, ("train", "tuned")))
    elif (fact := no_update(model, record)) is not None:
        facts.append(fact)
    if rows is not None and len(rows.actions):
        observations = rows.observations if normalize is None else normalize.normalize_obs(rows.observations)
        q = action_values(model, _as_batch(observations, model.observation_space)).astype(np.float64)
        scaled = normalize is not None and normalize.norm_reward
        of_values = _of_values(model, record, q, returns, scaled)
        if not any(fact.kind in CONCLUSIVE for fact in of_values):
            facts += _of_rewards(model, record)
        facts += of_values
        if np.isfinite(q).all():
            facts.append(_values_of_memory(model, record, q, scaled))
    if (late := late_first_success(record)) is not None:
        facts.append(late)
    if len(returns) >= 4:
        half = len(returns) // 2
        n = {"n": len(returns), "early": float(np.mean(returns[:half])), "late": float(np.mean(returns[half:]))}
        n |= {"low": min(returns), "high": max(returns), "epsilon": record.epsilon.now}
        facts.append(Fact("returns", ("returns",), n))
    if rows is None and record.steps > 0:
        facts.append(_NO_MEMORY)
    state = "no_table" if is_known else "no_env"
    return _made(state, None, numbers, facts, _settings(model, record, None), None, language)


def _as_batch(observations: Any, space: spaces.Space[Any]) -> Any:
    """Give observations of a memory the shape in which a policy takes them: ``Discrete`` ones are numbers."""
    if isinstance(observations, dict):
        return {name: _as_batch(part, space[name]) for name, part in observations.items()}  # type: ignore[index]
    return observations.reshape(len(observations), *(space.shape or ()))


def _of_values(model: Any, record: TrainingRecord, q: np.ndarray, returns: Sequence[float], scaled: bool) -> list[Fact]:
    rows, gamma = record.transitions, float(model.gamma)
    assert rows is not None
    bound = None if scaled else largest_return(rows.rewards, gamma, None)
    facts = []
    diverged = divergence(model, q, np.ones(q.shape, dtype=bool), bound, None)
    if diverged is not None:
        return [diverged]
    best = q.max(axis=1)
    if rows.rewards.min() >= 0 and returns and not scaled and best.mean() > 1.1 * max(returns) > 0:
        # Without negative rewards, a discounted return is at most the undiscounted one.
        n = {"mean": float(best.mean()), "high": max(returns), "n": len(returns)}
        ideas = [] if getattr(model, "double_dqn", True) else ["target_network"]
        ideas += ["double_q"] if getattr(model, "double_q", None) is False else []
        facts.append(Fact("overestimated", ("above_returns",), n, (*ideas, "lower_lr", "longer")))
    shares = np.bincount(q.argmax(axis=1), minlength=q.shape[1]) / len(q)
    if shares.max() >= 0.99 and q.shape[1] > 1 and len(q) >= 50:
        n = {"action": int(shares.argmax()), "share": float(shares.max()), "n": len(q)}
        facts.append(Fact("one_action", ("one_action",), n, ("longer", "higher_lr")))
    if q.shape[1] > 1:
        ordered = np.sort(q, axis=1)
        tied = float((ordered[:, -1] - ordered[:, -2] < TIE).mean())
        if tied >= 0.5:
            n = {"share": tied, "n": len(q), "tie": TIE}
            facts.append(Fact("ties", ("ties_in_memory",), n, ("longer", "higher_lr")))
    return facts


def _values_of_memory(model: Any, record: TrainingRecord, q: np.ndarray, scaled: bool) -> Fact:
    """Describe the action values of the memory's states."""
    rows, best = record.transitions, q.max(axis=1)
    assert rows is not None
    bound = None if scaled else largest_return(rows.rewards, float(model.gamma), None)
    most = int(np.bincount(q.argmax(axis=1), minlength=q.shape[1]).argmax())
    numbers = {
        "n": len(q),
        "mean": float(best.mean()),
        "low": float(best.min()),
        "high": float(best.max()),
        "bound": bound,
        "action": most,
        "share": float((q.argmax(axis=1) == most).mean()),
        "n_ends": float(rows.terminal.mean()),
        "low_reward": float(rows.rewards.min()),
        "high_reward": float(rows.rewards.max()),
    }
    return Fact("values", ("values_of_memory", *["bound_of_returns"] * (bound is not None)), numbers)


def _of_rewards(model: Any, record: TrainingRecord) -> list[Fact]:
    rows, facts = record.transitions, []
    assert rows is not None
    rewards = np.unique(rows.rewards)
    n: dict[str, Any] = {"reward": float(rewards[0]), "n": record.n_held, "episodes": record.episodes}
    if len(rewards) == 1 and not rows.terminal.any():
        if record.epsilon.share_at_floor >= 0.5 and record.keeps_ends:
            facts.append(epsilon_gone(model, record))
        facts.append(Fact("no_rewards", ("no_rewards",), n, ("longer", "explore_more")))
    elif len(rewards) == 1 and rewards[0] == 0:
        if record.epsilon.share_at_floor >= 0.5 and record.keeps_ends:
            facts.append(epsilon_gone(model, record))
        facts.append(Fact("no_rewards", ("only_zero_rewards",), n, ("longer", "explore_more")))
    if not record.has_replay:
        facts.append(Fact("no_replay", ("no_replay_of_world",), {}, ("replay",)))
    elif record.forgets and record.n_held < 0.01 * record.steps:
        n = {"held": record.n_held, "steps": record.steps, "share": record.n_held / record.steps}
        facts.append(Fact("memory_small", ("memory_of_last_steps",), n, ("buffer_size",)))
    return facts


def _settings(model: Any, record: TrainingRecord, limit: int | None) -> dict[str, Any]:
    """The present values of the settings that advice names."""
    learning_rate = float(model.lr_schedule(1.0))  # of a falling one, the last may be 0
    settings = {
        "algorithm": type(model).__name__,
        "env_id": getattr(model, "env_id", None),
        "learning_rate": learning_rate,
        "lower_lr": learning_rate / 10,
        "episodes": record.episodes,
        "steps": record.steps,
        "limit": limit,
        "epsilon": record.epsilon.now,
        "decay_to_tenth": None,
    }
    names = (
        "buffer_size",
        "gamma",
        "exploration_decay",
        "exploration_fraction",
        "exploration_initial_eps",
        "exploration_final_eps",
        "batch_size",
        "gradient_steps",
        "n_steps",
        "loss",
        "double_dqn",
        "double_q",
        "store_and_replay",
        "explore_least_tried",
        "use_masking",
        "target_update_interval",
    )
    settings |= {name: getattr(model, name, None) for name in names}
    settings["success_fraction"] = getattr(model.replay_buffer, "success_fraction", None)
    return settings


def _made(
    state: str,
    is_optimal: bool | None,
    numbers: Mapping[str, Any],
    facts: Sequence[Fact],
    settings: Mapping[str, Any],
    layout: GridLayout | None,
    language: str,
) -> Diagnosis:
    empty = Diagnosis(is_optimal, "", (), numbers, language, tuple(facts), settings, layout, state)
    return empty.in_language(language)


def _worded(fact: Fact, settings: Mapping[str, Any], layout: GridLayout | None, language: str) -> Finding:
    names = words.ends(fact.ends, layout, language)
    numbers = {**settings, **fact.numbers}
    if "action" in fact.numbers:
        numbers["action"] = words.action(fact.numbers["action"], layout)
    state = words.state(fact.states[0], layout, language) if fact.states else ""
    text = words.text(fact.sentences, {**numbers, "ends": names, "state": state}, language)
    advice = words.advice(fact.advice, numbers, language)
    return Finding(fact.kind, words.title(fact.kind, language), text, advice, fact.states, fact.numbers, fact.drawing)


def _plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in numbers.items():
        value = value.item() if isinstance(value, np.generic) else value
        plain[name] = None if isinstance(value, float) and not np.isfinite(value) else value
    return plain
