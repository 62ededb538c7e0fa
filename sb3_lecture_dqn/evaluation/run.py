"""The lecture's test: greedy episodes on an environment of its own, averaged."""

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
    VecCheckNan,
    VecEnv,
    VecMonitor,
    VecNormalize,
    unwrap_vec_normalize,
)
from tqdm import tqdm

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.envs.env_processes import naming_dead_processes
from sb3_lecture_dqn.envs.exact import EpisodeFigures, policy_figures, run_policy
from sb3_lecture_dqn.envs.masks import INFO_KEY, MaskReader, table_masks
from sb3_lecture_dqn.envs.tabular import TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.evaluation.result import TestResult
from sb3_lecture_dqn.evaluation.test_env import (
    MAX_TEST_ENVS,
    check_step_limit,
    is_own_to_close,
    make_test_env,
    tabular_env,
    tighter_limit,
    unwrap_tabular,
)

PENALTY_REWARD = -10.0


# So long an episode without a step limit is warned of: a policy may go round in circles for ever.
_LONG_EPISODE = 10_000


# Expected returns closer than this, relative or absolute, differ by no more than rounding.
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

    On a tabular environment (a :class:`TabularVecEnv`, or one that is made here and could be one) all episodes run
    together on arrays, with the actions that the model chooses in one call for all states. The starts are drawn from
    the generator of that environment, whose own episodes are left as they are. A recurrent policy is always stepped.

    A model with ``use_masking`` acts by masks; so does one that does not know that setting but whose ``predict`` takes
    masks (sb3-contrib's ``MaskablePPO``), where the environment offers some of Discrete actions.

    :param model: Any algorithm of SB3 or made on it
    :param env: Environment to test on; it is reset before every episode. ``None``: a copy of the model's own as it is
        now, which keeps what decides the task and leaves out what writes or shows, see :func:`env_like_model`; what
        cannot be copied is asked for
    :param n_episodes: Number of episodes
    :param max_episode_steps: Steps after which an episode is cut: the limit of an environment that is made here, in
        place of its own; one that is given may end it before. ``None``: the environment's own limit, which of the
        model's own is that of the training, and of an id that of :func:`make_env`
    :param penalty_reward: The reward that counts as a penalty
    :param seed: Seed of the environment
    :param progress: Show a bar of the episodes that have ended, where they are stepped one by one
    :return: The averages; rewards as the environment gives them, not normalised
    :raises ValueError: If an argument is out of range, or the model's environment cannot be made anew, or a tabular one
        has no step limit
    """
    check_number("n_episodes", n_episodes, 1, integer=True)
    check_step_limit(max_episode_steps)
    test_env = make_test_env(model, env, max_episode_steps, min(n_episodes, MAX_TEST_ENVS))
    try:
        if seed is not None:
            test_env.seed(seed)
        return test_on(model, test_env, n_episodes, max_episode_steps, penalty_reward, progress)
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
    What :func:`run_test` estimates, computed: expectations over all starts and transitions of a tabular environment.

    :param model: Any algorithm of SB3 or made on it
    :param env: Environment to test on, which is not stepped. ``None``: the model's own, as it is now
    :param max_episode_steps: See :func:`run_test`
    :param penalty_reward: The reward that counts as a penalty
    :return: The expectations; ``n_episodes`` is the number of states in which an episode can start (300 in Taxi)
    :raises NotTabularError: If the environment is not tabular; the message says why
    :raises ValueError: If ``max_episode_steps`` is below 1, or there is no step limit: episodes may then never end; or
        if the policy is recurrent
    """
    check_step_limit(max_episode_steps)
    return exact_test_on(model, tabular_env(model, env, max_episode_steps), max_episode_steps, penalty_reward)


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
    table, limit = env.model, tighter_limit(env, max_episode_steps)
    actions = _greedy_actions(model, table)
    if actions is None:
        raise ValueError(
            f"model: what this {type(model).__name__} does depends on the past too, which an exact test knows nothing "
            "of; run_test plays episodes"
        )
    figures = policy_figures(table, actions, limit, penalty_reward)
    optimum = table.optimum(limit)
    scale = optimum.random_mean_reward, optimum.mean_reward
    return _result([table.mean_over_starts(column) for column in figures], len(table.start_states), scale)


def _greedy_actions(model: BaseAlgorithm, table: TabularModel) -> np.ndarray | None:
    """What the model does in every state, int64 of shape ``(S,)``; ``None`` if that depends on the past too."""
    under: dict[str, Any] = {}
    if _acts_by_masks(model, lambda: table.action_masks is not None):
        under["action_masks"] = table_masks(table)
    actions, state = model.predict(np.arange(table.n_states), deterministic=True, **under)
    return actions if state is None else None


def _acts_by_masks(model: BaseAlgorithm, are_offered: Callable[[], bool]) -> bool:
    """Whether a model is to be given masks, see :func:`run_test`."""
    if hasattr(model, "use_masking"):
        return bool(model.use_masking)
    return "action_masks" in inspect.signature(model.predict).parameters and are_offered()


def _offers_masks(env: VecEnv) -> bool:
    """Whether :class:`MaskReader` finds masks in an environment, which has been reset."""
    if not isinstance(env.action_space, spaces.Discrete):
        return False
    return is_masking_supported(env) or all(INFO_KEY in info for info in env.unwrapped.reset_infos)


def test_on(
    model: BaseAlgorithm,
    env: VecEnv,
    n_episodes: int,
    max_episode_steps: int | None,
    penalty_reward: float,
    progress: bool = False,
) -> TestResult:
    """
    Test on an environment that :func:`make_test_env` has made.

    Unless that is tabular and the policy not recurrent, episodes run in rounds, one in each sub-environment, all from a
    reset: so no episode is favoured for being short.

    :param model: Any algorithm of SB3 or made on it
    :param env: The environments
    :param n_episodes: Number of episodes
    :param max_episode_steps: Steps after which an episode is cut, ``None`` for the environment's own limit
    :param penalty_reward: The reward that counts as a penalty
    :param progress: See :func:`run_test`
    :return: The averages
    """
    tabular = unwrap_tabular(env)
    actions = None if tabular is None else _greedy_actions(model, tabular.model)
    if tabular is not None and actions is not None:
        table, limit = tabular.model, tighter_limit(tabular, max_episode_steps)
        starts = tabular.draw_starts(n_episodes)
        figures = run_policy(table, actions, starts, limit, penalty_reward, tabular.rng)
        optimum = table.optimum(limit)
        scale = float(optimum.random_values[starts].mean()), float(optimum.values[starts].mean())
        return _average(figures, scale)
    with (
        naming_dead_processes(env, lambda: "it is one of the test environment"),
        tqdm(total=n_episodes, unit="episode", leave=False, dynamic_ncols=True, disable=not progress) as bar,
    ):
        return _test_by_stepping(model, env, n_episodes, max_episode_steps, penalty_reward, bar)


def _test_by_stepping(
    model: BaseAlgorithm,
    env: VecEnv,
    n_episodes: int,
    max_episode_steps: int | None,
    penalty_reward: float,
    bar: "tqdm[Any]",
) -> TestResult:
    normalize, trained_with = unwrap_vec_normalize(env), model.get_vec_normalize_env()
    if normalize is not None and trained_with is not None and trained_with.norm_obs:
        normalize.obs_rms = copy.deepcopy(trained_with.obs_rms)
    limit = math.inf if max_episode_steps is None else max_episode_steps
    masks: MaskReader | None = None
    steps, penalties, returns, successes = np.zeros((4, n_episodes))
    knows_success, good_ends = True, _rewards_of_good_ends(env)
    for first in range(0, n_episodes, env.num_envs):
        running = np.arange(first, min(first + env.num_envs, n_episodes))  # running[k] is the episode of ...
        sub_envs = np.arange(len(running))  # ... sub-environment sub_envs[k]
        obs, dones = env.reset(), np.ones(env.num_envs, dtype=bool)
        state: tuple[np.ndarray, ...] | None = None
        if first == 0 and _acts_by_masks(model, lambda: _offers_masks(env)):
            masks = MaskReader(env)
        under: dict[str, Any] = {} if masks is None else {"action_masks": masks.at_start()}
        while len(running):
            actions, state = model.predict(obs, state, dones, deterministic=True, **under)  # type: ignore[arg-type]
            obs, rewards, dones, infos = env.step(actions)
            if masks is not None:
                under["action_masks"], _ = masks.after_step(dones, infos)
            if normalize is not None:
                rewards = normalize.get_original_reward()
            steps[running] += 1
            penalties[running] += rewards[sub_envs] == penalty_reward
            returns[running] += rewards[sub_envs]
            ended = dones[sub_envs]
            for episode, sub_env in zip(running[ended], sub_envs[ended], strict=True):
                success = infos[sub_env].get("is_success")
                if success is None:  # not given, as for SB3
                    success = not infos[sub_env].get("TimeLimit.truncated", False)
                    if good_ends is None:
                        knows_success = False
                    else:
                        success = success and float(rewards[sub_env]) in good_ends
                successes[episode] = success
            going_on = ~ended & (steps[running] < limit)
            if max_episode_steps is None and steps[running].max() == _LONG_EPISODE:
                warnings.warn(
                    f"max_episode_steps=None, and an episode of the test has had {_LONG_EPISODE} steps: without a step "
                    "limit of the environment's own it may never end; give one"
                )
            bar.update(int(np.sum(~going_on)))
            running, sub_envs = running[going_on], sub_envs[going_on]
    return replace(_average(EpisodeFigures(steps, penalties, returns, successes)), knows_success=knows_success)


def _rewards_of_good_ends(env: VecEnv) -> frozenset[float] | None:
    """The last rewards of episodes that end well, where the environment is a tabular one that is stepped."""
    while type(env) in (VecNormalize, VecMonitor, VecCheckNan):
        env = env.venv  # type: ignore[attr-defined]
    try:
        if type(env) is DummyVecEnv:
            table = TabularModel.from_env(env.envs[0])
        elif type(env) is TabularVecEnv:
            table = env.model
        else:
            return None
    except ValueError:
        return None
    return frozenset(table.rewards[table.successes].astype(np.float32).tolist())


def _average(figures: EpisodeFigures, scale: tuple[float, float] | None = None) -> TestResult:
    return _result([float(column.mean()) for column in figures], len(figures.steps), scale)


def _result(averages: list[float], n_episodes: int, scale: tuple[float, float] | None) -> TestResult:
    """``averages`` are of :class:`EpisodeFigures`; ``scale`` is the random and the best return from the same starts."""
    steps, penalties, reward, successes = averages
    optimality = None
    if scale is not None and not math.isclose(*scale, rel_tol=EQUAL_RETURNS, abs_tol=EQUAL_RETURNS):
        optimality = (reward - scale[0]) / (scale[1] - scale[0])
    return TestResult(steps, penalties, reward, successes, n_episodes, optimality)


test_on.__test__ = False  # type: ignore[attr-defined]  # not a test of pytest's
