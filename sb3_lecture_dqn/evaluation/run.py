"""The lecture's test: greedy episodes on a separate environment, averaged or computed exactly."""

import copy
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    unwrap_vec_normalize,
)

from sb3_lecture_dqn.common.bars import Bar
from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.envs.env_processes import naming_dead_processes
from sb3_lecture_dqn.envs.exact import EpisodeFigures, policy_figures, run_policy
from sb3_lecture_dqn.envs.masks import INFO_KEY, MaskReader, table_masks
from sb3_lecture_dqn.envs.tabular import TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv, without_wrappers
from sb3_lecture_dqn.evaluation.environment import (
    MAX_TEST_ENVS,
    check_step_limit,
    is_own_to_close,
    make_test_env,
    tabular_env,
    unwrap_tabular,
)
from sb3_lecture_dqn.evaluation.result import TestResult

PENALTY_REWARD = -10.0
# An episode of this many steps without a step limit raises a warning: a policy may go round in circles for ever.
_LONG_EPISODE = 10_000
# Expected returns that differ by less than this, relative or absolute, are equal up to rounding.
EQUAL_RETURNS = 1e-9


def run_test(
    model: BaseAlgorithm,
    env: gym.Env | VecEnv | str | None = None,
    n_episodes: int = 100,
    max_episode_steps: int | None = None,
    penalty_reward: float = PENALTY_REWARD,
    seed: int | None = None,
    progress: bool = False,
) -> TestResult:
    """
    Test a model greedily, as the lecture does after every 50th episode.

    On a tabular environment all episodes run together on arrays, and the model chooses the actions of all states in one
    call. The starts are drawn from the generator of the environment, whose own episodes go on unchanged. A recurrent
    policy is always stepped.

    A model with ``use_masking`` is given masks. A model without that setting is given masks if its ``predict`` takes
    them (sb3-contrib's ``MaskablePPO``) and the environment offers them.

    :param model: Any algorithm of SB3 or made on it
    :param env: Environment to test on; it is reset before every episode. ``None``: a copy of the model's own in its
        present state, without wrappers that only write or show, see :func:`env_like_model`; if it cannot be copied, an
        error asks for a test environment
    :param n_episodes: Number of episodes
    :param max_episode_steps: Steps after which an episode is cut. It replaces the limit of an environment that is made
        here; an environment that is given may end the episode earlier. ``None``: the environment's own limit, which is
        the training's for ``env=None``, and that of :func:`make_env` for an id
    :param penalty_reward: The reward that counts as a penalty
    :param seed: Seed of the environment
    :param progress: Whether to show a progress bar, if episodes are stepped
    :return: The averages; rewards are those of the environment, not normalised
    :raises ValueError: If an argument is out of range, the model's environment cannot be copied, or a tabular
        environment has no step limit
    """
    check_number("n_episodes", n_episodes, 1, integer=True)
    check_step_limit(max_episode_steps)
    test_env = make_test_env(model, env, max_episode_steps, min(n_episodes, MAX_TEST_ENVS))
    try:
        if seed is not None:
            test_env.seed(seed)
        return run_test_on(model, test_env, n_episodes, max_episode_steps, penalty_reward, progress)
    finally:
        if is_own_to_close(test_env, model, env):
            test_env.close()


def exact_test(
    model: BaseAlgorithm,
    env: gym.Env | VecEnv | str | None = None,
    max_episode_steps: int | None = None,
    penalty_reward: float = PENALTY_REWARD,
) -> TestResult:
    """
    Compute what :func:`run_test` estimates: expectations over all starts and transitions of a tabular environment.

    :param model: Any algorithm of SB3 or made on it
    :param env: Environment to test on, which is not stepped. ``None``: the model's own in its present state
    :param max_episode_steps: See :func:`run_test`
    :param penalty_reward: The reward that counts as a penalty
    :return: The expectations; ``n_episodes`` is the number of states in which an episode can start (300 in Taxi)
    :raises NotTabularError: If the environment is not tabular; the message says why
    :raises ValueError: If ``max_episode_steps`` is below 1, there is no step limit, or the policy is recurrent
    """
    check_step_limit(max_episode_steps)
    return exact_test_on(model, tabular_env(model, env, max_episode_steps), max_episode_steps, penalty_reward)


def run_test_on(
    model: BaseAlgorithm,
    env: VecEnv,
    n_episodes: int,
    max_episode_steps: int | None,
    penalty_reward: float,
    progress: bool = False,
) -> TestResult:
    """
    Test on an environment that :func:`make_test_env` has made.

    If episodes are stepped, they run in rounds: one episode in each sub-environment, all from a reset. So short
    episodes are not counted more often.

    :param model: Any algorithm of SB3 or made on it
    :param env: The environments
    :param n_episodes: Number of episodes
    :param max_episode_steps: Steps after which an episode is cut, ``None`` for the environment's own limit
    :param penalty_reward: The reward that counts as a penalty
    :param progress: See :func:`run_test`
    :return: The averages
    """
    tabular = unwrap_tabular(env)
    actions = None if tabular is None else greedy_actions(model, tabular.model)
    if tabular is not None and actions is not None:
        table, limit = tabular.model, tabular.tightest_limit(max_episode_steps)
        starts = tabular.draw_starts(n_episodes)
        figures = run_policy(table, actions, starts, limit, penalty_reward, tabular.rng)
        optimum = table.optimum(limit)
        scale = float(optimum.random_values[starts].mean()), float(optimum.values[starts].mean())
        return _average(figures, scale)
    with (
        naming_dead_processes(env, lambda: "it belongs to the test environment"),
        Bar(total=n_episodes, unit="episode", leave=False, disable=not progress) as bar,
    ):
        return _test_by_stepping(model, env, n_episodes, max_episode_steps, penalty_reward, bar)


def _test_by_stepping(
    model: BaseAlgorithm,
    env: VecEnv,
    n_episodes: int,
    max_episode_steps: int | None,
    penalty_reward: float,
    bar: Bar,
) -> TestResult:
    normalize, trained_with = unwrap_vec_normalize(env), model.get_vec_normalize_env()
    if normalize is not None and trained_with is not None and trained_with.norm_obs:
        normalize.obs_rms = copy.deepcopy(trained_with.obs_rms)
    limit = math.inf if max_episode_steps is None else max_episode_steps
    reader: MaskReader | None = None
    steps, penalties, returns, successes = np.zeros((4, n_episodes))
    knows_success, good_ends = True, _rewards_of_good_ends(env)
    for first in range(0, n_episodes, env.num_envs):
        running = np.arange(first, min(first + env.num_envs, n_episodes))  # running[k] is the episode of ...
        sub_envs = np.arange(len(running))  # ... sub-environment sub_envs[k]
        obs, dones = env.reset(), np.ones(env.num_envs, dtype=bool)
        state: tuple[np.ndarray, ...] | None = None
        if first == 0 and _acts_by_masks(model, lambda: _offers_masks(env)):
            reader = MaskReader(env)
        masks: dict[str, Any] = {} if reader is None else {"action_masks": reader.at_start()}
        while len(running):
            actions, state = model.predict(obs, state, dones, deterministic=True, **masks)  # type: ignore[arg-type]
            obs, rewards, dones, infos = env.step(actions)
            if reader is not None:
                masks["action_masks"], _ = reader.after_step(dones, infos)
            if normalize is not None:
                rewards = normalize.get_original_reward()
            steps[running] += 1
            penalties[running] += rewards[sub_envs] == penalty_reward
            returns[running] += rewards[sub_envs]
            ended = dones[sub_envs]
            for episode, sub_env in zip(running[ended], sub_envs[ended], strict=True):
                success = infos[sub_env].get("is_success")
                if success is None:
                    success = not infos[sub_env].get("TimeLimit.truncated", False)
                    if good_ends is None:
                        knows_success = False
                    else:
                        success = success and float(rewards[sub_env]) in good_ends
                successes[episode] = success
            going_on = ~ended & (steps[running] < limit)
            if max_episode_steps is None and steps[running].max() == _LONG_EPISODE:
                warnings.warn(
                    f"max_episode_steps=None, and an episode of the test has had {_LONG_EPISODE} steps: if the "
                    "environment has no step limit, it may never end; give one"
                )
            bar.update(int(np.sum(~going_on)))
            running, sub_envs = running[going_on], sub_envs[going_on]
    return replace(_average(EpisodeFigures(steps, penalties, returns, successes)), knows_success=knows_success)


def _rewards_of_good_ends(env: VecEnv) -> frozenset[float] | None:
    """The last rewards of episodes that end well; ``None`` if the environment is not tabular."""
    base = without_wrappers(env)
    if type(base) is TabularVecEnv:
        table = base.model
    elif type(base) is DummyVecEnv:
        try:
            table = TabularModel.from_env(base.envs[0])
        except ValueError:
            return None
    else:
        return None
    return frozenset(table.rewards[table.successes].astype(np.float32).tolist())


def exact_test_on(
    model: BaseAlgorithm, env: TabularVecEnv, max_episode_steps: int | None, penalty_reward: float
) -> TestResult:
    """
    Test exactly on an environment that :func:`tabular_env` has made.

    :param model: Any algorithm of SB3 or made on it
    :param env: The environment
    :param max_episode_steps: Steps after which an episode is cut, ``None`` for the environment's own limit
    :param penalty_reward: The reward that counts as a penalty
    :return: The expectations
    :raises ValueError: If there is no step limit, or the policy is recurrent
    """
    table, limit = env.model, env.tightest_limit(max_episode_steps)
    actions = greedy_actions(model, table)
    if actions is None:
        raise ValueError(
            f"model: the actions of this {type(model).__name__} depend on earlier steps too, which an exact test does "
            "not consider; use run_test, which plays episodes"
        )
    figures = policy_figures(table, actions, limit, penalty_reward)
    optimum = table.optimum(limit)
    scale = optimum.random_mean_reward, optimum.mean_reward
    means = [table.mean_over_starts(column) for column in figures]
    return replace(_result(means, len(table.start_states), scale), is_exact=True)


def greedy_actions(model: BaseAlgorithm, table: TabularModel) -> np.ndarray | None:
    """
    Choose the model's greedy action in every state of a table.

    :param model: Any algorithm of SB3 or made on it
    :param table: The environment
    :return: int64 of shape ``(S,)``; ``None`` if the action depends on earlier steps too
    """
    masks: dict[str, Any] = {}
    if _acts_by_masks(model, lambda: table.action_masks is not None):
        masks["action_masks"] = table_masks(table)
    actions, state = model.predict(np.arange(table.n_states), deterministic=True, **masks)
    return actions if state is None else None


def _acts_by_masks(model: BaseAlgorithm, are_offered: Callable[[], bool]) -> bool:
    """Whether to give a model masks, see :func:`run_test`."""
    if hasattr(model, "use_masking"):
        return bool(model.use_masking)
    return "action_masks" in inspect.signature(model.predict).parameters and are_offered()


def _offers_masks(env: VecEnv) -> bool:
    """Whether :class:`MaskReader` finds masks in an environment that has been reset."""
    if not isinstance(env.action_space, spaces.Discrete):
        return False
    return is_masking_supported(env) or all(INFO_KEY in info for info in env.unwrapped.reset_infos)


def _average(figures: EpisodeFigures, scale: tuple[float, float] | None = None) -> TestResult:
    return _result([float(column.mean()) for column in figures], len(figures.steps), scale)


def _result(averages: list[float], n_episodes: int, scale: tuple[float, float] | None) -> TestResult:
    """``averages`` has the fields of :class:`EpisodeFigures`, ``scale`` the random and the best return."""
    steps, penalties, reward, successes = averages
    optimality = None
    if scale is not None and not math.isclose(*scale, rel_tol=EQUAL_RETURNS, abs_tol=EQUAL_RETURNS):
        optimality = (reward - scale[0]) / (scale[1] - scale[0])
    return TestResult(steps, penalties, reward, successes, n_episodes, optimality)
